"""Make long runs and record what a reader needs: ``python -m tools.experiments.record NAME ...``.

- ``seed_N``: the default run under three seeds (those of ``make bar`` are used if they exist).
- ``format_only_N``, ``gold_N``: its controls, three seeds each: the format reward alone; the same
  LoRA trained for the same minutes on the gold answers (``tools/experiments/supervised.py``).
- ``em_only``: exact match is the whole reward. ``weights_code``: the other preset of weights.
- ``temperature_T``, ``rate_R``: another temperature, another learning rate. ``generations_G``:
  another group size, with the same number of completions in all. ``attention_only``: an adapter on
  the attention layers alone.
- ``beta_B``: with a KL term; ``quoted_beta_B``: ``quoted`` with one. ``iterations_N``: as many
  steps, of which N in a row use the same samples.
- ``quoted`` fails on purpose: its reward can be gamed (``tools/experiments/quoted.py``).

Out: ``data/reference_runs/NAME`` (``tools/experiments/recording.py`` lists the files). A finished
run is not made again; remove its folder in ``runs/`` to force that. With ``--again`` a recorded
run is repeated under another name, and ``data/reference_runs/repeats.json`` says how many scores
differ. On two cores, two such commands with ``--threads 1`` each are faster than one after the
other.
"""

from __future__ import annotations

import argparse
import datetime
import fnmatch
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from grpo_helpers.command_line import run_command
from grpo_helpers.data import load_items
from grpo_helpers.files import InputError, project_root, read_json, write_json
from grpo_helpers.headless import run_course
from grpo_helpers.inference import answer
from grpo_helpers.run_folder import BASE, RunFolder, is_finished
from grpo_helpers.scoring import evaluate_json, item_table
from grpo_helpers.selection import choose
from grpo_helpers.settings import TrainSettings
from grpo_helpers.splits import TEST_SPLITS
from grpo_helpers.training import train
from tools.experiments.quoted import knowing_quoted
from tools.experiments.recorded_runs import (
    FOLDER,
    RUNS,
    TEST_SCORES_FILE,
    PlannedRun,
    about,
    items_on_dev,
    recorded_folder,
)
from tools.experiments.recording import (
    METRICS,
    dev_answers,
    item_scores_on_dev,
    record_files,
    sampled_completions,
    train_seconds,
    write_table,
)
from tools.tiny_model.copying import EMBEDDED


def make_run(name: str, run_name: str = "", threads: int = 2) -> RunFolder:
    """Train one of :data:`RUNS`, or resume it where it was interrupted.

    Args:
        name: The name of the run.
        run_name: Its folder in ``runs/``; default: the run's own.
        threads: CPU threads; another number rounds differently, and so samples other answers.

    Returns:
        The run folder. If it holds a finished run, nothing is trained.
    """
    plan = RUNS[name]
    run_name = run_name or plan.run_name or f"reference-{name}"
    run = RunFolder(project_root() / "runs" / run_name)
    if is_done(run):
        return run

    from tools.experiments.supervised import train_supervised  # loads TRL and PEFT

    parameters = plan.changed | {"num_threads": threads}
    if plan.labels:
        settings = TrainSettings(run_name=run_name, **parameters)
        train_supervised(settings, seconds_of_the_default_run(plan))
        return run

    parameters |= {"resume": "auto"}
    if plan.has_own_weights:
        train_with_quoted_reward(parameters | {"run_name": run_name})
    else:
        run_course("default", run_name, ("04_train",), parameters)
    return run


def train_with_quoted_reward(parameters: dict[str, Any]) -> None:
    """Train while the reward ``quoted`` is registered; afterwards it is unknown again.

    Args:
        parameters: Those of notebook 04 that differ from the default run's, with ``run_name``.
    """
    with knowing_quoted():
        train(TrainSettings(**parameters))


def is_done(run: RunFolder) -> bool:
    """Return whether a run, GRPO or supervised, is finished."""
    checkpoint = run.last_complete()
    if checkpoint and is_finished(checkpoint):
        return True

    # A supervised control saves no TRL checkpoints; its log closes with TRL's summary.
    return any("train_runtime" in row for row in run.log.rows())


def seconds_of_the_default_run(plan: PlannedRun) -> float:
    """Return how many seconds the steps of the default run with the same seed took, as recorded."""
    default_run = recorded_folder(f"seed_{plan.changed['seed']}")
    return sum(row["step_time"] for row in default_run.log.step_rows())


def record(name: str, run: RunFolder) -> Path:
    """Record a finished run in ``data/reference_runs/NAME``; return that folder."""
    plan = RUNS[name]
    scores, items = item_scores_on_dev(run)

    facts = {"command": f"python -m tools.experiments.record {name}", "changed": plan.changed}
    if plan.labels:
        facts["supervised_on"] = plan.labels
        examples = dev_answers(run, items, scores)
    else:
        examples = sampled_completions(run)

    seconds = train_seconds(run, list(scores))
    folder = record_files(name, run, scores, items, about=facts, seconds=seconds)
    write_json(folder / "completions.json", examples)

    if plan.has_tests:
        best = choose(scores, "highest")
        write_table(folder / TEST_SCORES_FILE, item_scores_on_tests(run, best))
    return folder


def item_scores_on_tests(run: RunFolder, best: str) -> pd.DataFrame:
    """Return the item scores of the base and of ``best`` on the test sets.

    Where a test set has not been answered yet, it is answered first.
    """
    tables = []
    for split in TEST_SPLITS:
        path = f"{EMBEDDED}/{split.file}"
        for checkpoint in dict.fromkeys([BASE, best]):
            target = run.answers(checkpoint, split)
            if not target.is_file():
                answer(run, checkpoint, path, target)

        scores = evaluate_json(split.answer_folder(run.path), path)
        table = item_table(scores, load_items(path))
        tables.append(table.assign(split=split.key))
    return pd.concat(tables, ignore_index=True)


def repeat(name: str, threads: int = 2) -> dict[str, Any]:
    """Repeat a recorded run in ``runs/again-NAME`` and compare its dev scores, answer by answer.

    Args:
        name: The name of the run.
        threads: CPU threads.

    Returns:
        Both dates, the number of answers, and how many of them have another score; it is also
        written to ``repeats.json``.
    """
    columns = ["checkpoint", "id", *METRICS]
    scores, items = item_scores_on_dev(make_run(name, f"again-{name}", threads))
    new = item_table(scores, items)[columns]
    old = items_on_dev(name)[columns]

    # Recorded scores have 4 digits. An answer that only one of the runs has counts as different.
    both = old.merge(new, on=["checkpoint", "id"], how="outer", suffixes=("", " again")).round(4)
    first = both[METRICS].to_numpy()
    second = both[[f"{metric} again" for metric in METRICS]].to_numpy()
    is_different = (first != second).any(axis=1)

    comparison = {
        "first": about(name)["date"],
        "again": datetime.date.today().isoformat(),
        "answers": len(both),
        "differ": int(is_different.sum()),
    }
    file = FOLDER / "repeats.json"
    known = read_json(file) if file.is_file() else {}
    write_json(file, known | {name: comparison})
    return comparison


def matching_runs(patterns: Sequence[str]) -> list[str]:
    """Return the names of the runs that match any of ``patterns``, in the order of :data:`RUNS`.

    Raises:
        InputError: No run matches.
    """
    names = []
    for name in RUNS:
        if any(fnmatch.fnmatch(name, pattern) for pattern in patterns):
            names.append(name)

    if not names:
        raise InputError(f"no run is called {' or '.join(patterns)}; known are {', '.join(RUNS)}")
    return names


def main(argv: Sequence[str] | None = None) -> int:
    """Make and record the runs whose names match; return 0, or 2 if none does."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.experiments.record", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "names", nargs="+", help=f"* stands for any letters; known are {', '.join(RUNS)}"
    )
    parser.add_argument(
        "--again", action="store_true", help="repeat a recorded run and compare its scores"
    )
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of each training")
    args = parser.parse_args(argv)

    def body() -> int:
        for name in matching_runs(args.names):
            if args.again:
                print(repeat(name, args.threads), flush=True)
            else:
                print(record(name, make_run(name, threads=args.threads)), flush=True)
        return 0

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
