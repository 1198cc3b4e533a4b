"""Make the thinking model: ``python -m tools.word_chain.train`` (``make thinking-model``).

In: the words of the game, ``data/word_chain/``. Out: ``data/thinking_model/``, a Llama of the size
of the embedded model, warm-started on the lessons of the game's careless teacher
(``tools/word_chain/teacher.py``), and a card that says what was measured: how often it thinks, how
often its thought is the chain, how often it is right with a thought and without.

Its table of embeddings is an ordinary one, one vector a syllable; the game needs no letters.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from grpo_helpers.command_line import run_command
from grpo_helpers.files import project_root
from tools.tiny_model.model import build_model, build_tokenizer
from tools.tiny_model.train import Phase, maker_parser, making_of, save_half, scaled, train
from tools.word_chain.build import FOLDER
from tools.word_chain.teacher import ChainTeacher, Habits, build_teacher
from tools.word_chain.thinking_card import measure, write_card
from tools.word_chain.words import load_words

if TYPE_CHECKING:
    from tools.tiny_model.teacher import Lesson
    from tools.tiny_model.train import Draw

MODEL_FOLDER = "data/thinking_model"
TAGS = ("<think>", "</think>")

PHASES = (
    Phase(steps=200, batch=64, frame="bare", lr=(3e-3, 3e-3)),
    Phase(steps=200, batch=48, frame="question", lr=(3e-3, 3e-3)),
    Phase(steps=1100, batch=48, frame="full", lr=(3e-3, 1e-5)),
)


def alphabet() -> list[str]:
    """Return the characters of the game: its words, its questions, its instruction; sorted."""
    characters = set("".join(load_words()))
    for file in (project_root() / FOLDER).glob("*.json"):
        for text in _texts(json.loads(file.read_text(encoding="utf-8"))):
            characters.update(text)
    return sorted({*characters, *map(chr, range(32, 127)), "\n"})


def _texts(data: object) -> list[str]:
    """Return the texts of a file that a model may read or write."""
    if isinstance(data, dict):
        return [str(text) for text in data.values()]

    texts = []
    assert isinstance(data, list)
    for row in data:
        texts += [row["input"]["question"], row["output"]["answer"]]
    return texts


def lessons_of(teacher: ChainTeacher) -> Draw:
    """Return what draws a teacher's lessons."""

    def draw(phase: Phase) -> list[Lesson]:
        return teacher.lessons(phase.batch, phase.frame)

    return draw


def make(out: Path, seed: int, scale: float, threads: int, habits: Habits | None = None) -> None:
    """Train, measure and save a thinking model.

    Args:
        out: The folder for weights, tokenizer and card.
        seed: The seed of the weights and of the lessons.
        scale: The number of steps is multiplied by this.
        threads: CPU threads; 0 leaves the number to torch.
        habits: How careless the teacher is; default: as for the committed model.
    """
    import torch

    from tools.tiny_model.letter_table import TableHead

    if threads:
        torch.set_num_threads(threads)
    started = time.time()
    random.seed(seed)
    torch.manual_seed(seed)
    tokenizer = build_tokenizer(alphabet(), TAGS)
    model = build_model(tokenizer)
    print(f"{model.num_parameters():,} parameters, {len(tokenizer)} tokens", flush=True)

    phases = scaled(PHASES, scale)
    train(
        model, TableHead(model), tokenizer, lessons_of(build_teacher(seed, habits)), phases=phases
    )

    save_half(model, tokenizer, out)
    making = making_of(model, phases, seed=seed, started=started)
    figures = measure(model, tokenizer)
    print(json.dumps(figures, indent=1, ensure_ascii=False))
    write_card(out, figures, making)


def main(argv: Sequence[str] | None = None) -> int:
    """Make the model; return 0, or 2 where a file of the data is unusable."""
    parser = maker_parser("tools.word_chain.train", __doc__.splitlines()[0], MODEL_FOLDER)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads")
    parser.add_argument(
        "--wanders", action="store_true", help="thoughts that lead nowhere, for a control"
    )
    args = parser.parse_args(argv)

    def body() -> int:
        make(args.out, args.seed, args.scale, args.threads, habits=Habits(wanders=args.wanders))
        return 0

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
