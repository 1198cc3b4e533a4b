"""⑤ The answers of a run to its dev set: at its saves, and made up for when it resumes.

In: the dev items, a run's settings, and the model in training or an adapter on disk. Out:
``infer_results/inference_epoch{E}.json``; until all of it is there, the answers so far are in
``inference_epoch{E}.json.partial``. The article answers with a second model at every save, and what
fails there costs the epoch. Here a checkpoint is complete before its answers begin: whatever
happens to them costs one batch of answers, and a run that resumes makes up for those that it lacks.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from grpo_helpers.files import sha256
from grpo_helpers.inference import (
    Answers,
    PartialAnswers,
    generate_answers,
    process_place,
    write_answers,
)
from grpo_helpers.kept_model import BaseModel, KeptModel
from grpo_helpers.models import load_tokenizer
from grpo_helpers.prompts import Message, prompt_texts
from grpo_helpers.questions import Item
from grpo_helpers.run_folder import RunFolder
from grpo_helpers.settings import TrainSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from grpo_helpers.inference import AnsweringModel

SECONDS_BETWEEN_LINES = 30


def can_answer_while_training() -> bool:
    """Return whether the model in training can answer; sharded weights (FSDP) cannot generate."""
    return os.environ.get("ACCELERATE_USE_FSDP") != "true"


class DevAnswers:
    """Answers the dev set with one checkpoint after another; the prompts are always the same.

    Attributes:
        run: The run whose answers these are.
    """

    def __init__(
        self, items: Sequence[Item], prompts: Sequence[list[Message]], settings: TrainSettings
    ) -> None:
        """Take the dev items, their prompts, and the run's parameters."""
        self.items = items
        self.prompts = prompts
        self.settings = settings
        self.run = RunFolder(settings.run_dir)

    def answer(
        self, model: AnsweringModel, tokenizer: PreTrainedTokenizerBase, checkpoint: str
    ) -> None:
        """Answer with a model in memory, every process its share; the first writes the file.

        Each batch is on disk as soon as it is answered, and is not answered again.
        """
        texts = prompt_texts(self.prompts, tokenizer, self.settings.chat_template_kwargs)
        rank, processes = process_place()
        output = self.run.answers(checkpoint)
        partial = PartialAnswers(output, self._fingerprint(texts, checkpoint), rank)
        known = partial.read()
        progress = Progress(checkpoint, len(texts), len(known), processes)

        def after_batch(answers: Answers) -> None:
            partial.write(answers)
            if rank == 0:
                progress.report(len(answers))

        if rank == 0:
            progress.begin()
        answers = generate_answers(
            model,
            tokenizer,
            texts,
            batch_size=self.settings.inference_batch_size,
            max_new_tokens=self.settings.max_completion_length,
            known=known,
            after_batch=after_batch,
        )

        if rank == 0:
            write_answers(output, self.items, answers)
            partial.remove()
            progress.end()

    def answer_from_disk(self, checkpoint: str, kept: KeptModel) -> None:
        """Answer with a checkpoint's adapter, loaded as it was trained, or with the base.

        Args:
            checkpoint: ``epoch_3`` for one.
            kept: What keeps the model for the next checkpoint.
        """
        settings = self.settings
        adapter = self.run.adapter(checkpoint)
        base = BaseModel(
            name=settings.model_name,
            quant_type=settings.quant_type if settings.use_quant else None,
            dtype=settings.dtype,
            model_kwargs=settings.model_kwargs,
        )

        tokenizer = load_tokenizer(settings.model_name, settings.chat_template_path)
        with kept.ready(base, str(adapter) if adapter else None) as model:
            self.answer(model, tokenizer, checkpoint)

    def make_up(self, trl_checkpoint: Path) -> None:
        """Answer for each save up to one of TRL's checkpoints that has no answers yet.

        A run lacks answers where it was killed, or ran out of memory, while it gave them.
        """
        if not can_answer_while_training():
            return

        rank, _ = process_place()
        with KeptModel() as kept:
            for checkpoint in self.run.unanswered(trl_checkpoint):
                if rank == 0:
                    print(f"answering dev, {checkpoint}: the answers are missing", flush=True)
                self.answer_from_disk(checkpoint, kept)

    def _fingerprint(self, texts: Sequence[str], checkpoint: str) -> str:
        """Return a hash of what decides the answers: the questions, the adapter, their length."""
        adapter = self.run.adapter_folder(checkpoint)
        weights = sha256([adapter]) if adapter.is_dir() else None  # the base has none

        decisive = json.dumps([texts, self.settings.max_completion_length, weights])
        return hashlib.sha256(decisive.encode()).hexdigest()


class Progress:
    """Says in lines, which a log keeps, how far the answers are."""

    def __init__(self, checkpoint: str, questions: int, known: int, processes: int) -> None:
        """Take what is answered, how many questions, how many answers are there, and who helps."""
        self.checkpoint = checkpoint
        self.questions = questions
        self.known = known
        self.processes = processes
        self.began = self.last_line = time.monotonic()

    def begin(self) -> None:
        """Say that it begins."""
        already = f", {self.known} of them are there" if self.known else ""
        print(f"answering dev, {self.checkpoint}: {self.questions} questions{already}", flush=True)

    def report(self, answers: int) -> None:
        """Say how far it is, unless that was said a moment ago.

        Args:
            answers: The answers of this process, known ones included.
        """
        now = time.monotonic()
        new = (answers - self.known) * self.processes  # the others are about as far
        if now - self.last_line < SECONDS_BETWEEN_LINES or new <= 0:
            return

        self.last_line = now
        done = min(self.known + new, self.questions)
        minutes_left = (now - self.began) / new * (self.questions - done) / 60
        print(
            f"answering dev, {self.checkpoint}: {done}/{self.questions}, "
            f"about {minutes_left:.1f} min left",
            flush=True,
        )

    def end(self) -> None:
        """Say how long it took."""
        seconds = time.monotonic() - self.began
        print(f"answering dev, {self.checkpoint}: done in {seconds:.1f} s", flush=True)
