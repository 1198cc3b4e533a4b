"""⑦ Choose a checkpoint, and say how sure the choice is.

In: per-item scores of every checkpoint on the same items. Out: the chosen checkpoint, with what the article leaves out:
an interval for every mean, paired comparisons with the base and with the best, the set of checkpoints that cannot be
told from the best, how likely the best is to be truly best, and by how much a choice flatters its own score. The
untrained base takes part. Two rules: ``highest`` Final Mean, as in the article, or the ``earliest_tied`` checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from grpo_helpers.files import InputError
from grpo_helpers.run_folder import BASE, checkpoint_order
from grpo_helpers.scoring import Scores, checkpoint_means, item_finals
from grpo_helpers.statistics import (
    LEVEL,
    Comparison,
    holm,
    interval,
    mcnemar,
    paired_bootstrap,
    resampled_means,
    sign_flip_p,
    winners_curse,
)

RULES = {
    "highest": "the highest Final Mean; the earliest among equals",
    "earliest_tied": "the earliest checkpoint that cannot be told from the one with the highest Final Mean",
}


def compare(
    scores: Scores,
    checkpoint: str,
    reference: str,
    metric: str,
    samples: int = 10_000,
    seed: int = 0,
):
    """Return the :class:`Comparison` of two checkpoints on one metric."""
    ours, theirs = scores[checkpoint][metric], scores[reference][metric]
    low, high = paired_bootstrap(ours, theirs, samples, seed)
    mean, other = float(np.mean(ours)), float(np.mean(theirs))
    return Comparison(
        metric, len(ours), mean, other, mean - other, low, high, *mcnemar(ours, theirs)
    )


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
    wins, losses, p_em = zip(
        *(mcnemar(scores[name]["em"], scores[reference]["em"]) for name in others), strict=True
    )
    columns = (
        differences.mean(axis=1).tolist(),
        *zip(*ends, strict=True),
        p_values,
        holm(p_values),
    )
    rows = zip(*columns, wins, losses, p_em, holm(p_em), strict=True)
    keys = ("difference", "low", "high", "p", "p_holm", "wins", "losses", "p_em", "p_em_holm")
    return {name: dict(zip(keys, row, strict=True)) for name, row in zip(others, rows, strict=True)}


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
    return sorted(
        [best, *(n for n, row in versus_best.items() if row["p_holm"] > LEVEL)],
        key=checkpoint_order,
    )


def describe_choice(
    scores: Scores,
    samples: int = 10_000,
    seed: int = 0,
    rule: str = "highest",
    aggregate: str = "article",
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
        row = {
            "final_mean": float(finals[i].mean()),
            "low": low,
            "high": high,
            "probability_best": float(firsts[i]),
        }
        row |= {"versus_base": versus_base.get(name), "versus_best": versus_best.get(name)}
        report["checkpoints"][name] = row
    if BASE in scores:
        sure = versus_base.get(chosen, {"difference": 0.0, "p_holm": 1.0})
        report["base_is_best"] = chosen == BASE
        report["better_than_base"] = sure["difference"] > 0 and sure["p_holm"] <= LEVEL
        report["versus_base"] = [
            asdict(compare(scores, chosen, BASE, m, samples, seed)) for m in ("em", "choice")
        ]
    return report
