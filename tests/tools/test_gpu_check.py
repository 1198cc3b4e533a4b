"""The check of a card, rehearsed on a CPU: its parts, its processes and its tables."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib.metadata import version

import pandas as pd
import pytest
import torch
from helpers import ROOT, environment

from grpo_helpers.architecture import ATTENTION
from grpo_helpers.files import read_yaml
from grpo_helpers.memory import GIB
from grpo_helpers.run_folder import RunLog
from tools.benchmarks import memory_probe
from tools.benchmarks.memory_meters import CudaMeter
from tools.benchmarks.memory_probe import CUDA, PHASES, Measured
from tools.gpu_check import __main__ as command
from tools.gpu_check import measurements, table
from tools.gpu_check.parts import (
    LIMIT,
    PROFILES,
    PROMPT_TOKENS,
    Part,
    in_words,
    parts_of,
    rehearsed,
    setting_of_profile,
)
from tools.gpu_check.results import Figure, Report, Result, ResultFile
from tools.gpu_check.runner import GRACE, Check, Ended, outcome_of

HERE = [name for name in PROFILES if (ROOT / "params" / name).is_dir()]
TINY = rehearsed(setting_of_profile("gpu_24gb"))
SMALL = replace(TINY, B=4, S=1, A=1, G=4, prompt_tokens=8, completion_tokens=2)
each_profile = pytest.mark.parametrize("profile", HERE)
each_device = pytest.mark.parametrize("device", ["cuda", "cpu"])


def part(name="part", **changes):
    """Return a part that measures nothing by itself."""
    about = {"about": "a part", "setting": "as it is", "measure": lambda report: None}
    return Part(**({"name": name} | about | changes))


def python(code):
    """Return the command of a part that is a line of Python."""
    return [sys.executable, "-c", code]


def that_writes(check, result, then=""):
    """Return the command of a part that leaves a result and goes on with a line of Python."""
    ResultFile(check.folder, "prepared").write(result)
    prepared = ResultFile(check.folder, "prepared").path
    target = ResultFile(check.folder, result.part).path
    return python(f"import shutil; shutil.copy({str(prepared)!r}, {str(target)!r}); {then}")


@pytest.fixture
def check(tmp_path):
    return Check(folder=tmp_path, device="cpu")


@pytest.fixture
def report(tmp_path):
    return Report(tmp_path, "cpu", Result("part", "as it is"))


def figures_in(folder):
    """Return the figures of the part ``part``, by name."""
    return {figure.name: figure for figure in ResultFile(folder, "part").read().figures}


# -- the parts --------------------------------------------------------------------------------


@each_device
def test_parts_have_names_of_their_own(device):
    names = [part.name for part in parts_of(device)]
    assert len(set(names)) == len(names)


@each_device
def test_check_begins_with_the_machine(device):
    assert parts_of(device)[0].name == "machine"


def test_cpu_rehearses_every_part_of_a_card():
    assert [part.name for part in parts_of("cpu")] == [part.name for part in parts_of("cuda")]


def test_check_covers_every_setting_of_the_probe():
    probed = [part.probe for part in parts_of("cuda") if part.probe]
    assert probed == list(CUDA) and len(probed) >= 12


def test_no_part_takes_more_than_eight_minutes():
    assert LIMIT + GRACE <= 8 * 60
    assert all(part.limit <= LIMIT for part in parts_of("cuda"))


@each_profile
def test_profile_is_measured_within_the_memory_of_its_card(profile):
    (measured,) = [part for part in parts_of("cuda") if part.name == profile]
    assert measured.cap_gib == PROFILES[profile]


@each_profile
def test_measured_batch_is_that_of_the_profile(profile):
    params = read_yaml(ROOT / "params" / profile / "04_train.yaml")

    setting = setting_of_profile(profile)

    assert params["per_device_train_batch_size"] == setting.B
    assert params["gradient_accumulation_steps"] == setting.A
    assert setting.lora_rank == params["lora_r"]
    assert setting.completion_tokens == params["max_completion_length"]
    assert setting.prompt_tokens == PROMPT_TOKENS


@each_profile
def test_adapter_of_a_profile_is_the_one_that_is_measured(profile):
    params = read_yaml(ROOT / "params" / profile / "04_train.yaml")
    assert params["lora_target_modules"].split(",") == list(ATTENTION)
    assert params["lora_dropout"] == 0


def test_large_profile_is_measured_in_four_bits():
    assert setting_of_profile("gpu_24gb").quant == "4bit"


def test_rehearsal_keeps_batch_and_quantisation():
    setting = setting_of_profile("gpu_24gb")
    assert (
        replace(
            rehearsed(setting),
            model=setting.model,
            prompt_tokens=setting.prompt_tokens,
            completion_tokens=setting.completion_tokens,
            lora_rank=setting.lora_rank,
        )
        == setting
    )


def test_rehearsed_settings_stay_different():
    assert len({rehearsed(setting).key for setting in CUDA}) == len(CUDA)


# -- one part in its process ------------------------------------------------------------------


def test_part_that_measures_has_its_outcome(check):
    command = that_writes(check, Result("part", "as it is", figures=[Figure("steps", 3)]))

    check.run_part(part(success="done"), command)

    result = check.result(part())
    assert result.outcome == "done" and result.figures == [Figure("steps", 3)]


def test_part_that_fails_says_why(check):
    result = check.run_part(part(), python("raise ValueError('no such shape')"))
    assert result.outcome == "error: ValueError: no such shape"


def test_part_without_memory_says_so(check):
    result = check.run_part(part(), python("raise RuntimeError('CUDA out of memory.')"))
    assert result.outcome == "OOM"


def test_part_that_is_killed_says_by_what(check):
    result = check.run_part(part(), python("import os; os.kill(os.getpid(), 9)"))
    assert result.outcome.startswith("error: ended by SIGKILL")


def test_part_that_takes_too_long_is_ended(check):
    result = check.run_part(part(limit=0.5), python("import time; time.sleep(600)"))
    assert result.outcome == "error: cut off after 0.5 s, no figure yet"
    assert result.seconds < 60


def test_part_that_is_cut_off_keeps_its_figures():
    ended = Ended(exit_code=-15, was_cut_off=True, printed="step 1\n")
    assert outcome_of(part(limit=20), ended, has_figures=True) == "FIT, cut off after 20 s"


def test_what_a_part_prints_is_kept(check, tmp_path):
    check.run_part(part(), python("print('step 1')"))
    assert (tmp_path / "logs" / "part.log").read_text() == "step 1\n"


def test_part_finds_no_gpu_in_a_rehearsal(check, tmp_path):
    check.run_part(part(), python("import os; print(repr(os.environ['CUDA_VISIBLE_DEVICES']))"))
    assert (tmp_path / "logs" / "part.log").read_text() == "''\n"


def test_exit_code_of_bad_input_is_an_error_in_its_words():
    ended = Ended(exit_code=2, was_cut_off=False, printed="note: a\nerror: no GPU here\n")
    assert outcome_of(part(), ended, has_figures=False) == "error: no GPU here"


# -- all parts --------------------------------------------------------------------------------


def run_all(check, parts, code="pass"):
    """Run parts that are a line of Python each; return the names of those that were run."""
    run = []

    def command(part):
        run.append(part.name)
        return python(code)

    check.run(parts, command)
    return run


def test_part_that_has_ended_is_not_run_again(check):
    assert run_all(check, [part("a"), part("b")]) == ["a", "b"]
    assert run_all(check, [part("a"), part("b")]) == []


def test_part_without_memory_is_not_run_again(check):
    run_all(check, [part("a")], "raise RuntimeError('CUDA out of memory.')")
    assert run_all(check, [part("a")]) == []


def test_part_that_failed_is_run_again(check):
    run_all(check, [part("a")], "raise ValueError")
    assert run_all(check, [part("a")]) == ["a"]


def test_part_of_another_setting_is_run_again(check):
    run_all(check, [part("a")])
    assert run_all(check, [part("a", setting="a new profile")]) == ["a"]


def test_part_that_was_interrupted_is_run_again(check):
    ResultFile(check.folder, "a").write(Result("a", "as it is", figures=[Figure("steps", 1)]))
    assert run_all(check, [part("a")]) == ["a"]


def test_failure_of_a_part_leaves_the_others(check):
    run_all(check, [part("a"), part("b")], "raise ValueError")
    assert check.result(part("b")).is_error


def test_no_part_is_tried_without_a_machine(check):
    parts = [part("machine"), part("a")]
    assert run_all(check, parts, "raise ValueError") == ["machine"]


def test_part_that_might_end_too_late_is_not_started(check):
    hurried = replace(check, minutes=1)
    assert run_all(hurried, [part("a", limit=90), part("b", limit=30)]) == ["b"]


# -- the tables -------------------------------------------------------------------------------


def test_figure_far_from_its_prediction_is_marked():
    figures = [
        Figure("allocated_forward", 10 * GIB, "bytes", 9 * GIB),
        Figure("allocated_backward", 10 * GIB, "bytes", 9.8 * GIB),
    ]

    lines = table.text_of([Result("part", "as it is", outcome="FIT", figures=figures)]).splitlines()

    assert lines[-2].endswith("10.000 GiB     9.000 GiB  -10.0 % <- over 5 %")
    assert lines[-1].endswith("10.000 GiB     9.800 GiB   -2.0 %")


def test_table_of_figures_has_a_row_for_each(tmp_path):
    figures = [Figure("allocated_forward", 4.0, "bytes", 5.0), Figure("seconds", 2.5, "s")]
    results = [Result("part", "as it is", "a card", "FIT", 7.0, {"trl": "1.16.0"}, figures)]

    table.write_tables([part()], results, tmp_path, "cuda")

    rows = pd.read_csv(tmp_path / table.CSV).set_index("figure")
    assert list(rows.index) == ["part_seconds", "trl", "allocated_forward", "seconds"]
    assert set(rows.card) == {"a card"}
    assert rows.residual["allocated_forward"] == 0.25


def test_table_of_memory_has_the_form_of_the_probe(tmp_path):
    setting = CUDA[0]
    figures = [Figure("allocated_forward", 4, "bytes", 5), Figure("seconds", 2.5, "s")]
    parts = [part(probe=setting), part("other", probe=CUDA[1])]
    results = [
        Result("part", "as it is", outcome="OOM", figures=figures),
        Result("other", "as it is", outcome="error: no compiler"),
    ]

    table.write_tables(parts, results, tmp_path, "cuda")

    (row,) = pd.read_csv(tmp_path / "memory_cuda.csv").to_dict("records")
    assert memory_probe.key_of(row) == setting.key
    assert row["outcome"] == "OOM" and row["allocated_forward"] == 4
    assert row["predicted_backward"] == memory_probe.predicted(setting, "cuda")["backward"]


def test_memory_that_the_card_gave_stands_beside_the_prediction():
    meter = CudaMeter()
    meter.allocated["backward"] = 9 * GIB
    meter.reserved["backward"] = 10 * GIB

    figures = measurements.figures_of(Measured(meter, steps=[{"rest": 2.0}]), CUDA[0], "cuda")

    by_name = {figure.name: figure for figure in figures}
    predicted = memory_probe.predicted(CUDA[0], "cuda")["backward"]
    assert by_name["allocated_backward"] == Figure(
        "allocated_backward", 9 * GIB, "bytes", predicted
    )
    assert by_name["reserved_backward"].predicted == predicted
    assert "allocated_optimizer" not in by_name


def test_row_of_a_part_that_was_cut_off_fits(tmp_path):
    results = [Result("part", "as it is", outcome="FIT, cut off after 450 s")]

    table.write_tables([part(probe=CUDA[0])], results, tmp_path, "cuda")

    assert list(pd.read_csv(tmp_path / "memory_cuda.csv").outcome) == ["FIT"]


def test_curve_of_a_run_has_its_first_and_last_step():
    rows = RunLog(ROOT / "data/reference_runs/seed_0/log.jsonl").step_rows()

    figures = {figure.name: figure.value for figure in measurements._figures_of_log(rows)}

    assert figures["steps"] == len(rows)
    assert figures["reward_last_step"] == rows[-1]["reward"]
    assert figures["exact_match_first_step"] == rows[0]["rewards/em_reward/mean"]


# -- the command ------------------------------------------------------------------------------


def test_unknown_part_is_refused(capsys, tmp_path):
    assert command.main(["--out", str(tmp_path), "--only", "gpu_12gb"]) == 2
    assert "there is no part 'gpu_12gb'; the parts are machine, " in capsys.readouterr().err


def test_list_names_every_part(capsys):
    assert command.main(["--list"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == [part.name for part in parts_of("cuda")]


def test_check_without_a_gpu_ends_with_the_reason(check, capsys, monkeypatch):
    monkeypatch.setattr(command, "parts_of", lambda device: [part("machine"), part("a")])
    failing = python("import sys; sys.exit('error: PyTorch sees no GPU here')")
    monkeypatch.setattr(Check, "command", lambda self, part: failing)

    assert command.main(["--out", str(check.folder)]) == 1

    printed = capsys.readouterr().out
    assert "1/2 machine: error: PyTorch sees no GPU here" in printed
    assert "not measured: machine, a; " in printed


# -- real measurements ------------------------------------------------------------------------


@pytest.mark.heavy
def test_four_bit_steps_are_split_and_predicted(report, tmp_path):
    measurements.train_shape(SMALL, report)

    figures = figures_in(tmp_path)
    split = sum(figures[f"seconds_{phase}"].value for phase in (*PHASES, "rest"))
    assert split == pytest.approx(figures["seconds"].value, abs=0.01)
    for phase in PHASES:
        assert figures[f"allocated_{phase}"].predicted > 0


@pytest.mark.heavy
def test_figures_are_there_after_the_first_step(report, tmp_path, monkeypatch):
    monkeypatch.setattr(memory_probe, "TIMED", 0)

    measurements.train_shape(SMALL, report)

    figures = figures_in(tmp_path)
    assert "allocated_backward" in figures and "seconds_first_step" in figures
    assert "seconds" not in figures


@pytest.mark.heavy
def test_model_in_training_answers_in_batches(report, tmp_path):
    measurements.answer_in_place(SMALL, (2, 3), report)

    figures = figures_in(tmp_path)
    for batch in (2, 3):
        assert figures[f"smallest_batch_of_{batch}"].value == batch
        assert figures[f"tokens_of_{batch}"].value == batch * SMALL.completion_tokens
        assert figures[f"allocated_of_{batch}"].predicted > 0


@pytest.mark.heavy
def test_part_that_ends_without_memory_says_where(report, tmp_path, monkeypatch):
    def training_step(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(memory_probe, "measure", training_step)

    with pytest.raises(torch.OutOfMemoryError):
        measurements.train_shape(SMALL, report)

    facts = ResultFile(tmp_path, "part").read().facts
    assert facts == {"memory_ended": "in the loss or the backward pass"}


@pytest.mark.heavy
def test_machine_is_reported_with_its_versions(report, tmp_path):
    measurements.look_at_machine(report)

    facts = ResultFile(tmp_path, "part").read().facts
    assert facts["trl"].split()[0] == version("trl")


@pytest.mark.slow
def test_whole_check_is_rehearsed_on_a_cpu(tmp_path, capfd, monkeypatch):
    for name, value in environment().items():
        monkeypatch.setenv(name, value)

    assert command.main(["--device", "cpu", "--out", str(tmp_path)]) == 0, capfd.readouterr()

    check = Check(folder=tmp_path, device="cpu")
    outcomes = {part.name: check.result(part).outcome for part in parts_of("cpu")}
    assert set(outcomes.values()) == {"done", "FIT"}, outcomes

    assert len(pd.read_csv(tmp_path / "memory_cpu.csv")) == len(CUDA)
    measured = set(pd.read_csv(tmp_path / table.CSV).setting)
    assert f"{in_words(TINY)} cap_gib=24" in measured
