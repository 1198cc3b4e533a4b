"""What a card that is too small costs: half a batch, or a line that says what to change.

There is no GPU here, so the error is raised where a GPU raises it: in the model's own ``generate``,
and in the backward pass.
"""

from __future__ import annotations

import gc
import shutil
import weakref
from contextlib import contextmanager

import accelerate
import pytest
import torch
import transformers
from helpers import json_lines, smoke_settings

from grpo_helpers import training
from grpo_helpers.files import InputError, read_json
from grpo_helpers.inference import answer
from grpo_helpers.run_folder import RunFolder
from grpo_helpers.training import train

SMOKE_DEV = "data/smoke/dev.json"
QUESTIONS = 16
TORCHS_WORDS = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.64 GiB of "
    "which 1.20 GiB is free. Including non-PyTorch memory, this process has 22.43 GiB in use."
)
# Four short steps, of one group each, with a save after the second and the fourth.
CHANGES = {
    "num_threads": 1,
    "max_steps": 4,
    "per_device_train_batch_size": 4,
    "max_completion_length": 16,
    "inference_batch_size": 8,
}


def settings_of(folder, **changes):
    """Return the settings of a small run."""
    return smoke_settings(folder, **(CHANGES | changes))


class Card:
    """A card of a certain size: how many rows it has room for, and what was asked of it.

    Attributes:
        answer_rows: Questions that it can answer at once.
        sample_rows: Completions that it can sample at once.
        batches_left: Batches that it answers before its memory ends.
        answered: The sizes of the batches that it has answered.
        error: What it raises.
    """

    def __init__(self):
        self.answer_rows = 1000
        self.sample_rows = 1000
        self.batches_left = 1000
        self.answered = []
        self.error = torch.OutOfMemoryError(TORCHS_WORDS)

    def check(self, model, rows):
        """Raise what torch raises where a batch is too large."""
        if model.training:
            if rows > self.sample_rows:
                raise self.error
            return

        if rows > self.answer_rows or self.batches_left == 0:
            raise self.error
        self.answered.append(rows)
        self.batches_left -= 1


@contextmanager
def card_in_use():
    """Let models generate on a card that is large until somebody says otherwise."""
    card = Card()
    generate = transformers.GenerationMixin.generate

    def checked_generate(model, *arguments, **options):
        card.check(model, len(options["input_ids"]))
        return generate(model, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transformers.GenerationMixin, "generate", checked_generate)
        yield card


@pytest.fixture
def card():
    """A card that is large until a test says otherwise."""
    with card_in_use() as card:
        yield card


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of the run that has enough memory."""
    settings = settings_of(tmp_path_factory.mktemp("whole"))
    train(settings)
    return settings.run_dir


def assert_same_answers(run_dir, whole):
    """Fail unless a run has the answers of the one that has enough memory."""
    for file in (whole / "infer_results").glob("*.json"):
        assert (run_dir / "infer_results" / file.name).read_bytes() == file.read_bytes(), file.name
    assert not list((run_dir / "infer_results").glob("*.partial*"))


def log_without_clock(run_dir):
    """Return the rewards of a run, step by step."""
    rows = [row for row in json_lines(run_dir / "log.jsonl") if "reward" in row]
    return [(row["step"], row["reward"], row["loss"]) for row in rows]


# -- answering: half the batch ---------------------------------------------------------------------


def test_batch_of_questions_is_halved_until_it_fits(tmp_path, card, whole, capfd):
    card.answer_rows = 3
    output = answer(whole, "step_2", SMOKE_DEV, tmp_path / "a.json", batch_size=8)

    assert card.answered == [2] * (QUESTIONS // 2)
    assert all(row["output"]["answer"] for row in read_json(output))
    printed = capfd.readouterr().err
    assert printed.count("out of memory with") == 2
    assert "out of memory with 8 questions at once: going on with 4\n" in printed


def test_answers_before_training_go_on_with_half_a_batch(tmp_path, card):
    card.answer_rows = 4
    settings = settings_of(tmp_path, max_steps=1, save_strategy="no")
    train(settings)

    assert card.answered == [4] * 8
    assert len(read_json(RunFolder(settings.run_dir).answers("epoch_0"))) == QUESTIONS


def test_other_error_of_an_answer_is_not_taken_for_a_small_card(tmp_path, card, whole):
    card.error = RuntimeError("something else")
    card.answer_rows = 3
    with pytest.raises(RuntimeError, match="something else"):
        answer(whole, "step_2", SMOKE_DEV, tmp_path / "a.json", batch_size=8)


def test_question_that_does_not_fit_alone_is_one_line(tmp_path, card, whole):
    card.batches_left = 1
    with pytest.raises(InputError) as caught:
        answer(whole, "step_2", SMOKE_DEV, tmp_path / "a.json", batch_size=8)

    message = str(caught.value)
    assert "out of memory while answering questions (Tried to allocate 2.00 GiB)" in message
    assert "a.json.partial: call again" in message
    assert "\n" not in message


def test_answers_before_the_end_of_the_memory_are_not_given_again(tmp_path, card, whole):
    card.batches_left = 1
    with pytest.raises(InputError):
        answer(whole, "step_2", SMOKE_DEV, tmp_path / "a.json", batch_size=8)

    card.answered.clear()
    card.batches_left = 1000
    answer(whole, "step_2", SMOKE_DEV, tmp_path / "a.json", batch_size=8)

    assert card.answered == [8]


# -- answering: nothing fits -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def cut_off(tmp_path_factory):
    """The folder of a run whose memory ended in the second batch of answers of its first save."""
    settings = settings_of(tmp_path_factory.mktemp("cut_off"))
    with card_in_use() as card, pytest.raises(InputError) as caught:
        card.batches_left = 2 + 1  # both batches of the base, and one of the save
        train(settings)

    assert "checkpoint-2 is complete: resume=auto goes on from it" in str(caught.value)
    return settings.run_dir


@pytest.fixture
def to_resume(tmp_path, cut_off):
    """The folder of a copy of that run."""
    shutil.copytree(cut_off, tmp_path / "smoke")
    return tmp_path


def test_save_is_complete_before_its_answers_begin(cut_off):
    run = RunFolder(cut_off)

    assert run.last_complete().name == "checkpoint-2"
    assert run.checkpoints() == ["epoch_0", "step_2"]
    assert not run.answers("step_2").exists()


def test_resumed_run_makes_up_for_the_answers_that_are_missing(to_resume, card, whole):
    train(settings_of(to_resume, resume="auto"))

    assert card.answered == [8, 8, 8]  # one batch of step 2 was there already
    assert_same_answers(to_resume / "smoke", whole)
    assert log_without_clock(to_resume / "smoke") == log_without_clock(whole)


def test_run_that_ended_without_its_last_answers_is_only_answered(tmp_path, card, whole, capsys):
    settings = settings_of(tmp_path)
    card.batches_left = 2 + 2
    with pytest.raises(InputError, match="checkpoint-4 is complete"):
        train(settings)

    card.batches_left = 1000
    log = (settings.run_dir / "log.jsonl").read_bytes()
    train(settings_of(tmp_path, resume="auto"))

    assert "nothing to resume" in capsys.readouterr().out
    assert_same_answers(settings.run_dir, whole)
    assert (settings.run_dir / "log.jsonl").read_bytes() == log


def test_run_cut_off_before_its_first_step_keeps_the_answers_of_the_base(
    tmp_path, card, whole, capsys
):
    settings = settings_of(tmp_path)
    card.batches_left = 1
    with pytest.raises(InputError, match="nothing was saved yet"):
        train(settings)

    card.answered.clear()
    card.batches_left = 1000
    train(settings_of(tmp_path, resume="auto"))

    assert "no complete checkpoint in" in capsys.readouterr().out
    assert card.answered == [8] * 5  # one batch of the base was there already
    assert_same_answers(settings.run_dir, whole)


# -- training --------------------------------------------------------------------------------------


@contextmanager
def failing_backward(step):
    """Let the backward pass of a step run out of memory."""
    backward = accelerate.Accelerator.backward
    passes = []

    def checked_backward(accelerator, loss, **options):
        passes.append(loss)
        if len(passes) == step:
            raise torch.OutOfMemoryError(TORCHS_WORDS)
        backward(accelerator, loss, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accelerate.Accelerator, "backward", checked_backward)
        yield


@pytest.fixture(scope="module")
def out_of_memory(tmp_path_factory):
    """The folder of a run whose memory ended in the third step, and the message."""
    folder = tmp_path_factory.mktemp("out_of_memory")
    with failing_backward(step=3), pytest.raises(InputError) as caught:
        train(settings_of(folder))
    return folder, str(caught.value)


def test_backward_pass_without_memory_names_its_parameters_in_one_line(out_of_memory):
    _, message = out_of_memory

    assert message.startswith(
        "out of memory in the loss or the backward pass (Tried to allocate 2.00 GiB): "
        "set gradient_checkpointing=true"
    )
    assert "docs/troubleshooting.md" in message
    assert "checkpoint-2 is complete" in message
    assert "\n" not in message


def test_sampling_without_memory_names_its_parameters(tmp_path, card):
    card.sample_rows = 1
    with pytest.raises(InputError, match=r"while sampling completions .* lower steps_per_generat"):
        train(settings_of(tmp_path, max_steps=1, save_strategy="no"))


def test_run_without_memory_goes_on_when_there_is_some(out_of_memory, whole):
    folder, _ = out_of_memory
    changes = {"extra_grpo_args": "{torch_empty_cache_steps: 1}"}
    train(settings_of(folder, resume="auto", **changes))

    assert_same_answers(folder / "smoke", whole)
    assert log_without_clock(folder / "smoke") == log_without_clock(whole)


# -- what stays in memory --------------------------------------------------------------------------


@pytest.fixture
def trainers(monkeypatch):
    """Weak references to the trainers that are built."""
    built = []
    build_trainer = training.build_trainer

    def watched_build(*arguments):
        run_trainer = build_trainer(*arguments)
        built.append(weakref.ref(run_trainer.trainer))
        built.append(weakref.ref(run_trainer.trainer.model))
        return run_trainer

    monkeypatch.setattr(training, "build_trainer", watched_build)
    return built


def alive(references):
    """Return what has not been freed."""
    return [reference() for reference in references if reference() is not None]


def test_trainer_and_model_are_freed_when_training_returns(tmp_path, trainers):
    gc.disable()  # nobody else may collect them
    try:
        train(settings_of(tmp_path, max_steps=1, save_strategy="no"))
        left = alive(trainers)
    finally:
        gc.enable()

    assert len(trainers) == 2
    assert left == []


def test_trainer_and_model_are_freed_although_the_error_is_still_there(tmp_path, trainers):
    """A notebook keeps the last error, and with it every function that was running."""
    with failing_backward(step=1), pytest.raises(InputError) as caught:
        train(settings_of(tmp_path, max_steps=1, save_strategy="no"))

    assert caught.value.__cause__ is not None
    assert alive(trainers) == []
