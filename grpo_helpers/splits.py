"""The splits of the course's data, in one table: what each is called, and where.

In: nothing, or the settings of a notebook. Out: :class:`Split` objects. A split has one name for
each place where it turns up, and all of them come from the table here: the file
(``test_unseen_words.json``), the parameter of a notebook (``test_unseen_words_path``), tables and
figures (``unseen words``), and recorded results (``unseen_words``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grpo_helpers.files import InputError

BASE_ANSWERS = "inference_epoch0.json"  # the answers of the model before training, in each folder


@dataclass(frozen=True)
class Split:
    """One split of the data.

    Attributes:
        name: The stem of its file: ``"test_unseen_words"``.
        title: What tables, figures and ``best_checkpoint.json`` call it: ``"unseen words"``.
        parameter: The notebook parameter with the path of its file: ``"test_unseen_words_path"``.
    """

    name: str
    title: str
    parameter: str

    @property
    def file(self) -> str:
        """The name of its file in ``data/``, ``data/embedded/`` and ``data/smoke/``."""
        return f"{self.name}.json"

    @property
    def key(self) -> str:
        """What recorded tables and result folders call it: ``"unseen_words"``."""
        return self.name.removeprefix("test_")

    def answer_folder(self, run_dir: Path) -> Path:
        """Return the folder with a run's answers to this split.

        Answers to ``dev`` are written during training, those to the test splits once, afterwards.

        >>> TEST_UNSEEN_WORDS.answer_folder(Path("runs/default")).as_posix()
        'runs/default/test_results/unseen_words'
        """
        if self == DEV:
            return run_dir / "infer_results"

        if self == TEST:
            return run_dir / "test_results"

        return run_dir / "test_results" / self.key


TRAIN = Split("train", "train", "train_data_path")
DEV = Split("dev", "dev", "eval_data_path")  # chooses the checkpoint
TEST = Split("test", "test", "test_data_path")  # new sentences with words of train
TEST_UNSEEN_WORDS = Split("test_unseen_words", "unseen words", "test_unseen_words_path")
TEST_NONCE = Split("test_nonce", "nonce words", "test_nonce_path")  # invented words
TEST_UNSEEN_NORMS = Split("test_unseen_norms", "unseen norms", "test_unseen_norms_path")
FEW_SHOT = Split("few_shot", "few-shot", "few_shot_data_path")  # the pool of worked examples

UNSEEN_SPLITS = (TEST_UNSEEN_WORDS, TEST_NONCE, TEST_UNSEEN_NORMS)
TEST_SPLITS = (TEST, *UNSEEN_SPLITS)
SPLITS = (TRAIN, DEV, *TEST_SPLITS, FEW_SHOT)
# Only data/families has invented words.
CORPUS_SPLITS = tuple(split for split in SPLITS if split != TEST_NONCE)


def find_split(text: str) -> Split:
    """Return the split with this name, title or key.

    Raises:
        InputError: There is no such split.

    >>> find_split("unseen words") == find_split("unseen_words") == TEST_UNSEEN_WORDS
    True
    """
    for split in SPLITS:
        if text in (split.name, split.title, split.key):
            return split

    known = ", ".join(split.name for split in SPLITS)
    raise InputError(f"unknown split {text!r}; known are {known}")


def split_paths(settings: Any, splits: Iterable[Split] = SPLITS) -> dict[Split, str]:
    """Return the path of each split that ``settings`` names, in the order of ``splits``.

    Args:
        settings: An object with the parameters of a notebook as attributes. A split whose
            parameter is missing or empty is left out.
        splits: The splits to look for.
    """
    paths: dict[Split, str] = {}

    for split in splits:
        path = getattr(settings, split.parameter, "")
        if path:
            paths[split] = path

    return paths
