"""Intervals, paired tests and corrections."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.05  # what counts as sure; intervals cover 1 less this


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


def _slices(samples: int) -> Iterator[int]:
    """Yield sizes that add up to ``samples``, so that thousands of items never lie in memory for all of them."""
    yield from (min(1000, samples - start) for start in range(0, samples, 1000))


def resampled_means(matrix: np.ndarray, samples: int = 10_000, seed: int = 0) -> np.ndarray:
    """Return the row means of ``matrix`` (rows, items) over resampled items, the same for all rows: (samples, rows)."""
    rng, items = np.random.default_rng(seed), matrix.shape[1]
    drawn = (rng.integers(0, items, (size, items)) for size in _slices(samples))
    counts = (np.stack([np.bincount(row, minlength=items) for row in part]) for part in drawn)
    return np.concatenate([part @ matrix.T / items for part in counts])


def interval(means: np.ndarray) -> tuple[float, float]:
    """Return the percentile interval of resampled means."""
    return tuple(np.percentile(means, [50 * LEVEL, 100 - 50 * LEVEL]).tolist())


def paired_bootstrap(
    scores: Sequence[float], reference: Sequence[float], samples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Return the interval of the mean difference, resampling items in pairs.

    >>> paired_bootstrap([1, 1, 1, 1], [0, 0, 0, 0])
    (1.0, 1.0)
    """
    difference = np.asarray(scores, float) - np.asarray(reference, float)
    return interval(resampled_means(difference[None], samples, seed)[:, 0])


def sign_flip_p(differences: np.ndarray, samples: int = 10_000, seed: int = 0) -> np.ndarray:
    """Return, for each row of paired ``differences`` (rows, items), the two-sided p of a mean this far from 0.

    If two checkpoints were alike, each item's difference could as well have the other sign: the share of random signs
    with a mean at least as far from 0 (``scipy.stats.permutation_test``, for all rows at once).
    """
    rng, items = np.random.default_rng(seed), differences.shape[1]
    observed, further = np.abs(differences.mean(axis=1)) - 1e-12, np.zeros(len(differences))
    for size in _slices(samples):
        signs = rng.choice([-1.0, 1.0], (size, items))
        further += (np.abs(signs @ differences.T / items) >= observed).sum(axis=0)
    return (further + 1) / (samples + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's corrected p-values: the chance of even one false alarm among all of them stays below the level.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    stepped = np.minimum(1, np.asarray(p_values, float)[order] * np.arange(len(order), 0, -1))
    return np.maximum.accumulate(stepped)[np.argsort(order)].tolist()


def mcnemar(scores: Sequence[float], reference: Sequence[float]) -> tuple[int, int, float]:
    """Return (wins, losses, exact two-sided p) of two 0/1 score lists on the same items.

    >>> wins, losses, p = mcnemar([1] * 7 + [0] * 5, [0] * 7 + [1] * 5)
    >>> wins, losses, round(p, 2)
    (7, 5, 0.77)
    """
    from scipy.stats import binomtest

    difference = np.asarray(scores, float) - np.asarray(reference, float)
    wins, losses = int((difference > 0).sum()), int((difference < 0).sum())
    return wins, losses, float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def winners_curse(finals: np.ndarray, splits: int = 4000, seed: int = 0) -> float:
    """Return by how much a choice flatters its own score: choose on one half of the items, look at the other half.

    Halves are smaller than the whole, so this is rather too much than too little.
    """
    items = finals.shape[1]
    mine = np.random.default_rng(seed).random((splits, items)).argsort(axis=1) < items // 2
    seen, unseen = (
        half @ finals.T / half.sum(axis=1)[:, None] for half in (mine.astype(float), 1.0 - mine)
    )
    chosen = seen.argmax(axis=1)[:, None]
    return float(
        (np.take_along_axis(seen, chosen, 1) - np.take_along_axis(unseen, chosen, 1)).mean()
    )
