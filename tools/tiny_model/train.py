"""Make the embedded model: ``python -m tools.tiny_model.train`` (``make tiny-model``).

In: the norm cards, the families, ``data/embedded/``. Out: ``data/tiny_model/``, a character-level
Llama of about 2.3 million parameters with its tokenizer and chat template, warm-started on the
lessons of the careless teacher (``tools/tiny_model/teacher.py``), and a model card that states
what was measured: how well it copies unseen sentences, how often it answers in the required format,
how often it is right. It takes an hour and a half on two cores, and the same seed gives the same
model.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grpo_helpers.command_line import run_command
from grpo_helpers.data import load_items
from grpo_helpers.files import project_root
from grpo_helpers.prompts import load_instruct
from grpo_helpers.splits import UNSEEN_SPLITS
from tools.corpus.cards import load_cards
from tools.corpus.families import load_families
from tools.corpus.family_splits import held_out_forms
from tools.tiny_model.card import Making, measure, write_card
from tools.tiny_model.copying import EMBEDDED
from tools.tiny_model.model import (
    END,
    alphabet,
    build_model,
    build_tokenizer,
    kept_characters,
    syllables,
    with_characters,
)
from tools.tiny_model.teacher import Frame, Lesson, Material, Teacher

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

    from grpo_helpers.prompts import Message
    from tools.tiny_model.letter_table import Head

FOLDER = "data/tiny_model"
IGNORED = -100  # the label of a token that does not count in the loss
WARM_UP = 50  # steps in which the learning rate rises to its first value
MATRIX_RATE = 2.5  # the learning rate of the matrices, relative to that of all other weights


@dataclass(frozen=True)
class Phase:
    """One stretch of training.

    Attributes:
        steps: The number of batches.
        batch: Lessons in a batch.
        frame: The frame of the lessons; see :meth:`Teacher.lessons`.
        lr: The first and the last learning rate; between them it follows a cosine.
        is_hard: Whether made-up text has what is hard to copy; see :class:`Teacher`.
    """

    steps: int
    batch: int
    frame: Frame
    lr: tuple[float, float]
    is_hard: bool = False

    def learning_rate(self, step: int) -> float:
        """Return the learning rate at a step of this phase, counted from 0."""
        first, last = self.lr
        progress = step / max(1, self.steps - 1)
        return last + (first - last) * (1 + math.cos(math.pi * progress)) / 2


PHASES = (
    Phase(steps=100, batch=64, frame="bare", lr=(3e-3, 3e-3)),
    Phase(steps=300, batch=64, frame="question", lr=(3e-3, 3e-3)),
    # Copying becomes exact only while the learning rate falls, so it falls slowly.
    Phase(steps=3000, batch=64, frame="full", lr=(3e-3, 1e-5)),
    # What was still copied wrongly after that: look-alike syllables close to each other, and marks.
    Phase(steps=600, batch=64, frame="full", lr=(1e-3, 1e-5), is_hard=True),
)


Draw = Callable[[Phase], list[Lesson]]


@dataclass(frozen=True)
class Batch:
    """The tokens of a batch of lessons.

    Attributes:
        prefix: The messages that all lessons share, shape (1, prefix tokens), or None.
        input_ids: Each lesson's own part, shape (lessons, tokens), right-padded.
        labels: The same shape; only the answer and its end token have labels, all other places
            are :data:`IGNORED`.
    """

    prefix: Tensor | None
    input_ids: Tensor
    labels: Tensor


def encode(tokenizer: PreTrainedTokenizerFast, lessons: Sequence[Lesson]) -> Batch:
    """Return the tokens of lessons that share all messages but the last.

    What the last messages have in common at their beginning is shared, too: the fixed wording that
    opens a 교정형 question.
    """
    import torch

    shared = lessons[0].messages[:-1]
    assert all(lesson.messages[:-1] == shared for lesson in lessons)

    questions = []
    answers = []
    for lesson in lessons:
        last = lesson.messages[-1:]
        questions.append(_chat_tokens(tokenizer, last, add_generation_prompt=True))
        answers.append(tokenizer(lesson.answer + END, add_special_tokens=False)["input_ids"])

    common = _common_beginning(questions)
    prefix = _chat_tokens(tokenizer, shared) if shared else []
    prefix += questions[0][:common]

    rows = []
    for question, answer in zip(questions, answers, strict=True):
        rows.append((question[common:], answer))
    width = max(len(question) + len(answer) for question, answer in rows)
    input_ids = torch.full((len(rows), width), tokenizer.pad_token_id)
    labels = torch.full((len(rows), width), IGNORED)
    for number, (question, answer) in enumerate(rows):
        start = len(question)
        end = start + len(answer)
        input_ids[number, :end] = torch.tensor(question + answer)
        labels[number, start:end] = torch.tensor(answer)

    return Batch(torch.tensor([prefix]) if prefix else None, input_ids, labels)


def _common_beginning(rows: Sequence[Sequence[int]]) -> int:
    """Return how many tokens all rows have in common at their beginning.

    Example:
        >>> _common_beginning([[1, 2, 3], [1, 2, 4, 5]])
        2
    """
    length = 0
    for tokens in zip(*rows, strict=False):
        if len(set(tokens)) > 1:
            break
        length += 1
    return length


def _chat_tokens(
    tokenizer: PreTrainedTokenizerFast, messages: list[Message], **options: Any
) -> list[int]:
    """Return the tokens of messages in the chat template."""
    text = tokenizer.apply_chat_template(messages, tokenize=False, **options)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def answer_loss(model: LlamaForCausalLM, head: Head, batch: Batch) -> Tensor:
    """Return the mean cross-entropy of the answers' tokens.

    The shared prefix is run once and its cache given to every lesson.
    """
    cache = None
    if batch.prefix is not None:
        cache = model.model(input_ids=batch.prefix, use_cache=True).past_key_values
        cache.batch_repeat_interleave(len(batch.input_ids))

    # No attention mask: the model is causal, so padding on the right is never looked at.
    output = model.model(
        input_ids=batch.input_ids, past_key_values=cache, use_cache=cache is not None
    )

    targets = batch.labels[:, 1:]
    counts = targets != IGNORED
    return head.cross_entropy(output.last_hidden_state[:, :-1][counts], targets[counts])


def build_optimizers(model: LlamaForCausalLM) -> list[tuple[Optimizer, float]]:
    """Return the optimizers, each with its learning rate relative to that of the phase.

    Muon takes the matrices of the layers, AdamW the vectors of the letters and the norms. With Muon
    the model copied after 200 steps as it did with AdamW after 400.

    Args:
        model: The model, with its letters seen.
    """
    import torch

    matrices: list[Tensor] = []
    others: list[Tensor] = []
    for name, weight in model.named_parameters():
        is_matrix = weight.ndim == 2 and name.startswith("model.layers.")
        (matrices if is_matrix else others).append(weight)

    muon = torch.optim.Muon(
        matrices, momentum=0.95, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"
    )
    adamw = torch.optim.AdamW(others, betas=(0.9, 0.98), weight_decay=0.0)
    return [(muon, MATRIX_RATE), (adamw, 1.0)]


def train(
    model: LlamaForCausalLM,
    head: Head,
    tokenizer: PreTrainedTokenizerFast,
    draw: Draw,
    phases: Sequence[Phase],
    log_every: int = 50,
) -> None:
    """Train a model through several phases, with the loss on the answers only.

    Args:
        model: The model; its weights are changed.
        head: Its head; see :func:`tools.tiny_model.letter_table.letters_seen`.
        tokenizer: Its tokenizer.
        draw: Returns new lessons for a batch of a phase.
        phases: The phases, in their order.
        log_every: Steps between two printed lines.
    """
    import torch
    from torch.nn.utils import parametrize

    optimizers = build_optimizers(model)
    started = time.time()
    done = 0
    for phase in phases:
        for step in range(phase.steps):
            warm_up = min(1.0, (done + 1) / WARM_UP)
            for optimizer, relative_rate in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = phase.learning_rate(step) * relative_rate * warm_up

            batch = encode(tokenizer, draw(phase))
            with parametrize.cached():
                loss = answer_loss(model, head, batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer, _ in optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)

            done += 1
            if done % log_every == 0:
                seconds = time.time() - started
                print(f"step {done:5d}  loss {loss.item():.4f}  {seconds:6.0f} s", flush=True)


def build_teacher(seed: int) -> Teacher:
    """Return the careless teacher of the embedded model."""
    families = load_families()
    cards = [*load_cards(), *(family.card for family in families)]
    unseen = []
    for split in UNSEEN_SPLITS:
        unseen += load_items(f"{EMBEDDED}/{split.file}")

    material = Material(
        train=load_items(f"{EMBEDDED}/train.json"),
        few_shot=load_items(f"{EMBEDDED}/few_shot.json"),
        instruct=load_instruct("data/instruct.json"),
        alphabet=syllables(),
        held_out=held_out_forms(cards, families, unseen),
    )
    return Teacher(cards, families, material, random.Random(seed))


def scaled(phases: Sequence[Phase], scale: float) -> list[Phase]:
    """Return phases with their steps multiplied by ``scale``; each keeps two at least."""
    return [replace(phase, steps=max(2, round(phase.steps * scale))) for phase in phases]


def making_of(
    model: LlamaForCausalLM, phases: Sequence[Phase], *, seed: int, started: float
) -> Making:
    """Return how a model was made, when its training has ended.

    Args:
        model: The trained model.
        phases: What it went through.
        seed: The seed of the weights and of the lessons.
        started: The time at which it began, in seconds.
    """
    return Making(
        seed=seed,
        steps=sum(phase.steps for phase in phases),
        minutes=round((time.time() - started) / 60),
        parameters=model.num_parameters(),
        vocabulary=model.config.vocab_size,
    )


def lessons_of(teacher: Teacher) -> Draw:
    """Return what draws a teacher's lessons, as hard as a phase wants them."""

    def draw(phase: Phase) -> list[Lesson]:
        teacher.is_hard = phase.is_hard
        return teacher.lessons(phase.batch, phase.frame)

    return draw


def make(out: Path, seed: int, scale: float) -> None:
    """Train, measure and save an embedded model.

    Args:
        out: The folder for weights, tokenizer and card.
        seed: The seed of the weights and of the lessons.
        scale: The number of steps is multiplied by this.
    """
    import torch

    from tools.tiny_model.letter_table import letters_seen

    started = time.time()
    torch.manual_seed(seed)
    tokenizer = build_tokenizer(alphabet())
    model = build_model(tokenizer)
    teacher = build_teacher(seed)

    phases = scaled(PHASES, scale)
    with letters_seen(model, tokenizer) as head:
        train(model, head, tokenizer, lessons_of(teacher), phases=phases)
    model, tokenizer = with_characters(model, tokenizer, kept_characters())
    print(f"{model.num_parameters():,} parameters, {len(tokenizer)} tokens", flush=True)

    save_half(model, tokenizer, out)
    figures = measure(model, tokenizer)
    print(json.dumps(figures.splits, indent=1, ensure_ascii=False))

    write_card(out, figures, making_of(model, phases, seed=seed, started=started))


def save_half(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Save a model in half precision; leave it with what was saved, in the precision of its use."""
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    model.float()


def maker_parser(module: str, description: str, folder: str) -> argparse.ArgumentParser:
    """Return the parser of a command that makes a model.

    Args:
        module: The command, as in ``python -m tools.tiny_model.train``.
        description: Its first line of help.
        folder: Where the model goes unless the command line says otherwise.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=project_root() / folder)
    parser.add_argument(
        "--scale",
        type=float,
        default=1.0,
        help="multiply the number of steps (tests use a small one)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Make the model; return 0, or 2 where a file of the data is unusable."""
    description = __doc__.splitlines()[0]
    args = maker_parser("tools.tiny_model.train", description, FOLDER).parse_args(argv)

    def body() -> int:
        make(args.out, args.seed, args.scale)
        return 0

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
