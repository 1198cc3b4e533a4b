"""The page on rewards: computed by its tool, and what its prose says of the tables holds."""

import pytest

from tools.experiments import reward_model
from tools.pages import goodhart, rewards


@pytest.fixture(scope="module")
def earned():
    return rewards.earned_by_tricks()


def test_page_is_what_its_tool_writes():
    text = rewards.PAGE.read_text(encoding="utf-8")

    assert text == rewards.page(), "run python -m tools.pages.rewards"


def test_package_tokenizer_drops_hangul():
    assert rewards.own_tokenizer_on_korean() == 0.0


def test_only_exact_match_tells_the_wrong_form_from_the_gold_answer(earned):
    wrong = earned.loc["wrong form, the reason to match"]

    assert (wrong["format"], wrong["em"]) == (1.0, 0.0)
    assert wrong["rouge1"] > 0.9
    assert wrong["bertscore"] > 0.9


@pytest.mark.parametrize("trick", ["both forms at once", "both sentences (혹은: *or*)"])
def test_answer_with_both_forms_has_no_exact_match(earned, trick):
    assert earned.loc[trick, "em"] == 0.0


def test_answer_given_twice_keeps_exact_match_and_loses_the_format(earned):
    twice = earned.loc["the answer twice"]

    assert (twice["format"], twice["em"]) == (0.0, 1.0)
    assert twice["rouge1"] == pytest.approx(0.5, abs=0.1)


def test_polite_ending_earns_nothing(earned):
    assert earned.loc["polite style (옳습니다)"].sum() == 0.0


def test_gold_answer_earns_the_most(earned):
    assert earned["article"].idxmax() == "gold answer"
    assert earned["code"].idxmax() == "gold answer"


# -- the learned reward ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def means():
    """Proxy and gold score over n, one row per n, for each number of pairs."""
    return reward_model.curves().groupby(["pairs", "n"])[["proxy", "gold"]].mean()


@pytest.mark.parametrize("count", reward_model.PAIRS)
def test_proxy_rises_with_every_choice(means, count):
    assert means.loc[count]["proxy"].is_monotonic_increasing


@pytest.mark.parametrize("count", reward_model.PAIRS[:2])
def test_gold_score_rises_and_falls_with_few_pairs(means, count):
    gold = means.loc[count]["gold"]

    assert gold.iloc[0] < gold.max()
    assert gold.iloc[-1] < gold.max() - 0.05
    assert goodhart.change_of_gold(count).high < 0


def test_no_fall_is_told_from_chance_with_all_pairs():
    change = goodhart.change_of_gold(reward_model.PAIRS[-1])

    assert change.low < 0 < change.high


def test_more_pairs_lift_the_curve_and_put_off_the_turn(means):
    highest = [means.loc[count]["gold"].max() for count in reward_model.PAIRS]
    turns = [means.loc[count]["gold"].idxmax() for count in reward_model.PAIRS]

    assert highest == sorted(highest)
    assert turns == sorted(turns)


def test_answer_that_fools_the_reward_model_repeats_what_is_nearly_the_word():
    fooled = goodhart.most_fooling()

    assert fooled.item.extra["word"] == "어짊"
    assert fooled.answer.count("어짐은") > 1


def test_figure_of_the_curves_is_committed():
    assert goodhart.FIGURE.is_file()
