"""Who thinks, and does it help: judged answers and recorded ways."""

import math

import pandas as pd
import pytest

from grpo_helpers import thinking_runs
from grpo_helpers.data import load_items
from grpo_helpers.files import InputError

(ITEM,) = load_items("data/word_chain/few_shot.json")[:1]
CHAIN = ITEM.extra["chain"]
TRUE = f"<think>{CHAIN}</think>{ITEM.answer}"


def judged(*answers):
    """Return the judgement of some answers to one question."""
    return thinking_runs.judge_answers([answers], [ITEM])


def test_true_thought_before_the_right_answer_is_both():
    (row,) = judged(TRUE).to_dict("records")
    assert (row["thinks"], row["is_chain"], row["em"], row["format"]) == (True, True, 1, 1)


def test_other_thought_is_not_the_chain():
    (row,) = judged(TRUE.replace(CHAIN, CHAIN.split()[0])).to_dict("records")
    assert row["thinks"] and not row["is_chain"]


def test_answer_at_once_does_not_think():
    (row,) = judged(ITEM.answer).to_dict("records")
    assert (row["thinks"], row["is_chain"], row["em"]) == (False, False, 1)


def test_empty_thought_is_none():
    (row,) = judged(f"<think></think>{ITEM.answer}").to_dict("records")
    assert (row["thinks"], row["is_chain"]) == (False, False)


def test_shares_tell_the_two_habits_apart():
    shares = thinking_runs.thinking_shares(judged(TRUE, TRUE, ITEM.answer, "nothing"))
    assert shares["thinks"] == 0.5
    assert shares["right with a thought"] == 1
    assert shares["right without"] == 0.5


def test_share_of_no_answers_is_not_a_number():
    shares = thinking_runs.thinking_shares(judged(TRUE))
    assert math.isnan(shares["right without"])


@pytest.fixture
def folder(tmp_path):
    """Tables of the base and of GRPO, and a log, as the tool writes them."""
    for name, right in (("base", 0), ("grpo_0", 1), ("gold_0", 0)):
        rows = []
        for number in range(20):
            row = {"split": "unseen_words", "answers": "greedy", "id": f"q{number}", "hops": 4}
            rows.append(row | {"thinks": True, "is_chain": True, "format": 1, "em": right})
        pd.DataFrame(rows).to_csv(tmp_path / f"{name}.csv", index=False)
    pd.DataFrame({"step": [1]}).to_csv(tmp_path / "grpo_0_log.csv", index=False)
    return tmp_path


def test_tables_are_read_with_their_way_and_seed(folder):
    ways = thinking_runs.load_ways(folder)
    assert set(ways.groupby(["way", "seed"]).groups) == {("base", -1), ("grpo", 0), ("gold", 0)}


def test_log_is_no_table_of_answers_but_is_found_by_its_seed(folder):
    logs = thinking_runs.load_logs(folder, "grpo")
    assert {seed: list(log["step"]) for seed, log in logs.items()} == {0: [1]}


def test_ways_are_compared_in_the_order_asked_for(folder):
    ways = thinking_runs.load_ways(folder)
    table = thinking_runs.compare_ways(ways, ("grpo", "base"), "unseen_words", "greedy")
    assert list(table["right"]) == [1, 0]
    assert list(table.index) == [thinking_runs.WAYS["grpo"], thinking_runs.WAYS["base"]]


def test_way_that_is_not_recorded_is_left_out(folder):
    ways = thinking_runs.load_ways(folder)
    table = thinking_runs.compare_ways(ways, ("grpo", "taught"), "unseen_words", "greedy")
    assert list(table["seeds"]) == [1]


@pytest.mark.parametrize("reference", ["base", "gold"])
def test_gain_is_paired_by_question(folder, reference):
    ways = thinking_runs.load_ways(folder)
    gains = thinking_runs.paired_gains(ways, "grpo", reference, "unseen_words", "greedy")
    assert gains == {0: (1, 1)}


def test_missing_ways_are_named_with_the_command(folder):
    line = thinking_runs.missing_ways(thinking_runs.load_ways(folder))
    assert line.startswith("not recorded: rejection, taught, brevity,")
    assert line.endswith(f"; to record: {thinking_runs.COMMAND}")


def test_missing_folder_has_no_rows(tmp_path):
    ways = thinking_runs.load_ways(tmp_path / "none")
    assert ways.empty and {"way", "seed", "em"} <= set(ways.columns)


def test_file_with_another_name_is_refused(folder):
    (folder / "grpo_0.csv").rename(folder / "grpo_first.csv")
    with pytest.raises(InputError, match=r"grpo_first\.csv is no <way>_<seed>.csv"):
        thinking_runs.load_ways(folder)


def test_file_without_a_column_is_refused(folder):
    pd.read_csv(folder / "grpo_0.csv").drop(columns="em").to_csv(folder / "grpo_0.csv")
    with pytest.raises(InputError, match=r"grpo_0\.csv has no column em"):
        thinking_runs.load_ways(folder)
