"""The experiment on words of each norm: what it writes is what notebook 06 reads."""

import pandas as pd
import pytest

from grpo_helpers import carry_over
from tools.experiments import words_per_norm

pytestmark = pytest.mark.heavy  # the experiment loads TRL


def test_ways_are_those_that_are_read():
    assert list(words_per_norm.WAYS) == list(carry_over.WAYS)


def test_numbers_of_words_are_those_that_are_expected():
    assert words_per_norm.WORDS == carry_over.WORDS


@pytest.mark.parametrize(
    ("is_hidden", "folder"),
    [(False, carry_over.FOLDER), (True, carry_over.HIDDEN_FOLDER)],
    ids=["letters seen", "letters hidden"],
)
def test_folder_is_the_one_that_is_read(is_hidden, folder):
    point = words_per_norm.Point("grpo", 8, 0, is_hidden)

    assert point.folder.name == folder


def test_tables_have_the_columns_that_are_read():
    assert set(carry_over.QUESTION_COLUMNS) <= set(words_per_norm.COLUMNS)


def test_name_of_a_point_is_understood(tmp_path):
    name = words_per_norm.Point("rejection", 4, 2).name
    row = dict.fromkeys(carry_over.QUESTION_COLUMNS, 1)
    pd.DataFrame([row]).to_csv(tmp_path / f"{name}.csv", index=False)

    points = carry_over.load_points(tmp_path)

    assert points.loc[0, carry_over.POINT_COLUMNS].tolist() == ["rejection", 4, 2]
