"""pass@k and silent groups from the probability of a right answer."""

import pandas as pd
import pytest

from grpo_helpers import coverage


@pytest.fixture
def recorded(tmp_path):
    """A folder with the table of one run: a question that gets easier, and one that is lost."""
    table = pd.DataFrame(
        {"split": "dev", "id": ["dev-1", "dev-2"], "epoch_0": [0.5, 0.1], "epoch_1": [1.0, 0.0]}
    )
    table.to_csv(tmp_path / "seed_0.csv", index=False)
    return tmp_path


def test_more_samples_cover_more_questions():
    shares = [coverage.pass_at(k, [0.1, 0.5, 0.9]) for k in (1, 2, 4, 8)]

    assert shares == sorted(shares)
    assert shares[0] == pytest.approx(0.5)


def test_training_can_raise_one_sample_and_lower_many(recorded):
    table = coverage.load_coverage(recorded)["seed_0"]

    assert coverage.pass_at(1, table["epoch_1"]) > coverage.pass_at(1, table["epoch_0"])
    assert coverage.pass_at(64, table["epoch_1"]) < coverage.pass_at(64, table["epoch_0"])


def test_checkpoints_of_a_table_are_in_their_order(recorded):
    table = coverage.load_coverage(recorded)["seed_0"]

    assert coverage.checkpoints_of(table) == ["epoch_0", "epoch_1"]


def test_folder_that_is_missing_has_no_tables(tmp_path):
    assert coverage.load_coverage(tmp_path / "nothing") == {}


def test_silent_groups_of_a_coin_are_half_right_and_half_wrong():
    all_right, all_wrong = coverage.silent_groups(2, [0.5] * 10)

    assert all_right == all_wrong == pytest.approx(0.25)
