"""An interrupted run resumes from its last complete checkpoint and ends as if uninterrupted."""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
import time

import pandas as pd
import pytest
from helpers import ROOT, json_lines, last_line, smoke_settings, train_arguments
from training_processes import TrainingProcess

from grpo_helpers.files import InputError, read_json, sha256, write_json
from grpo_helpers.run_folder import (
    COMPLETE,
    RunFolder,
    open_run_folder,
    rewind_run_folder,
    start_run_folder,
    step_of,
)

# Six steps of an epoch of four, saved at every second one: one save falls inside an epoch, one on
# its end. A step has four micro-batches and two rounds of sampling.
CHANGES = {
    "num_threads": 1,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 4,
    "steps_per_generation": 2,
    "max_steps": 6,
    "save_total_limit": 9,
    "run_name": "run",
}
# What a log has in it that no clock decides.
REPEATABLE = ("step", "loss", "reward", "grad_norm", "entropy", "num_tokens")
ADAPTER = "adapter_model.safetensors"


def start(folder, file_limit=None, **more):
    """Start a training into ``folder/run``."""
    output = folder / "printed"
    output.mkdir(parents=True, exist_ok=True)
    arguments = train_arguments(**(CHANGES | {"output_dir": folder} | more))
    return TrainingProcess(arguments, output, file_limit)


def run(folder, file_limit=None, **more):
    """Train into ``folder/run`` to the end; return the exit code and what was printed."""
    return start(folder, file_limit, **more).finish()


def run_well(folder, **more):
    """Train into ``folder/run`` to the end, without an error; return what was printed."""
    done = run(folder, **more)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def kill_and_resume(folder, step, delay):
    """Kill a run some seconds after a step and resume it; return what the second part printed."""
    process = start(folder)
    process.wait_for_step(folder / "run/log.jsonl", step)
    time.sleep(delay)
    process.kill()
    return run_well(folder, resume="auto")


def repeatable_log(run_dir):
    """Return the log without what a clock decides."""
    rows = [row for row in json_lines(run_dir / "log.jsonl") if "reward" in row]
    return [{name: row[name] for name in REPEATABLE} for row in rows]


def assert_same_adapter(file, expected):
    """Fail unless two adapters have the same weights, bit by bit."""
    from safetensors.torch import load_file

    expected_weights = load_file(expected)
    weights = load_file(file)
    assert weights.keys() == expected_weights.keys()
    for name, weight in expected_weights.items():
        assert weights[name].equal(weight), name


def assert_same_log(run_dir, whole):
    """Fail unless two runs logged the same."""
    assert repeatable_log(run_dir) == repeatable_log(whole)


def assert_same(run_dir, whole):
    """Fail unless a run has the adapters, answers and log of the uninterrupted one."""
    adapters = list(whole.glob(f"step_*/{ADAPTER}"))
    answers = list(whole.glob("infer_results/*.json"))
    assert len(adapters) + len(answers) == 7
    for file in adapters:
        assert_same_adapter(run_dir / file.relative_to(whole), file)
    for file in answers:
        same = run_dir / file.relative_to(whole)
        assert same.read_bytes() == file.read_bytes(), file.name

    assert_same_log(run_dir, whole)
    assert not list(run_dir.rglob("*.partial"))
    assert not list(run_dir.rglob("*.tmp"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    run_well(folder)
    return folder / "run"


# -- killed ----------------------------------------------------------------------------------------


# From a save inside an epoch, and from one at its end, after the data have been shuffled again.
@pytest.mark.parametrize("step", [3, pytest.param(5, marks=pytest.mark.slow)])
def test_killed_run_ends_as_if_it_had_not_been_killed(tmp_path, whole, step):
    printed = kill_and_resume(tmp_path, step, delay=0.5)

    assert "resuming from checkpoint-" in printed
    assert_same(tmp_path / "run", whole)


@pytest.mark.slow
@pytest.mark.parametrize("point", range(10))
def test_moment_of_a_kill_makes_no_difference(tmp_path, whole, point):
    rng = random.Random(point)
    kill_and_resume(tmp_path, rng.randint(1, 5), rng.uniform(0, 3))

    assert_same(tmp_path / "run", whole)


@pytest.mark.slow
def test_resumed_four_bit_run_has_the_same_adapter_in_bfloat16(tmp_path):
    from safetensors.torch import load_file

    run_well(tmp_path, use_quant="true", max_steps=4)
    first = load_file(tmp_path / "run/step_4" / ADAPTER)
    for later in ("checkpoint-4", "step_4"):
        shutil.rmtree(tmp_path / "run" / later)

    run_well(tmp_path, use_quant="true", max_steps=4, resume="auto")
    second = load_file(tmp_path / "run/step_4" / ADAPTER)

    assert second.keys() == first.keys()
    for name, weight in first.items():
        assert second[name].dtype == weight.dtype
        assert bool((second[name] == weight).all())


def prompts_of(run_dir, step):
    """Return the questions of a step."""
    frame = pd.read_parquet(run_dir / f"completions/completions_{step:05d}.parquet")
    return sorted(messages[-1]["content"] for messages in frame["prompt"])


@pytest.mark.slow
def test_save_inside_a_round_resumes_with_the_same_prompts(tmp_path):
    """Completions are used for two steps here, and the first save lies between them."""
    changes = {"steps_per_generation": 4, "num_iterations": 2, "save_steps": 1, "max_steps": 3}
    run_well(tmp_path, **changes)
    prompts = prompts_of(tmp_path / "run", 3)
    for later in ("checkpoint-2", "checkpoint-3", "step_2", "step_3"):
        shutil.rmtree(tmp_path / "run" / later)

    printed = run_well(tmp_path, **changes, resume="auto")

    assert "sampled anew" in printed
    assert prompts_of(tmp_path / "run", 3) == prompts


def times_of(run_dir):
    """Return when each file of a run was written, but for the log and the folder itself."""
    files = [path for path in run_dir.rglob("*") if path.is_file() and path.name != "log.jsonl"]
    return {file: file.stat().st_mtime_ns for file in files}


def test_finished_run_is_left_as_it_is(whole):
    before = times_of(whole)
    printed = run_well(whole.parent, resume="auto")

    assert "nothing to resume" in printed
    assert times_of(whole) == before


# -- interrupted -----------------------------------------------------------------------------------


WAYS_TO_STOP = {
    "Ctrl-C": lambda process, run: process.send(signal.SIGINT),
    "SIGTERM": lambda process, run: process.send(signal.SIGTERM),
    "a file": lambda process, run: run.stop_file.touch(),
}


@pytest.mark.parametrize(
    ("way", "strategy"),
    [
        ("Ctrl-C", "steps"),
        ("SIGTERM", "steps"),
        ("a file", "epoch"),
        pytest.param("Ctrl-C", "epoch", marks=pytest.mark.slow),
        pytest.param("a file", "no", marks=pytest.mark.slow),
    ],
)
def test_run_that_is_asked_to_stop_saves_and_can_be_resumed(tmp_path, whole, way, strategy):
    stopped = RunFolder(tmp_path / "run")
    process = start(tmp_path, save_strategy=strategy)
    process.wait_for_step(stopped.log.path, 2)
    WAYS_TO_STOP[way](process, stopped)
    done = process.finish()

    saved = stopped.last_complete()
    assert done.returncode == 0
    assert "stopping after " in done.stdout
    assert f"stopped after step {step_of(saved)} of 6, {saved.name} is compl" in done.stdout
    assert step_of(saved) < 6
    assert stopped.unanswered(saved) == []
    assert not stopped.stop_file.exists()

    run_well(tmp_path, save_strategy=strategy, resume="auto")
    assert_same_end(stopped, whole)


def assert_same_end(run, whole):
    """Fail unless a run has come to the last adapter of the uninterrupted one."""
    last = run.last_complete()
    assert last.name == "checkpoint-6"
    assert_same_adapter(last / ADAPTER, whole / "checkpoint-6" / ADAPTER)


# -- more checkpoints than answers -----------------------------------------------------------------


@pytest.fixture(scope="module")
def resumed_in_between(tmp_path_factory):
    """A run with a checkpoint at every step, killed inside an epoch of four and resumed."""
    folder = tmp_path_factory.mktemp("in_between")
    cadence = {"save_strategy": "epoch", "checkpoint_steps": 1, "save_total_limit": 2}
    process = start(folder, **cadence)
    process.wait_for_file(folder / "run/checkpoint-2" / COMPLETE)
    process.kill()

    printed = run_well(folder, **cadence, resume="auto")
    return RunFolder(folder / "run"), printed


def test_killed_run_resumes_from_a_checkpoint_between_two_saves(resumed_in_between, whole):
    run, printed = resumed_in_between

    assert re.search(r"resuming from checkpoint-[23] ", printed)
    assert_same_end(run, whole)
    assert_same_log(run.path, whole)


def test_checkpoints_between_saves_do_not_answer(resumed_in_between):
    run, _ = resumed_in_between
    answered = sorted(file.name for file in (run.path / "infer_results").iterdir())

    assert run.checkpoints() == ["epoch_0", "epoch_1", "step_6"]
    assert answered == ["inference_epoch0.json", "inference_epoch1.json", "inference_step6.json"]


def test_checkpoints_between_saves_count_for_the_limit(resumed_in_between):
    run, _ = resumed_in_between

    assert sorted(path.name for path in run.path.glob("checkpoint-*")) == [
        "checkpoint-5",
        "checkpoint-6",
    ]


# -- disks -----------------------------------------------------------------------------------------


# The adapter does not fit, or the optimizer's state does not.
@pytest.mark.parametrize("size", [200_000, pytest.param(500_000, marks=pytest.mark.slow)])
def test_full_disk_is_one_line_and_harms_no_earlier_save(tmp_path, whole, size):
    done = run(tmp_path, file_limit=size)

    assert done.returncode == 2
    assert last_line(done.stderr).startswith("error: cannot write")
    assert str(tmp_path) in last_line(done.stderr)
    assert RunFolder(tmp_path / "run").last_complete() is None

    run_well(tmp_path, resume="auto")
    assert_same(tmp_path / "run", whole)


def test_unwritable_folder_is_one_line(tmp_path):
    (tmp_path / "file").write_text("no folder")
    arguments = train_arguments(output_dir=tmp_path / "file")
    done = TrainingProcess(arguments, tmp_path).finish()

    assert done.returncode == 2
    assert "error: cannot write" in last_line(done.stderr)


# -- starts that fail ------------------------------------------------------------------------------

FAILING = {
    "a tracker that is not there": ({"report_to": "tensorboard"}, "report_to is tensorboard"),
    "an encoder of few layers": ({"bertscore_layers": 9}, "has layers 1 to 4"),
    "a layer of another model": ({"lora_target_modules": "c_attn"}, "lora_target_modules has"),
    "a setting that TRL refuses late": (
        {"extra_grpo_args": "{beta_is_none: 1}"},
        "TRL refuses these settings",
    ),
    "an optimizer that is not installed": (
        {"extra_grpo_args": "{optim: lomo}"},
        "the training cannot start: You need to install",
    ),
}


@pytest.mark.parametrize("case", FAILING)
def test_failed_start_leaves_the_finished_run_as_it_is(whole, case):
    changes, message = FAILING[case]
    before = times_of(whole)
    done = run(whole.parent, **changes)

    assert done.returncode == 2
    assert message in last_line(done.stderr)
    assert times_of(whole) == before


def test_failed_start_makes_no_folder(tmp_path):
    done = run(tmp_path, extra_grpo_args="{optim: lomo}")

    assert done.returncode == 2
    assert not (tmp_path / "run").exists()


# -- two at once -----------------------------------------------------------------------------------


@pytest.mark.parametrize("resume", ["no", pytest.param("auto", marks=pytest.mark.slow)])
def test_second_process_is_refused_while_the_first_trains(tmp_path, resume):
    first = start(tmp_path)
    first.wait_for_step(tmp_path / "run/log.jsonl", 1)
    second = start(tmp_path / "printed", output_dir=tmp_path, resume=resume).finish()
    is_alive = first.is_running
    first.kill()

    assert is_alive
    assert second.returncode == 2
    assert f"is in use: process {first.pid} trains into it" in last_line(second.stderr)
    assert not list((tmp_path / "run").glob("previous-*"))


# -- what was made is not lost ---------------------------------------------------------------------


def test_run_without_saves_ends_with_its_adapter_and_answers(tmp_path):
    run_well(tmp_path, save_strategy="no", max_steps=2)
    saved = RunFolder(tmp_path / "run")

    assert saved.checkpoints() == ["epoch_0", "step_2"]
    assert saved.answers("step_2").is_file()


def test_evaluations_leave_the_completions_of_training(tmp_path):
    changes = {"eval_strategy": "steps", "max_steps": 2, "extra_grpo_args": "{eval_steps: 1}"}
    run_well(tmp_path, **changes)
    train_questions = {row["input"]["question"] for row in read_json("data/smoke/train.json")}

    assert any("eval_loss" in row for row in json_lines(tmp_path / "run/log.jsonl"))
    for step in (1, 2):
        assert set(prompts_of(tmp_path / "run", step)) <= train_questions


# -- the run folder, without training --------------------------------------------------------------


@pytest.fixture
def settings_with(tmp_path):
    """Return settings of a run that trains on a copy of the smoke data, with changes."""
    train = tmp_path / "train.json"
    train.write_bytes((ROOT / "data/smoke/train.json").read_bytes())

    def settings(**changes):
        return smoke_settings(tmp_path, **({"run_name": "run", "train_data_path": train} | changes))

    return settings


@pytest.fixture
def started(tmp_path, settings_with):
    """A run folder with complete checkpoints 2 and 4, unfinished 6, and half a last log line."""
    start_run_folder(settings_with())
    run = RunFolder(tmp_path / "run")
    for step in (2, 4):
        write_json(run.trl_checkpoint(step) / COMPLETE, {"step": step})
    run.trl_checkpoint(6).mkdir()

    rows = [json.dumps({"step": step, "reward": 1.0}) for step in range(1, 6)]
    run.log.path.write_text("\n".join(rows) + '\n{"step": 6, "rew', encoding="utf-8")
    return run


def test_last_complete_checkpoint_is_found(started):
    assert started.last_complete().name == "checkpoint-4"


def test_rewinding_removes_unfinished_checkpoints(started, settings_with):
    rewind_run_folder(settings_with(), started.last_complete())

    assert not started.trl_checkpoint(6).exists()


def test_rewinding_removes_later_log_lines(started, settings_with):
    rewind_run_folder(settings_with(), started.last_complete())

    assert [row["step"] for row in json_lines(started.log.path)] == [1, 2, 3, 4]


def test_opening_removes_what_a_killed_run_left(started, settings_with):
    (started.path / "epoch_1").mkdir()
    (started.path / "epoch_1/.log.123.tmp").write_text("half")
    (started.path / ".epoch_2.partial").mkdir()
    open_run_folder(settings_with(), started.last_complete())

    assert not list(started.path.rglob("*.tmp"))
    assert not list(started.path.rglob("*.partial"))


@pytest.fixture
def cut_off(started):
    """A run that has answered with the base, half with the first save, and saved nothing."""
    for folder in started.path.glob("checkpoint-*"):
        shutil.rmtree(folder)
    write_json(started.answers("epoch_0"), [1])
    write_json(started.answers("step_2"), [2])
    return started


def test_run_cut_off_before_its_first_save_says_that_it_begins_again(
    cut_off, settings_with, capsys
):
    open_run_folder(settings_with(resume="auto"), None)

    printed = capsys.readouterr().out
    assert printed.startswith("no complete checkpoint in ")
    assert printed.endswith("what was there is in previous-1\n")
    assert (cut_off.path / "previous-1/log.jsonl").is_file()


def test_run_that_begins_again_keeps_the_answers_of_its_base_alone(cut_off, settings_with):
    open_run_folder(settings_with(resume="auto"), None)

    assert read_json(cut_off.answers("epoch_0")) == [1]
    assert not cut_off.answers("step_2").exists()


def test_other_run_that_begins_keeps_no_answers(cut_off, settings_with):
    open_run_folder(settings_with(resume="auto", max_completion_length=9), None)

    assert not cut_off.answers("epoch_0").exists()


def test_new_run_sets_an_earlier_one_aside(started, settings_with):
    open_run_folder(settings_with(), None)

    assert (started.path / "previous-1/log.jsonl").is_file()
    assert (started.path / "previous-1/checkpoint-4").is_dir()
    assert not started.log.path.exists()
    assert started.settings["run_name"] == "run"


def test_other_parameters_are_refused_by_name(started, settings_with):
    message = r"parameters learning_rate was 0\.001, is 0\.1.*resume=no"

    with pytest.raises(InputError, match=message):
        rewind_run_folder(settings_with(learning_rate=0.1), started.last_complete())


@pytest.mark.parametrize(
    "changes",
    [
        {"report_to": "none", "resume": "auto", "stop_on_alarm": True},
        {"inference_batch_size": 1, "checkpoint_steps": 1},
        {"gradient_checkpointing": True, "extra_grpo_args": "{torch_empty_cache_steps: 1}"},
    ],
)
def test_parameters_that_teach_nothing_may_change(started, settings_with, changes):
    checkpoint = started.last_complete()

    rewind_run_folder(settings_with(**changes), checkpoint)

    assert started.last_complete() == checkpoint


def test_other_extra_args_may_not_change(started, settings_with):
    settings = settings_with(extra_grpo_args="{torch_empty_cache_steps: 1, top_k: 5}")

    with pytest.raises(InputError, match="parameters extra_grpo_args was"):
        rewind_run_folder(settings, started.last_complete())


def test_parameter_that_a_run_does_not_record_counts_as_its_default(started, settings_with):
    description = started.description
    del description["parameters"]["reward_module"]
    write_json(started.path / "settings.json", description)

    rewind_run_folder(settings_with(), started.last_complete())


@pytest.mark.parametrize("recorded", [{}, {"bf16": False}])
def test_run_that_records_an_earlier_name_of_its_precision_resumes(
    started, settings_with, recorded
):
    description = started.description
    del description["parameters"]["dtype"]
    description["parameters"] |= recorded
    write_json(started.path / "settings.json", description)

    rewind_run_folder(settings_with(), started.last_complete())


def test_run_that_records_another_precision_by_its_earlier_name_does_not(started, settings_with):
    description = started.description
    del description["parameters"]["dtype"]
    description["parameters"]["bf16"] = True
    write_json(started.path / "settings.json", description)

    with pytest.raises(InputError, match="parameters dtype was 'bfloat16', is 'float32'"):
        rewind_run_folder(settings_with(), started.last_complete())


def test_parameter_that_a_run_does_not_record_may_not_change(started, settings_with):
    description = started.description
    del description["parameters"]["scale_rewards"]
    write_json(started.path / "settings.json", description)

    with pytest.raises(InputError, match="parameters scale_rewards was 'group', is 'batch'"):
        rewind_run_folder(settings_with(scale_rewards="batch"), started.last_complete())


def test_model_whose_every_file_was_hashed_is_the_same_model(started, settings_with):
    description = started.description
    description["sha256"]["model"] = sha256(["data/tiny_model"])
    write_json(started.path / "settings.json", description)

    rewind_run_folder(settings_with(), started.last_complete())


def test_other_versions_are_refused_by_name(started, settings_with, monkeypatch):
    monkeypatch.setattr("grpo_helpers.run_folder.version", lambda package: "0.0")

    with pytest.raises(InputError, match="versions torch was"):
        rewind_run_folder(settings_with(), started.last_complete())


def test_other_data_are_refused_by_name(started, settings_with):
    settings = settings_with()
    dev = (ROOT / "data/smoke/dev.json").read_bytes()
    (started.path.parent / "train.json").write_bytes(dev)

    with pytest.raises(InputError, match="sha256 train_data_path was"):
        rewind_run_folder(settings, started.last_complete())
