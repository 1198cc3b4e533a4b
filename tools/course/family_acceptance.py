"""Does GRPO teach rules? What ``make bar PROFILE=families`` measures of a run, and its targets.

In: a run of the profile ``families`` that notebook 05 has evaluated. Out: gains over the untrained
base on the test sets, apart for words of rule families, invented words and single words; targets.

A gain on *unseen words* of families cannot come from words learned by heart, and nobody has ever
written a *nonce word*. In a two-way family the same form is right half of the time, so a model that
prefers one of its forms stays at .5 there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from grpo_helpers.files import read_json
from grpo_helpers.questions import SELECTION
from grpo_helpers.run_folder import BASE, BEST_FILE, ITEM_SCORES_FILE
from grpo_helpers.scoring import scores_from_table
from grpo_helpers.selection import compare
from grpo_helpers.splits import TEST, TEST_NONCE, TEST_UNSEEN_WORDS, Split
from grpo_helpers.statistics import Comparison
from tools.benchmarks.targets import Target
from tools.corpus.families import KINDS, TWO_WAY


@dataclass(frozen=True)
class FamilySeedResult:
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
        base_choice: The same share for the untrained base.
        base_format: Share of the base's answers in the required form, on test.
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
    base_choice: float
    base_format: float


def measure_families(run_dir: Path, seed: int) -> FamilySeedResult:
    """Return what one finished run reached on the test sets."""
    best = read_json(run_dir / BEST_FILE)["best_checkpoint"]
    on_test = _items(run_dir, TEST)
    words = _items(run_dir, TEST_UNSEEN_WORDS)
    nonce = _items(run_dir, TEST_NONCE)

    test_gain = _gain(on_test, best)
    word_gain = _gain(words[words.kind.isin(KINDS)], best)
    nonce_gain = _gain(nonce, best)
    of_two = nonce[(nonce.kind == TWO_WAY) & (nonce.question_type == SELECTION)]
    choices = of_two.groupby("checkpoint").choice.mean()

    return FamilySeedResult(
        seed=seed,
        best=best,
        test_gain=100 * test_gain.difference,
        test_low=100 * test_gain.low,
        word_gain=100 * word_gain.difference,
        word_low=100 * word_gain.low,
        nonce_gain=100 * nonce_gain.difference,
        nonce_low=100 * nonce_gain.low,
        nonce_choice=float(choices[best]),
        base_choice=float(choices[BASE]),
        base_format=float(on_test[on_test.checkpoint == BASE].format.mean()),
    )


def _items(run_dir: Path, split: Split) -> pd.DataFrame:
    """Return the scores of every answer to a test set."""
    return pd.read_csv(split.answer_folder(run_dir) / ITEM_SCORES_FILE)


def _gain(items: pd.DataFrame, best: str) -> Comparison:
    """Compare the chosen checkpoint with the base on exact match."""
    return compare(scores_from_table(items), best, BASE, "em")


def family_targets(results: Sequence[FamilySeedResult]) -> list[Target]:
    """Return the targets: rules are learned, over a base that does not know them."""
    table = pd.DataFrame(results)
    lows = table[["test_low", "word_low", "nonce_low"]]
    return [
        Target("gain on test, mean", table.test_gain.mean(), ">=", 25, unit="points"),
        Target("gain on test, lowest seed", table.test_gain.min(), ">=", 15, unit="points"),
        Target("gain on unseen words of families", table.word_gain.mean(), ">=", 25, unit="points"),
        Target("gain on nonce words, mean", table.nonce_gain.mean(), ">=", 20, unit="points"),
        Target("95 % intervals, lowest bound", lows.min().min(), ">", 0, unit="points"),
        Target("choice on two-way nonce words, mean", table.nonce_choice.mean(), ">=", 0.75),
        Target("base: choice on two-way nonce words", table.base_choice.min(), ">=", 0.4),
        Target("base: choice on two-way nonce words", table.base_choice.max(), "<=", 0.6),
        Target("base: format rate", table.base_format.min(), ">=", 0.8),
    ]
