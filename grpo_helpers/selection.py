"""Choose a checkpoint, and say how sure the choice is.

In: per-item scores of every checkpoint on the same items. Out: the best checkpoint by the article's rule (highest
Final Mean, the earliest among equals; the untrained base takes part), with paired comparisons against the base.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from grpo_helpers.metrics import final_mean

BASE = "epoch_0"
Scores = Mapping[str, Mapping[str, Sequence[float]]]  # checkpoint -> metric -> score per item


@dataclass(frozen=True)
class Comparison:
    """One checkpoint against another on the same items: means, difference, 95 % interval, McNemar's p on wins."""

    metric: str
    items: int
    mean: float
    reference_mean: float
    difference: float
    low: float
    high: float
    wins: int
    losses: int
    p_value: float


def paired_bootstrap(
    scores: Sequence[float], reference: Sequence[float], samples: int = 10_000, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """Return the percentile interval of the mean difference, resampling items in pairs.

    Example:
        >>> paired_bootstrap([1, 1, 1, 1], [0, 0, 0, 0])
        (1.0, 1.0)
    """
    difference = np.asarray(scores, float) - np.asarray(reference, float)
    rng = np.random.default_rng(seed)
    # In slices, so that thousands of items times thousands of samples never lie in memory at once.
    means = np.concatenate([
        difference[rng.integers(0, len(difference), (min(1000, samples - start), len(difference)))].mean(axis=1)
        for start in range(0, samples, 1000)
    ])  # fmt: skip
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)


def mcnemar(scores: Sequence[float], reference: Sequence[float]) -> tuple[int, int, float]:
    """Return (wins, losses, exact two-sided p) of two 0/1 score lists on the same items.

    Example:
        >>> wins, losses, p = mcnemar([1] * 7 + [0] * 5, [0] * 7 + [1] * 5)
        >>> wins, losses, round(p, 2)
        (7, 5, 0.77)
    """
    from scipy.stats import binomtest

    wins = sum(a > b for a, b in zip(scores, reference, strict=True))
    losses = sum(a < b for a, b in zip(scores, reference, strict=True))
    return wins, losses, float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def compare(scores: Scores, checkpoint: str, reference: str, metric: str, samples: int = 10_000, seed: int = 0):
    """Return the :class:`Comparison` of two checkpoints on one metric."""
    ours, theirs = scores[checkpoint][metric], scores[reference][metric]
    low, high = paired_bootstrap(ours, theirs, samples, seed)
    mean, other = float(np.mean(ours)), float(np.mean(theirs))
    return Comparison(metric, len(ours), mean, other, mean - other, low, high, *mcnemar(ours, theirs))


def checkpoint_means(scores: Scores) -> dict[str, dict[str, float]]:
    """Return each checkpoint's mean of every metric, and its ``final_mean``."""
    means = {}
    for name, by_metric in scores.items():
        row = {metric: _mean(values) for metric, values in by_metric.items()}
        means[name] = row | {"final_mean": final_mean(row)}
    return means


def _mean(values: Sequence[float]) -> float:
    """Return the mean of what was scored: NaN marks an item that a rule leaves out; 0.0 if nothing was."""
    scored = [value for value in values if not math.isnan(value)]
    return float(np.mean(scored)) if scored else 0.0


def checkpoint_order(name: str) -> tuple[int, str]:
    """Return a sort key: by the number in a checkpoint's or file's name, base first.

    Example:
        >>> sorted(["epoch_10", "epoch_2", "epoch_0"], key=checkpoint_order)
        ['epoch_0', 'epoch_2', 'epoch_10']
    """
    digits = "".join(char if char.isdigit() else " " for char in name).split()
    return (int(digits[-1]) if digits else -1, name)


def choose(scores: Scores) -> str:
    """Return the checkpoint with the highest Final Mean; the earliest among equals.

    Example:
        >>> part = {"rouge1": [0.5], "bertscore": [0.5]}
        >>> choose({"epoch_0": {**part, "em": [0]}, "epoch_1": {**part, "em": [1]}, "epoch_2": {**part, "em": [1]}})
        'epoch_1'
    """
    means = checkpoint_means(scores)
    return max(sorted(means, key=checkpoint_order), key=lambda name: means[name]["final_mean"])


def describe_choice(scores: Scores, samples: int = 10_000, seed: int = 0) -> dict[str, Any]:
    """Return what ``best_checkpoint.json`` says of the choice: rule, means, and comparisons with the base."""
    best, means = choose(scores), checkpoint_means(scores)
    report: dict[str, Any] = {
        "best_checkpoint": best,
        "rule": "highest Final Mean, mean of ROUGE-1, BERTScore and exact match; the earliest among equals",
        "final_mean": means[best]["final_mean"],
        "means": means,
    }
    if BASE in scores:
        report["base_is_best"] = best == BASE
        metrics = ("em", "choice")
        report["versus_base"] = [asdict(compare(scores, best, BASE, m, samples, seed)) for m in metrics]
    return report
