"""What is measured of thoughts: in the log of a run, and in the tables of its answers."""

from __future__ import annotations

import pandas as pd
import pytest
from helpers import TINY_MODEL

from grpo_helpers.data import load_items
from grpo_helpers.models import load_tokenizer
from grpo_helpers.run_folder import series
from grpo_helpers.scoring import score_all, write_tables
from grpo_helpers.thoughts import (
    THOUGHT_LENGTH,
    THOUGHT_RATIO,
    UNFINISHED_RATIO,
    RoundThoughts,
    any_thinks,
)

LABELS = load_items("data/smoke/dev.json")
GOLDS = [item.answer for item in LABELS]
PLAIN = "며칠이 옳다."
THINKS = "<think>며칠</think>며칠이 옳다."
CUT_OFF = "<think>며칠이"


def completions(*texts):
    """Return completions as TRL keeps them."""
    return [[{"role": "assistant", "content": text}] for text in texts]


# -- a round ---------------------------------------------------------------------------------------


@pytest.fixture
def measure():
    """What measures rounds; the tokenizer has a token for each character."""
    return RoundThoughts(load_tokenizer(TINY_MODEL))


def test_round_without_thoughts_has_no_new_quantities(measure):
    assert measure(completions(PLAIN, "")) == {}


def test_round_with_thoughts_has_their_share_and_their_tokens(measure):
    measured = measure(completions(PLAIN, THINKS, CUT_OFF, PLAIN))

    assert measured == {THOUGHT_RATIO: 0.5, UNFINISHED_RATIO: 0.25, THOUGHT_LENGTH: 2.5}


def test_round_after_the_last_thought_has_a_share_of_zero(measure):
    measure(completions(THINKS))

    assert measure(completions(PLAIN)) == {THOUGHT_RATIO: 0.0, UNFINISHED_RATIO: 0.0}


def test_empty_thought_is_none(measure):
    assert measure(completions("<think>\n\n</think>\n\n며칠")) == {}


def test_thought_that_the_template_opened_is_counted():
    measure = RoundThoughts(load_tokenizer(TINY_MODEL), thought_is_open=True)

    measured = measure(completions("며칠</think>며칠이 옳다.", "며칠이"))

    assert measured == {THOUGHT_RATIO: 1.0, UNFINISHED_RATIO: 0.5, THOUGHT_LENGTH: 2.5}


def test_share_is_zero_at_the_steps_before_the_first_thought():
    rows = [{"step": 1, "reward": 0.1}, {"step": 2, THOUGHT_RATIO: 0.5}]

    assert series(rows, THOUGHT_RATIO) == ([1, 2], [0.0, 0.5])


def test_log_without_thoughts_has_no_share():
    assert series([{"step": 1, "reward": 0.1}], THOUGHT_RATIO) == ([], [])


# -- tables ----------------------------------------------------------------------------------------


def test_answer_with_an_empty_thought_does_not_think():
    assert not any_thinks(["<think></think>며칠", PLAIN])


@pytest.fixture
def tables(tmp_path):
    """A function that returns the two tables of checkpoints by their answers."""

    def write(**answers):
        scores, items = write_tables(score_all(answers, LABELS), LABELS, tmp_path)
        return pd.read_csv(scores).set_index("checkpoint"), pd.read_csv(items)

    return write


def test_tables_without_thoughts_have_no_new_columns(tables):
    scores, items = tables(epoch_0=GOLDS)

    assert not {"thinks", "thought_characters"}.intersection([*scores, *items])


def test_table_says_which_share_of_a_checkpoints_answers_thinks(tables):
    half = [f"<think>며칠</think>{gold}" for gold in GOLDS[: len(GOLDS) // 2]]
    scores, _ = tables(epoch_0=GOLDS, epoch_1=[*half, *GOLDS[len(half) :]])

    assert scores.loc["epoch_0", "thinks"] == 0
    assert scores.loc["epoch_1", "thinks"] == pytest.approx(len(half) / len(GOLDS))


def test_table_has_the_length_of_each_thought(tables):
    _, items = tables(epoch_0=[f"<think>며칠</think>{GOLDS[0]}", *GOLDS[1:]])

    assert list(items["thought_characters"]) == [2.0] + [0.0] * (len(GOLDS) - 1)


def test_thoughts_leave_the_final_mean_alone(tables):
    plain, _ = tables(epoch_0=GOLDS)
    thinking, _ = tables(epoch_0=[f"<think>며칠</think>{gold}" for gold in GOLDS])

    assert thinking.loc["epoch_0", "final_mean"] == plain.loc["epoch_0", "final_mean"]
