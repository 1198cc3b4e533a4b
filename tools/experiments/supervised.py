"""Supervised training with the same LoRA and for the same minutes as a GRPO run: its control.

It learns from the gold answers of the train prompts. It uses TRL's ``SFTTrainer``, with the loss on
the answers only, and the course's own callbacks, so that its run folder looks like that of notebook
04.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from grpo_helpers.answers import format_answer, parse_gold
from grpo_helpers.callbacks import (
    InferenceCallback,
    LogCallback,
    LoraSaveCallback,
    OpenCallback,
)
from grpo_helpers.chat_template import freeze_clock
from grpo_helpers.dev_answers import DevAnswers
from grpo_helpers.files import write_json
from grpo_helpers.library_fixes import keep_adapter_in_float32, use_one_gpu
from grpo_helpers.models import load_model, load_tokenizer, lora_config
from grpo_helpers.run_folder import RunWriter
from grpo_helpers.settings import TrainSettings
from grpo_helpers.training import Prepared, prepare
from tools.experiments.recorded_runs import CLOCK_FILE

if TYPE_CHECKING:
    from trl import SFTTrainer

BATCH_SIZE = 16  # answers a step: as many prompts as a step of the default run has
SAVES = 5  # evenly over the minutes
ENDLESS = 1_000_000  # steps; the clock ends the training

Row = dict[str, list[dict[str, str]]]


class ClockCallback(TrainerCallback):
    """Ends training after a given time, and saves at every fifth of it.

    Only steps count, not what is done between them (saving, answering the dev set).

    Args:
        seconds: How long to train.
        first_save: A step after which there is one more save.
        clock_file: Gets the seconds that had been spent at every save.
    """

    def __init__(self, seconds: float, first_save: int, clock_file: Path):
        self.seconds = seconds
        self.first_save = first_save
        self.clock_file = clock_file
        self.spent = 0.0
        self.step_began = 0.0
        self.fifths = 0
        self.seconds_at_save: dict[str, float] = {}

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Start the clock."""
        self.step_began = time.perf_counter()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Stop the clock; ask for a save or the end of the training if it is time."""
        self.spent += time.perf_counter() - self.step_began
        fifths_before = self.fifths
        self.fifths = int(SAVES * self.spent / self.seconds)

        is_first_save = state.global_step == self.first_save
        control.should_training_stop = self.fifths >= SAVES
        control.should_save = self.fifths > fifths_before or is_first_save
        if control.should_save:
            self.seconds_at_save[f"step_{state.global_step}"] = round(self.spent, 2)
            write_json(self.clock_file, self.seconds_at_save)


def training_row(prompt: list[dict[str, str]], answer: str) -> Row:
    """Return a row as ``SFTTrainer`` takes it: prompt and completion as messages."""
    return {"prompt": prompt, "completion": [{"role": "assistant", "content": answer}]}


def gold_rows(prepared: Prepared) -> list[Row]:
    """Return the train prompts, each with its gold answer."""
    rows = []
    for prompt, item in zip(prepared.train_prompts, prepared.train_items, strict=True):
        gold = parse_gold(item.answer or "")
        rows.append(training_row(prompt, format_answer(gold.sentences[0], gold.reason)))
    return rows


def train_supervised(settings: TrainSettings, seconds: float) -> None:
    """Train on the gold answers into the run folder of ``settings``.

    Args:
        settings: Model, LoRA, data and seed.
        seconds: How long to train, in seconds of training steps.
    """
    prepared = prepare(settings)
    rows = gold_rows(prepared)

    run_dir = settings.run_dir
    # One more save where it has seen as many prompts as the whole GRPO run.
    prompts_of_grpo = len(prepared.train_items) * round(settings.num_train_epochs)
    clock = ClockCallback(seconds, prompts_of_grpo // BATCH_SIZE, run_dir / CLOCK_FILE)
    with RunWriter(settings) as writer:
        callbacks = [
            OpenCallback(writer),
            clock,
            LoraSaveCallback(run_dir),
            InferenceCallback(DevAnswers(prepared.eval_items, prepared.eval_prompts, settings)),
            LogCallback(run_dir),
        ]
        sft_trainer(settings, rows, callbacks, max_steps=ENDLESS).train()


def sft_arguments(settings: TrainSettings) -> dict[str, Any]:
    """Return the arguments of ``SFTConfig``, most of them from ``settings``."""
    import torch

    has_gpu = torch.cuda.is_available()
    return {
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": settings.lr_scheduler_type,
        "warmup_steps": settings.warmup_steps,
        "adam_epsilon": settings.adam_epsilon,
        "max_grad_norm": settings.max_grad_norm,
        "bf16": settings.dtype == "bfloat16",
        "fp16": settings.dtype == "float16",
        "seed": settings.seed,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "output_dir": str(settings.run_dir),
        "per_device_train_batch_size": BATCH_SIZE,
        "max_length": None,
        "use_cpu": not has_gpu,
        "dataloader_pin_memory": has_gpu,
        "save_strategy": "no",
        "save_total_limit": 2,
        "logging_steps": 10,
        "report_to": "none",
        "disable_tqdm": True,
    }


def sft_trainer(
    settings: TrainSettings,
    rows: list[Row],
    callbacks: Sequence[TrainerCallback],
    **changes: Any,
) -> SFTTrainer:
    """Return TRL's trainer for ``rows``.

    Args:
        settings: Model, LoRA, optimizer and seed.
        rows: Prompts with their answers.
        callbacks: What happens while it trains.
        **changes: Arguments of ``SFTConfig`` that differ from :func:`sft_arguments`.
    """
    import torch
    from datasets import Dataset
    from transformers import PrinterCallback, set_seed
    from trl import SFTConfig, SFTTrainer

    torch.set_num_threads(settings.num_threads or torch.get_num_threads())
    set_seed(settings.seed)

    tokenizer = load_tokenizer(settings.model_name, settings.chat_template_path)
    freeze_clock(tokenizer, settings.chat_template_kwargs)
    quant_type = settings.quant_type if settings.use_quant else None
    config = SFTConfig(**(sft_arguments(settings) | changes))
    use_one_gpu(config)
    trainer = SFTTrainer(
        model=load_model(
            settings.model_name,
            quant_type=quant_type,
            dtype=settings.dtype,
            model_kwargs=settings.model_kwargs,
        ),
        args=config,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(rows),
        peft_config=lora_config(settings),
        callbacks=list(callbacks),
    )
    trainer.remove_callback(PrinterCallback)
    keep_adapter_in_float32(trainer)
    return trainer
