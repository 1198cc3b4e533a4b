"""The run folder: its names, its log, its checkpoints, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from grpo_helpers.files import InputError, write_json
from grpo_helpers.run_folder import (
    BASE,
    RunFolder,
    RunLog,
    RunWriter,
    answer_file_name,
    checkpoint_name,
    checkpoint_of,
    checkpoint_order,
    describe_run,
    gpu_driver,
    inference_file,
    read_log,
    series,
    warn_of_new_revision,
)
from grpo_helpers.settings import TrainSettings
from grpo_helpers.splits import DEV, TEST, TEST_UNSEEN_WORDS


@pytest.fixture
def run(tmp_path):
    """A run with two saved adapters, one unfinished folder, and its settings."""
    for name in ("epoch_10", "epoch_2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text("{}")
    (tmp_path / "epoch_3").mkdir()
    write_json(tmp_path / "settings.json", {"parameters": {"model_name": "tiny"}})
    return RunFolder(tmp_path)


# -- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "epoch", "step", "name"),
    [
        ("epoch", 3.0, 18, "epoch_3"),
        ("epoch", 2.9999999, 18, "epoch_3"),
        ("epoch", 2.5, 15, "step_15"),
        ("steps", 3.0, 18, "step_18"),
        ("steps", 0.0, 0, "epoch_0"),
        ("steps", None, 0, "epoch_0"),
    ],
)
def test_checkpoint_is_named_by_its_epoch_or_its_step(strategy, epoch, step, name):
    args = SimpleNamespace(save_strategy=strategy)
    state = SimpleNamespace(epoch=epoch, global_step=step)

    assert checkpoint_name(args, state) == name


@pytest.mark.parametrize("checkpoint", ["epoch_0", "epoch_3", "step_120"])
def test_name_of_an_answer_file_gives_the_checkpoint_back(checkpoint, tmp_path):
    assert checkpoint_of(tmp_path / answer_file_name(checkpoint)) == checkpoint


@pytest.mark.parametrize(
    ("name", "checkpoint"),
    [("inference_epoch_3.json", "epoch_3"), ("warm.json", "warm"), ("inference_b2.json", "b_2")],
)
def test_answer_files_of_other_names_have_checkpoints_too(name, checkpoint, tmp_path):
    assert checkpoint_of(tmp_path / name) == checkpoint


def test_names_without_a_number_come_first():
    assert sorted(["step_2", "warm", "epoch_1"], key=checkpoint_order)[0] == "warm"


def test_dev_answers_have_one_path(run):
    assert inference_file(run.path, "epoch_3") == run.answers("epoch_3", DEV)


@pytest.mark.parametrize(
    ("split", "folder"),
    [(TEST, "test_results"), (TEST_UNSEEN_WORDS, "test_results/unseen_words")],
)
def test_answers_to_a_test_split_lie_in_its_folder(run, split, folder):
    assert run.answers("epoch_3", split) == run.path / folder / "inference_epoch3.json"


# -- one writer ------------------------------------------------------------------------------------


@pytest.fixture
def settings(tmp_path):
    """The settings of a run that is not there yet."""
    return TrainSettings(output_dir=str(tmp_path), run_name="new")


@pytest.fixture
def writer(settings):
    """The writer of a run, with its folder open."""
    with RunWriter(settings) as writer:
        writer.open()
        yield writer


def enter(settings, **options):
    """Become the writer of a run for a moment."""
    with RunWriter(settings, **options):
        pass


def test_writer_makes_no_folder_before_it_opens_it(settings):
    enter(settings)

    assert not settings.run_dir.exists()


def test_writer_leaves_an_earlier_run_until_it_opens_the_folder(settings):
    write_json(settings.run_dir / "settings.json", {})
    enter(settings)

    assert [file.name for file in settings.run_dir.iterdir()] == ["settings.json"]


def test_second_writer_is_refused_with_folder_and_process(settings, writer):
    with pytest.raises(InputError, match=rf"new is in use: process {os.getpid()} trains into it"):
        enter(settings)


def test_second_writer_that_came_before_the_folder_is_refused_when_it_opens_it(settings):
    with RunWriter(settings) as first, RunWriter(settings) as second:
        first.open()
        with pytest.raises(InputError, match="is in use"):
            second.open()


def test_refused_writer_leaves_the_lock_to_its_owner(settings, writer):
    for _ in range(2):
        with pytest.raises(InputError, match="is in use"):
            enter(settings)


def test_process_that_does_not_write_locks_nothing(settings, writer):
    enter(settings, is_main=False)


def test_stop_file_of_before_the_start_is_removed(settings, capsys):
    settings.run_dir.mkdir()
    (settings.run_dir / "STOP").touch()
    with RunWriter(settings) as writer:
        writer.open()

    assert not (settings.run_dir / "STOP").exists()
    assert capsys.readouterr().out.endswith("STOP was there before this start: removed\n")


def test_failed_start_leaves_the_stop_file(settings):
    settings.run_dir.mkdir()
    (settings.run_dir / "STOP").touch()
    enter(settings)

    assert (settings.run_dir / "STOP").exists()


@pytest.mark.parametrize("was_there", [True, False])
def test_stop_file_that_comes_while_the_model_is_loaded_stays(settings, was_there):
    stop_file = settings.run_dir / "STOP"
    settings.run_dir.mkdir()
    if was_there:
        stop_file.touch()
        os.utime(stop_file, (1, 1))

    with RunWriter(settings) as writer:
        stop_file.touch()
        writer.open()

        assert stop_file.exists()


def test_writer_that_is_done_leaves_no_lock(settings):
    with RunWriter(settings) as writer:
        writer.open()

    assert [file.name for file in settings.run_dir.iterdir()] == ["settings.json"]


def test_lock_of_a_killed_process_is_free(settings):
    settings.run_dir.mkdir()
    code = (
        "import fcntl, sys, time; file = open(sys.argv[1], 'w'); fcntl.flock(file, fcntl.LOCK_EX);"
        "print('locked', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(settings.run_dir / ".lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"locked\n"
        with pytest.raises(InputError, match="is in use"):
            enter(settings)
        process.kill()

    enter(settings)


def test_folder_that_cannot_be_written_is_refused_at_once(tmp_path):
    (tmp_path / "file").write_text("no folder")

    with pytest.raises(InputError, match="cannot write to"):
        enter(TrainSettings(output_dir=str(tmp_path / "file")))


# -- the log ---------------------------------------------------------------------------------------


@pytest.fixture
def log(tmp_path):
    """A log of three steps, one of them logged twice, whose last line is half-written."""
    rows = [{"step": 1, "reward": 1.0}, {"step": 2, "reward": 2.0}, {"step": 2, "loss": 0.5}]
    lines = [json.dumps(row) for row in rows]
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(lines) + '\n{"step": 3, "rew', encoding="utf-8")
    return RunLog(path)


def test_log_rows_end_before_a_half_written_line(log):
    assert [row["step"] for row in log.rows()] == [1, 2, 2]


def test_step_rows_are_those_with_a_reward(log):
    assert [row["reward"] for row in log.step_rows()] == [1.0, 2.0]


def test_read_log_returns_the_rows_of_steps(log):
    assert read_log(log.path) == log.step_rows()


def test_log_line_that_ends_inside_a_character_is_left_out(log):
    with log.path.open("ab") as file:
        file.write("며".encode()[:2])

    assert len(log.rows()) == 3


def test_log_that_does_not_exist_has_no_rows(tmp_path):
    assert RunLog(tmp_path / "log.jsonl").rows() == []


def test_reading_a_missing_log_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no log .* expected the log.jsonl of a run"):
        read_log(tmp_path / "log.jsonl")


def test_rewound_log_ends_at_the_step(log):
    log.rewind(1)

    assert log.path.read_text(encoding="utf-8") == '{"step": 1, "reward": 1.0}\n'


def test_appended_row_is_one_line(tmp_path):
    log = RunLog(tmp_path / "log.jsonl")
    log.append({"step": 1, "text": "며칠"})

    assert log.path.read_text(encoding="utf-8") == '{"step": 1, "text": "며칠"}\n'


def test_series_leaves_out_rows_without_the_quantity(log):
    assert series(log.rows(), "reward") == ([1, 2], [1.0, 2.0])


# -- checkpoints -----------------------------------------------------------------------------------


def test_checkpoints_are_the_base_and_every_saved_adapter(run):
    assert run.checkpoints() == [BASE, "epoch_2", "epoch_10"]


def test_base_has_no_adapter(run):
    assert run.adapter(BASE) is None


def test_saved_checkpoint_has_its_folder_as_adapter(run):
    assert run.adapter("epoch_2") == run.path / "epoch_2"


def test_unknown_checkpoint_is_refused_with_the_known_ones(run):
    message = r"no checkpoint 'epoch_3'; it has epoch_0, epoch_2, epoch_10"

    with pytest.raises(InputError, match=message):
        run.adapter("epoch_3")


def test_unfinished_checkpoints_are_not_resumed_from(run):
    run.trl_checkpoint(4).mkdir()

    assert run.last_complete() is None


@pytest.mark.parametrize(
    ("epoch", "step", "unanswered"),
    [(1.5, 3, ["epoch_0"]), (2.0, 4, ["epoch_0", "epoch_2"]), (9.5, 19, ["epoch_0", "epoch_2"])],
)
def test_saves_without_answers_are_found_as_far_as_the_run_has_come(run, epoch, step, unanswered):
    """The run has epochs 2 and 10; no save is answered."""
    checkpoint = run.trl_checkpoint(step)
    write_json(checkpoint / "trainer_state.json", {"epoch": epoch, "global_step": step})

    assert run.unanswered(checkpoint) == unanswered


def test_save_with_answers_lacks_none(run):
    checkpoint = run.trl_checkpoint(4)
    write_json(checkpoint / "trainer_state.json", {"epoch": 2.0, "global_step": 4})
    for name in ("epoch_0", "epoch_2"):
        write_json(run.answers(name), [])

    assert run.unanswered(checkpoint) == []


def test_save_named_by_its_step_is_reached_by_steps(run):
    (run.path / "step_3").mkdir()
    (run.path / "step_3/adapter_config.json").write_text("{}")
    checkpoint = run.trl_checkpoint(3)
    write_json(checkpoint / "trainer_state.json", {"epoch": 1.5, "global_step": 3})

    assert run.unanswered(checkpoint) == ["epoch_0", "step_3"]


# -- settings --------------------------------------------------------------------------------------


def test_settings_are_the_parameters_of_the_run(run):
    assert run.settings["model_name"] == "tiny"


def test_folder_without_settings_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no settings.json in .* give the folder of a run"):
        _ = RunFolder(tmp_path).settings


# -- what is recorded ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["torch", "accelerate", "cuda"])
def test_version_of_what_decides_a_run_is_recorded(name):
    assert name in describe_run(TrainSettings())["versions"]


@pytest.fixture
def run_of_hub_model(tmp_path, monkeypatch):
    """A run that started from one commit of a model on the hub; there is another one by now."""
    cached = tmp_path / "models--someone--small"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs/main").write_text("b" * 40)
    (cached / "snapshots" / ("b" * 40)).mkdir(parents=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))

    write_json(tmp_path / "settings.json", {"model_revision": "a" * 40})
    return RunFolder(tmp_path)


def test_new_commit_of_a_model_is_told_where_a_run_resumes(run_of_hub_model, capsys):
    warn_of_new_revision(run_of_hub_model, TrainSettings(model_name="someone/small"))

    warning = capsys.readouterr().err
    assert f"new commit on the hub, {'b' * 40}" in warning
    assert f"started from {'a' * 40}" in warning


def test_same_commit_of_a_model_is_no_warning(run_of_hub_model, capsys):
    write_json(run_of_hub_model.path / "settings.json", {"model_revision": "b" * 40})
    warn_of_new_revision(run_of_hub_model, TrainSettings(model_name="someone/small"))

    assert capsys.readouterr().err == ""


def test_commit_of_a_model_from_the_hub_is_recorded(run_of_hub_model):
    assert describe_run(TrainSettings(model_name="someone/small"))["model_revision"] == "b" * 40


@pytest.mark.parametrize("use_quant", [True, False])
def test_bitsandbytes_is_recorded_where_weights_are_quantised(use_quant):
    versions = describe_run(TrainSettings(use_quant=use_quant))["versions"]

    assert ("bitsandbytes" in versions) == use_quant


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """A function that puts a program of that name on the path."""

    def install(script):
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

    return install


def test_driver_is_what_nvidia_smi_says_of_the_first_card(nvidia_smi):
    nvidia_smi("echo 580.65.06; echo 580.65.06")
    assert gpu_driver() == "580.65.06"


@pytest.mark.parametrize("script", ["echo failed; exit 9", "exit 0"])
def test_driver_is_unknown_where_nvidia_smi_fails(nvidia_smi, script):
    nvidia_smi(script)
    assert gpu_driver() is None


def test_driver_is_unknown_without_nvidia_smi(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_driver() is None
