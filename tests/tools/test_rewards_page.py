"""The page on rewards: computed by its tool, and what its prose says of the tables holds."""

import pytest

from tools.pages import rewards


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
