"""⑤ The run folder, and what happens while TRL trains: adapters saved, the dev set answered, metrics written.

At every save the LoRA adapter goes to ``epoch_{E}/`` and the dev set is answered to
``infer_results/inference_epoch{E}.json``, as in the article. Differences: the live model answers (the article loads
a second base model onto the same GPU), the untrained model is answered as checkpoint 0 by the same code, saves that
do not fall on an epoch are named ``step_{N}``, every file appears whole or not at all, and a TRL checkpoint is
marked when all that belongs to its save is on disk: a killed run goes on from the last one that is.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from grpo_helpers.files import write_json
from grpo_helpers.health import examine, panel_text
from grpo_helpers.inference import generate_answers, write_answers
from grpo_helpers.prompts import Message
from grpo_helpers.questions import Item
from grpo_helpers.run_folder import COMPLETE, checkpoint_name, inference_file, read_log
from grpo_helpers.settings import TrainSettings


class LoraSaveCallback(TrainerCallback):
    """Saves the LoRA adapter to ``run_dir/epoch_{E}`` (or ``step_{N}``) at every save."""

    def __init__(self, run_dir: Path):
        self.run_dir = run_dir

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Copy the adapter out of TRL's checkpoint to a hidden folder, and rename that when it is complete."""
        if not state.is_world_process_zero:
            return
        target = self.run_dir / checkpoint_name(args, state)
        partial = target.with_name(f".{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            shutil.copyfile(self.run_dir / f"checkpoint-{state.global_step}" / name, partial / name)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(partial, target)


class InferenceCallback(TrainerCallback):
    """Answers the dev set with the live model: once before training (checkpoint 0) and at every save.

    The prompts of the dev items are the same at every checkpoint, few-shot examples frozen. Answers go to
    ``run_dir/infer_results``, in batches of ``inference_batch_size``.
    """

    def __init__(
        self, items: Sequence[Item], prompts: Sequence[list[Message]], settings: TrainSettings
    ):
        self.items, self.prompts, self.run_dir = items, prompts, settings.run_dir
        self.how = (settings.inference_batch_size, settings.max_completion_length)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kw: Any
    ) -> None:
        """Answer with the base model: a fresh adapter changes nothing, so this is checkpoint 0."""
        if state.global_step == 0:
            self.on_save(args, state, control, **kw)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        """Answer the dev set, every process its share, and write ``inference_epoch{E}.json`` once."""
        answers = generate_answers(more["model"], more["processing_class"], self.prompts, *self.how)
        if state.is_world_process_zero:
            write_answers(
                inference_file(self.run_dir, checkpoint_name(args, state)), self.items, answers
            )


class LogCallback(TrainerCallback):
    """Appends every logged metric to ``run_dir/log.jsonl`` and prints one progress line a logging step."""

    def __init__(self, run_dir: Path):
        self.path = run_dir / "log.jsonl"
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []
        # Seconds count on where an earlier part of this run stopped.
        self.started = time.time() - max(
            (json.loads(line)["seconds"] for line in lines), default=0.0
        )
        self.first: tuple[float, int] | None = (
            None  # when the first logged step began, and the steps before it
        )

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        """Write one JSON line; a line is written at once, so a killed run loses at most the last one."""
        logs = more.get("logs")
        if not state.is_world_process_zero or not logs:
            return
        row = {"step": state.global_step, "seconds": round(time.time() - self.started, 3)}
        row |= logs | {"peak_memory_gib": round(peak_memory() / 2**30, 3)}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        if "reward" in logs:
            em, pace = logs.get("rewards/em_reward/mean", float("nan")), logs.get("step_time", 0)
            self.first = self.first or (time.time() - pace, state.global_step - 1)
            began, before = self.first
            left = (
                (time.time() - began)
                / (state.global_step - before)
                * (state.max_steps - state.global_step)
            )
            scores = f"step {state.global_step:3d}/{state.max_steps}  reward {logs['reward']:.3f}  EM {em:.3f}"
            print(f"{scores}  {pace:.1f} s/step  about {left / 60:.1f} min left", flush=True)


def peak_memory() -> int:
    """Return the most bytes that this process has held so far: of GPU memory, or of main memory without a GPU."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB


class CompleteCallback(TrainerCallback):
    """The last callback of a save: marks TRL's checkpoint as complete, so that a run can go on from it."""

    def __init__(self, run_dir: Path):
        self.run_dir = run_dir

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Write the marker; the adapter and the answers of this save are there by now, from every process."""
        folder = self.run_dir / f"checkpoint-{state.global_step}"
        if state.is_world_process_zero and folder.is_dir():  # checkpoint 0 has no folder
            write_json(
                folder / COMPLETE,
                {"step": state.global_step, "checkpoint": checkpoint_name(args, state)},
            )


def end_with_save(args: TrainingArguments, control: TrainerControl) -> None:
    """Let the run end after this step, with a save."""
    # Where epochs are saved, the end of the run ends one, which saves by itself.
    control.should_save |= args.save_strategy != "epoch"
    control.should_training_stop = True


class StopCallback(TrainerCallback):
    """Ends the run with a save after the current step, once ``asked`` is set."""

    asked = False

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Save and stop, if that was asked for."""
        if self.asked:
            end_with_save(args, control)


class HealthCallback(TrainerCallback):
    """Tells alarms of :mod:`grpo_helpers.health` as they come up, each once; ends the run on one if ``stop`` is set."""

    def __init__(self, run_dir: Path, stop: bool):
        log = run_dir / "log.jsonl"
        self.rows, self.stop, self.told = read_log(log) if log.is_file() else [], stop, set()

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        """Examine the log so far; every process has the same, the first one prints."""
        if "reward" not in (more.get("logs") or {}):
            return
        self.rows.append({"step": state.global_step, **more["logs"]})
        alarms = [finding for finding in examine(self.rows) if finding.alarm]
        new = [finding for finding in alarms if finding.rule not in self.told]
        if new and state.is_world_process_zero:
            print(panel_text(new), flush=True)
        self.told |= {finding.rule for finding in alarms}
        if self.stop and any(
            finding.rule != "seconds per step" for finding in alarms
        ):  # each process has its own
            end_with_save(args, control)
