"""Does GRPO teach the embedded model? ``python -m tools.course.acceptance`` (``make bar``).

Runs notebooks 04 and 05 with the default parameters under three seeds, takes the checkpoint
chosen on dev, and compares it with the untrained base on **test**, whose sentences it has never
seen. Prints a table and the targets; exit code 1 if one of them is missed. ``--profile families``
(``make bar PROFILE=families``) does so for the families of words
(:mod:`tools.course.family_acceptance`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from grpo_helpers.command_line import run_command
from grpo_helpers.data import load_items
from grpo_helpers.files import project_root, read_json
from grpo_helpers.questions import SELECTION
from grpo_helpers.run_folder import BASE, BEST_FILE, ITEM_SCORES_FILE, RunFolder
from grpo_helpers.scoring import read_answers
from grpo_helpers.splits import TEST
from tools.benchmarks.targets import Target, report
from tools.course.family_acceptance import family_targets, measure_families
from tools.course.run import run_course
from tools.experiments.recorded_runs import acceptance_run_name
from tools.tiny_model.copying import copy_share

SEEDS = (0, 1, 2)
NOTEBOOKS = ("04_train", "05_evaluate_and_select")


@dataclass(frozen=True)
class SeedResult:
    """What one seed reached on test.

    Attributes:
        seed: The seed of training.
        best: The checkpoint chosen on dev.
        em_base: Exact match of the untrained base.
        em_best: Exact match of the chosen checkpoint.
        em_gain: Gain of exact match, in points of 100.
        em_low: Lower end of its 95 % interval, in points.
        choice_gain: Gain of choice accuracy, in points.
        format_base: Share of the base's answers in the required form.
        choice_base: Choice accuracy of the base where there are two options.
        copy_base: Share of the base's answers that copy the sentence of the question.
    """

    seed: int
    best: str
    em_base: float
    em_best: float
    em_gain: float
    em_low: float
    choice_gain: float
    format_base: float
    choice_base: float
    copy_base: float


def measure(run_dir: Path, seed: int) -> SeedResult:
    """Return what one finished run reached on test."""
    choice = read_json(run_dir / BEST_FILE)
    chosen = choice["best_checkpoint"]
    gains = {row["metric"]: row for row in choice["test_versus_base"]}

    items = pd.read_csv(TEST.answer_folder(run_dir) / ITEM_SCORES_FILE)
    base = items[items.checkpoint == BASE]
    best = items[items.checkpoint == chosen]

    labels = load_items("data/embedded/test.json")
    answers = read_answers(RunFolder(run_dir).answers(BASE, TEST), labels)

    return SeedResult(
        seed=seed,
        best=chosen,
        em_base=base.em.mean(),
        em_best=best.em.mean(),
        em_gain=100 * gains["em"]["difference"],
        em_low=100 * gains["em"]["low"],
        choice_gain=100 * gains["choice"]["difference"],
        format_base=base.format.mean(),
        choice_base=base[base.question_type == SELECTION].choice.mean(),
        copy_base=copy_share(answers, labels),
    )


def targets(results: Sequence[SeedResult]) -> list[Target]:
    """Return the targets of ``make bar``: enough gain, over a base that is worth training.

    The base must already know what an answer looks like and copy unseen sentences; which form is
    right it must not know.
    """
    table = pd.DataFrame(results)
    em_gain = table["em_gain"]
    choice_gain = table["choice_gain"]
    base_choice = table["choice_base"]

    return [
        Target("exact match gain on test, mean", em_gain.mean(), ">=", 25, unit="points"),
        Target("exact match gain, lowest seed", em_gain.min(), ">=", 15, unit="points"),
        Target("its 95 % interval, lowest bound", table["em_low"].min(), ">", 0, unit="points"),
        Target("choice accuracy gain on test, mean", choice_gain.mean(), ">=", 20, unit="points"),
        Target("base: format rate", table["format_base"].min(), ">=", 0.8),
        Target("base: choice accuracy on two options", base_choice.min(), ">=", 0.4),
        Target("base: choice accuracy on two options", base_choice.max(), "<=", 0.65),
        Target("base: unseen sentences copied", table["copy_base"].min(), ">=", 0.98),
    ]


@dataclass(frozen=True)
class Bar:
    """What a profile's runs must reach.

    Attributes:
        run_name: Names the run of a seed.
        measure: Returns what a finished run reached.
        targets: Returns the targets that the results of all seeds are held to.
    """

    run_name: Callable[[int], str]
    measure: Callable[[Path, int], Any]
    targets: Callable[[Sequence[Any]], list[Target]]


def family_run_name(seed: int) -> str:
    """Return the folder in ``runs/`` of one seed of the profile ``families``."""
    return f"bar-families-seed-{seed}"


BARS = {
    "default": Bar(acceptance_run_name, measure, targets),
    "families": Bar(family_run_name, measure_families, family_targets),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the seeds, print the table and the targets; return 1 if a target is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.course.acceptance", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--measure-only", action="store_true", help="measure the runs that exist, train nothing"
    )
    parser.add_argument(
        "--profile",
        default="default",
        choices=BARS,
        help="which run is repeated: the default one, or the one on families of words",
    )
    args = parser.parse_args(argv)
    bar = BARS[args.profile]

    def body() -> int:
        results = []
        for seed in SEEDS:
            name = bar.run_name(seed)
            if not args.measure_only:
                run_course(args.profile, name, NOTEBOOKS, {"seed": seed})
            results.append(bar.measure(project_root() / "runs" / name, seed))

        print(pd.DataFrame(results).round(3).to_string(index=False), "\n")
        return report(bar.targets(results), precision=".3f")

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
