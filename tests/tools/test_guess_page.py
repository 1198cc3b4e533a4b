"""The page with two runs to guess about: computed by its tool, and what it says of them holds."""

import pytest

from tools.pages import guess

RUNS = [guess.GAMED, guess.HONEST]


def test_page_is_what_its_tool_writes():
    text = guess.PAGE.read_text(encoding="utf-8")

    assert text == guess.page(), "run python -m tools.pages.guess"


@pytest.mark.parametrize("run", RUNS)
def test_reward_of_both_runs_rises(run):
    change = guess.change_in(run, "reward")

    assert change.last > change.first


def test_exact_match_of_the_gamed_run_does_not_rise():
    before, after = guess.match_on_dev(guess.GAMED)

    assert after < before


def test_exact_match_of_the_other_run_rises():
    before, after = guess.match_on_dev(guess.HONEST)

    assert after > before + 0.2


def test_answers_that_are_shown_repeat_the_wrong_sentence():
    for line in guess.completions_table().splitlines()[2:]:
        _, asked, _, answered, *_ = (cell.strip() for cell in line.split("|"))
        assert answered.startswith(asked)


def test_nothing_gives_the_gamed_run_away_before_the_first_fold():
    text = guess.PAGE.read_text(encoding="utf-8").partition("<details>")[0]

    assert "quoted" not in text
    assert "exact match" not in text.lower()
