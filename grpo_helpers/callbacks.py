"""⑤ What happens while TRL trains: adapters saved, the dev set answered, metrics logged.

In: a run's settings and its dev items. Out: :func:`training_callbacks`, the callbacks in the order
in which they must run. At every save the LoRA adapter goes to ``epoch_{E}/`` and the dev set is
answered to ``infer_results/inference_epoch{E}.json``, as in the article. Differences: the live
model answers (the article loads a second base model onto the same GPU), the untrained model is
answered as checkpoint 0 by the same code, saves that do not fall on an epoch are named
``step_{N}``, every file appears whole or not at all, and one of TRL's checkpoints is marked once
everything that belongs to its save is on disk: a killed run resumes from the last one that is.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from grpo_helpers.files import write_json
from grpo_helpers.health import EXACT_MATCH, examine, panel_text
from grpo_helpers.inference import generate_answers, write_answers
from grpo_helpers.model_checks import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from grpo_helpers.prompts import Message, prompt_texts
from grpo_helpers.questions import Item
from grpo_helpers.run_folder import COMPLETE, RunFolder, RunWriter, checkpoint_name
from grpo_helpers.settings import TrainSettings


def training_callbacks(
    settings: TrainSettings,
    items: Sequence[Item],
    prompts: Sequence[list[Message]],
    stop: StopCallback,
    writer: RunWriter | None = None,
) -> list[TrainerCallback]:
    """Return the callbacks of a run, in the order in which TRL must call them.

    Args:
        settings: The run's parameters.
        items: The dev items.
        prompts: Their prompts.
        stop: Ends the run when it is asked to; the caller keeps it for that.
        writer: Opens the run folder; None stands for one that starts a new run.
    """
    run_dir = settings.run_dir
    open_folder = OpenCallback(writer or RunWriter(settings))
    save_last = LastSaveCallback()
    save_adapter = LoraSaveCallback(run_dir)
    answer_dev = InferenceCallback(items, prompts, settings)
    log = LogCallback(run_dir)
    mark_complete = CompleteCallback(run_dir)
    watch = HealthCallback(run_dir, settings.stop_on_alarm)

    # The mark comes after adapter and answers: a run that resumes from a marked checkpoint finds
    # both of them. Were it earlier, a run killed in between would never answer that save.
    if os.environ.get("ACCELERATE_USE_FSDP") == "true":
        # Sharded weights cannot generate; their checkpoints answer after the run, by inference.py.
        return [open_folder, save_adapter, log, mark_complete, watch, save_last, stop]

    return [open_folder, save_adapter, answer_dev, log, mark_complete, watch, save_last, stop]


# -- the start -------------------------------------------------------------------------------------


class OpenCallback(TrainerCallback):
    """Opens the run folder when all is ready to train: model, optimizer, trackers, data.

    It must come before every callback that writes. Trackers start before it, as transformers puts
    them first.
    """

    def __init__(self, writer: RunWriter) -> None:
        """Take what locks and opens the run's folder."""
        self.writer = writer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Open the folder in the first process; the others wait until it is open."""
        self.writer.is_main = args.process_index == 0
        with args.main_process_first(local=False, desc="run folder"):
            self.writer.open()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Free the folder."""
        self.writer.close()


# -- what a save consists of -----------------------------------------------------------------------


class LoraSaveCallback(TrainerCallback):
    """Saves the LoRA adapter to ``epoch_{E}`` (or ``step_{N}``) at every save."""

    def __init__(self, run_dir: Path) -> None:
        """Take the run's folder."""
        self.run = RunFolder(run_dir)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Copy the adapter out of TRL's checkpoint; it appears under its name once complete."""
        if not state.is_world_process_zero:
            return

        source = self.run.trl_checkpoint(state.global_step)
        target = self.run.adapter_folder(checkpoint_name(args, state))
        partial = target.with_name(f".{target.name}.partial")

        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
            shutil.copyfile(source / name, partial / name)

        shutil.rmtree(target, ignore_errors=True)
        os.replace(partial, target)


class InferenceCallback(TrainerCallback):
    """Answers the dev set with the live model: before training (checkpoint 0) and at every save.

    The prompts are the same at every checkpoint. The answers go to ``infer_results``.
    """

    def __init__(
        self, items: Sequence[Item], prompts: Sequence[list[Message]], settings: TrainSettings
    ) -> None:
        """Take the dev items, their prompts, and the run's parameters."""
        self.items = items
        self.prompts = prompts
        self.run = RunFolder(settings.run_dir)
        self.batch_size = settings.inference_batch_size
        self.max_new_tokens = settings.max_completion_length
        self.chat_template_kwargs = settings.chat_template_kwargs

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        """Answer with the base model: a new adapter changes nothing, so this is checkpoint 0."""
        if state.global_step == 0:
            self._answer_dev(args, state, more)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        """Answer with the model as it is now."""
        self._answer_dev(args, state, more)

    def _answer_dev(
        self, args: TrainingArguments, state: TrainerState, more: Mapping[str, Any]
    ) -> None:
        """Answer the dev set, every process its share; the first process writes the file."""
        tokenizer = more["processing_class"]
        answers = generate_answers(
            more["model"],
            tokenizer,
            prompt_texts(self.prompts, tokenizer, self.chat_template_kwargs),
            batch_size=self.batch_size,
            max_new_tokens=self.max_new_tokens,
        )

        if state.is_world_process_zero:
            checkpoint = checkpoint_name(args, state)
            write_answers(self.run.answers(checkpoint), self.items, answers)


class CompleteCallback(TrainerCallback):
    """Marks TRL's checkpoint as complete, so that a run can resume from it.

    It must come after the callbacks that write the adapter and the answers.
    """

    def __init__(self, run_dir: Path) -> None:
        """Take the run's folder."""
        self.run = RunFolder(run_dir)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Write the mark; the files of this save are there by now, from every process."""
        folder = self.run.trl_checkpoint(state.global_step)

        # Checkpoint 0 has no folder.
        if state.is_world_process_zero and folder.is_dir():
            mark = {"step": state.global_step, "checkpoint": checkpoint_name(args, state)}
            write_json(folder / COMPLETE, mark)


# -- the log ---------------------------------------------------------------------------------------


class LogCallback(TrainerCallback):
    """Appends every logged metric to ``log.jsonl`` and prints a progress line per logged step."""

    def __init__(self, run_dir: Path) -> None:
        """Take the run's folder; seconds are counted from now."""
        self.log = RunFolder(run_dir).log
        self.started = time.time()

        # When the first step of this process began, and how many steps there were before it.
        self.first_step_began: float | None = None
        self.steps_before = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Let the seconds continue where an earlier part of the run stopped."""
        seconds_before = [row["seconds"] for row in self.log.rows()]
        self.started -= max(seconds_before, default=0.0)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        """Write one line of JSON, and print one line of progress if a step was trained."""
        logs = more.get("logs")
        if not state.is_world_process_zero or not logs:
            return

        seconds = round(time.time() - self.started, 3)
        memory = round(peak_memory() / 2**30, 3)
        row = {"step": state.global_step, "seconds": seconds}
        self.log.append(row | logs | {"peak_memory_gib": memory})

        if "reward" in logs:
            print(self._progress_line(state, logs), flush=True)

    def _progress_line(self, state: TrainerState, logs: Mapping[str, Any]) -> str:
        exact_match = logs.get(EXACT_MATCH, float("nan"))
        step_seconds = logs.get("step_time", 0)
        minutes_left = self._seconds_left(state, step_seconds) / 60

        return (
            f"step {state.global_step:3d}/{state.max_steps}  "
            f"reward {logs['reward']:.3f}  EM {exact_match:.3f}  "
            f"{step_seconds:.1f} s/step  about {minutes_left:.1f} min left"
        )

    def _seconds_left(self, state: TrainerState, step_seconds: float) -> float:
        """Return the seconds left at the pace of this process so far, saves included."""
        if self.first_step_began is None:
            self.first_step_began = time.time() - step_seconds
            self.steps_before = state.global_step - 1

        seconds = time.time() - self.first_step_began
        steps = state.global_step - self.steps_before
        return seconds / steps * (state.max_steps - state.global_step)


def peak_memory() -> int:
    """Return the most bytes this process has used: GPU memory, or main memory without a GPU."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()

    import resource

    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # on Linux
    return kibibytes * 1024


# -- the end of a run ------------------------------------------------------------------------------


def end_with_save(args: TrainingArguments, control: TrainerControl) -> None:
    """Let the run end after this step, with a save."""
    # Where epochs are saved, the end of the run ends an epoch, which saves by itself.
    if args.save_strategy != "epoch":
        control.should_save = True
    control.should_training_stop = True


class LastSaveCallback(TrainerCallback):
    """Saves once at the end where nothing is saved on the way: no training is lost."""

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Ask for a save after the last step."""
        is_last = state.global_step >= state.max_steps
        if is_last and args.save_strategy == "no":
            control.should_save = True


class HealthCallback(TrainerCallback):
    """Prints each alarm of :mod:`grpo_helpers.health` once; can end the run on an alarm."""

    def __init__(self, run_dir: Path, stop: bool) -> None:
        """Take the run's folder, and whether to end the run, with a save, on an alarm."""
        self.log = RunFolder(run_dir).log
        self.rows: list[dict[str, Any]] = []
        self.stop = stop
        self.reported: set[str] = set()  # rules whose alarm was printed

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Take what an earlier part of the run logged; the run folder is open by now."""
        self.rows = self.log.step_rows()

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        """Examine the log so far; every process has the same rows, the first one prints."""
        logs = more.get("logs") or {}
        if "reward" not in logs:
            return

        self.rows.append({"step": state.global_step, **logs})
        alarms = [finding for finding in examine(self.rows) if finding.alarm]

        new = [alarm for alarm in alarms if alarm.rule not in self.reported]
        if new and state.is_world_process_zero:
            print(panel_text(new), flush=True)
        self.reported.update(alarm.rule for alarm in new)

        # A value that each process measures for itself must not end the run: one process would
        # stop and the others would wait for it.
        shared_alarms = [alarm for alarm in alarms if not alarm.measured_per_process]
        if self.stop and shared_alarms:
            end_with_save(args, control)


class StopCallback(TrainerCallback):
    """Ends the run with a save after the current step, once ``requested`` is set."""

    def __init__(self) -> None:
        """Start without a request."""
        self.requested = False

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Save and stop if that was requested."""
        if self.requested:
            end_with_save(args, control)
