"""From memory to rule: train on few or many words of each norm, ask about words never shown.

``python -m tools.experiments.words_per_norm`` trains the embedded model on k words of each family,
for k = 1, 2, 4 and 8, three seeds, in three ways:

- ``grpo``: notebook 04's training with an adapter on the attention layers, always for the same
  number of steps and completions, however few prompts there are;
- ``gold``: supervised training on the gold answers of the same prompts;
- ``rejection``: supervised training on the base's own samples that are an exact match (rejection
  sampling, then fine-tuning).

Out: ``data/reference_runs/words_per_norm/<way>_<k>_<seed>.csv``, with one row for each question
about a train word, an unseen word or an invented word of a family, and ``.json``, how it was made.
A point that exists is not made again. ``--ways grpo --words 4 --seeds 0`` makes one point. On two
cores, two such commands with ``--threads 1`` each are faster than one after the other.

``--hidden`` starts from the model that cannot see letters (``tools/tiny_model/hidden_letters.py``)
and writes to ``data/reference_runs/words_per_norm_hidden/``.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from grpo_helpers import carry_over
from grpo_helpers.architecture import ATTENTION
from grpo_helpers.command_line import run_command
from grpo_helpers.data import item_to_row, load_items
from grpo_helpers.files import project_root, write_json
from grpo_helpers.models import load_tokenizer
from grpo_helpers.questions import Item
from grpo_helpers.settings import TrainSettings
from grpo_helpers.splits import TEST, TEST_NONCE, TEST_UNSEEN_WORDS, TRAIN
from tools.corpus.families import KINDS
from tools.corpus.sentences import seeded
from tools.experiments.recorded_runs import FOLDER
from tools.experiments.recording import write_table
from tools.experiments.ways import GRPO, WAYS
from tools.tiny_model import hidden_letters
from tools.tiny_model.card import answer_table
from tools.tiny_model.copying import EMBEDDED

WORDS = (1, 2, 4, 8)
SPLITS = (TEST, TEST_UNSEEN_WORDS, TEST_NONCE)  # what is asked afterwards
SEEDS = (0, 1, 2)
STEPS = 50  # of GRPO: 16 prompts x 8 completions each
PASSES_OF_A_ROUND = 4  # two rounds a step; with one, the samples are others
SUPERVISED_STEPS = 100  # of 16 answers each
COLUMNS = [
    "split",
    "id",
    "card",
    "kind",
    "form",
    "question_type",
    "is_trained",
    "copied",
    "em",
    "choice",
]


@dataclass(frozen=True)
class Point:
    """One training: how, on how many words of each family, with which seed.

    Attributes:
        way: How it is trained: a name of :data:`tools.experiments.ways.WAYS`.
        words: Train words of each family.
        seed: Draws the words and the samples.
        is_hidden: Whether the model cannot see letters.
    """

    way: str
    words: int
    seed: int
    is_hidden: bool = False

    @property
    def name(self) -> str:
        """The name of its files."""
        return f"{self.way}_{self.words}_{self.seed}"

    @property
    def folder(self) -> Path:
        """The folder of its files."""
        return FOLDER / (carry_over.HIDDEN_FOLDER if self.is_hidden else carry_over.FOLDER)


def chosen_items(items: Sequence[Item], words: int, seed: int) -> list[Item]:
    """Return the train items of a number of words of each family.

    The words are drawn; the right forms of a family alternate among them.

    Args:
        items: All train items.
        words: How many words of each family.
        seed: Each seed draws other words.
    """
    by_family: dict[str, list[Item]] = {}
    for item in items:
        if item.extra["kind"] in KINDS:
            by_family.setdefault(item.extra["card"], []).append(item)

    chosen: list[Item] = []
    for family, of_family in sorted(by_family.items()):
        shuffled = seeded("words per norm", family, str(seed)).sample(of_family, len(of_family))
        chosen += _alternating(shuffled, words)
    return chosen


def _alternating(items: Sequence[Item], words: int) -> list[Item]:
    """Return the first items of each right form in turn, one item a word."""
    queues: dict[str, list[Item]] = {}
    for item in items:
        queues.setdefault(item.extra["form"], []).append(item)

    in_turn = itertools.chain.from_iterable(itertools.zip_longest(*queues.values()))
    return [item for item in in_turn if item is not None][:words]


def settings_of(point: Point, items: Sequence[Item], threads: int) -> TrainSettings:
    """Return the settings of a training; its train items are written beside the runs."""
    prefix = "hidden-words" if point.is_hidden else "words"
    run_name = f"{prefix}-{point.name.replace('_', '-')}"
    file = project_root() / "runs" / f"{run_name}.json"
    file.parent.mkdir(exist_ok=True)
    write_json(file, [item_to_row(item) for item in items])

    model: dict[str, Any] = {}
    if point.is_hidden:
        model["model_name"] = hidden_letters.FOLDER
    return TrainSettings(
        **model,
        run_name=run_name,
        train_data_path=str(file),
        eval_data_path="data/smoke/dev.json",  # nothing is chosen: the last checkpoint counts
        lora_target_modules=",".join(ATTENTION),
        steps_per_generation=PASSES_OF_A_ROUND,
        seed=point.seed,
        num_threads=threads,
    )


def questions_about_families(model: Any, tokenizer: Any, trained: set[str]) -> pd.DataFrame:
    """Return the scores of every question about a word of a family.

    Args:
        model: The trained model.
        tokenizer: Its tokenizer.
        trained: The words that it was trained on; the others of test were not shown either.
    """
    tables = []
    for split in SPLITS:
        table = answer_table(model, tokenizer, EMBEDDED, split)
        tables.append(table[table.kind.isin(KINDS)])

    answers = pd.concat(tables, ignore_index=True)
    answers["is_trained"] = answers.word.isin(trained)
    return answers[COLUMNS]


def make(point: Point, threads: int = 2) -> Path:
    """Train and measure one point; return its table, which is written when it is complete.

    Args:
        point: What to train.
        threads: CPU threads; another number rounds differently, and so samples other answers.
    """
    path = point.folder / f"{point.name}.csv"
    if path.is_file():
        return path

    items = chosen_items(load_items(f"{EMBEDDED}/{TRAIN.file}"), point.words, point.seed)
    settings = settings_of(point, items, threads)
    started = time.perf_counter()
    steps = STEPS if point.way == GRPO else SUPERVISED_STEPS
    model = WAYS[point.way](settings, steps)
    minutes = (time.perf_counter() - started) / 60

    trained = {item.extra["word"] for item in items}
    answers = questions_about_families(model, load_tokenizer(settings.model_name), trained)
    path.parent.mkdir(parents=True, exist_ok=True)
    arguments = f"--ways {point.way} --words {point.words} --seeds {point.seed} --threads {threads}"
    if point.is_hidden:
        arguments += " --hidden"
    about = {
        "command": f"python -m tools.experiments.words_per_norm {arguments}",
        "date": datetime.date.today().isoformat(),
        "training_minutes": round(minutes, 1),
        "train_words": len(items),
    }
    write_json(path.with_suffix(".json"), about)
    write_table(path, answers)
    return path


def main(argv: Sequence[str] | None = None) -> int:
    """Make the points; return 0."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.experiments.words_per_norm", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--words", nargs="+", type=int, default=WORDS, help="of each family")
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of each training")
    parser.add_argument("--hidden", action="store_true", help="with the model that sees no letters")
    args = parser.parse_args(argv)

    def body() -> int:
        for seed, words, way in itertools.product(args.seeds, args.words, args.ways):
            print(make(Point(way, words, seed, args.hidden), args.threads), flush=True)
        return 0

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
