"""Recorded runs are read as far as they are there, and what is missing is named with a command."""

import pandas as pd
import pytest

from grpo_helpers.files import write_json
from grpo_helpers.recorded import RecordedRuns


def record(folder, name, tested=False):
    """Write a recorded run of two checkpoints that answered two dev items."""
    write_json(folder / name / "about.json", {"changed": {"seed": 3}})
    means = pd.DataFrame({"checkpoint": ["epoch_0", "epoch_1"], "em": [0.5, 1.0]})
    means.to_csv(folder / name / "scores.csv", index=False)

    if tested:
        items = pd.DataFrame(
            {
                "checkpoint": ["epoch_0", "epoch_1"] * 2,
                "split": ["test", "test", "nonce", "nonce"],
                "em": [0, 1, 0, 0],
            }
        )
        items.to_csv(folder / name / "test_item_scores.csv", index=False)


@pytest.fixture
def recorded(tmp_path):
    """A folder of three recorded runs, one of which answered the test sets, and a table."""
    record(tmp_path, "seed_10")
    record(tmp_path, "seed_2", tested=True)
    record(tmp_path, "gold_0")
    (tmp_path / "seed_99").mkdir()  # without about.json: not recorded yet
    (tmp_path / "memory_cpu.csv").write_text("a\n")
    return RecordedRuns(tmp_path)


def names_of(runs):
    return [run.name for run in runs]


def test_runs_come_in_the_order_of_their_numbers(recorded):
    assert names_of(recorded.matching("seed_*")) == ["seed_2", "seed_10"]


def test_run_without_its_about_file_is_not_recorded(recorded):
    assert not recorded.matching("seed_99")


def test_found_runs_come_in_the_order_of_the_patterns(recorded):
    assert names_of(recorded.find("seed_2", "gold_*", "seed_10")) == ["seed_2", "gold_0", "seed_10"]


def test_nothing_is_printed_where_every_pattern_has_a_run(recorded, capsys):
    recorded.find("seed_*", "gold_*")

    assert capsys.readouterr().out == ""


def test_missing_runs_are_named_in_one_line_with_their_commands(recorded, capsys):
    assert recorded.find("format_only_*", "quoted", "gemma_*") == []

    expected = (
        f"not recorded in {recorded.folder}: format_only_*, quoted, gemma_*; "
        "to record: python -m tools.experiments.record 'format_only_*' quoted, "
        "python -m tools.experiments.gemma\n"
    )
    assert capsys.readouterr().out == expected


def test_folder_that_does_not_exist_has_no_runs(tmp_path):
    assert RecordedRuns(tmp_path / "nowhere").matching("seed_*") == []


def test_only_tested_runs_are_found_on_demand(recorded):
    assert names_of(recorded.find("seed_*", tested=True)) == ["seed_2"]


def test_untested_runs_count_as_missing_on_demand(recorded, capsys):
    recorded.find("gold_*", tested=True)

    assert "gold_*" in capsys.readouterr().out


def test_means_on_dev_are_read_by_checkpoint(recorded):
    (run,) = recorded.matching("seed_2")

    assert run.dev_means["em"].to_dict() == {"epoch_0": 0.5, "epoch_1": 1.0}


def test_chosen_checkpoint_is_the_last_of_the_test_rows(recorded):
    (run,) = recorded.matching("seed_2")

    assert run.chosen_on_tests["em"].tolist() == [1, 0]


def test_base_is_the_first_of_the_test_rows(recorded):
    (run,) = recorded.matching("seed_2")

    assert run.base_on_tests["em"].tolist() == [0, 0]
