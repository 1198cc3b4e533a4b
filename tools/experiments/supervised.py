"""Supervised training with the same LoRA and for the same minutes as a GRPO run: the controls of the default run.

``gold``: on the gold answers of the train prompts. ``noisy``: on further lessons of the careless teacher
(``tools/tiny_model/teacher.py``), on which the embedded model was warm-started. Both go through TRL's ``SFTTrainer``, with the
loss on the answers only, and through the course's own callbacks: their run folders look like those of notebook 04.
"""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from grpo_helpers import callbacks
from grpo_helpers.answers import format_answer, parse_gold
from grpo_helpers.data import load_items
from grpo_helpers.files import project_root, write_json
from grpo_helpers.models import load_model, load_tokenizer, lora_config
from grpo_helpers.prompts import load_instruct
from grpo_helpers.settings import TrainSettings
from grpo_helpers.training import Prepared, prepare

if TYPE_CHECKING:
    from trl import SFTTrainer

BATCH = 16  # answers a step: as many prompts as a step of the default run has
SAVES = 5  # as many as the default run's epochs, evenly over the minutes
LESSONS = 500 * BATCH  # of the careless teacher, drawn once

Row = dict[str, list[dict[str, str]]]


class ClockCallback(TrainerCallback):
    """Ends training when ``seconds`` of it are over, with a save at every fifth of them and one after ``first`` steps.

    Only steps count, not what is done between them (answering the dev set). ``told`` is a file for the seconds that
    had been spent at every save.
    """

    def __init__(self, seconds: float, first: int, told: Path):
        self.seconds, self.first, self.told = seconds, first, told
        self.spent, self.began, self.fifths, self.saved = 0.0, 0.0, 0, {}

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Start the clock."""
        self.began = time.perf_counter()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Stop the clock; save or end the training where it is time."""
        self.spent += time.perf_counter() - self.began
        before, self.fifths = self.fifths, int(SAVES * self.spent / self.seconds)
        control.should_training_stop = self.fifths >= SAVES
        control.should_save = self.fifths > before or state.global_step == self.first
        if control.should_save:
            self.saved[state.global_step] = round(self.spent, 2)
            write_json(self.told, {f"step_{step}": seconds for step, seconds in self.saved.items()})


def gold_rows(prepared: Prepared) -> list[Row]:
    """Return the train prompts, each with its gold answer."""
    golds = [parse_gold(item.answer or "") for item in prepared.train_items]
    return [
        row(prompt, format_answer(gold.sentences[0], gold.reason))
        for prompt, gold in zip(prepared.train_prompts, golds, strict=True)
    ]


def noisy_rows(settings: TrainSettings, count: int = LESSONS) -> list[Row]:
    """Return further lessons of the careless teacher, other ones for every seed and none of the warm start's."""
    from tools.corpus.cards import load_cards
    from tools.tiny_model.teacher import Teacher
    from tools.tiny_model.train import syllables

    teacher = Teacher(
        load_cards(),
        load_items(settings.train_data_path),
        load_items(settings.few_shot_data_path),
        load_instruct(project_root() / settings.instruct_path),
        syllables(),
        random.Random(1000 + settings.seed),
    )
    calls = [teacher.lessons(BATCH, "full") for _ in range(count // BATCH)]
    return [row(lesson.messages, lesson.answer) for lessons in calls for lesson in lessons]


def row(prompt: list[dict[str, str]], answer: str) -> Row:
    """Return a row as ``SFTTrainer`` takes it: prompt and completion as messages."""
    return {"prompt": prompt, "completion": [{"role": "assistant", "content": answer}]}


def train_supervised(settings: TrainSettings, labels: str, seconds: float) -> None:
    """Train on ``labels`` (``gold`` or ``noisy``) for ``seconds`` of steps into the run folder of ``settings``."""
    prepared, run_dir = prepare(settings), settings.run_dir
    rows = gold_rows(prepared) if labels == "gold" else noisy_rows(settings)
    callbacks.start_run_folder(settings)
    as_many_prompts = len(prepared.train_items) * round(settings.num_train_epochs) // BATCH
    hooks = [
        ClockCallback(seconds, as_many_prompts, run_dir / "clock.json"),
        callbacks.LoraSaveCallback(run_dir),
        callbacks.InferenceCallback(prepared.eval_items, prepared.eval_prompts, settings),
        callbacks.LogCallback(run_dir),
    ]
    sft_trainer(settings, rows, hooks, max_steps=1_000_000).train()  # the clock ends it


def sft_trainer(
    settings: TrainSettings, rows: list[Row], hooks: list[TrainerCallback], **changes: Any
) -> SFTTrainer:
    """Return TRL's trainer for ``rows`` with the model, LoRA, optimizer and seed of ``settings``."""
    import torch
    from datasets import Dataset
    from transformers import PrinterCallback, set_seed
    from trl import SFTConfig, SFTTrainer

    torch.set_num_threads(settings.num_threads or torch.get_num_threads())
    set_seed(settings.seed)
    names = (
        "learning_rate", "lr_scheduler_type", "warmup_steps", "adam_epsilon", "max_grad_norm", "bf16", "seed",
        "gradient_checkpointing",
    )  # fmt: skip
    fields = {name: getattr(settings, name) for name in names} | {
        "output_dir": str(settings.run_dir),
        "per_device_train_batch_size": BATCH,
        "max_length": None,
        "use_cpu": not torch.cuda.is_available(),
        "dataloader_pin_memory": torch.cuda.is_available(),
        "save_strategy": "no",
        "save_total_limit": 2,
        "logging_steps": 10,
        "report_to": "none",
        "disable_tqdm": True,
    }
    trainer = SFTTrainer(
        model=load_model(
            settings.model_name, settings.quant_type if settings.use_quant else None, settings.bf16
        ),
        args=SFTConfig(**(fields | changes)),
        processing_class=load_tokenizer(settings.model_name),
        train_dataset=Dataset.from_list(rows),
        peft_config=lora_config(settings),
        callbacks=hooks,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer
