"""Intervals, paired tests and corrections for scores of the same items.

In: arrays of per-item scores, or of means of a run under several seeds. Out: intervals, p-values
and standard deviations. The article compares bare means; everything here answers the question of
how much of a difference between two means chance alone would produce.

Every random draw starts from a seed of its own, so a result depends on its arguments only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

LEVEL = 0.05  # a p-value up to this is called significant; intervals cover 1 - LEVEL
SLICE = 1000  # resamplings held in memory at once
TOLERANCE = 1e-12  # two sums of the same numbers in another order differ by less


class Interval(NamedTuple):
    """The ends of a 95 % interval."""

    low: float
    high: float


class WinsAndLosses(NamedTuple):
    """The items on which two 0/1 scores differ, and McNemar's exact two-sided p."""

    wins: int
    losses: int
    p_value: float


@dataclass(frozen=True)
class Comparison:
    """One checkpoint against another on one metric of the same items.

    Attributes:
        metric: The metric that is compared.
        items: How many items both were scored on.
        mean: The checkpoint's mean, 0 to 1.
        reference_mean: The other checkpoint's mean.
        difference: ``mean - reference_mean``.
        low: Lower end of the 95 % interval of the difference (paired bootstrap).
        high: Upper end of that interval.
        wins: Items on which the checkpoint scores higher.
        losses: Items on which it scores lower.
        p_value: McNemar's exact two-sided p of wins against losses.
    """

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


@dataclass(frozen=True)
class SeedSpread:
    """What makes the checkpoints of one run under several seeds differ, in points (hundredths).

    Attributes:
        by_epoch: Standard deviation of the checkpoints' means over the seeds.
        by_seed: Standard deviation of the seeds' means over the checkpoints.
        luck: Standard deviation of what neither the checkpoint nor the seed explains.
        lead: By how much a run's best checkpoint leads its second best, mean over the seeds.
        of_questions: Standard error of the last checkpoint that comes from the number of
            questions alone.
    """

    by_epoch: float
    by_seed: float
    luck: float
    lead: float
    of_questions: float


def _slice_sizes(samples: int) -> Iterator[int]:
    """Yield sizes of at most :data:`SLICE` that add up to ``samples``."""
    for start in range(0, samples, SLICE):
        yield min(SLICE, samples - start)


def resampled_means(matrix: np.ndarray, samples: int = 10_000, seed: int = 0) -> np.ndarray:
    """Return the row means over items drawn with replacement, the same items for all rows.

    Args:
        matrix: Scores, of shape (rows, items).
        samples: How many sets of items are drawn.
        seed: Starts the random generator.

    Returns:
        Means, of shape (samples, rows).
    """
    rng = np.random.default_rng(seed)
    items = matrix.shape[1]
    means = []

    for size in _slice_sizes(samples):
        drawn = rng.integers(0, items, (size, items))

        # Counting how often each item was drawn turns the means into one matrix product.
        counts = np.stack([np.bincount(row, minlength=items) for row in drawn])
        means.append(counts @ matrix.T / items)

    return np.concatenate(means)


def interval(means: np.ndarray) -> Interval:
    """Return the percentile interval of resampled means, of shape (samples,)."""
    tail = 50 * LEVEL
    low, high = np.percentile(means, [tail, 100 - tail])
    return Interval(float(low), float(high))


def paired_bootstrap(
    scores: Sequence[float], reference: Sequence[float], samples: int = 10_000, seed: int = 0
) -> Interval:
    """Return the interval of the mean difference, resampling items in pairs.

    Args:
        scores: One checkpoint's score of each item.
        reference: The other checkpoint's score of each item, in the same order.
        samples: How many sets of items are drawn.
        seed: Starts the random generator.

    >>> paired_bootstrap([1, 1, 1, 1], [0, 0, 0, 0])
    Interval(low=1.0, high=1.0)
    """
    difference = np.asarray(scores, float) - np.asarray(reference, float)
    one_row = difference[None]
    return interval(resampled_means(one_row, samples, seed)[:, 0])


def sign_flip_p(differences: np.ndarray, samples: int = 10_000, seed: int = 0) -> np.ndarray:
    """Return, for each row of paired differences, the two-sided p of a mean this far from 0.

    If two checkpoints were equally good, each item's difference could as well have the other sign.
    So p is the share of random signs that give a mean at least as far from 0 as the observed one
    (``scipy.stats.permutation_test``, for all rows at once).

    Args:
        differences: Differences of scores, of shape (rows, items).
        samples: How many times all signs are drawn.
        seed: Starts the random generator.

    Returns:
        p-values, of shape (rows,); never 0, because the observed signs count as one draw.
    """
    rng = np.random.default_rng(seed)
    items = differences.shape[1]
    observed = np.abs(differences.mean(axis=1)) - TOLERANCE
    as_far = np.zeros(len(differences))

    for size in _slice_sizes(samples):
        signs = rng.choice([-1.0, 1.0], (size, items))
        flipped = np.abs(signs @ differences.T / items)
        as_far += (flipped >= observed).sum(axis=0)

    return (as_far + 1) / (samples + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's corrected p-values, in the order given.

    With them, the probability of even one false alarm among all the tests stays below the level.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    ascending = np.asarray(p_values, float)[order]

    # The smallest of n p-values is multiplied by n, the next by n - 1, and so on; then each is
    # raised to the one before it, so that their order stays.
    factors = np.arange(len(order), 0, -1)
    corrected = np.maximum.accumulate(np.minimum(1, ascending * factors))

    original_places = np.argsort(order)
    return corrected[original_places].tolist()


def mcnemar(scores: Sequence[float], reference: Sequence[float]) -> WinsAndLosses:
    """Return wins, losses and the exact two-sided p of two 0/1 scores of the same items.

    >>> test = mcnemar([1] * 7 + [0] * 5, [0] * 7 + [1] * 5)
    >>> test.wins, test.losses, round(test.p_value, 2)
    (7, 5, 0.77)
    """
    from scipy.stats import binomtest

    difference = np.asarray(scores, float) - np.asarray(reference, float)
    wins = int((difference > 0).sum())
    losses = int((difference < 0).sum())

    if wins + losses == 0:
        return WinsAndLosses(0, 0, 1.0)
    return WinsAndLosses(wins, losses, float(binomtest(wins, wins + losses).pvalue))


def winners_curse(finals: np.ndarray, splits: int = 4000, seed: int = 0) -> float:
    """Return by how much a choice flatters the score of what it chooses.

    The items are split in half at random, many times: the checkpoint that is highest on one half
    is scored on the other half, too, and the mean difference is returned. Halves are smaller than
    the whole set, so the estimate is on the high side.

    Args:
        finals: Each item's part of the Final Mean, of shape (checkpoints, items).
        splits: How many times the items are split.
        seed: Starts the random generator.

    Returns:
        The mean difference, in the units of ``finals``.
    """
    items = finals.shape[1]
    random_places = np.random.default_rng(seed).random((splits, items)).argsort(axis=1)
    in_first_half = random_places < items // 2
    seen = _means_of(in_first_half.astype(float), finals)
    unseen = _means_of(1.0 - in_first_half, finals)

    chosen = seen.argmax(axis=1)[:, None]
    score_where_chosen = np.take_along_axis(seen, chosen, 1)
    score_elsewhere = np.take_along_axis(unseen, chosen, 1)
    return float((score_where_chosen - score_elsewhere).mean())


def _means_of(chosen_items: np.ndarray, finals: np.ndarray) -> np.ndarray:
    """Return means over the items marked 1, of shape (splits, checkpoints)."""
    return chosen_items @ finals.T / chosen_items.sum(axis=1)[:, None]


def seed_spread(curves: np.ndarray, questions: int) -> SeedSpread:
    """Separate what the epoch, the seed and luck contribute to the scores of a repeated run.

    This is a two-way analysis of variance with one value per cell: a score is taken as the overall
    mean, plus what its checkpoint adds, plus what its seed adds, plus luck.

    Args:
        curves: Shares from 0 to 1, of shape (seeds, checkpoints), without the untrained base.
        questions: How many questions each share was measured on.

    Returns:
        Standard deviations in points (hundredths).
    """
    points = 100 * curves
    seeds, checkpoints = points.shape
    by_seed = points.mean(axis=1, keepdims=True)
    by_epoch = points.mean(axis=0, keepdims=True)

    residuals = points - by_seed - by_epoch + points.mean()
    degrees_of_freedom = (seeds - 1) * (checkpoints - 1)
    luck = np.sqrt((residuals**2).sum() / degrees_of_freedom)

    ascending = np.sort(points, axis=1)
    leads = ascending[:, -1] - ascending[:, -2]

    share = points[:, -1].mean() / 100
    of_questions = 100 * np.sqrt(share * (1 - share) / questions)

    return SeedSpread(
        by_epoch=float(by_epoch.std(ddof=1)),
        by_seed=float(by_seed.std(ddof=1)),
        luck=float(luck),
        lead=float(leads.mean()),
        of_questions=float(of_questions),
    )
