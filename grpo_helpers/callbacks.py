"""What happens while TRL trains: adapters saved, the dev set answered, metrics and progress written.

At every save the LoRA adapter goes to ``epoch_{E}/`` and the dev set is answered to
``infer_results/inference_epoch{E}.json``, as in the article. Differences: the live model answers (the article loads
a second base model onto the same GPU), the untrained model is answered as checkpoint 0 by the same code, saves that
do not fall on an epoch are named ``step_{N}``, and every file appears whole or not at all.
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

from grpo_helpers.data import Item
from grpo_helpers.inference import generate_answers, write_answers
from grpo_helpers.prompts import Message


def checkpoint_name(args: TrainingArguments, state: TrainerState) -> str:
    """Return ``epoch_{E}`` for a save at the end of epoch E, else ``step_{N}``; no two saves share a name.

    ``int(state.epoch)``, the article's way, gives several saves of one epoch the same name.
    """
    epoch = state.epoch or 0.0
    by_epoch = str(getattr(args.save_strategy, "value", args.save_strategy)) == "epoch"
    if state.global_step == 0 or (by_epoch and abs(epoch - round(epoch)) < 1e-6):
        return f"{'epoch' if by_epoch or state.global_step == 0 else 'step'}_{round(epoch)}"
    return f"step_{state.global_step}"


def inference_file(run_dir: Path, checkpoint: str) -> Path:
    """Return the answer file of a checkpoint: ``infer_results/inference_epoch3.json`` for ``epoch_3``."""
    return run_dir / "infer_results" / f"inference_{checkpoint.replace('_', '')}.json"


class LoraSaveCallback(TrainerCallback):
    """Saves the LoRA adapter to ``run_dir/epoch_{E}`` (or ``step_{N}``) at every save."""

    def __init__(self, run_dir: Path):
        self.run_dir = run_dir

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        """Write the adapter to a hidden folder first and rename it when it is complete."""
        if not state.is_world_process_zero:
            return
        target = self.run_dir / checkpoint_name(args, state)
        partial = target.with_name(f".{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        model.save_pretrained(partial, safe_serialization=True)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(partial, target)


class InferenceCallback(TrainerCallback):
    """Answers the dev set with the live model: once before training (checkpoint 0) and at every save.

    Args:
        items: The dev items.
        prompts: Their prompts, few-shot examples frozen; the same at every checkpoint.
        run_dir: Answers go to ``run_dir/infer_results``.
        batch_size: Prompts answered at once.
        max_new_tokens: Longest answer, in tokens.
    """

    def __init__(
        self,
        items: Sequence[Item],
        prompts: Sequence[list[Message]],
        run_dir: Path,
        batch_size: int,
        max_new_tokens: int,
    ):
        self.items, self.prompts, self.run_dir = items, prompts, run_dir
        self.batch_size, self.max_new_tokens = batch_size, max_new_tokens

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Answer with the base model: a fresh adapter changes nothing, so this is checkpoint 0."""
        if state.global_step == 0:
            self.on_save(args, state, control, **kwargs)

    def on_save(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        processing_class: Any = None,
        **_: Any,
    ) -> None:
        """Answer the dev set and write ``inference_epoch{E}.json``."""
        if not state.is_world_process_zero:
            return
        answers = generate_answers(model, processing_class, self.prompts, self.batch_size, self.max_new_tokens)
        write_answers(inference_file(self.run_dir, checkpoint_name(args, state)), self.items, answers)


class LogCallback(TrainerCallback):
    """Appends every logged metric to ``run_dir/log.jsonl`` and prints one progress line a logging step."""

    def __init__(self, run_dir: Path):
        self.path = run_dir / "log.jsonl"
        self.started = time.time()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Write one JSON line; a line is written at once, so a killed run loses at most the last one."""
        if not state.is_world_process_zero or not logs:
            return
        row = {"step": state.global_step, "seconds": round(time.time() - self.started, 3), **logs}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        if "reward" in logs:
            left = (time.time() - self.started) / max(1, state.global_step) * (state.max_steps - state.global_step)
            print(
                f"step {state.global_step:3d}/{state.max_steps}  reward {logs['reward']:.3f}  "
                f"EM {logs.get('rewards/em_reward/mean', float('nan')):.3f}  "
                f"{logs.get('step_time', 0):.1f} s/step  about {left / 60:.1f} min left",
                flush=True,
            )
