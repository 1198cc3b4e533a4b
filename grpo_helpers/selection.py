"""⑦ Choose a checkpoint, and say how sure the choice is.

In: per-item scores of every checkpoint on the same items. Out: the chosen checkpoint, with what the article leaves out:
an interval for every mean, paired comparisons with the base and with the best, the set of checkpoints that cannot be
told from the best, how likely the best is to be truly best, and by how much a choice flatters its own score. The
untrained base takes part. Two rules: ``highest`` Final Mean, as in the article, or the ``earliest_tied`` checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from grpo_helpers.data import InputError
from grpo_helpers.metrics import final_mean

BASE = "epoch_0"
RULES = {
    "highest": "the highest Final Mean; the earliest among equals",
    "earliest_tied": "the earliest checkpoint that cannot be told from the one with the highest Final Mean",
}
LEVEL = 0.05  # what counts as sure; intervals cover 1 less this
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


def compare(scores: Scores, checkpoint: str, reference: str, metric: str, samples: int = 10_000, seed: int = 0):
    """Return the :class:`Comparison` of two checkpoints on one metric."""
    ours, theirs = scores[checkpoint][metric], scores[reference][metric]
    low, high = paired_bootstrap(ours, theirs, samples, seed)
    mean, other = float(np.mean(ours)), float(np.mean(theirs))
    return Comparison(metric, len(ours), mean, other, mean - other, low, high, *mcnemar(ours, theirs))


def _part(values: Sequence[float]) -> np.ndarray:
    """Return what each item adds to a mean: NaN marks an item that a rule leaves out, the others count as much more."""
    array = np.asarray(values, float)
    scored = ~np.isnan(array)
    return np.where(scored, array, 0.0) * len(array) / max(scored.sum(), 1)


def item_finals(scores: Scores, aggregate: str = "article") -> np.ndarray:
    """Return each item's part of the Final Mean, (checkpoints, items): the mean of a row is the checkpoint's."""
    rows = [{metric: _part(values) for metric, values in by_metric.items()} for by_metric in scores.values()]
    return np.array([final_mean(row, aggregate) for row in rows])


def checkpoint_means(scores: Scores, aggregate: str = "article") -> dict[str, dict[str, float]]:
    """Return each checkpoint's mean of every metric, and its ``final_mean``."""
    means = {name: {key: float(_part(values).mean()) for key, values in row.items()} for name, row in scores.items()}
    return {name: row | {"final_mean": final_mean(row, aggregate)} for name, row in means.items()}


def checkpoint_order(name: str) -> tuple[int, str]:
    """Return a sort key: by the number in a checkpoint's or file's name, base first.

    >>> sorted(["epoch_10", "epoch_2", "epoch_0"], key=checkpoint_order)
    ['epoch_0', 'epoch_2', 'epoch_10']
    """
    digits = "".join(char if char.isdigit() else " " for char in name).split()
    return (int(digits[-1]) if digits else -1, name)


def against(
    scores: Scores, reference: str, aggregate: str = "article", samples: int = 10_000, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Return how every other checkpoint compares with ``reference``, by name.

    ``difference`` of the Final Means with its interval and ``p`` (signs flipped at random); ``wins``, ``losses`` and
    ``p_em`` of exact match (McNemar); both p corrected (Holm) over all the checkpoints that are compared.
    """
    names, finals = list(scores), item_finals(scores, aggregate)
    others = [name for name in names if name != reference]
    if not others:
        return {}
    differences = finals[[names.index(name) for name in others]] - finals[names.index(reference)]
    ends = [interval(column) for column in resampled_means(differences, samples, seed).T]
    p_values = sign_flip_p(differences, samples, seed).tolist()
    wins, losses, p_em = zip(*(mcnemar(scores[name]["em"], scores[reference]["em"]) for name in others), strict=True)
    columns = (differences.mean(axis=1).tolist(), *zip(*ends, strict=True), p_values, holm(p_values))
    rows = zip(*columns, wins, losses, p_em, holm(p_em), strict=True)
    keys = ("difference", "low", "high", "p", "p_holm", "wins", "losses", "p_em", "p_em_holm")
    return {name: dict(zip(keys, row, strict=True)) for name, row in zip(others, rows, strict=True)}


def winners_curse(finals: np.ndarray, splits: int = 4000, seed: int = 0) -> float:
    """Return by how much a choice flatters its own score: choose on one half of the items, look at the other half.

    Halves are smaller than the whole, so this is rather too much than too little.
    """
    items = finals.shape[1]
    mine = np.random.default_rng(seed).random((splits, items)).argsort(axis=1) < items // 2
    seen, unseen = (half @ finals.T / half.sum(axis=1)[:, None] for half in (mine.astype(float), 1.0 - mine))
    chosen = seen.argmax(axis=1)[:, None]
    return float((np.take_along_axis(seen, chosen, 1) - np.take_along_axis(unseen, chosen, 1)).mean())


def choose(scores: Scores, rule: str = "highest", aggregate: str = "article") -> str:
    """Return the chosen checkpoint; the base takes part. InputError for an unknown rule.

    >>> part = {"rouge1": [0.5], "bertscore": [0.5]}
    >>> choose({"epoch_0": {**part, "em": [0]}, "epoch_1": {**part, "em": [1]}, "epoch_2": {**part, "em": [1]}})
    'epoch_1'
    """
    if rule not in RULES:
        raise InputError(f"unknown rule {rule!r}; known are {', '.join(RULES)}")
    finals = dict(zip(scores, item_finals(scores, aggregate).mean(axis=1).round(12), strict=True))
    best = max(sorted(scores, key=checkpoint_order), key=lambda name: finals[name])
    return best if rule == "highest" else tied_set(best, against(scores, best, aggregate))[0]


def tied_set(best: str, versus_best: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return ``best`` and the checkpoints that cannot be told from it, in training order."""
    return sorted([best, *(n for n, row in versus_best.items() if row["p_holm"] > LEVEL)], key=checkpoint_order)


def describe_choice(
    scores: Scores, samples: int = 10_000, seed: int = 0, rule: str = "highest", aggregate: str = "article"
) -> dict[str, Any]:
    """Return what ``best_checkpoint.json`` says of the choice, and of every checkpoint.

    ``probability_best`` is the share of resampled sets of items on which a checkpoint has the highest Final Mean.
    """
    names, finals = list(scores), item_finals(scores, aggregate)
    highest = choose(scores, "highest", aggregate)
    resampled = resampled_means(finals, samples, seed)
    firsts = np.bincount(resampled.round(12).argmax(axis=1), minlength=len(names)) / len(resampled)
    versus_best = against(scores, highest, aggregate, samples, seed)
    versus_base = against(scores, BASE, aggregate, samples, seed) if BASE in scores else {}
    tied = tied_set(highest, versus_best)
    chosen = tied[0] if rule == "earliest_tied" else choose(scores, rule, aggregate)
    report: dict[str, Any] = {
        "best_checkpoint": chosen,
        "rule": rule,
        "rule_in_words": RULES[rule],
        "aggregate": aggregate,
        "final_mean": float(finals[names.index(chosen)].mean()),
        "highest": highest,
        "tied": tied,
        "winners_curse": winners_curse(finals, seed=seed),
        "means": checkpoint_means(scores, aggregate),
        "checkpoints": {},
    }
    for i, name in enumerate(names):
        low, high = interval(resampled[:, i])
        row = {"final_mean": float(finals[i].mean()), "low": low, "high": high, "probability_best": float(firsts[i])}
        row |= {"versus_base": versus_base.get(name), "versus_best": versus_best.get(name)}
        report["checkpoints"][name] = row
    if BASE in scores:
        sure = versus_base.get(chosen, {"difference": 0.0, "p_holm": 1.0})
        report["base_is_best"] = chosen == BASE
        report["better_than_base"] = sure["difference"] > 0 and sure["p_holm"] <= LEVEL
        report["versus_base"] = [asdict(compare(scores, chosen, BASE, m, samples, seed)) for m in ("em", "choice")]
    return report
