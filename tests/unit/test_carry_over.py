"""From memory to rule: points are read, and neither a preference nor swapping passes for a rule."""

import math

import pandas as pd
import pytest

from grpo_helpers import carry_over
from grpo_helpers.files import InputError
from grpo_helpers.questions import CORRECTION, SELECTION
from grpo_helpers.splits import TEST, TEST_NONCE
from tools.corpus import families

FORMS = {"ryul-yul": ("률", "율"), "i-hi": ("이", "히")}


def questions(choice, split=TEST_NONCE.title, **about):
    """Return one question for each question type, family and right form, answered by a function.

    Args:
        choice: Takes a row; returns 1 if the answer has the right form.
        split: The title of the split.
        about: Columns that differ from those of a word of a two-way family that was not trained.
    """
    rows = []
    for question_type in (SELECTION, CORRECTION):
        for card, forms in FORMS.items():
            for form in forms:
                row = {"split": split, "id": f"{split}-{len(rows)}", "card": card, "form": form}
                row |= {"kind": "two-way", "question_type": question_type, "is_trained": False}
                row |= about
                row["choice"] = row["em"] = float(choice(row))
                rows.append(row)
    return pd.DataFrame(rows)


def knows_the_rule(row):
    return True


def prefers_the_first_form(row):
    return row["form"] == FORMS[row["card"]][0]


def swaps(row):
    """Answer 교정형 by writing the other form, 선택형 by a preference."""
    return row["question_type"] == CORRECTION or prefers_the_first_form(row)


@pytest.fixture
def record(tmp_path):
    """Return a function that writes the table of one training."""

    def write(name, choice=knows_the_rule):
        trained = questions(choice, TEST.title, is_trained=True)
        table = pd.concat([trained, questions(choice)])
        table.to_csv(tmp_path / f"{name}.csv", index=False)
        return tmp_path

    return write


# -- reading ---------------------------------------------------------------------------------------


def test_points_are_read_with_way_words_and_seed(record):
    record("gold_8_0")
    points = carry_over.load_points(record("grpo_2_1"))

    trainings = points[carry_over.POINT_COLUMNS].drop_duplicates().to_numpy().tolist()

    assert trainings == [["grpo", 2, 1], ["gold", 8, 0]]


@pytest.mark.parametrize("folder", ["", "nowhere"])
def test_folder_without_points_gives_an_empty_table(tmp_path, folder):
    points = carry_over.load_points(tmp_path / folder)

    assert points.empty
    assert carry_over.memory_and_rule(points).empty
    assert carry_over.rule_by_family(points, 8).empty


@pytest.mark.parametrize("name", ["grpo_8", "grpo_x_0", "magic_8_0"])
def test_file_of_another_name_is_refused(record, name):
    folder = record(name)

    with pytest.raises(InputError, match=rf"{name}.csv is no <way>_<words>_<seed>.csv"):
        carry_over.load_points(folder)


def test_table_without_a_needed_column_is_refused(tmp_path):
    questions(knows_the_rule).drop(columns="form").to_csv(tmp_path / "grpo_1_0.csv", index=False)

    with pytest.raises(InputError, match=r"grpo_1_0.csv has no column form: made with python -m"):
        carry_over.load_points(tmp_path)


def test_no_points_are_told_with_the_command(tmp_path):
    line = carry_over.missing_points(carry_over.load_points(tmp_path))

    expected = "no point is recorded; python -m tools.experiments.words_per_norm makes all of them"
    assert line == expected


def test_missing_points_are_named_and_counted(record):
    line = carry_over.missing_points(carry_over.load_points(record("grpo_1_0")))

    assert line.startswith("not recorded yet: grpo_2_0, grpo_4_0, grpo_8_0, 8 more; python -m ")


def test_nothing_is_told_of_complete_points(record):
    for way in carry_over.WAYS:
        for words in carry_over.WORDS:
            folder = record(f"{way}_{words}_0")

    assert carry_over.missing_points(carry_over.load_points(folder)) == ""


def test_kinds_are_called_as_in_the_data():
    assert carry_over.TWO_WAY == families.TWO_WAY
    assert families.ONE_WAY in carry_over.SHORTCUT_KINDS


# -- shares ----------------------------------------------------------------------------------------


def shares_of(folder, question_type=SELECTION):
    """Return memory and rule of the only training in a folder."""
    points = carry_over.load_points(folder)
    (row,) = carry_over.memory_and_rule(points, question_type).to_dict("records")
    return row


def test_rule_reaches_one(record):
    row = shares_of(record("grpo_8_0", knows_the_rule))

    assert (row["memory"], row["rule"]) == (1, 1)


@pytest.mark.parametrize("answerer", [prefers_the_first_form, swaps])
def test_shortcut_reaches_one_half_of_the_rule(record, answerer):
    assert shares_of(record("grpo_8_0", answerer))["rule"] == carry_over.CHANCE


def test_swapping_is_seen_in_the_other_question_type(record):
    assert shares_of(record("grpo_8_0", swaps), CORRECTION)["rule"] == 1


def test_questions_behind_a_share_are_counted(record):
    row = shares_of(record("grpo_8_0"))

    assert (row["memory_questions"], row["rule_questions"]) == (4, 4)


def test_words_that_were_not_trained_are_no_memory(tmp_path):
    table = questions(knows_the_rule, TEST.title, is_trained=False)
    table.to_csv(tmp_path / "grpo_1_0.csv", index=False)

    assert shares_of(tmp_path)["memory_questions"] == 0


def test_one_way_families_count_as_no_rule(tmp_path):
    questions(knows_the_rule, kind="one-way").to_csv(tmp_path / "grpo_1_0.csv", index=False)

    assert math.isnan(shares_of(tmp_path)["rule"])


def test_frequent_form_does_not_outweigh_the_other():
    rows = pd.DataFrame({"card": "ryul-yul", "form": ["률"] * 9 + ["율"], "choice": [1] * 9 + [0]})

    assert carry_over.form_balanced(rows) == 0.5


def test_large_family_does_not_outweigh_a_small_one():
    rows = pd.DataFrame({"card": ["big"] * 9 + ["small"], "form": "a", "choice": [1] * 9 + [0]})

    assert carry_over.form_balanced(rows) == 0.5


def test_table_of_splits_has_exact_match_on_test():
    test = questions(knows_the_rule, TEST.key)
    invented = questions(prefers_the_first_form, TEST_NONCE.key)

    shares = carry_over.match_and_choices(pd.concat([test, invented]))

    assert shares == {"exact match on test": 1, "choose on nonce words": 0.5}


def test_swapping_shows_no_rule_in_the_table_of_splits():
    test = questions(swaps, TEST.key)
    invented = questions(swaps, TEST_NONCE.key)

    shares = carry_over.match_and_choices(pd.concat([test, invented]))

    assert shares == {"exact match on test": 0.75, "choose on nonce words": 0.5}


def test_family_that_asks_for_one_form_is_named():
    rows = questions(knows_the_rule)
    one_form = rows[(rows["card"] != "i-hi") | (rows["form"] == "이")]

    assert carry_over.one_sided_families(rows) == []
    assert carry_over.one_sided_families(one_form) == ["i-hi"]


def test_families_are_listed_with_two_way_ones_first(tmp_path):
    one_way = questions(knows_the_rule, kind="one-way").assign(card="lge")
    table = pd.concat([one_way, questions(prefers_the_first_form)])
    table.to_csv(tmp_path / "gold_8_0.csv", index=False)

    by_family = carry_over.rule_by_family(carry_over.load_points(tmp_path), 8)

    assert by_family["family"].tolist() == ["i-hi", "ryul-yul", "lge"]
    assert by_family["supervised, gold answers"].tolist() == [0.5, 0.5, 1.0]


def test_question_of_several_seeds_is_counted_once(record):
    record("grpo_8_0")
    points = carry_over.load_points(record("grpo_8_1"))

    assert carry_over.rule_by_family(points, 8)["questions"].tolist() == [2, 2]


def test_questions_with_a_shortcut_are_left_out():
    rows = pd.concat([questions(knows_the_rule), questions(knows_the_rule, kind="lexical")])

    left = carry_over.without_shortcuts(rows)

    assert set(left["question_type"]) == {SELECTION}
    assert set(left["kind"]) == {"two-way"}


def test_table_without_kinds_keeps_its_questions_with_options():
    rows = questions(knows_the_rule).drop(columns="kind")

    assert len(carry_over.without_shortcuts(rows)) == 4


@pytest.mark.parametrize("questions_asked", [10, 96])
def test_guesser_ends_in_the_range_of_chance(questions_asked):
    from scipy.stats import binom

    low, high = carry_over.chance_range(questions_asked)
    inside = binom.cdf(high * questions_asked, questions_asked, 0.5)
    inside -= binom.cdf(low * questions_asked - 1, questions_asked, 0.5)

    assert 0.95 <= inside < 0.99


def test_chance_without_questions_is_anything():
    assert carry_over.chance_range(0) == (0, 1)
