"""Which word turns when: the recorded probability of each word's right form, step by step.

In: ``data/reference_runs/coins/<run>.csv.gz`` (``python -m tools.experiments.coins`` makes them).
Out: :class:`Coins`, which figures draw, and counts for a table.

Before training, each word is a coin toss. What is recorded is P(right form) / (P(right form) +
P(wrong form)), the *share* of the right form, read from the logits: no answer is sampled. Every
question is about one word, in a sentence that train does not have:

* *rewarded*: the words of train in 선택형 questions, which offer both forms, so that swapping what
  the sentence has is no help;
* *corrected*: the same words in 교정형 questions, which show the wrong form. A reward that pays for
  quoting the question turns these the wrong way;
* *real*: words of the same norms that train does not have, in 선택형 questions;
* *invented*: words of the same norms that nobody has ever seen, in 선택형 questions.

If the last two move with the first, training has taught more than words.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from grpo_helpers.files import InputError, show_path

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

FOLDER = "coins"  # in the folder of recorded runs
COMMAND = "python -m tools.experiments.coins"
BLOCKS = {  # what kinds of words are asked about, and what figures call them
    "rewarded": "rewarded words, asked to choose",
    "corrected": "rewarded words, asked to correct",
    "real": "real words, never rewarded",
    "invented": "invented words, never rewarded",
}
REWARDED = "rewarded"
CORRECTED = "corrected"
COLUMNS = ("block", "kind", "card", "form", "word", "right", "wrong", "trained_as", "id")
SURE = 0.9  # from this share on a word counts as turned
LEXICAL = "lexical"
KINDS = ("two-way", "one-way", LEXICAL)  # in the order in which figures show them

# What figures call the families, by their cards; the words of a card alone share one name.
FAMILIES = {
    "an-anh": "not: an / anh",
    "daero": "daero: apart / attached",
    "doe-dwae": "contraction: doe / dwae",
    "i-hi": "adverbs: -i / -hi",
    "ieyo-yeyo": "copula: ieyo / yeyo",
    "initial-law": "initial-sound law",
    "ji-chi": "contraction: -ji / -chi",
    "mankeum": "mankeum: apart / attached",
    "plain-tense": "letter: plain / tense",
    "ryul-yul": "rate: -ryul / -yul",
    "saisiot": "linking s: with / without",
    "vowel-harmony": "vowel harmony: -a / -eo",
    "bound-nouns": "bound nouns: apart",
    "lge": "ending: -lge",
    "lm": "noun form: -lm",
    "no-tense": "loanwords: no tense letters",
    "ryeogo": "ending: -ryeogo",
    "simple-vowel": "loanwords: no y-vowel",
    "sipsio": "ending: -sipsio",
    LEXICAL: "single words",
}


@dataclass(frozen=True)
class Coins:
    """The share of the right form of each word, step by step.

    Attributes:
        words: What each word is, (words) rows with :data:`COLUMNS`.
        steps: The optimizer steps after which it was measured; 0 is before the first.
        shares: The share of the right form, 0 to 1, (words, steps).
    """

    words: pd.DataFrame
    steps: list[int]
    shares: np.ndarray

    @property
    def families(self) -> pd.Series:
        """The family of each word: its card, or ``lexical`` for a word that stands alone."""
        return self.words["card"].where(self.words["kind"] != LEXICAL, LEXICAL)

    def of_blocks(self, *blocks: str) -> Coins:
        """Return the words of some of :data:`BLOCKS`."""
        is_chosen = self.words["block"].isin(blocks)
        return self.rows(is_chosen.to_numpy().nonzero()[0].tolist())

    def rows(self, places: Sequence[int]) -> Coins:
        """Return some of the words, in the order of ``places``."""
        words = self.words.iloc[list(places)].reset_index(drop=True)
        return Coins(words, self.steps, self.shares[list(places)])

    def in_order_of(self, other: Coins) -> Coins:
        """Return the words that ``other`` has, in its order.

        Raises:
            InputError: A word of ``other`` is missing here.
        """
        places = {key: place for place, key in enumerate(self._keys())}
        missing = [key for key in other._keys() if key not in places]
        if missing:
            _, card, word = missing[0]
            raise InputError(f"the runs asked about other words: only one has {word} ({card})")
        return self.rows([places[key] for key in other._keys()])

    def _keys(self) -> list[tuple[str, str, str]]:
        """Return what identifies each word."""
        return list(self.words[["block", "card", "word"]].itertuples(index=False, name=None))

    def turned(self, column: int = -1) -> int:
        """Return how many words have a share of at least :data:`SURE`.

        Args:
            column: The place of the step in :attr:`steps`; the last one if not given.
        """
        return int((self.shares[:, column] >= SURE).sum())


@dataclass(frozen=True)
class Group:
    """Neighbouring words of one block and one family.

    Attributes:
        block: One of :data:`BLOCKS`.
        family: The family.
        kind: One of :data:`KINDS`.
        start: The place of the first word.
        end: The place after the last.
    """

    block: str
    family: str
    kind: str
    start: int
    end: int


# -- reading and writing ---------------------------------------------------------------------------


def coins_file(folder: Path, run: str) -> Path:
    """Return where the coins of a run are recorded, in a folder of recorded runs."""
    return folder / FOLDER / f"{run}.csv.gz"


def to_table(coins: Coins) -> pd.DataFrame:
    """Return coins as they are recorded: a row for each word, a column for each step."""
    import pandas as pd

    shares = pd.DataFrame(coins.shares.round(3), columns=[str(step) for step in coins.steps])
    return pd.concat([coins.words[list(COLUMNS)], shares], axis=1)


def load_coins(file: Path) -> Coins:
    """Return the coins of a file.

    Raises:
        InputError: There is no such file, or it is none of coins.
    """
    import pandas as pd

    if not file.is_file():
        raise InputError(f"no coins in {show_path(file)}: {_how_to_make([run_of(file)])}")

    table = pd.read_csv(file, keep_default_na=False)
    lacking = [column for column in COLUMNS if column not in table]
    if lacking:
        raise InputError(f"{show_path(file)} has no column {lacking[0]}: made with {COMMAND}?")

    words = table[list(COLUMNS)]
    shares = table.drop(columns=list(COLUMNS))
    return Coins(words, [int(str(step)) for step in shares], shares.to_numpy(float))


def find_coins(folder: Path, runs: Sequence[str]) -> dict[str, Coins]:
    """Return the recorded coins of some runs; print how to make those that are missing.

    Args:
        folder: The folder of recorded runs.
        runs: Their names, such as ``seed_0``.

    Returns:
        The coins by the name of the run, in the order of ``runs``.
    """
    found = {}
    missing = []
    for run in runs:
        file = coins_file(folder, run)
        if file.is_file():
            found[run] = load_coins(file)
        else:
            missing.append(run)

    if missing:
        print(f"no coins in {show_path(folder)} of {', '.join(missing)}: {_how_to_make(missing)}")
    return found


def run_of(file: Path) -> str:
    """Return the run whose coins a file has.

    >>> run_of(Path("coins/seed_0.csv.gz"))
    'seed_0'
    """
    return file.name.removesuffix(".csv.gz")


def _how_to_make(runs: Sequence[str]) -> str:
    return f"{COMMAND} {' '.join(runs)} records them"


# -- what figures and tables show ------------------------------------------------------------------


def family_name(family: str) -> str:
    """Return what figures call a family.

    >>> family_name("ryul-yul"), family_name("my-norm")
    ('rate: -ryul / -yul', 'my-norm')
    """
    return FAMILIES.get(family, family)


def examples(coins: Coins) -> dict[str, str]:
    """Return the shortest word of each family."""
    shortest: dict[str, str] = {}
    for family, word in zip(coins.families, coins.words["word"], strict=True):
        known = shortest.setdefault(family, word)
        if (len(word), word) < (len(known), known):
            shortest[family] = word
    return shortest


def family_order(coins: Coins) -> list[str]:
    """Return the families in the order of the figures: two-way, one-way, single words."""
    known = list(FAMILIES)
    kinds = dict(zip(coins.families, coins.words["kind"], strict=True))

    def place(family: str) -> tuple[int, int, str]:
        kind = kinds[family]
        return (
            KINDS.index(kind) if kind in KINDS else len(KINDS),
            known.index(family) if family in known else len(known),
            family,
        )

    return sorted(kinds, key=place)


def by_family(coins: Coins) -> Coins:
    """Return the words block by block and family by family; those that turn early come first."""
    blocks = [list(BLOCKS).index(block) for block in coins.words["block"]]
    order = family_order(coins)
    families = [order.index(family) for family in coins.families]
    means = coins.shares.mean(axis=1)
    keys = list(zip(blocks, families, -means, strict=True))
    return coins.rows(sorted(range(len(keys)), key=keys.__getitem__))


def groups(coins: Coins) -> list[Group]:
    """Return the groups of words that stand next to each other, from the first to the last.

    Args:
        coins: Words in the order of :func:`by_family`.
    """
    found = []
    start = 0
    kinds = zip(coins.words["block"], coins.families, coins.words["kind"], strict=True)
    for (block, family, kind), words in itertools.groupby(kinds):
        end = start + len(list(words))
        found.append(Group(block, family, kind, start=start, end=end))
        start = end
    return found


def turned_table(coins: Coins) -> pd.DataFrame:
    """Return how many words have turned, by block and by how train asked about them.

    Returns:
        One row for each block and each way to be trained (선택형, 교정형, both, or none), with the
        number of ``words``, how many have a share of :data:`SURE` ``before`` the first step and
        ``after`` the last, how many are as sure of the wrong form then (``wrong after``), and the
        means ``mean before`` and ``mean after``.
    """
    import pandas as pd

    first, last = coins.shares[:, 0], coins.shares[:, -1]
    each = pd.DataFrame(
        {
            "block": pd.Categorical(coins.words["block"], categories=list(BLOCKS)),
            "trained_as": coins.words["trained_as"],
            "words": 1,
            "before": first >= SURE,
            "after": last >= SURE,
            "wrong after": last <= 1 - SURE,
            "mean before": first,
            "mean after": last,
        }
    )
    counts = dict.fromkeys(("words", "before", "after", "wrong after"), "sum")
    means = dict.fromkeys(("mean before", "mean after"), "mean")
    return each.groupby(["block", "trained_as"], observed=True).agg(counts | means)
