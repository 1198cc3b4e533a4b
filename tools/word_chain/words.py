"""The words of the word-chain game, and which of them may follow which.

In: ``data/word_chain/words.yaml``. Out: the words with their glosses, checked, and a graph of their
syllables. In 끝말잇기 the next word begins with the last syllable of the word before: 기차 (train),
차표 (ticket), 표지 (cover). The syllable must be the same as it is written; where people also play
that 리 may go on with 이 (두음 법칙, the rule on initial sounds), this game does not.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from grpo_helpers.files import InputError, project_root
from grpo_helpers.letters import is_syllable

SYLLABLES = (2, 3)  # the lengths that a word may have
_ENTRY = re.compile(r"^(\S+):", re.MULTILINE)


def load_words(path: Path | None = None) -> dict[str, str]:
    """Return the gloss of every word, in the order of the alphabet.

    Args:
        path: The YAML file; ``data/word_chain/words.yaml`` if not given.

    Raises:
        InputError: A word is listed twice, is too long or too short, is not in Hangul, or has no
            gloss.
    """
    path = path or project_root() / "data" / "word_chain" / "words.yaml"
    text = path.read_text(encoding="utf-8")
    glosses = yaml.safe_load(text)

    _refuse_repetition(_ENTRY.findall(text), path)
    for word, gloss in glosses.items():
        _check(word, gloss, path)
    return dict(sorted(glosses.items()))


def _refuse_repetition(listed: Iterable[str], path: Path) -> None:
    """Raise InputError for a word that is listed twice: YAML itself takes the last one silently."""
    seen = set()
    for word in listed:
        if word in seen:
            raise InputError(f"{path}: {word} is listed twice: remove one of them")
        seen.add(word)


def _check(word: object, gloss: object, path: Path) -> None:
    """Raise InputError for a word that the game cannot use."""
    if not isinstance(word, str) or not all(map(is_syllable, word)):
        raise InputError(f"{path}: {word!r} is not written in Hangul: correct or remove it")
    if len(word) not in SYLLABLES:
        raise InputError(f"{path}: {word} has {len(word)} syllables: take words of 2 or 3")
    if not isinstance(gloss, str) or not gloss.strip():
        raise InputError(f"{path}: {word} has no English gloss: add one after the colon")


@dataclass(frozen=True)
class Graph:
    """The words as edges from their first syllable to their last.

    Attributes:
        words: All words, sorted.
        starting_with: The words that begin with a syllable, by that syllable.
        leading_to: For each number of words, and each syllable, the syllables from which a walk
            over that many words can lead to it. ``leading_to[0]`` has each syllable itself.
    """

    words: tuple[str, ...]
    starting_with: Mapping[str, tuple[str, ...]]
    leading_to: tuple[Mapping[str, frozenset[str]], ...]


def build_graph(words: Iterable[str], longest: int) -> Graph:
    """Return the graph of some words.

    Args:
        words: The words.
        longest: The longest walk, in words, that is looked up in it.

    Example:
        >>> graph = build_graph(["기차", "차표", "표지"], longest=2)
        >>> graph.starting_with["차"], graph.leading_to[2]["표"]
        (('차표',), frozenset({'기'}))
    """
    ordered = tuple(sorted(set(words)))
    starting_with: defaultdict[str, list[str]] = defaultdict(list)
    one_before: defaultdict[str, set[str]] = defaultdict(set)
    for word in ordered:
        starting_with[word[0]].append(word)
        one_before[word[-1]].add(word[0])

    syllables = sorted({*starting_with, *one_before})
    leading_to: list[dict[str, frozenset[str]]] = [{each: frozenset(each) for each in syllables}]
    for _ in range(longest):
        farther = {}
        for syllable in syllables:
            nearer = leading_to[-1][syllable]
            farther[syllable] = frozenset().union(*(one_before[each] for each in nearer))
        leading_to.append(farther)

    sorted_words = {syllable: tuple(begun) for syllable, begun in starting_with.items()}
    return Graph(ordered, sorted_words, tuple(leading_to))
