"""Does GRPO teach the embedded model rules? ``python -m tools.course.acceptance`` (``make bar``).

Runs notebooks 04 and 05 with the default parameters under three seeds, takes the checkpoint
chosen on dev, and compares it with the untrained base on the test sets, whose sentences it has
never seen. Prints a table and the targets; exit code 1 if one of them is missed.

A gain on *unseen words* of families cannot come from words learned by heart, and nobody has ever
written a *nonce word*. In a two-way family either form is right half of the time, so a model that
prefers one of its forms stays at .5 there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from grpo_helpers.command_line import run_command
from grpo_helpers.data import load_items
from grpo_helpers.files import project_root, read_json
from grpo_helpers.headless import run_course
from grpo_helpers.questions import SELECTION
from grpo_helpers.run_folder import BASE, BEST_FILE, ITEM_SCORES_FILE, RunFolder
from grpo_helpers.scoring import read_answers, scores_from_table
from grpo_helpers.selection import compare
from grpo_helpers.splits import TEST, TEST_NONCE, TEST_UNSEEN_WORDS, Split
from grpo_helpers.statistics import Comparison
from tools.benchmarks.targets import Target, report
from tools.corpus.families import KINDS, TWO_WAY
from tools.experiments.recorded_runs import acceptance_run_name
from tools.tiny_model.copying import copy_share

SEEDS = (0, 1, 2)
NOTEBOOKS = ("04_train", "05_evaluate_and_select")


@dataclass(frozen=True)
class SeedResult:
    """What one seed reached; gains of exact match in points of 100, shares from 0 to 1.

    Attributes:
        seed: The seed of training.
        best: The checkpoint chosen on dev.
        test_gain: Gain on unseen sentences of train words.
        test_low: Lower end of its 95 % interval.
        word_gain: Gain on unseen words of the families.
        word_low: Lower end of its 95 % interval.
        nonce_gain: Gain on invented words.
        nonce_low: Lower end of its 95 % interval.
        nonce_choice: Share of right choices between the two options of invented words of two-way
            families.
        base_nonce_choice: The same share for the untrained base.
        base_choice: The base's share of right choices between two options, on test.
        base_format: Share of the base's answers in the required format, on test.
        base_copied: Share of the base's answers that copy the sentence of the question, on test.
    """

    seed: int
    best: str
    test_gain: float
    test_low: float
    word_gain: float
    word_low: float
    nonce_gain: float
    nonce_low: float
    nonce_choice: float
    base_nonce_choice: float
    base_choice: float
    base_format: float
    base_copied: float


def measure(run_dir: Path, seed: int) -> SeedResult:
    """Return what one finished run reached on the test sets."""
    best = read_json(run_dir / BEST_FILE)["best_checkpoint"]
    on_test = _items(run_dir, TEST)
    words = _items(run_dir, TEST_UNSEEN_WORDS)
    nonce = _items(run_dir, TEST_NONCE)

    test_gain = _gain(on_test, best)
    word_gain = _gain(words[words.kind.isin(KINDS)], best)
    nonce_gain = _gain(nonce, best)
    nonce_choice = _choice_of_two(nonce[nonce.kind == TWO_WAY])

    labels = load_items("data/embedded/test.json")
    answers = read_answers(RunFolder(run_dir).answers(BASE, TEST), labels)

    return SeedResult(
        seed=seed,
        best=best,
        test_gain=100 * test_gain.difference,
        test_low=100 * test_gain.low,
        word_gain=100 * word_gain.difference,
        word_low=100 * word_gain.low,
        nonce_gain=100 * nonce_gain.difference,
        nonce_low=100 * nonce_gain.low,
        nonce_choice=nonce_choice[best],
        base_nonce_choice=nonce_choice[BASE],
        base_choice=_choice_of_two(on_test)[BASE],
        base_format=float(on_test[on_test.checkpoint == BASE].format.mean()),
        base_copied=copy_share(answers, labels),
    )


def _items(run_dir: Path, split: Split) -> pd.DataFrame:
    """Return the scores of every answer to a test set."""
    return pd.read_csv(split.answer_folder(run_dir) / ITEM_SCORES_FILE)


def _gain(items: pd.DataFrame, best: str) -> Comparison:
    """Compare the chosen checkpoint with the base on exact match."""
    return compare(scores_from_table(items), best, BASE, "em")


def _choice_of_two(items: pd.DataFrame) -> dict[str, float]:
    """Return the share of right choices between two options, by checkpoint."""
    of_two = items[items.question_type == SELECTION]
    means = of_two.groupby("checkpoint").choice.mean()
    return {str(checkpoint): float(mean) for checkpoint, mean in means.items()}


def targets(results: Sequence[SeedResult]) -> list[Target]:
    """Return the targets of ``make bar``: rules are learned, by a base that does not know them.

    The base must already know what an answer looks like and copy unseen sentences; which form is
    right it must not know.
    """
    table = pd.DataFrame(results)
    lows = table[["test_low", "word_low", "nonce_low"]]
    return [
        Target("gain on test, mean", table.test_gain.mean(), ">=", 25, unit="points"),
        Target("gain on test, lowest seed", table.test_gain.min(), ">=", 15, unit="points"),
        Target("gain on unseen words of families", table.word_gain.mean(), ">=", 25, unit="points"),
        Target("gain on nonce words, mean", table.nonce_gain.mean(), ">=", 20, unit="points"),
        Target("95 % intervals, lowest bound", lows.min().min(), ">", 0, unit="points"),
        Target("choice on two-way nonce words, mean", table.nonce_choice.mean(), ">=", 0.75),
        Target("base: choice on two-way nonce words", table.base_nonce_choice.min(), ">=", 0.4),
        Target("base: choice on two-way nonce words", table.base_nonce_choice.max(), "<=", 0.6),
        Target("base: choice on two options, test", table.base_choice.min(), ">=", 0.45),
        Target("base: choice on two options, test", table.base_choice.max(), "<=", 0.55),
        Target("base: format rate", table.base_format.min(), ">=", 0.8),
        Target("base: unseen sentences copied", table.base_copied.min(), ">=", 0.98),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the seeds, print the table and the targets; return 1 if a target is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.course.acceptance", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--measure-only", action="store_true", help="measure the runs that exist, train nothing"
    )
    args = parser.parse_args(argv)

    def body() -> int:
        results = []
        for seed in SEEDS:
            name = acceptance_run_name(seed)
            if not args.measure_only:
                run_course("default", name, NOTEBOOKS, {"seed": seed})
            results.append(measure(project_root() / "runs" / name, seed))

        print(pd.DataFrame(results).round(3).to_string(index=False), "\n")
        return report(targets(results), precision=".3f")

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
