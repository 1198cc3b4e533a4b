"""Choosing a checkpoint: the rules, the comparisons behind them, and the published run."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from helpers import scores_of

from grpo_helpers.files import InputError
from grpo_helpers.scoring import item_finals
from grpo_helpers.selection import (
    RULES,
    Choice,
    against,
    choose,
    compare,
    compare_with_base,
    describe_choice,
    tied_set,
)
from grpo_helpers.settings import CHOICES

CLEAR = scores_of(epoch_0=[0] * 40, epoch_1=[1] * 40, epoch_2=[1] * 39 + [0])


def published():
    """Return scores with the published counts: 127 items, 70, 71, 74, 76 and 71 right.

    The wins and losses of epoch 4 against the others are those whose exact p is the published one.
    """
    counts = {"epoch_1": (10, 4), "epoch_2": (13, 8), "epoch_3": (7, 5), "epoch_5": (9, 4)}
    right = {"epoch_4": [1.0] * 76 + [0.0] * 51}
    for name, (wins, losses) in counts.items():
        of_76 = [0.0] * wins + [1.0] * (76 - wins)
        of_51 = [1.0] * losses + [0.0] * (51 - losses)
        right[name] = of_76 + of_51
    return scores_of(**dict(sorted(right.items())))


# -- the rules -------------------------------------------------------------------------------------


def test_settings_accept_every_rule():
    assert CHOICES["rule"] == tuple(RULES)


def test_highest_is_the_earliest_of_equal_checkpoints():
    assert choose(scores_of(epoch_10=[1, 0], epoch_2=[0, 1], epoch_0=[0, 0])) == "epoch_2"


def test_base_can_be_chosen():
    choice = describe_choice(scores_of(epoch_0=[1, 1], epoch_1=[1, 0]))

    assert choice.best_checkpoint == "epoch_0"
    assert choice.base_is_best


def test_earliest_tied_checkpoint_can_be_chosen():
    assert choose(published(), "earliest_tied") == "epoch_1"


@pytest.mark.parametrize("rule", ["highest", "earliest_tied"])
def test_rules_agree_where_the_choice_is_clear(rule):
    assert choose(CLEAR, rule) == "epoch_1"


def test_tied_set_leaves_out_what_is_significantly_lower():
    assert tied_set("epoch_1", against(CLEAR, "epoch_1")) == ["epoch_1", "epoch_2"]


@pytest.mark.parametrize("function", [choose, describe_choice])
def test_unknown_rule_is_refused(function):
    with pytest.raises(InputError, match="unknown rule 'newest'; known are highest, earliest_tied"):
        function(CLEAR, rule="newest")


@pytest.mark.parametrize("rule", RULES)
def test_report_chooses_as_choose_does(rule):
    scores = published()

    choice = describe_choice(scores, 500, seed=3, rule=rule)

    assert choice.best_checkpoint == choose(scores, rule, samples=500, seed=3)


# -- comparisons -----------------------------------------------------------------------------------


@pytest.fixture
def comparison():
    scores = scores_of(epoch_0=[0, 0, 1, 1], epoch_1=[1, 1, 0, 1])
    return compare(scores, "epoch_1", "epoch_0", "em")


def test_comparison_counts_wins_and_losses(comparison):
    assert (comparison.wins, comparison.losses, comparison.difference) == (2, 1, 0.25)


def test_interval_of_a_comparison_holds_its_difference(comparison):
    assert comparison.low <= comparison.difference <= comparison.high


def test_base_is_compared_metric_by_metric():
    em, rouge1 = compare_with_base(CLEAR, "epoch_1", ("em", "rouge1"), samples=100)

    assert (em.metric, em.difference) == ("em", 1)
    assert (rouge1.metric, rouge1.difference) == ("rouge1", 0)


def test_only_checkpoint_has_no_comparisons():
    assert against(scores_of(epoch_0=[0, 1]), "epoch_0") == {}


def test_probability_of_being_best_is_the_share_of_resampled_sets_won():
    scores = scores_of(
        epoch_0=[1, 1, 0, 0, 1, 0], epoch_1=[1, 0, 1, 1, 1, 0], epoch_2=[0, 0, 1, 0, 1, 1]
    )
    every_set = np.array(list(itertools.product(range(6), repeat=6)))  # all that can be drawn
    means = item_finals(scores)[:, every_set].mean(axis=2).round(9)
    exact = np.bincount(means.argmax(axis=0), minlength=3) / len(every_set)

    checkpoints = describe_choice(scores, samples=40_000).checkpoints

    shares = [checkpoints[name].probability_best for name in scores]
    assert shares == pytest.approx(exact, abs=0.01)


@pytest.mark.heavy
def test_better_than_base_is_a_false_alarm_in_at_most_5_percent_of_runs():
    """Six checkpoints that differ from the base by chance; the highest is chosen and compared."""
    rng = np.random.default_rng(6)
    runs = 400
    false_alarms = 0

    for _ in range(runs):
        ability = rng.random(127)
        right = {}
        for epoch in range(7):
            right[f"epoch_{epoch}"] = (rng.random(127) < ability).astype(float)
        scores = scores_of(**right)

        gain = against(scores, "epoch_0", samples=400).get(choose(scores))
        if gain is not None and gain.difference > 0 and gain.is_significant:
            false_alarms += 1

    assert false_alarms / runs <= 0.05


# -- the report ------------------------------------------------------------------------------------


def test_stored_choice_can_be_read_again():
    choice = describe_choice(CLEAR, samples=200)

    assert Choice.from_dict(choice.to_dict() | {"command": "ignored"}) == choice


def test_stored_choice_has_its_keys_in_order():
    stored = describe_choice(CLEAR, samples=200).to_dict()

    assert list(stored) == [
        "best_checkpoint",
        "rule",
        "rule_in_words",
        "aggregate",
        "final_mean",
        "highest",
        "tied",
        "winners_curse",
        "means",
        "checkpoints",
        "base_is_best",
        "better_than_base",
        "versus_base",
    ]


def test_choice_without_a_base_stores_nothing_about_it():
    choice = describe_choice(published(), samples=200)

    assert not {"base_is_best", "better_than_base", "versus_base"} & set(choice.to_dict())
    assert Choice.from_dict(choice.to_dict()) == choice


def test_clear_gain_is_better_than_base():
    assert describe_choice(CLEAR, samples=200).better_than_base


@pytest.mark.heavy
def test_thousands_of_items_take_seconds():
    rng = np.random.default_rng(8)
    metrics = ("em", "choice", "rouge1", "bertscore")
    scores = {}
    for epoch in range(24):
        scores[f"epoch_{epoch}"] = {metric: rng.random(2000) for metric in metrics}
    for by_metric in scores.values():
        by_metric["em"] = (by_metric["em"] < 0.6).astype(float)

    started = time.perf_counter()
    choice = describe_choice(scores)

    assert len(choice.checkpoints) == 24
    assert time.perf_counter() - started < 30


# -- the published run -----------------------------------------------------------------------------


def test_published_counts_are_reproduced():
    assert [int(sum(row["em"])) for row in published().values()] == [70, 71, 74, 76, 71]


def test_published_counts_give_the_published_p_values():
    versus = against(published(), "epoch_4")

    p_values = [round(versus[f"epoch_{i}"].p_em, 2) for i in (3, 5, 2, 1)]
    assert p_values == [0.77, 0.27, 0.38, 0.18]


def test_published_checkpoints_are_all_tied():
    choice = describe_choice(published())

    assert choice.best_checkpoint == "epoch_4"
    assert choice.tied == ("epoch_1", "epoch_2", "epoch_3", "epoch_4", "epoch_5")


def test_published_choice_is_far_from_certain():
    choice = describe_choice(published())

    assert 0.4 < choice.checkpoints["epoch_4"].probability_best < 0.8
