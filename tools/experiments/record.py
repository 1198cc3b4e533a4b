"""Runs that took long, kept as data so that a reader can redraw them: ``python -m tools.experiments.record NAME ...``.

- ``seed_N``: the default run under five seeds (those of ``make bar`` are taken, if they are there).
- ``format_only_N``, ``gold_N``, ``noisy_N``: its controls, three seeds each: the format reward alone; the same LoRA
  trained for the same minutes on the gold answers, or on the careless teacher's lessons (``tools/experiments/supervised.py``).
- ``temperature_T_rate_R``: four runs of ``tools.experiments.reward_lab sweep``. ``weights_code``: the other preset of weights.
  ``generations_G``: other group sizes, as many completions in all.
- ``quoted`` goes wrong on purpose: in the place of exact match it has a reward for quoting the question's own sentence,
  as one might add against made-up sentences. Where the task is to correct the sentence, that is the wrong answer.

What is kept goes to ``data/reference_runs/NAME``: settings, log, scores of every dev item (and of every test item, for
the base and the checkpoint chosen on dev), some completions, the command. No weights. A run that is there is not made
again: remove its folder in ``runs/`` for that. With ``--again`` a kept run is repeated under another name, and
``data/reference_runs/repeats.json`` tells how many scores came out differently.
"""

from __future__ import annotations

import argparse
import datetime
import fnmatch
import itertools
import json
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from grpo_helpers import rewards
from grpo_helpers.answers import normalize_quotes, parse
from grpo_helpers.data import load_items
from grpo_helpers.files import project_root, read_json, write_atomically, write_json
from grpo_helpers.inference import run_inference
from grpo_helpers.questions import Item, question_sentences
from grpo_helpers.run_folder import (
    BASE,
    checkpoint_order,
    inference_file,
    is_finished,
    last_complete,
    read_log,
)
from grpo_helpers.scoring import Scores, evaluate_json, item_table, read_folder, scores_table
from grpo_helpers.selection import choose
from grpo_helpers.settings import EvaluateSettings, TrainSettings
from grpo_helpers.training import train
from tools.course.run import run_course
from tools.experiments.supervised import train_supervised

KEPT = project_root() / "data" / "reference_runs"
STEPS, SHOWN = (0.0, 0.5, 1.0), 8  # where in the run completions are kept, and how many
COLUMNS = (
    "completion",
    "advantage",
    "em_reward",
    "format_reward",
    "rouge1_reward",
    "bertscore_reward",
    "quoted_reward",
)
METRICS = ["em", "choice", "format", "rouge1", "bertscore", "em_seed", "em_official"]


@dataclass(frozen=True)
class Run:
    """What a recorded run changes of the default one.

    ``labels`` (gold, noisy) makes it a supervised one; ``tests``: its choice is answered on the test sets, too;
    ``run_name``: its folder in ``runs/``, where another tool shares it.
    """

    changed: dict[str, Any] = field(default_factory=dict)
    labels: str = ""
    tests: bool = False
    run_name: str = ""


SEEDS, CONTROL_SEEDS = range(5), range(3)
AS_LONG = {
    "max_steps": 30,
    "save_strategy": "steps",
    "save_steps": 6,
}  # steps of the default run, and of its epochs
RUNS: dict[str, Run] = {
    "quoted": Run({"reward_weights": "quoted"}),
    **{f"seed_{n}": Run({"seed": n}, tests=True, run_name=f"bar-seed-{n}") for n in SEEDS},
    **{f"gold_{n}": Run({"seed": n}, "gold", tests=True) for n in CONTROL_SEEDS},
    **{f"noisy_{n}": Run({"seed": n}, "noisy", tests=True) for n in CONTROL_SEEDS},
    **{
        f"format_only_{n}": Run({"reward_weights": "format_only", "seed": n}, tests=True)
        for n in CONTROL_SEEDS
    },
    **{
        f"temperature_{t}_rate_{rate}": Run(
            {"temperature": t, "learning_rate": rate}, run_name=f"lab-temperature-{t}-rate-{rate}"
        )
        for t in (0.6, 1.0)
        for rate in (3e-4, 1e-3)
    },
    "weights_code": Run({"reward_weights": "code"}),
    **{f"generations_{g}": Run({"num_generations": g} | AS_LONG) for g in (2, 4, 16)},
}
# Weights that no one should train with, by name; each is known while its run is made.
PRESETS = {
    "quoted": {"format": 1 / 6, "quoted": 1 / 3, "rouge1": 1 / 2, "bertscore": 1 / 3},
    "format_only": {"format": 1.0},
}


def recorded() -> list[str]:
    """Return the names of the runs that are kept already."""
    return [name for name in RUNS if (KEPT / name / "about.json").is_file()]


def dev(name: str) -> pd.DataFrame:
    """Return a recorded run's means on dev, by checkpoint."""
    return pd.read_csv(KEPT / name / "scores.csv").set_index("checkpoint")


def log_rows(folder: Path) -> list[dict[str, Any]]:
    """Return every row of a run's log; ``health.read_log`` has those with rewards only."""
    return [
        json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    ]


def quoted_reward(
    prompts: Sequence[list[dict[str, str]]],
    completions: Sequence[rewards.Completion],
    references: Any = None,
    **_: Any,
) -> list[float]:
    """Return 1.0 where the sentence called right stands in the question, whichever option of a brace is taken."""
    said = [parse(rewards.completion_text(completion)).sentences for completion in completions]
    asked = [set(quotable(prompt[-1]["content"])) for prompt in prompts]
    return [float(bool(told) and told[0] in known) for told, known in zip(said, asked, strict=True)]


def quotable(question: str) -> list[str]:
    """Return the sentences a question shows, with each option in each brace.

    >>> quotable('"{며칠/몇일}이 걸렸다." 가운데 올바른 것을 ...')
    ['며칠이 걸렸다.', '몇일이 걸렸다.']
    """
    found = []
    for sentence in question_sentences(question):
        parts = [
            part.split("/") for part in re.split(r"[{}]", normalize_quotes(sentence))
        ]  # odd ones are options
        found += [
            "".join(words)
            for words in itertools.product(
                *(p if i % 2 else ["/".join(p)] for i, p in enumerate(parts))
            )
        ]
    return found


def run(name: str, run_name: str = "") -> Path:
    """Train ``name`` and return its folder; a finished one is taken as it is, one that was cut off goes on."""
    wanted = RUNS[name]
    run_name = run_name or wanted.run_name or f"reference-{name}"
    run_dir = project_root() / "runs" / run_name
    if is_done(run_dir):
        return run_dir
    if wanted.labels:
        train_supervised(
            TrainSettings(run_name=run_name, **wanted.changed), wanted.labels, seconds_of(wanted)
        )
    elif wanted.changed.get("reward_weights") in PRESETS:
        rewards.REWARDS["quoted"] = quoted_reward
        rewards.PRESETS.update(PRESETS)
        train(TrainSettings(run_name=run_name, resume="auto", **wanted.changed))
    else:
        run_course("default", run_name, ("04_train",), {"resume": "auto", **wanted.changed})
    return run_dir


def is_done(run_dir: Path) -> bool:
    """Return whether a run of either kind came to its end."""
    checkpoint = last_complete(run_dir)
    log = run_dir / "log.jsonl"
    return bool(checkpoint and is_finished(checkpoint)) or (
        log.is_file() and "train_runtime" in log.read_text("utf-8")
    )


def seconds_of(wanted: Run) -> float:
    """Return the seconds that the steps of the default run took under the same seed, as recorded."""
    return sum(
        row["step_time"] for row in read_log(KEPT / f"seed_{wanted.changed['seed']}" / "log.jsonl")
    )


def dev_scores(run_dir: Path) -> tuple[Scores, list[Item]]:
    """Return the item scores of a run's dev answers, and the items."""
    label_path = read_json(run_dir / "settings.json")["parameters"]["eval_data_path"]
    return evaluate_json(run_dir / "infer_results", label_path), load_items(label_path)


def keep(name: str, run_dir: Path) -> Path:
    """Copy what a reader needs of a run to ``data/reference_runs/NAME``; return that folder."""
    scores, items = dev_scores(run_dir)
    labels = RUNS[name].labels
    about = {"command": f"python -m tools.experiments.record {name}", "changed": RUNS[name].changed}
    about |= {"supervised_on": labels} if labels else {}
    folder = keep_files(name, run_dir, scores, items, about, train_seconds(run_dir, list(scores)))
    write_json(
        folder / "completions.json",
        dev_answers(run_dir, items, scores) if labels else completions(run_dir),
    )
    if RUNS[name].tests:
        write_table(folder / "test_item_scores.csv", test_table(run_dir, choose(scores, "highest")))
    return folder


def keep_files(
    name: str,
    run_dir: Path,
    scores: Scores,
    items: list[Item],
    about: dict[str, Any],
    seconds: dict[str, float],
) -> Path:
    """Write settings, log, scores and ``about.json`` of a run to ``data/reference_runs/NAME``; return that folder."""
    folder = KEPT / name
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(run_dir / "settings.json", folder / "settings.json")
    rows = log_rows(run_dir)
    short = [
        {key: round(value, 5) if isinstance(value, float) else value for key, value in row.items()}
        for row in rows
    ]
    write_atomically(
        folder / "log.jsonl", lambda file: file.writelines(json.dumps(row) + "\n" for row in short)
    )
    means = scores_table(scores)
    write_table(folder / "scores.csv", means.assign(train_seconds=means["checkpoint"].map(seconds)))
    write_table(folder / "item_scores.csv", item_table(scores, items))
    made = datetime.date.fromtimestamp((run_dir / "log.jsonl").stat().st_mtime).isoformat()
    write_json(
        folder / "about.json", about | {"date": made, "minutes": round(rows[-1]["seconds"] / 60, 1)}
    )
    return folder


def again(name: str) -> dict[str, Any]:
    """Repeat a kept run in ``runs/again-NAME``; write to ``repeats.json``, and return, how its dev scores compare."""
    new = item_table(*dev_scores(run(name, f"again-{name}")))
    columns = ["checkpoint", "id", *METRICS]
    old = pd.read_csv(KEPT / name / "item_scores.csv")[columns]
    both = old.merge(
        new[columns], on=["checkpoint", "id"], how="outer", suffixes=("", " again")
    ).round(4)
    differ = (
        both[METRICS].to_numpy() != both[[f"{metric} again" for metric in METRICS]].to_numpy()
    ).any(axis=1)
    told = {
        "first": read_json(KEPT / name / "about.json")["date"],
        "again": datetime.date.today().isoformat(),
    }
    told |= {"answers": len(both), "differ": int(differ.sum())}
    repeats = KEPT / "repeats.json"
    write_json(repeats, (read_json(repeats) if repeats.is_file() else {}) | {name: told})
    return told


def train_seconds(run_dir: Path, checkpoints: list[str]) -> dict[str, float]:
    """Return the seconds that the steps up to each checkpoint took, without what is done between steps."""
    clock = run_dir / "clock.json"
    if clock.is_file():
        return {BASE: 0.0} | read_json(clock)
    rows = [row for row in read_log(run_dir / "log.jsonl") if "step_time" in row]
    unit = {name: "epoch" if name.startswith("epoch_") else "step" for name in checkpoints}
    return {
        name: round(
            sum(row["step_time"] for row in rows if row[key] <= checkpoint_order(name)[0] + 1e-6), 2
        )
        for name, key in unit.items()
    }


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table of scores, rounded to 4 digits, without the columns that nobody redraws."""
    table = table.drop(
        columns=[name for name in table if str(name).endswith("_official") and name not in METRICS]
    )
    write_atomically(path, lambda file: table.round(4).to_csv(file, index=False))


def test_table(run_dir: Path, best: str) -> pd.DataFrame:
    """Return the item scores of the base and of ``best`` on the three test sets, answered where they are not yet."""
    run, settings, frames = read_json(run_dir / "settings.json")["parameters"], EvaluateSettings, []
    for split in ("test", "unseen_words", "unseen_norms"):
        path = getattr(settings, "test_data_path" if split == "test" else f"test_{split}_path")
        folder = run_dir / "test_results" / ("" if split == "test" else split)
        for checkpoint in dict.fromkeys([BASE, best]):
            target = folder / inference_file(run_dir, checkpoint).name
            adapter = None if checkpoint == BASE else str(run_dir / checkpoint)
            how = {
                name: run[name]
                for name in ("few_shot_data_path", "instruct_path", "num_few_shot", "bf16")
            }
            if not target.is_file():
                run_inference(
                    path,
                    target,
                    run["model_name"],
                    adapter,
                    max_new_tokens=run["max_completion_length"],
                    **how,
                )
        frames.append(item_table(evaluate_json(folder, path), load_items(path)).assign(split=split))
    return pd.concat(frames, ignore_index=True)


def completions(run_dir: Path) -> list[dict[str, Any]]:
    """Return some completions of the first, the middle and the last step, with rewards and advantages."""
    files = sorted((run_dir / "completions").glob("*.parquet"))
    kept = []
    for share in STEPS:
        file = files[round(share * (len(files) - 1))]
        frame = pd.read_parquet(file)
        frame = frame.iloc[:: max(1, len(frame) // SHOWN)].head(SHOWN)  # not all of one prompt
        for _, row in frame.iterrows():
            shown = {name: row[name] for name in COLUMNS if name in frame}
            shown["completion"] = rewards.completion_text(list(row["completion"]))
            question = row["prompt"][-1]["content"]
            kept.append({"step": int(file.stem.split("_")[-1]), "question": question, **shown})
    return kept


def dev_answers(run_dir: Path, items: list[Item], scores: Scores) -> list[dict[str, Any]]:
    """Return some dev answers of the first, the middle and the last checkpoint: a supervised run samples nothing."""
    answers, kept = read_folder(run_dir / "infer_results", items), []
    for share in STEPS:
        name = list(answers)[round(share * (len(answers) - 1))]
        for place in range(0, len(items), len(items) // SHOWN):
            shown = {"completion": answers[name][place], "em_reward": scores[name]["em"][place]}
            kept.append(
                {"step": checkpoint_order(name)[0], "question": items[place].question, **shown}
            )
    return kept


def main() -> int:
    """Make and keep the runs whose names match; return 2 where none does."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "names", nargs="+", help=f"with * for any letters; known are {', '.join(RUNS)}"
    )
    parser.add_argument(
        "--again", action="store_true", help="repeat a kept run and compare its scores"
    )
    asked = parser.parse_args()
    named = [
        name for name in RUNS if any(fnmatch.fnmatch(name, pattern) for pattern in asked.names)
    ]
    for name in named:
        print(again(name) if asked.again else keep(name, run(name)), flush=True)
    return 0 if named else 2


if __name__ == "__main__":
    sys.exit(main())
