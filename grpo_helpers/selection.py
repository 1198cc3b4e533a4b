"""⑦ Choose a checkpoint, and report how certain the choice is.

In: per-item scores of every checkpoint on the same items. Out: the chosen checkpoint, with what
the article leaves out: an interval for every mean, paired comparisons with the base and with the
highest checkpoint, the set of checkpoints that are statistically tied with the highest, how
likely the highest is to be truly best, and by how much a choice flatters its own score. The
untrained base takes part.

Two rules: the ``highest`` Final Mean, as in the article, or the ``earliest_tied`` checkpoint. A
rule is one entry of :data:`RULES`; everything it may look at is in :class:`Ranking`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from grpo_helpers.files import InputError
from grpo_helpers.run_folder import BASE, checkpoint_order
from grpo_helpers.scoring import Scores, checkpoint_means, item_finals
from grpo_helpers.statistics import (
    LEVEL,
    Comparison,
    WinsAndLosses,
    holm,
    interval,
    mcnemar,
    paired_bootstrap,
    resampled_means,
    sign_flip_p,
    winners_curse,
)

DECIMALS = 12  # Final Means that agree to this many decimals are equal


@dataclass(frozen=True)
class Versus:
    """One checkpoint against another by Final Mean and by exact match, on the same items.

    Attributes:
        difference: Difference of the Final Means.
        low: Lower end of its 95 % interval (paired bootstrap).
        high: Upper end of that interval.
        p: p of the difference, by flipping signs at random.
        p_holm: ``p`` corrected (Holm) over all checkpoints that are compared.
        wins: Items that only this checkpoint answers exactly.
        losses: Items that only the other one answers exactly.
        p_em: McNemar's p of wins against losses.
        p_em_holm: ``p_em`` corrected (Holm) over all checkpoints that are compared.
    """

    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    wins: int
    losses: int
    p_em: float
    p_em_holm: float

    @property
    def is_significant(self) -> bool:
        """Whether the Final Means differ by more than chance explains."""
        return self.p_holm <= LEVEL


@dataclass(frozen=True)
class CheckpointReport:
    """What is known of one checkpoint.

    Attributes:
        final_mean: Its Final Mean, 0 to 1.
        low: Lower end of the 95 % interval of the Final Mean.
        high: Upper end of that interval.
        probability_best: The share of resampled sets of items on which it has the highest Final
            Mean.
        versus_base: Comparison with the untrained base; None for the base itself, and where the
            base was not scored.
        versus_best: Comparison with the highest checkpoint; None for that one itself.
    """

    final_mean: float
    low: float
    high: float
    probability_best: float
    versus_base: Versus | None
    versus_best: Versus | None


@dataclass(frozen=True)
class Choice:
    """A chosen checkpoint with its reasons: what ``best_checkpoint.json`` records.

    Attributes:
        best_checkpoint: The chosen checkpoint.
        rule: The name of the rule that chose it, one of :data:`RULES`.
        aggregate: How the Final Mean was computed, one of ``metrics.AGGREGATES``.
        final_mean: The chosen checkpoint's Final Mean.
        highest: The checkpoint with the highest Final Mean.
        tied: The highest and those statistically tied with it, in training order.
        winners_curse: By how much choosing the highest flatters its own score.
        means: The means of every metric, by checkpoint.
        checkpoints: What is known of each checkpoint, by name.
        versus_base: The chosen checkpoint against the base by exact match and choice accuracy;
            None where the base was not scored.
    """

    best_checkpoint: str
    rule: str
    aggregate: str
    final_mean: float
    highest: str
    tied: tuple[str, ...]
    winners_curse: float
    means: dict[str, dict[str, float]]
    checkpoints: dict[str, CheckpointReport]
    versus_base: tuple[Comparison, ...] | None

    @property
    def rule_in_words(self) -> str:
        """What the rule chooses."""
        return RULES[self.rule].in_words

    @property
    def base_is_best(self) -> bool:
        """Whether the untrained base was chosen."""
        return self.best_checkpoint == BASE

    @property
    def better_than_base(self) -> bool:
        """Whether the chosen checkpoint's Final Mean is significantly above the base's."""
        gain = self.checkpoints[self.best_checkpoint].versus_base
        if gain is None:
            return False
        return gain.difference > 0 and gain.is_significant

    def to_dict(self) -> dict[str, Any]:
        """Return the choice as ``best_checkpoint.json`` stores it."""
        checkpoints = {}
        for name, report in self.checkpoints.items():
            checkpoints[name] = asdict(report)

        content: dict[str, Any] = {
            "best_checkpoint": self.best_checkpoint,
            "rule": self.rule,
            "rule_in_words": self.rule_in_words,
            "aggregate": self.aggregate,
            "final_mean": self.final_mean,
            "highest": self.highest,
            "tied": list(self.tied),
            "winners_curse": self.winners_curse,
            "means": self.means,
            "checkpoints": checkpoints,
        }

        if self.versus_base is not None:
            content["base_is_best"] = self.base_is_best
            content["better_than_base"] = self.better_than_base
            content["versus_base"] = [asdict(comparison) for comparison in self.versus_base]

        return content

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Choice:
        """Return the choice that :meth:`to_dict` stored; entries it does not know are ignored."""
        checkpoints = {}
        for name, stored in content["checkpoints"].items():
            checkpoints[name] = _checkpoint_report_from(stored)

        versus_base = None
        if "versus_base" in content:
            versus_base = tuple(Comparison(**stored) for stored in content["versus_base"])

        return cls(
            best_checkpoint=content["best_checkpoint"],
            rule=content["rule"],
            aggregate=content["aggregate"],
            final_mean=content["final_mean"],
            highest=content["highest"],
            tied=tuple(content["tied"]),
            winners_curse=content["winners_curse"],
            means=content["means"],
            checkpoints=checkpoints,
            versus_base=versus_base,
        )


def _checkpoint_report_from(stored: Mapping[str, Any]) -> CheckpointReport:
    """Return the report of one checkpoint as :meth:`Choice.to_dict` stored it."""
    fields = dict(stored)

    for key in ("versus_base", "versus_best"):
        if fields[key] is not None:
            fields[key] = Versus(**fields[key])

    return CheckpointReport(**fields)


@dataclass(frozen=True)
class Ranking:
    """Checkpoints scored on the same items, and what follows from the scores.

    A rule chooses by looking at this. Comparisons take a moment, so each is made when it is first
    needed.

    Attributes:
        scores: Scores per checkpoint, metric and item.
        aggregate: How the Final Mean is computed, one of ``metrics.AGGREGATES``.
        samples: Resamplings behind each interval and each p-value.
        seed: Starts each random generator.
    """

    scores: Scores
    aggregate: str = "article"
    samples: int = 10_000
    seed: int = 0

    @cached_property
    def finals(self) -> np.ndarray:
        """Each item's part of the Final Mean, of shape (checkpoints, items)."""
        return item_finals(self.scores, self.aggregate)

    @cached_property
    def highest(self) -> str:
        """The checkpoint with the highest Final Mean; the earliest among equals."""
        means = self.finals.mean(axis=1).round(DECIMALS)
        mean_of = dict(zip(self.scores, means, strict=True))
        in_training_order = sorted(self.scores, key=checkpoint_order)
        return max(in_training_order, key=mean_of.__getitem__)

    @cached_property
    def versus_highest(self) -> dict[str, Versus]:
        """Every other checkpoint against the highest one."""
        return self.against(self.highest)

    @cached_property
    def tied(self) -> list[str]:
        """The highest checkpoint and those statistically tied with it, in training order."""
        return tied_set(self.highest, self.versus_highest)

    def against(self, reference: str) -> dict[str, Versus]:
        """Return every other checkpoint against ``reference``, by name."""
        return against(
            self.scores, reference, aggregate=self.aggregate, samples=self.samples, seed=self.seed
        )


@dataclass(frozen=True)
class Rule:
    """How a checkpoint is chosen.

    Attributes:
        in_words: What it chooses, for readers.
        pick: Returns the chosen checkpoint of a ranking.
    """

    in_words: str
    pick: Callable[[Ranking], str]


def _pick_highest(ranking: Ranking) -> str:
    return ranking.highest


def _pick_earliest_tied(ranking: Ranking) -> str:
    return ranking.tied[0]


RULES = {
    "highest": Rule("the highest Final Mean; the earliest among equals", _pick_highest),
    "earliest_tied": Rule(
        "the earliest checkpoint that is statistically tied with the highest Final Mean",
        _pick_earliest_tied,
    ),
}


def find_rule(name: str) -> Rule:
    """Return the rule of this name.

    Raises:
        InputError: There is no such rule.
    """
    if name not in RULES:
        raise InputError(f"unknown rule {name!r}; known are {', '.join(RULES)}")
    return RULES[name]


def choose(
    scores: Scores,
    rule: str = "highest",
    aggregate: str = "article",
    samples: int = 10_000,
    seed: int = 0,
) -> str:
    """Return the chosen checkpoint; the base takes part.

    Args:
        scores: Scores per checkpoint, metric and item.
        rule: One of :data:`RULES`.
        aggregate: How the Final Mean is computed, one of ``metrics.AGGREGATES``.
        samples: Resamplings behind the comparisons, for the rules that need them.
        seed: Starts each random generator.

    Raises:
        InputError: An unknown rule or aggregate.

    >>> part = {"rouge1": [0.5], "bertscore": [0.5]}
    >>> wrong, right = {**part, "em": [0]}, {**part, "em": [1]}
    >>> choose({"epoch_0": wrong, "epoch_1": right, "epoch_2": right})
    'epoch_1'
    """
    picking = find_rule(rule)
    return picking.pick(Ranking(scores, aggregate, samples, seed))


def compare(
    scores: Scores,
    checkpoint: str,
    reference: str,
    metric: str,
    samples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Compare two checkpoints on one metric.

    Args:
        scores: Scores per checkpoint, metric and item.
        checkpoint: The one that is judged.
        reference: The one it is compared with.
        metric: The metric that is compared.
        samples: Resamplings behind the interval.
        seed: Starts the random generator.
    """
    ours = scores[checkpoint][metric]
    theirs = scores[reference][metric]
    mean = float(np.mean(ours))
    reference_mean = float(np.mean(theirs))
    ends = paired_bootstrap(ours, theirs, samples, seed)
    counts = mcnemar(ours, theirs)

    return Comparison(
        metric=metric,
        items=len(ours),
        mean=mean,
        reference_mean=reference_mean,
        difference=mean - reference_mean,
        low=ends.low,
        high=ends.high,
        wins=counts.wins,
        losses=counts.losses,
        p_value=counts.p_value,
    )


def compare_with_base(
    scores: Scores,
    checkpoint: str,
    metrics: Sequence[str] = ("em", "choice"),
    samples: int = 10_000,
    seed: int = 0,
) -> tuple[Comparison, ...]:
    """Compare a checkpoint with the untrained base, metric by metric.

    Args:
        scores: Scores per checkpoint, metric and item; the base is among them.
        checkpoint: The one that is judged.
        metrics: The metrics that are compared.
        samples: Resamplings behind each interval.
        seed: Starts each random generator.
    """
    comparisons = []
    for metric in metrics:
        comparisons.append(compare(scores, checkpoint, BASE, metric, samples=samples, seed=seed))
    return tuple(comparisons)


def against(
    scores: Scores,
    reference: str,
    aggregate: str = "article",
    samples: int = 10_000,
    seed: int = 0,
) -> dict[str, Versus]:
    """Compare every other checkpoint with ``reference``.

    Args:
        scores: Scores per checkpoint, metric and item.
        reference: The checkpoint that the others are compared with.
        aggregate: How the Final Mean is computed, one of ``metrics.AGGREGATES``.
        samples: Resamplings behind each interval and each p-value.
        seed: Starts each random generator.

    Returns:
        The comparisons by checkpoint; both p-values are corrected over all of them.
    """
    names = list(scores)
    others = [name for name in names if name != reference]
    if not others:
        return {}

    # Final Means: all rows at once, so that every comparison sees the same resampled items.
    finals = item_finals(scores, aggregate)
    rows = [names.index(name) for name in others]
    differences = finals[rows] - finals[names.index(reference)]
    resampled = resampled_means(differences, samples, seed)
    p_values = sign_flip_p(differences, samples, seed).tolist()
    corrected = holm(p_values)

    # Exact match.
    exact = [mcnemar(scores[name]["em"], scores[reference]["em"]) for name in others]
    exact_corrected = holm([test.p_value for test in exact])

    versus = {}
    for place, name in enumerate(others):
        versus[name] = _versus(
            differences[place],
            resampled[:, place],
            p=p_values[place],
            p_holm=corrected[place],
            exact=exact[place],
            p_em_holm=exact_corrected[place],
        )
    return versus


def _versus(
    differences: np.ndarray,
    resampled: np.ndarray,
    *,
    p: float,
    p_holm: float,
    exact: WinsAndLosses,
    p_em_holm: float,
) -> Versus:
    """Return one comparison, from differences per item and resampled mean differences."""
    low, high = interval(resampled)

    return Versus(
        difference=float(differences.mean()),
        low=low,
        high=high,
        p=p,
        p_holm=p_holm,
        wins=exact.wins,
        losses=exact.losses,
        p_em=exact.p_value,
        p_em_holm=p_em_holm,
    )


def tied_set(highest: str, versus_highest: Mapping[str, Versus]) -> list[str]:
    """Return ``highest`` and the checkpoints statistically tied with it, in training order."""
    tied = [highest]
    for name, versus in versus_highest.items():
        if not versus.is_significant:
            tied.append(name)
    return sorted(tied, key=checkpoint_order)


def describe_choice(
    scores: Scores,
    samples: int = 10_000,
    seed: int = 0,
    rule: str = "highest",
    aggregate: str = "article",
) -> Choice:
    """Choose a checkpoint and report what the choice rests on.

    Args:
        scores: Scores per checkpoint, metric and item.
        samples: Resamplings behind each interval and each p-value.
        seed: Starts each random generator.
        rule: One of :data:`RULES`.
        aggregate: How the Final Mean is computed, one of ``metrics.AGGREGATES``.

    Raises:
        InputError: An unknown rule or aggregate.
    """
    picking = find_rule(rule)
    ranking = Ranking(scores, aggregate, samples, seed)
    best = picking.pick(ranking)
    checkpoints = _checkpoint_reports(ranking)

    versus_base = None
    if BASE in scores:
        versus_base = compare_with_base(scores, best, samples=samples, seed=seed)

    return Choice(
        best_checkpoint=best,
        rule=rule,
        aggregate=aggregate,
        final_mean=checkpoints[best].final_mean,
        highest=ranking.highest,
        tied=tuple(ranking.tied),
        winners_curse=winners_curse(ranking.finals, seed=seed),
        means=checkpoint_means(scores, aggregate),
        checkpoints=checkpoints,
        versus_base=versus_base,
    )


def _checkpoint_reports(ranking: Ranking) -> dict[str, CheckpointReport]:
    """Return what is known of each checkpoint, by name, in the order of the scores."""
    resampled = resampled_means(ranking.finals, ranking.samples, ranking.seed)
    firsts = resampled.round(DECIMALS).argmax(axis=1)
    times_first = np.bincount(firsts, minlength=len(ranking.finals))
    probabilities = times_first / len(resampled)

    versus_base: dict[str, Versus] = {}
    if BASE in ranking.scores:
        versus_base = ranking.against(BASE)

    reports = {}
    for place, name in enumerate(ranking.scores):
        low, high = interval(resampled[:, place])
        reports[name] = CheckpointReport(
            final_mean=float(ranking.finals[place].mean()),
            low=low,
            high=high,
            probability_best=float(probabilities[place]),
            versus_base=versus_base.get(name),
            versus_best=ranking.versus_highest.get(name),
        )
    return reports
