"""⑤ What happens while TRL trains: adapters saved, the dev set answered, metrics logged.

In: a run's settings and its dev items. Out: :func:`training_callbacks`, the callbacks in the order
in which they must run. At every save the LoRA adapter goes to ``epoch_{E}/`` and the dev set is
answered to ``infer_results/inference_epoch{E}.json``, as in the article. Differences: the live
model answers (the article loads a second base model onto the same GPU), the untrained model is
answered as checkpoint 0 by the same code, saves that do not fall on an epoch are named
``step_{N}``, and every file appears whole or not at all. A run that is cut off resumes from the
last of TRL's checkpoints that is marked as complete. The mark comes before the answers, which can
be made up for, and between the saves there can be further checkpoints that nobody answers with
(``checkpoint_steps``). A run can be asked to end after its current step.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from grpo_helpers.dev_answers import DevAnswers, can_answer_while_training
from grpo_helpers.device_memory import peak_memory
from grpo_helpers.files import show_path, write_json
from grpo_helpers.health import EXACT_MATCH, examine, panel_text
from grpo_helpers.inference import is_distributed
from grpo_helpers.model_checks import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from grpo_helpers.prompts import Message
from grpo_helpers.questions import Item
from grpo_helpers.run_folder import (
    BASE,
    COMPLETE,
    RunFolder,
    RunWriter,
    checkpoint_name,
    ends_epoch,
)
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
    in_between = CheckpointCallback(settings.checkpoint_steps)

    # The mark comes after the adapter, which a run that resumes does not write again, and before
    # the answers: they take long and need much memory, and can be made up for.
    saves: list[TrainerCallback] = [
        OpenCallback(writer or RunWriter(settings)),
        LoraSaveCallback(run_dir, in_between),
        CompleteCallback(run_dir, in_between),
    ]
    if can_answer_while_training():  # else the checkpoints answer after the run, by inference.py
        dev = DevAnswers(items, prompts, settings)
        saves.append(InferenceCallback(dev, in_between, stop))

    log = LogCallback(run_dir)
    watch = HealthCallback(run_dir, settings.stop_on_alarm)

    # Who asks for a checkpoint in between comes last: it has to know whether the run ends here.
    return [*saves, log, watch, LastSaveCallback(), stop, in_between]


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


class CheckpointCallback(TrainerCallback):
    """Asks for a checkpoint every few steps: to resume from, not to answer with."""

    def __init__(self, every: int = 0) -> None:
        """Take the steps from one checkpoint to the next; 0 asks for none."""
        self.every = every
        self.asked_at: int | None = None  # the step that would not be saved otherwise

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Ask for a checkpoint, unless this step is saved anyway, now or as the epoch ends."""
        if not self.every or state.global_step % self.every != 0 or control.should_save:
            return

        is_last_of_epoch = control.should_training_stop or ends_epoch(state)
        if not (args.save_strategy == "epoch" and is_last_of_epoch):
            control.should_save = True
            self.asked_at = state.global_step

    def is_only_to_resume(self, state: TrainerState, control: TrainerControl) -> bool:
        """Return whether a save gets neither an adapter's folder nor dev answers.

        The last save of a run gets both, however the run comes to its end.
        """
        return self.asked_at == state.global_step and not control.should_training_stop


class LoraSaveCallback(TrainerCallback):
    """Saves the LoRA adapter to ``epoch_{E}`` (or ``step_{N}``) at every save that answers."""

    def __init__(self, run_dir: Path, in_between: CheckpointCallback | None = None) -> None:
        """Take the run's folder, and who knows the saves that are only to resume from."""
        self.run = RunFolder(run_dir)
        self.in_between = in_between or CheckpointCallback()

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Copy the adapter out of TRL's checkpoint; it appears under its name once complete."""
        if not state.is_world_process_zero or self.in_between.is_only_to_resume(state, control):
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


class CompleteCallback(TrainerCallback):
    """Marks TRL's checkpoint as complete, so that a run can resume from it.

    It must come after the callback that writes the adapter.
    """

    def __init__(self, run_dir: Path, in_between: CheckpointCallback | None = None) -> None:
        """Take the run's folder, and who knows the saves that are only to resume from."""
        self.run = RunFolder(run_dir)
        self.in_between = in_between or CheckpointCallback()

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Take the mark back from a step that is saved once more: its files are written anew."""
        if control.should_save and state.is_world_process_zero:
            (self.run.trl_checkpoint(state.global_step) / COMPLETE).unlink(missing_ok=True)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Write the mark, once the files of every process are there."""
        if is_distributed():
            import torch.distributed as dist

            dist.barrier()
        if not state.is_world_process_zero:
            return

        only_to_resume = self.in_between.is_only_to_resume(state, control)
        checkpoint = None if only_to_resume else checkpoint_name(args, state)
        mark = {"step": state.global_step, "checkpoint": checkpoint}
        write_json(self.run.trl_checkpoint(state.global_step) / COMPLETE, mark)


class InferenceCallback(TrainerCallback):
    """Answers the dev set with the live model: before training (checkpoint 0) and at every save.

    Its checkpoint is complete by then: what goes wrong here costs no training.
    """

    def __init__(
        self,
        dev: DevAnswers,
        in_between: CheckpointCallback | None = None,
        stop: StopCallback | None = None,
    ) -> None:
        """Take what answers, who knows the saves that are only to resume from, and who stops."""
        self.dev = dev
        self.in_between = in_between or CheckpointCallback()
        self.stop = stop
        self.answered_at: int | None = None  # the step of the last answers

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        """Answer with the base model: a new adapter changes nothing, so this is checkpoint 0."""
        is_there = self.dev.run.answers(BASE).is_file()  # from a start that was cut off
        if state.global_step == 0 and not is_there:
            self.dev.answer(more["model"], more["processing_class"], BASE)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        """Answer with the model as it is now; a step that is saved twice is answered once."""
        is_answered = self.answered_at == state.global_step
        if is_answered or self.in_between.is_only_to_resume(state, control):
            return

        checkpoint = checkpoint_name(args, state)
        self.dev.answer(more["model"], more["processing_class"], checkpoint)
        self.answered_at = state.global_step

        # Answers take as long as many steps: who asked meanwhile need not wait for a further one.
        if self.stop is not None and self.stop.is_requested(args, state):
            control.should_training_stop = True


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
        row = {"step": state.global_step, "seconds": seconds}
        peak = peak_memory()
        memory = {
            "peak_memory_gib": round(peak.allocated, 3),
            "peak_reserved_gib": round(peak.reserved, 3),
        }
        self.log.append(row | logs | memory)

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
    """Ends the run with a save after the current step, once that is asked for.

    :meth:`request` asks for it, and so does a file named STOP in the run folder, which is removed
    when it is seen. Several processes end at the same step, whichever of them was asked.
    """

    def __init__(self, run_dir: Path) -> None:
        """Take the run's folder; start without a request."""
        self.run = RunFolder(run_dir)
        self.requested = False

    def request(self) -> None:
        """Ask the run to end after its current step."""
        self.requested = True

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Save and stop if that was requested."""
        if self.is_requested(args, state):
            end_with_save(args, control)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Say where the run was stopped, and how it goes on."""
        if self.requested and state.is_world_process_zero and state.global_step < state.max_steps:
            print(
                f"stopped after step {state.global_step} of {state.max_steps}, "
                f"checkpoint-{state.global_step} is complete: resume=auto goes on from it",
                flush=True,
            )

    def is_requested(self, args: TrainingArguments, state: TrainerState) -> bool:
        """Return whether any process was asked to stop; each has to ask, the first sees the file.

        A file that is seen is removed.
        """
        if state.is_world_process_zero and self.run.stop_file.is_file():
            self.run.stop_file.unlink(missing_ok=True)
            self.requested = True
            file = show_path(self.run.stop_file)
            print(f"stopping after step {state.global_step}, as {file} asks", flush=True)

        if is_distributed():
            self.requested = _is_true_anywhere(self.requested, args)
        return self.requested


def _is_true_anywhere(value: bool, args: TrainingArguments) -> bool:
    """Return whether ``value`` is true in any process; each of them has to ask."""
    import torch
    import torch.distributed as dist

    number = torch.tensor(int(value), device=args.device)
    dist.all_reduce(number, op=dist.ReduceOp.MAX)
    return bool(number.item())
