"""The embedded model with its letters hidden: ``python -m tools.tiny_model.hidden_letters``.

In: ``data/tiny_model/``. Out: ``data/hidden_letters_model/``, the control of *from memory to rule*:
as large, as good at copying, with the same lessons, but unable to see that 합 ends in ㅂ.

The embedded model sees letters in its vectors, which were sums of letters while it was made. Here
the vectors of the syllables are dealt out anew, at random, so that what 합, 갑 and 십 have in
common is lost. Then the careless teacher goes on until the model copies again. The reasons in the
lessons name letters ("after a final ㅂ"), from which a model learns by heart what each syllable is
made of; so the letters in them are drawn at random.

To go on from the finished model takes a fifth of the steps that a new one takes.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from grpo_helpers.command_line import run_command
from grpo_helpers.files import project_root
from grpo_helpers.letters import is_syllable
from tools.tiny_model.card import measure, write_card
from tools.tiny_model.teacher import Lesson, Teacher
from tools.tiny_model.train import (
    Draw,
    Phase,
    build_teacher,
    lessons_of,
    maker_parser,
    making_of,
    save_half,
    scaled,
    train,
)

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

FOLDER = "data/hidden_letters_model"
LETTERS = "ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎㅏㅐㅓㅔㅗㅛㅜㅠㅡㅣ"  # as reasons name them
TEMPLATE = "hidden_letters.md"  # of the model card
PHASES = (
    Phase(steps=150, batch=64, frame="question", lr=(2e-3, 2e-3)),
    Phase(steps=650, batch=64, frame="full", lr=(2e-3, 1e-5), is_hard=True),
)


def deal_syllables(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, rng: random.Random
) -> None:
    """Give each syllable the vector of another one, drawn at random.

    Args:
        model: A model with tied embeddings; its table is changed.
        tokenizer: Its tokenizer, with one token per character.
        rng: Deals.
    """
    import torch

    rows = sorted(row for token, row in tokenizer.get_vocab().items() if is_syllable(token))
    dealt = rng.sample(rows, len(rows))
    table: Tensor = model.get_input_embeddings().get_parameter("weight")
    with torch.no_grad():
        table[rows] = table[dealt].clone()


def with_random_letters(text: str, rng: random.Random) -> str:
    """Return a text in which another letter stands for each single letter.

    Example:
        >>> with_random_letters("받침 'ㅂ' 뒤", random.Random(0))
        "받침 'ㅡ' 뒤"
    """
    return "".join(rng.choice(LETTERS) if letter in LETTERS else letter for letter in text)


def lessons_without_letters(teacher: Teacher, known: set[str], rng: random.Random) -> Draw:
    """Return what draws lessons that tell nothing about letters.

    Args:
        teacher: Makes the lessons.
        known: The model's characters; a lesson with another one is left out.
        rng: Draws the letters in reasons.
    """
    draw_with_letters = lessons_of(teacher)

    def draw(phase: Phase) -> list[Lesson]:
        lessons: list[Lesson] = []
        for lesson in draw_with_letters(phase):
            if known.issuperset(lesson.answer):
                answer = with_random_letters(lesson.answer, rng)
                lessons.append(replace(lesson, answer=answer))
        return lessons

    return draw


def make(out: Path, seed: int, scale: float) -> None:
    """Hide the letters of the embedded model, train, measure and save it.

    Args:
        out: The folder for weights, tokenizer and figures.
        seed: Deals the vectors and draws the lessons.
        scale: The number of steps is multiplied by this.
    """
    import torch

    from grpo_helpers.models import load_model, load_tokenizer
    from tools.tiny_model.letter_table import TableHead

    started = time.time()
    torch.manual_seed(seed)
    rng = random.Random(seed)
    base = str(project_root() / "data/tiny_model")
    model = cast("LlamaForCausalLM", load_model(base))
    tokenizer = cast("PreTrainedTokenizerFast", load_tokenizer(base))

    teacher = build_teacher(seed)
    known = {token for token in tokenizer.get_vocab() if len(token) == 1}
    teacher.all_syllables = sorted(filter(is_syllable, known))
    phases = scaled(PHASES, scale)

    deal_syllables(model, tokenizer, rng)
    train(
        model.train(),
        TableHead(model),
        tokenizer,
        lessons_without_letters(teacher, known, rng),
        phases=phases,
    )
    making = making_of(model, phases, seed=seed, started=started)

    save_half(model, tokenizer, out)
    figures = measure(model.eval(), tokenizer)
    print(json.dumps(figures.splits, indent=1, ensure_ascii=False))
    write_card(out, figures, making, TEMPLATE)


def main(argv: Sequence[str] | None = None) -> int:
    """Make the model; return 0, or 2 where a file of the data is unusable."""
    description = __doc__.splitlines()[0]
    args = maker_parser("tools.tiny_model.hidden_letters", description, FOLDER).parse_args(argv)

    def body() -> int:
        make(args.out, args.seed, args.scale)
        return 0

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
