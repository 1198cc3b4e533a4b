"""The closed form of the memory against what a real TRL step allocates on a CPU."""

import pandas as pd
import pytest

from grpo_helpers.files import project_root
from tools.benchmarks.memory_probe import COLUMNS, CPU, CUDA, PHASES, predicted, probe

TABLE = pd.read_csv(project_root() / "data" / "reference_runs" / "memory_cpu.csv")


def settings():
    return [dict(zip(COLUMNS, values, strict=True)) for values in CPU]


def test_the_committed_table_has_every_setting_and_no_phase_is_off_by_more_than_ten_percent():
    rows = {tuple(row[name] for name in COLUMNS[:-1]): row for row in TABLE.to_dict("records")}
    assert set(rows) == {values[:-1] for values in CPU} and len(rows) == len(TABLE) >= 12
    assert set(TABLE.outcome) == {"FIT"}
    for phase in PHASES:
        error = TABLE[f"predicted_{phase}"] / TABLE[f"allocated_{phase}"] - 1
        assert error.abs().max() <= 0.10, phase


def test_the_committed_predictions_are_those_of_the_formula_as_it_is():
    rows = {tuple(row[name] for name in COLUMNS[:-1]): row for row in TABLE.to_dict("records")}
    for setting, values in zip(settings(), CPU, strict=True):
        row = rows[values[:-1]]
        assert predicted(setting, "cpu") == {
            phase: row[f"predicted_{phase}"] for phase in PHASES
        }, setting


def test_a_new_measurement_of_a_real_step_gives_the_committed_bytes():
    row = probe(settings()[0], "cpu", cap_gb=0)
    assert row["outcome"] == "FIT", row
    for phase in PHASES:
        assert row[f"allocated_{phase}"] == pytest.approx(
            TABLE.loc[0, f"allocated_{phase}"], rel=0.02
        ), phase


def test_the_settings_of_the_gpu_cover_the_large_model_in_nf4_and_every_one_is_legal():
    from grpo_helpers.batch import BatchPlan

    assert len(CUDA) >= 12
    assert (
        sum(values[0] == "Midm-2.0-Base-Instruct" and values[-1] == "4bit" for values in CUDA) >= 8
    )
    for values in CUDA:
        setting = dict(zip(COLUMNS, values, strict=True))
        BatchPlan(**{name: setting[name] for name in "BGADS"})
        assert all(size > 0 for size in predicted(setting, "cuda").values())


def test_a_setting_that_fails_is_a_row_that_says_why():
    row = probe(settings()[0] | {"G": 3}, "cpu", cap_gb=0)
    assert "ValueError" in row["outcome"] and "allocated_forward" not in row
