"""Coins as they are recorded, read, put in order and counted."""

import numpy as np
import pandas as pd
import pytest
from helpers import made_up_coins

from grpo_helpers.coins import (
    COLUMNS,
    FAMILIES,
    LEXICAL,
    Coins,
    by_family,
    coins_file,
    examples,
    family_order,
    find_coins,
    groups,
    load_coins,
    to_table,
    turned_table,
)
from grpo_helpers.files import InputError


def coins_of(*rows, steps=(0, 1)):
    """Return coins from (block, kind, card, word, trained_as, shares)."""
    words = []
    for block, kind, card, word, trained_as, _ in rows:
        row = {"block": block, "kind": kind, "card": card, "word": word, "trained_as": trained_as}
        words.append(dict.fromkeys(COLUMNS, "") | row)
    return Coins(pd.DataFrame(words), list(steps), np.array([row[-1] for row in rows]))


MIXED = coins_of(
    ("invented", "one-way", "lge", "발게", "", (0.4, 0.6)),
    ("rewarded", "lexical", "spelling-waenji", "왠지", "both", (0.5, 0.95)),
    ("rewarded", "one-way", "lge", "할게", "선택형", (0.5, 0.5)),
    ("rewarded", "two-way", "ryul-yul", "합격률", "교정형", (0.3, 0.05)),
    ("rewarded", "two-way", "ryul-yul", "비율", "선택형", (0.6, 0.9)),
)


def write(coins, folder):
    """Write coins as those of the run ``mine``; return the folder of recorded runs."""
    file = coins_file(folder, "mine")
    file.parent.mkdir()
    to_table(coins).to_csv(file, index=False)
    return folder


def test_recorded_table_has_a_column_for_each_step():
    table = to_table(MIXED)

    assert list(table) == [*COLUMNS, "0", "1"]
    assert len(table) == len(MIXED.words)


def test_coins_are_read_as_they_were_written(tmp_path):
    folder = write(MIXED, tmp_path)

    (read,) = find_coins(folder, ["mine"]).values()

    assert read.steps == MIXED.steps
    assert read.shares == pytest.approx(MIXED.shares)
    pd.testing.assert_frame_equal(read.words, MIXED.words[list(COLUMNS)])


def test_missing_coins_are_named_with_the_command_that_makes_them(tmp_path, capsys):
    assert find_coins(tmp_path, ["seed_0", "quoted"]) == {}
    assert "python -m tools.experiments.coins seed_0 quoted records them" in capsys.readouterr().out


def test_file_without_coins_is_refused(tmp_path):
    with pytest.raises(InputError, match="coins seed_0 records them"):
        load_coins(coins_file(tmp_path, "seed_0"))


def test_table_of_something_else_is_refused(tmp_path):
    file = tmp_path / "seed_0.csv.gz"
    pd.DataFrame({"block": ["rewarded"]}).to_csv(file)

    with pytest.raises(InputError, match="has no column kind: made with"):
        load_coins(file)


def test_words_of_a_card_alone_are_one_family():
    assert list(MIXED.families) == ["lge", LEXICAL, "lge", "ryul-yul", "ryul-yul"]


def test_families_come_in_the_order_of_their_kinds():
    assert family_order(MIXED) == ["ryul-yul", "lge", LEXICAL]


def test_words_that_turn_early_come_first_in_their_family():
    assert list(by_family(MIXED).words["word"]) == ["비율", "합격률", "할게", "왠지", "발게"]


def test_groups_cover_all_words_without_a_gap():
    found = groups(by_family(MIXED))

    assert [(group.block, group.family) for group in found] == [
        ("rewarded", "ryul-yul"),
        ("rewarded", "lge"),
        ("rewarded", LEXICAL),
        ("invented", "lge"),
    ]
    assert [group.start for group in found[1:]] == [group.end for group in found[:-1]]
    assert found[-1].end == len(MIXED.words)


def test_example_of_a_family_is_its_shortest_word():
    assert examples(MIXED)["ryul-yul"] == "비율"


def test_coins_can_be_put_in_the_order_of_another_run():
    other = by_family(MIXED)

    same = MIXED.in_order_of(other)

    assert list(same.words["word"]) == list(other.words["word"])
    assert same.shares == pytest.approx(other.shares)


def test_runs_that_asked_about_other_words_are_not_compared():
    fewer = MIXED.of_blocks("rewarded")

    with pytest.raises(InputError, match="only one has 발게"):
        fewer.in_order_of(MIXED)


def test_word_has_turned_from_nine_tenths_on():
    assert [MIXED.turned(0), MIXED.turned()] == [0, 2]


def test_table_counts_what_has_turned_by_block_and_training():
    table = turned_table(MIXED)

    assert list(table.index) == [
        ("rewarded", "both"),
        ("rewarded", "교정형"),
        ("rewarded", "선택형"),
        ("invented", ""),
    ]
    assert list(table["after"]) == [1, 0, 1, 0]
    assert list(table["wrong after"]) == [0, 1, 0, 0]
    assert table.loc[("rewarded", "선택형"), "mean before"] == pytest.approx(0.55)


def test_made_up_coins_have_every_family():
    assert set(made_up_coins().families) == set(FAMILIES)
