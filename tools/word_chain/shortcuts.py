"""Solvers of the word-chain game that follow no link: ``python -m tools.word_chain.shortcuts``.

In: train and test items. Out: how often each solver is right. If one were right more often than a
coin, a model could learn it in place of the game, and a direct answer would need no steps. Some
solvers look at the question alone; others have learned from the train items which ends, syllables
or pairs were right there.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from grpo_helpers.command_line import run_command
from grpo_helpers.data import load_items
from grpo_helpers.files import project_root
from grpo_helpers.letters import letters_of
from grpo_helpers.questions import Item, offered_choices
from tools.word_chain.build import FOLDER
from tools.word_chain.questions import listed_words, puzzle_of

TESTS = ("test", "test_unseen_words")


@dataclass(frozen=True)
class Asked:
    """What a solver sees of a question.

    Attributes:
        start: The word that the chain begins with.
        words: The listed words, in their order.
        options: The two ends, in their order.
        right: The option that is right: for scoring, and for learning from train items.
    """

    start: str
    words: tuple[str, ...]
    options: tuple[str, ...]
    right: str

    @property
    def wrong(self) -> str:
        """The other option."""
        first, second = self.options
        return second if self.right == first else first


Score = Callable[[Asked, str], float]  # of an option: the one with the higher score is chosen


@dataclass(frozen=True)
class Outcome:
    """How a solver did.

    Attributes:
        name: What the solver looks at.
        right: How many questions it got right.
        decided: How many it had an opinion on: where both options score the same, it has none.
    """

    name: str
    right: int
    decided: int

    @property
    def deviation(self) -> float:
        """How far its share is from one half, in standard deviations of a fair coin."""
        if not self.decided:
            return 0.0
        return (self.right - self.decided / 2) / math.sqrt(self.decided / 4)


def asked_of(item: Item) -> Asked:
    """Return what a solver sees of an item."""
    (choice,) = offered_choices(item)
    puzzle = puzzle_of(item)
    return Asked(puzzle.asked[0], listed_words(item), choice.options, puzzle.asked[-1])


# -- solvers that look at the question --------------------------------------------------------


def is_first(asked: Asked, option: str) -> float:
    """Prefer the first option."""
    return float(option == asked.options[0])


def place(asked: Asked, option: str) -> float:
    """Prefer the option that is listed later."""
    return asked.words.index(option)


def nearness(asked: Asked, option: str) -> float:
    """Prefer the option that is listed nearer to the start."""
    return -abs(asked.words.index(option) - asked.words.index(asked.start))


def after_start(asked: Asked, option: str) -> float:
    """Prefer an option that is listed after the start."""
    return float(asked.words.index(option) > asked.words.index(asked.start))


def linked_neighbour(asked: Asked, option: str) -> float:
    """Prefer an option that goes on from the word listed just before it."""
    index = asked.words.index(option)
    return float(index > 0 and asked.words[index - 1][-1] == option[0])


def linked(asked: Asked, option: str) -> float:
    """Count the listed words that the option goes on from."""
    return sum(word[-1] == option[0] for word in asked.words)


def shared_syllables(asked: Asked, option: str) -> float:
    """Count the syllables that the option has in common with the start."""
    return len(set(asked.start) & set(option))


def shared_letters(asked: Asked, option: str) -> float:
    """Count the letters that the option has in common with the start."""
    return len(_letters(asked.start) & _letters(option))


def _letters(word: str) -> set[str]:
    letters = set()
    for syllable in word:
        parts = letters_of(syllable)
        letters |= {f"initial {parts.initial}", f"medial {parts.medial}", f"final {parts.final}"}
    return letters


def length(asked: Asked, option: str) -> float:
    """Prefer the longer option."""
    return len(option)


def same_length(asked: Asked, option: str) -> float:
    """Prefer an option as long as the start."""
    return float(len(option) == len(asked.start))


def alphabet(asked: Asked, option: str) -> float:
    """Prefer the option that is later in the alphabet."""
    return float(option == max(asked.options))


def alphabet_nearness(asked: Asked, option: str) -> float:
    """Prefer the option whose first syllable is nearer to the start's in the alphabet."""
    return -abs(ord(option[0]) - ord(asked.start[0]))


# -- solvers that have learned from train -----------------------------------------------------


def learned(rate: Callable[[Asked, str], object], train: Sequence[Asked]) -> Score:
    """Return a solver that prefers what was right more often than wrong in train.

    Args:
        rate: What it looks at: a value of the question and an option.
        train: The questions that it learns from.
    """
    right: Counter[object] = Counter()
    seen: Counter[object] = Counter()
    for asked in train:
        for option in asked.options:
            value = rate(asked, option)
            seen[value] += 1
            right[value] += option == asked.right

    def score(asked: Asked, option: str) -> float:
        value = rate(asked, option)
        return (right[value] + 1) / (seen[value] + 2)

    return score


def listed_company(train: Sequence[Asked]) -> Score:
    """Return a solver that knows which words were listed where an end was right, and where wrong.

    It scores an option by the log odds of all listed words, as naive Bayes does, each word by its
    first and its last syllable, so that there is enough to learn from.
    """
    counts: dict[bool, Counter[tuple[str, str]]] = {True: Counter(), False: Counter()}
    for asked in train:
        for option in asked.options:
            counts[option == asked.right].update(_company(asked, option))

    def score(asked: Asked, option: str) -> float:
        pairs = _company(asked, option)
        return sum(math.log((counts[True][p] + 1) / (counts[False][p] + 1)) for p in pairs)

    return score


def _company(asked: Asked, option: str) -> list[tuple[str, str]]:
    """Return each listed word's syllables beside the first syllable of an option."""
    return [(word[0] + word[-1], option[0]) for word in asked.words]


# -- all of them ------------------------------------------------------------------------------


def solvers(train: Sequence[Asked]) -> dict[str, Score]:
    """Return every solver by what it looks at.

    Args:
        train: The questions that some of them learn from.
    """
    by_rate = partial(learned, train=train)
    return {
        "first option": is_first,
        "place in the list": place,
        "near the start in the list": nearness,
        "after the start in the list": after_start,
        "goes on from its neighbour": linked_neighbour,
        "goes on from any word": linked,
        "syllables of the start": shared_syllables,
        "letters of the start": shared_letters,
        "longer": length,
        "as long as the start": same_length,
        "later in the alphabet": alphabet,
        "near the start in the alphabet": alphabet_nearness,
        "learned: the end": by_rate(lambda asked, option: option),
        "learned: first syllable": by_rate(lambda asked, option: option[0]),
        "learned: last syllable": by_rate(lambda asked, option: option[-1]),
        "learned: start and end": by_rate(lambda asked, option: (asked.start, option)),
        "learned: syllables of both": by_rate(
            lambda asked, option: (asked.start[-1], option[0]),
        ),
        "learned: company": listed_company(train),
    }


def outcomes(train: Sequence[Item], tests: Sequence[Item]) -> list[Outcome]:
    """Return how every solver does on test items."""
    questions = [asked_of(item) for item in tests]
    results = []
    for name, score in solvers([asked_of(item) for item in train]).items():
        right = decided = 0
        for asked in questions:
            first, second = (score(asked, option) for option in asked.options)
            if first == second:
                continue
            decided += 1
            right += asked.right == asked.options[0 if first > second else 1]
        results.append(Outcome(name, right, decided))
    return results


def main(argv: Sequence[str] | None = None) -> int:
    """Print how every solver does; return 0, or 2 where a file cannot be used."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.word_chain.shortcuts", description=__doc__.splitlines()[0]
    )
    parser.parse_args(argv)

    def body() -> int:
        folder = project_root() / FOLDER
        train = load_items(folder / "train.json")
        for split in TESTS:
            print(split)
            for outcome in outcomes(train, load_items(folder / f"{split}.json")):
                share = outcome.right / outcome.decided if outcome.decided else math.nan
                counts = f"{outcome.right:4d} of {outcome.decided:4d}"
                print(f"  {outcome.name:32} {counts}  {share:.3f}  z {outcome.deviation:+.1f}")
        return 0

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
