"""What happens while TRL trains: the order of the callbacks, the log, alarms that end a run."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
from helpers import json_lines, smoke_settings
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from grpo_helpers import dev_answers
from grpo_helpers import training as training_module
from grpo_helpers.callbacks import (
    CheckpointCallback,
    CompleteCallback,
    HealthCallback,
    InferenceCallback,
    LastSaveCallback,
    LogCallback,
    LoraSaveCallback,
    OpenCallback,
    StopCallback,
    training_callbacks,
)
from grpo_helpers.data import load_items
from grpo_helpers.dev_answers import DevAnswers
from grpo_helpers.files import InputError
from grpo_helpers.health import WINDOW
from grpo_helpers.launch import will_launch
from grpo_helpers.models import load_tokenizer
from grpo_helpers.run_folder import RunFolder, RunLog, read_log
from grpo_helpers.training import grpo_config, train


def names_of(callbacks):
    """Return the class of each callback."""
    return [type(callback) for callback in callbacks]


# -- the list --------------------------------------------------------------------------------------


def test_completion_mark_comes_between_adapter_and_answers(tmp_path):
    names = names_of(training_callbacks(smoke_settings(tmp_path), [], [], StopCallback(tmp_path)))
    mark = names.index(CompleteCallback)

    assert names.index(LoraSaveCallback) < mark
    assert mark < names.index(InferenceCallback)


def test_run_folder_is_opened_before_anything_is_written(tmp_path):
    names = names_of(training_callbacks(smoke_settings(tmp_path), [], [], StopCallback(tmp_path)))

    assert names[0] is OpenCallback


def test_checkpoint_in_between_is_asked_for_once_it_is_known_whether_the_run_ends(tmp_path):
    stop = StopCallback(tmp_path)
    callbacks = training_callbacks(smoke_settings(tmp_path), [], [], stop)

    assert callbacks[-2] is stop
    assert type(callbacks[-1]) is CheckpointCallback


def test_sharded_weights_do_not_answer_while_they_train(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    names = names_of(training_callbacks(smoke_settings(tmp_path), [], [], StopCallback(tmp_path)))

    assert InferenceCallback not in names
    assert CompleteCallback in names


def test_dev_questions_get_the_template_arguments_of_the_rollouts(tmp_path, monkeypatch):
    template = {"skip_reasoning": True}
    settings = smoke_settings(tmp_path, extra_grpo_args={"chat_template_kwargs": template})
    tokenizer = load_tokenizer("data/tiny_model")
    tokenizer.chat_template += "{% if skip_reasoning %}skip{% endif %}"
    texts = []

    def record(model, tokenizer, prompts, **options):
        texts.extend(prompts)
        return ["며칠"]

    monkeypatch.setattr(dev_answers, "generate_answers", record)
    items = load_items("data/smoke/dev.json")[:1]
    dev = DevAnswers(items, [[{"role": "user", "content": "몇일"}]], settings)
    callback = InferenceCallback(dev)
    args, state = TrainingArguments(str(tmp_path)), TrainerState(is_world_process_zero=True)
    callback.on_save(args, state, TrainerControl(), model=None, processing_class=tokenizer)

    assert grpo_config(settings).chat_template_kwargs == settings.chat_template_kwargs
    assert settings.chat_template_kwargs.items() >= template.items()
    assert texts[0].endswith("skip")


# -- callbacks of one's own ------------------------------------------------------------------------


def test_own_callbacks_are_refused_where_other_processes_train(tmp_path, monkeypatch):
    monkeypatch.setattr(training_module, "will_launch", lambda settings: True)
    prepared = SimpleNamespace()

    with pytest.raises(InputError, match="callbacks of your own need num_processes=1"):
        train(smoke_settings(tmp_path), prepared, callbacks=[LastSaveCallback()])


class LikeVllm(TrainerCallback):
    """Leaves behind what vLLM leaves where it starts in the process that trains."""

    def on_train_begin(self, args, state, control, **_):
        os.environ["WORLD_SIZE"] = "1"


def test_process_that_has_trained_is_not_taken_for_a_launched_one(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")  # so that pytest takes it away afterwards, in any case
    monkeypatch.delenv("WORLD_SIZE")
    train(smoke_settings(tmp_path, max_steps=1, save_strategy="no"), callbacks=[LikeVllm()])

    assert will_launch(smoke_settings(tmp_path, num_processes=2))


# -- the log ---------------------------------------------------------------------------------------


@pytest.fixture
def training(tmp_path):
    """What TRL passes to callbacks: arguments, state and control of a run of ten steps."""
    state = TrainerState(is_world_process_zero=True, global_step=1, max_steps=10)
    return TrainingArguments(str(tmp_path)), state, TrainerControl()


def test_log_row_begins_with_step_and_seconds(tmp_path, training):
    LogCallback(tmp_path).on_log(*training, logs={"reward": 1.0})
    (row,) = json_lines(tmp_path / "log.jsonl")

    assert list(row) == ["step", "seconds", "reward", "peak_memory_gib", "peak_reserved_gib"]
    assert row["step"] == 1


def test_logged_step_is_one_line_of_progress(tmp_path, training, capsys):
    logs = {"reward": 0.5, "rewards/em_reward/mean": 0.25, "step_time": 2.0}
    LogCallback(tmp_path).on_log(*training, logs=logs)

    assert capsys.readouterr().out == (
        "step   1/10  reward 0.500  EM 0.250  2.0 s/step  about 0.3 min left\n"
    )


def test_seconds_continue_where_an_earlier_part_stopped(tmp_path, training):
    RunLog(tmp_path / "log.jsonl").append({"step": 1, "seconds": 100.0})
    callback = LogCallback(tmp_path)
    callback.on_train_begin(*training)
    callback.on_log(*training, logs={"reward": 1.0})

    assert json_lines(tmp_path / "log.jsonl")[-1]["seconds"] >= 100


# -- alarms ----------------------------------------------------------------------------------------


def test_run_stops_with_a_save_on_an_alarm_if_set_to(tmp_path):
    """Answers may have 8 tokens only, so all of them are cut off."""
    settings = smoke_settings(
        tmp_path,
        max_steps=30,
        save_steps=30,
        max_completion_length=8,
        stop_on_alarm=True,
        num_threads=1,
        num_generations=2,
        per_device_train_batch_size=2,
    )
    train(settings)

    assert len(read_log(tmp_path / "smoke/log.jsonl")) == 2 * WINDOW
    assert (tmp_path / f"smoke/step_{2 * WINDOW}").is_dir()


def watch_steps_slow_down(run_dir, training):
    """Watch steps that come to take three times as long, in a run that stops on alarms."""
    args, state, control = training
    watch = HealthCallback(run_dir, stop=True)

    for step in range(1, 2 * WINDOW + 2):
        state.global_step = step
        seconds = 1.0 if step <= WINDOW else 3.0
        watch.on_log(args, state, control, logs={"reward": 1.0, "step_time": seconds})


def test_slow_steps_are_reported_once(tmp_path, training, capsys):
    watch_steps_slow_down(tmp_path, training)

    assert capsys.readouterr().out.count("ALARM  seconds per step") == 1


def test_slow_steps_end_no_run(tmp_path, training):
    """Each process measures its own seconds: one of several would stop and the others wait."""
    watch_steps_slow_down(tmp_path, training)
    _, _, control = training

    assert not control.should_training_stop


# -- the last save ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "step", "saves"), [("no", 10, True), ("no", 9, False), ("epoch", 10, False)]
)
def test_run_without_saves_is_saved_at_its_end(training, strategy, step, saves):
    args, state, control = training
    args.save_strategy = strategy
    state.global_step = step
    LastSaveCallback().on_step_end(args, state, control)

    assert control.should_save is saves


# -- more checkpoints than answers -----------------------------------------------------------------


@pytest.fixture
def state_at(training):
    """A function that puts the training after a step of epochs of four steps."""
    args, state, control = training

    def put(step, strategy, ends=False):
        args.save_strategy = strategy
        state.global_step = step
        state.epoch = step / 4
        control.should_training_stop = ends
        return args, state, control

    return put


@pytest.fixture
def in_between(state_at):
    """Who has asked for a checkpoint of step 2."""
    callback = CheckpointCallback(every=2)
    callback.on_step_end(*state_at(2, "epoch"))
    return callback


@pytest.mark.parametrize(
    ("strategy", "step", "ends", "asks"),
    [
        ("epoch", 2, False, True),
        ("epoch", 3, False, False),
        ("epoch", 4, False, False),  # the end of the epoch saves it
        ("epoch", 2, True, False),  # the end of the run does
        ("steps", 4, False, True),
        ("no", 4, False, True),
    ],
)
def test_checkpoint_in_between_is_asked_for_every_few_steps(state_at, strategy, step, ends, asks):
    args, state, control = state_at(step, strategy, ends)
    callback = CheckpointCallback(every=2)
    callback.on_step_end(args, state, control)

    assert control.should_save is asks
    assert callback.is_only_to_resume(state, control) is asks


def test_no_checkpoint_in_between_is_asked_for_by_default(state_at):
    args, state, control = state_at(2, "epoch")
    CheckpointCallback(smoke_settings("runs").checkpoint_steps).on_step_end(args, state, control)

    assert not control.should_save


def test_save_that_somebody_else_has_asked_for_answers(state_at):
    args, state, control = state_at(2, "steps")
    control.should_save = True
    callback = CheckpointCallback(every=2)
    callback.on_step_end(args, state, control)

    assert not callback.is_only_to_resume(state, control)


def test_checkpoint_in_between_answers_if_the_run_ends_there(state_at, in_between):
    _, state, control = state_at(2, "epoch", ends=True)

    assert not in_between.is_only_to_resume(state, control)


def test_checkpoint_in_between_gets_no_adapter_folder(tmp_path, state_at, in_between):
    LoraSaveCallback(tmp_path, in_between).on_save(*state_at(2, "epoch"))

    assert list(tmp_path.iterdir()) == []


def test_checkpoint_in_between_is_complete(tmp_path, state_at, in_between):
    CompleteCallback(tmp_path, in_between).on_save(*state_at(2, "epoch"))

    assert RunFolder(tmp_path).last_complete().name == "checkpoint-2"


def test_checkpoint_that_is_written_once_more_is_not_complete_meanwhile(tmp_path, state_at):
    args, state, control = state_at(2, "epoch", ends=True)
    callback = CompleteCallback(tmp_path)
    callback.on_save(args, state, control)
    control.should_save = True
    callback.on_epoch_end(args, state, control)

    assert RunFolder(tmp_path).last_complete() is None


@pytest.fixture
def dev():
    """What stands for the answers to the dev set: it notes with which checkpoints it answered."""
    answered = []
    return SimpleNamespace(
        answered=answered, answer=lambda model, tokenizer, checkpoint: answered.append(checkpoint)
    )


MODEL = {"model": None, "processing_class": None}


def test_checkpoint_in_between_does_not_answer(state_at, in_between, dev):
    InferenceCallback(dev, in_between).on_save(*state_at(2, "epoch"), **MODEL)

    assert dev.answered == []


def test_step_that_is_saved_twice_is_answered_once(state_at, dev):
    callback = InferenceCallback(dev)
    for _ in range(2):
        callback.on_save(*state_at(3, "epoch", ends=True), **MODEL)

    assert dev.answered == ["step_3"]


# -- a request to stop -----------------------------------------------------------------------------


def test_stop_callback_does_nothing_unless_requested(tmp_path, training):
    args, state, control = training
    StopCallback(tmp_path).on_step_end(args, state, control)

    assert not control.should_training_stop
    assert not control.should_save


def test_requested_stop_ends_the_run_with_a_save(tmp_path, training):
    args, state, control = training
    stop = StopCallback(tmp_path)
    stop.request()
    stop.on_step_end(args, state, control)

    assert control.should_training_stop
    assert control.should_save


def test_stop_file_ends_the_run_and_is_removed(tmp_path, training, capsys):
    args, state, control = training
    stop = StopCallback(tmp_path)
    (tmp_path / "STOP").touch()
    stop.on_step_end(args, state, control)

    assert control.should_training_stop
    assert control.should_save
    assert not (tmp_path / "STOP").exists()
    assert capsys.readouterr().out.startswith("stopping after step 1, as ")


def test_stop_file_that_comes_during_the_answers_ends_the_run_after_them(tmp_path, state_at, dev):
    args, state, control = state_at(4, "epoch")
    (tmp_path / "STOP").touch()
    callback = InferenceCallback(dev, stop=StopCallback(tmp_path))
    callback.on_save(args, state, control, **MODEL)

    assert dev.answered == ["epoch_1"]
    assert control.should_training_stop


def test_file_is_looked_for_by_the_first_process_alone(tmp_path, training):
    args, state, control = training
    state.is_world_process_zero = False
    (tmp_path / "STOP").touch()
    StopCallback(tmp_path).on_step_end(args, state, control)

    assert (tmp_path / "STOP").exists()


@pytest.mark.parametrize(
    ("step", "printed"),
    [
        (3, "stopped after step 3 of 10, checkpoint-3 is complete: resume=auto goes on from it\n"),
        (10, ""),
    ],
)
def test_run_says_where_it_was_stopped_unless_that_is_its_end(
    tmp_path, training, capsys, step, printed
):
    args, state, control = training
    state.global_step = step
    stop = StopCallback(tmp_path)
    stop.request()
    stop.on_train_end(args, state, control)

    assert capsys.readouterr().out == printed
