"""Questions of the word-chain game in the contest's shape.

In: a puzzle, the glosses, how the words and the two options are ordered. Out: a 선택형 item::

    낱말: 표지 나무 차표 기차 ...
    "기차에서 {표지/나비}까지 이어진다."

(*Words: cover, tree, ticket, train ... "From 'train', it goes on to {cover/butterfly}."*) and its
gold answer, which names the end but not the way there. 에서 (*from*) and 까지 (*as far as*) are the
same after a vowel and after a consonant, so no particle gives an answer away. The words stand
outside the quotes, and so the quoted sentence is all that parsers take for the sentence.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from grpo_helpers.answers import format_answer
from grpo_helpers.questions import SELECTION, Item
from tools.word_chain.chains import Puzzle, glossed

LIST = "낱말: {words}"
QUESTION = LIST + '\n"{sentence}"'
SENTENCE = "{start}에서 {end}까지 이어진다."
REASON = "끝말을 이으면 {end}에 이른다."  # linking the last syllables, one arrives at the end
GLOSS = "Words: {words}. \"From '{start}', it goes on to '{first}' or '{second}'.\""
CARD = "word-chain"
CATEGORY = "끝말잇기"


@dataclass(frozen=True)
class Layout:
    """How a puzzle is put into words.

    Attributes:
        words: The words of both chains in the order of the question.
        right_first: Whether the right option is the first.
    """

    words: tuple[str, ...]
    right_first: bool


def shuffled(puzzle: Puzzle, rng: random.Random, right_first: bool | None = None) -> Layout:
    """Return a layout with the words in random order; neither chain stands there in one piece.

    Args:
        puzzle: The puzzle.
        rng: Source of all randomness.
        right_first: Whether the right option is the first; a coin decides if not given.
    """
    if right_first is None:
        right_first = rng.random() < 0.5

    words = list(puzzle.words)
    while True:
        rng.shuffle(words)
        line = " ".join(words)
        if not any(" ".join(chain) in line for chain in (puzzle.asked, puzzle.other)):
            return Layout(tuple(words), right_first)


def options(puzzle: Puzzle, layout: Layout) -> tuple[str, str]:
    """Return the two ends in the order of the question."""
    right, wrong = puzzle.asked[-1], puzzle.other[-1]
    return (right, wrong) if layout.right_first else (wrong, right)


def question(puzzle: Puzzle, layout: Layout) -> str:
    """Return the text of a question."""
    first, second = options(puzzle, layout)
    sentence = SENTENCE.format(start=puzzle.asked[0], end=f"{{{first}/{second}}}")
    return QUESTION.format(words=" ".join(layout.words), sentence=sentence)


def answer(start: str, end: str) -> str:
    """Return an answer that calls ``end`` right, true or not.

    Example:
        >>> answer("기차", "표지")
        '"기차에서 표지까지 이어진다."가 옳다. 끝말을 이으면 표지에 이른다.'
    """
    return format_answer(SENTENCE.format(start=start, end=end), REASON.format(end=end))


def thought(chain: Iterable[str]) -> str:
    """Return a chain as a thought, to be followed by an answer.

    Example:
        >>> thought(["기차", "차표", "표지"])
        '<think>기차 차표 표지</think>'
    """
    return f"<think>{' '.join(chain)}</think>"


def make_item(item_id: str, puzzle: Puzzle, layout: Layout, glosses: Mapping[str, str]) -> Item:
    """Return an item.

    Args:
        item_id: Its id.
        puzzle: The puzzle.
        layout: How it is put into words.
        glosses: The gloss of every word.
    """
    start, end = puzzle.asked[0], puzzle.asked[-1]
    first, second = options(puzzle, layout)
    gloss = GLOSS.format(
        words=glossed(layout.words, glosses),
        start=glosses[start],
        first=glosses[first],
        second=glosses[second],
    )
    extra: dict[str, Any] = {
        "card": CARD,
        "category": CATEGORY,
        "kind": f"{puzzle.hops} hops",
        "word": end,
        "gloss": gloss,
        "word_gloss": glosses[end],
        "hops": puzzle.hops,
        "chain": " ".join(puzzle.asked),
        "other_chain": " ".join(puzzle.other),
    }
    return Item(item_id, SELECTION, question(puzzle, layout), answer(start, end), extra=extra)


def puzzle_of(item: Item) -> Puzzle:
    """Return the puzzle of an item, from its extra fields."""
    asked = tuple(item.extra["chain"].split())
    other = tuple(item.extra["other_chain"].split())
    return Puzzle(asked, other)


def listed_words(item: Item) -> tuple[str, ...]:
    """Return the words of an item's question in their order."""
    first_line = item.question.split("\n")[0]
    return tuple(first_line.removeprefix(LIST.format(words="")).split())
