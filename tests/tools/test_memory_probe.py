"""The closed form of the memory against what a real TRL step allocates on a CPU."""

from __future__ import annotations

import json
from dataclasses import replace

import pandas as pd
import pytest

from grpo_helpers.batch import BatchPlan
from grpo_helpers.files import project_root
from tools.benchmarks import memory_probe
from tools.benchmarks.memory_probe import CPU, CUDA, PHASES, key_of, predicted, probe

TABLE = pd.read_csv(project_root() / "data" / "reference_runs" / "memory_cpu.csv")
ROWS = {key_of(row): row for row in TABLE.to_dict("records")}


# -- the committed table ----------------------------------------------------------------------


def test_committed_table_has_every_setting():
    assert set(ROWS) == {setting.key for setting in CPU}


def test_committed_table_has_one_row_per_setting():
    assert len(ROWS) == len(TABLE) >= 12


def test_every_committed_setting_fits():
    assert set(TABLE.outcome) == {"FIT"}


@pytest.mark.parametrize("phase", PHASES)
def test_no_committed_phase_is_off_by_more_than_ten_percent(phase):
    error = TABLE[f"predicted_{phase}"] / TABLE[f"allocated_{phase}"] - 1
    assert error.abs().max() <= 0.10


@pytest.mark.parametrize("number", range(len(CPU)))
def test_committed_prediction_is_that_of_the_formula(number):
    setting = CPU[number]
    row = ROWS[setting.key]
    assert predicted(setting, "cpu") == {phase: row[f"predicted_{phase}"] for phase in PHASES}


# -- the settings of a GPU --------------------------------------------------------------------


def test_gpu_settings_cover_the_large_model_in_nf4():
    assert len(CUDA) >= 12
    large = [setting for setting in CUDA if setting.model == "Midm-2.0-Base-Instruct"]
    assert sum(setting.quant == "4bit" for setting in large) >= 8


@pytest.mark.parametrize("number", range(len(CUDA)))
def test_gpu_setting_is_a_legal_batch(number):
    setting = CUDA[number]
    plan = BatchPlan(B=setting.B, G=setting.G, A=setting.A, D=setting.D, S=setting.S)

    assert plan.generation_batch_size % plan.G == 0


@pytest.mark.parametrize("number", range(len(CUDA)))
def test_gpu_setting_is_predicted(number):
    sizes = predicted(CUDA[number], "cuda")
    assert set(sizes) == set(PHASES)
    assert all(size > 0 for size in sizes.values())


# -- real steps -------------------------------------------------------------------------------


@pytest.mark.heavy
def test_new_measurement_gives_the_committed_bytes():
    row = probe(CPU[0], "cpu")
    assert row["outcome"] == "FIT", row
    for phase in PHASES:
        committed = TABLE.loc[0, f"allocated_{phase}"]
        assert row[f"allocated_{phase}"] == pytest.approx(committed, rel=0.02), phase


@pytest.mark.heavy
def test_step_in_float32_is_predicted_within_ten_percent():
    setting = replace(CPU[0], dtype="float32")

    row = probe(setting, "cpu")

    assert row["outcome"] == "FIT", row
    for phase, size in predicted(setting, "cpu").items():
        assert size == pytest.approx(row[f"allocated_{phase}"], rel=0.10), phase


@pytest.mark.heavy
def test_setting_that_fails_is_a_row_with_the_reason():
    row = probe(replace(CPU[0], G=3), "cpu")
    assert "ValueError" in row["outcome"]
    assert "allocated_forward" not in row


# -- the table --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stderr", "outcome"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried ...", "OOM"),
        ("RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling ...", "OOM"),
        ("Traceback ...\nValueError: no\nwarning", "ValueError: no"),
        ("killed", "killed"),
        ("", "no output"),
    ],
)
def test_failed_process_is_described_by(stderr, outcome):
    assert memory_probe.failure(stderr) == outcome


def test_setting_that_has_a_row_is_not_run_again(monkeypatch, tmp_path, capsys):
    file = tmp_path / "memory_cpu.csv"
    TABLE[1:].to_csv(file, index=False)
    monkeypatch.setattr(memory_probe, "probe", lambda *_: TABLE.loc[0].to_dict())
    memory_probe.main(["--out", str(file)])
    assert capsys.readouterr().out.startswith("cpu-narrow 4 1 1 4 1 192 32 16 True")
    assert set(map(key_of, pd.read_csv(file).to_dict("records"))) == set(ROWS)


def test_child_gets_its_setting_as_json():
    setting = next(setting for setting in CPU if setting.D == 2)
    command = memory_probe._child_command(setting, "cpu", cap_gb=0)
    assert command[command.index("--nproc-per-node") + 1] == "2"
    assert memory_probe.Setting(**json.loads(command[-1])) == setting
