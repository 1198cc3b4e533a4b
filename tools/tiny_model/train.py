"""Make the embedded model: ``python -m tools.tiny_model.train`` (``make tiny-model``).

In: the norm cards and the embedded part of the data. Out: ``data/tiny_model/``, a character-level
Llama of about 2 million parameters with its tokenizer and chat template, warm-started on the
lessons of the careless teacher (``tools/tiny_model/teacher.py``), and a model card that states
what was measured: how well it copies unseen sentences, how often it answers in the required
format, how often it is right. It takes minutes on two cores, and the same seed gives the same
model.

``--start FOLDER`` continues from an earlier embedded model: characters that the corpus has gained
get a token, and only the last phase is run. That is how the model keeps up when the corpus grows.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grpo_helpers.command_line import run_command
from grpo_helpers.data import load_items
from grpo_helpers.files import project_root
from grpo_helpers.prompts import load_instruct
from tools.corpus.cards import load_cards
from tools.tiny_model.card import EMBEDDED, Making, card_text, measure
from tools.tiny_model.model import (
    END,
    alphabet,
    build_model,
    build_tokenizer,
    syllables,
    widen,
)
from tools.tiny_model.teacher import Frame, Lesson, Teacher

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

    from grpo_helpers.prompts import Message

IGNORED = -100  # the label of a token that does not count in the loss
WARM_UP = 50  # steps in which the learning rate rises to its first value


@dataclass(frozen=True)
class Phase:
    """One stretch of training.

    Attributes:
        steps: The number of batches.
        batch: Lessons in a batch.
        frame: The frame of the lessons; see :meth:`Teacher.lessons`.
        lr: The first and the last learning rate; between them it follows a cosine.
        letters: Words are made up from the syllables of the embedded part (``own``) or of the
            whole corpus (``all``).
    """

    steps: int
    batch: int
    frame: Frame
    lr: tuple[float, float]
    letters: str = "own"

    def learning_rate(self, step: int) -> float:
        """Return the learning rate at a step of this phase, counted from 0."""
        first, last = self.lr
        progress = step / max(1, self.steps - 1)
        return last + (first - last) * (1 + math.cos(math.pi * progress)) / 2


PHASES = (
    Phase(steps=500, batch=64, frame="bare", lr=(3e-3, 3e-3)),
    Phase(steps=300, batch=64, frame="question", lr=(3e-3, 2e-3)),
    # Copying becomes exact only while the learning rate falls, so it falls slowly.
    Phase(steps=1300, batch=64, frame="full", lr=(2e-3, 2e-5)),
    # With rare letters from the start, copying never became exact (.93 to .97 of unseen
    # sentences); with few letters at first and all of them later it does.
    Phase(steps=600, batch=64, frame="full", lr=(7e-4, 1e-5), letters="all"),
)


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
    """Return the tokens of lessons that share all messages but the last."""
    import torch

    shared = lessons[0].messages[:-1]
    assert all(lesson.messages[:-1] == shared for lesson in lessons)

    rows = []
    for lesson in lessons:
        question = _chat_tokens(tokenizer, lesson.messages[-1:], add_generation_prompt=True)
        answer = tokenizer(lesson.answer + END, add_special_tokens=False)["input_ids"]
        rows.append((question, answer))

    width = max(len(question) + len(answer) for question, answer in rows)
    input_ids = torch.full((len(rows), width), tokenizer.pad_token_id)
    labels = torch.full((len(rows), width), IGNORED)
    for number, (question, answer) in enumerate(rows):
        start = len(question)
        end = start + len(answer)
        input_ids[number, :end] = torch.tensor(question + answer)
        labels[number, start:end] = torch.tensor(answer)

    prefix = None
    if shared:
        prefix = torch.tensor([_chat_tokens(tokenizer, shared)])
    return Batch(prefix, input_ids, labels)


def _chat_tokens(
    tokenizer: PreTrainedTokenizerFast, messages: list[Message], **options: Any
) -> list[int]:
    """Return the tokens of messages in the chat template."""
    text = tokenizer.apply_chat_template(messages, tokenize=False, **options)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def answer_loss(model: LlamaForCausalLM, batch: Batch) -> Tensor:
    """Return the mean cross-entropy of the answers' tokens.

    The shared prefix is run once and its cache given to every lesson.
    """
    import torch

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
    logits = model.lm_head(output.last_hidden_state[:, :-1][counts])
    return torch.nn.functional.cross_entropy(logits, targets[counts])


def train(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    teacher: Teacher,
    phases: Sequence[Phase],
    log_every: int = 50,
) -> None:
    """Train a model through several phases: AdamW, the loss on the answers only.

    Args:
        model: The model; its weights are changed.
        tokenizer: Its tokenizer.
        teacher: Where the lessons come from; its alphabet is set by the phases.
        phases: The phases, in their order.
        log_every: Steps between two printed lines.
    """
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.0)
    started = time.time()
    done = 0
    for phase in phases:
        teacher.alphabet = syllables(phase.letters)
        for step in range(phase.steps):
            warm_up = min(1.0, (done + 1) / WARM_UP)
            for group in optimizer.param_groups:
                group["lr"] = phase.learning_rate(step) * warm_up

            batch = encode(tokenizer, teacher.lessons(phase.batch, phase.frame))
            loss = answer_loss(model, batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

            done += 1
            if done % log_every == 0:
                seconds = time.time() - started
                print(f"step {done:5d}  loss {loss.item():.4f}  {seconds:6.0f} s", flush=True)


def make(out: Path, seed: int, scale: float, start: Path | None) -> None:
    """Train, measure and save an embedded model.

    Args:
        out: The folder for weights, tokenizer and card.
        seed: The seed of the weights and of the lessons.
        scale: The number of steps is multiplied by this.
        start: The folder of an earlier model to continue from, with the last phase only.
    """
    import torch

    started = time.time()
    torch.manual_seed(seed)
    tokenizer = build_tokenizer(alphabet())
    model = build_model(tokenizer)
    teacher = Teacher(
        cards=load_cards(),
        train=load_items(f"{EMBEDDED}/train.json"),
        few_shot=load_items(f"{EMBEDDED}/few_shot.json"),
        instruct=load_instruct("data/instruct.json"),
        alphabet=syllables(),
        rng=random.Random(seed),
    )

    phases = []
    for phase in PHASES:
        phases.append(replace(phase, steps=max(2, round(phase.steps * scale))))
    all_steps = sum(phase.steps for phase in phases)

    digest = None
    if start:
        digest = widen(model, tokenizer, start)
        phases = phases[-1:]
    print(f"{model.num_parameters():,} parameters, {len(tokenizer)} tokens", flush=True)
    train(model, tokenizer, teacher, phases)

    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    figures = measure(model, tokenizer)
    print(json.dumps(figures, indent=1))

    making = Making(
        seed=seed,
        steps=all_steps,
        last=phases[-1].steps,
        minutes=(time.time() - started) / 60,
        start=digest,
        parameters=model.num_parameters(),
        vocabulary=len(tokenizer),
        items=len(load_items(f"{EMBEDDED}/dev.json")),
    )
    (out / "README.md").write_text(card_text(figures, making), encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Make the model; return 0, or 2 where a file of the data is unusable."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.tiny_model.train", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=project_root() / "data" / "tiny_model")
    parser.add_argument(
        "--start",
        type=Path,
        help="an embedded model to continue from, with the last phase only",
    )
    parser.add_argument(
        "--scale",
        type=float,
        default=1.0,
        help="multiply the number of steps (tests use a small one)",
    )
    args = parser.parse_args(argv)

    def body() -> int:
        make(args.out, args.seed, args.scale, args.start)
        return 0

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
