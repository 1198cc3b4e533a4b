"""Runs that took long, kept as data so that a reader can redraw them: ``python -m tools.reference_runs NAME``.

``quoted`` goes wrong on purpose: in the place of exact match it has a reward for quoting the question's own sentence,
as one might add against made-up sentences. Where the task is to correct the sentence, that is the wrong answer.
``temperature_1.0`` is one of the four runs of ``tools.reward_lab sweep``: the setting at which an earlier model of ours
got worse. Each is notebook 04's training with a few parameters changed; what is kept goes to
``data/reference_runs/NAME``: settings, log, scores of every dev item, some completions, and the command. No weights.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from grpo_helpers import rewards
from grpo_helpers.answers import normalize_quotes, parse
from grpo_helpers.data import load_items, project_root, read_json, write_atomically, write_json
from grpo_helpers.evaluate_json import evaluate_json, write_tables
from grpo_helpers.prompts import question_sentences
from grpo_helpers.settings import TrainSettings
from grpo_helpers.training import train

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


def quoted_reward(
    prompts: Sequence[list[dict[str, str]]], completions: Sequence[rewards.Completion], references: Any = None, **_: Any
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
        parts = [part.split("/") for part in re.split(r"[{}]", normalize_quotes(sentence))]  # odd ones are options
        found += [
            "".join(words) for words in itertools.product(*(p if i % 2 else ["/".join(p)] for i, p in enumerate(parts)))
        ]
    return found


RUNS: dict[str, dict[str, Any]] = {
    "quoted": {"reward_weights": "quoted"},
    "temperature_1.0": {"temperature": 1.0, "learning_rate": 3e-4},
}


def run(name: str) -> Path:
    """Train ``name`` and return its folder; a finished one is taken as it is."""
    if name == "quoted":
        rewards.REWARDS["quoted"] = quoted_reward
        rewards.PRESETS["quoted"] = {"format": 1 / 6, "quoted": 1 / 3, "rouge1": 1 / 2, "bertscore": 1 / 3}
    run_name = "lab-temperature-1.0-rate-0.0003" if name == "temperature_1.0" else f"reference-{name}"
    settings = TrainSettings(run_name=run_name, resume="auto", **RUNS[name])
    if not (settings.run_dir / "epoch_5").is_dir():
        train(settings)
    return settings.run_dir


def keep(name: str, run_dir: Path) -> Path:
    """Copy what a reader needs of a run to ``data/reference_runs/NAME``; return that folder."""
    folder = KEPT / name
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(run_dir / "settings.json", folder / "settings.json")
    rows = [json.loads(line) for line in (run_dir / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    short = [
        {key: round(value, 5) if isinstance(value, float) else value for key, value in row.items()} for row in rows
    ]
    write_atomically(folder / "log.jsonl", lambda file: file.writelines(json.dumps(row) + "\n" for row in short))
    labels = read_json(run_dir / "settings.json")["parameters"]["eval_data_path"]
    write_tables(evaluate_json(run_dir / "infer_results", labels), load_items(labels), folder)
    write_json(folder / "completions.json", completions(run_dir))
    about = {"command": f"python -m tools.reference_runs {name}", "date": datetime.date.today().isoformat()}
    write_json(folder / "about.json", about | {"minutes": round(rows[-1]["seconds"] / 60, 1), "changed": RUNS[name]})
    return folder


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


def main() -> None:
    """Run and keep the named runs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", choices=list(RUNS))
    for name in parser.parse_args().names:
        print(keep(name, run(name)))


if __name__ == "__main__":
    main()
