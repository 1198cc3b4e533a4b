"""Two chains of words that do not touch, and the rule that makes their ends unguessable.

In: a graph of words, a number of hops, a seeded generator. Out: a :class:`Puzzle`: two chains of
the same length. A chain of n hops has n + 1 words.

Among the words of both chains, every word is followed by exactly one other, and the last word of a
chain by none, so the start decides the path. Nothing but the path tells the ends apart. The starts
and the ends are drawn first, both ways of joining them must be possible, and a coin decides which
of the two is made. So whoever knows the starts and the ends, and all words of the language, but
does not follow the links, is right half of the time.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from grpo_helpers.files import InputError
from tools.word_chain.words import build_graph

Chain = tuple[str, ...]
Tie = tuple[str, str]  # a start and an end

FEWEST_HOPS = 3  # with fewer, both ways of joining starts and ends hardly ever exist
MOST_HOPS = 8
_TRIES = 200_000  # draws of starts and ends before a list of words counts as too poor
_STEPS = 300  # words that are looked at before a path counts as not found


@dataclass(frozen=True)
class Puzzle:
    """Two chains of the same length, without a link between them.

    Attributes:
        asked: The chain that the question asks about.
        other: The chain whose end is the wrong option.
    """

    asked: Chain
    other: Chain

    @property
    def hops(self) -> int:
        """How many links lead from the start to the end."""
        return len(self.asked) - 1

    @property
    def words(self) -> Chain:
        """The words of both chains."""
        return self.asked + self.other

    @property
    def ties(self) -> tuple[Tie, ...]:
        """The four pairs of a start and an end, the right ones and the wrong ones alike."""
        starts = (self.asked[0], self.other[0])
        ends = (self.asked[-1], self.other[-1])
        return tuple((start, end) for start in starts for end in ends)


def follow(words: Iterable[str], start: str) -> Chain:
    """Return the chain that begins with ``start``: from word to word until none follows.

    Raises:
        InputError: Two words may follow one, or the chain runs in a circle.

    Example:
        >>> follow(["표지", "나무", "기차", "차표"], "기차")
        ('기차', '차표', '표지')
    """
    listed = list(words)
    chain = [start]
    while True:
        following = [word for word in listed if word[0] == chain[-1][-1]]
        if not following:
            return tuple(chain)
        if len(following) > 1 or following[0] in chain:
            raise InputError(f"{chain[-1]} has no single next word: {' '.join(following)}")
        chain.append(following[0])


def is_clear(puzzle: Puzzle) -> bool:
    """Return whether a puzzle has no link but those of its two chains.

    All first syllables differ, all last syllables differ, and the only syllables that both begin
    one word and end another are the links.
    """
    firsts = [word[0] for word in puzzle.words]
    lasts = [word[-1] for word in puzzle.words]
    if len(set(firsts)) < len(firsts) or len(set(lasts)) < len(lasts):
        return False

    links = set()
    for chain in (puzzle.asked, puzzle.other):
        for word, following in pairwise(chain):
            if word[-1] != following[0]:
                return False
            links.add(word[-1])
    return set(firsts) & set(lasts) == links


class ChainMaker:
    """Draws puzzles without end.

    Args:
        words: The words that chains may have.
        rng: Source of all randomness.
        sealed: Pairs of a start and an end that no puzzle may have; see :attr:`Puzzle.ties`.
        outer: The words that may be starts and ends; all words if not given.
    """

    def __init__(
        self,
        words: Iterable[str],
        rng: random.Random,
        sealed: Collection[Tie] = (),
        outer: Iterable[str] | None = None,
    ) -> None:
        """Build the graph."""
        self.graph = build_graph(words, longest=MOST_HOPS)
        self.rng = rng
        self.sealed = sealed
        self.outer = self.graph.words if outer is None else tuple(sorted(set(outer)))
        self._steps = 0  # what is left of the steps of the path that is being looked for

    def puzzle(self, hops: int) -> Puzzle:
        """Return a new puzzle.

        Args:
            hops: Links in each chain, from :data:`FEWEST_HOPS` to :data:`MOST_HOPS`.

        Raises:
            InputError: ``hops`` is out of range, or the words have no such puzzle.
        """
        if not FEWEST_HOPS <= hops <= MOST_HOPS:
            raise InputError(f"hops is {hops}; take {FEWEST_HOPS} to {MOST_HOPS}")

        for _ in range(_TRIES):
            one_start, other_start, one_end, other_end = self.rng.sample(self.outer, 4)
            starts = (one_start, other_start)
            straight = self.join(starts, (one_end, other_end), hops)
            crossed = straight and self.join(starts, (other_end, one_end), hops)
            if straight and crossed:
                return self.rng.choice([straight, crossed])
        raise InputError(f"{len(self.graph.words)} words have no puzzle of {hops} hops: add words")

    def join(self, starts: Tie, ends: Tie, hops: int) -> Puzzle | None:
        """Return chains from each start to the end of the same place, or None.

        Args:
            starts: The start that is asked about, and the other one.
            ends: Their ends.
            hops: Links in each chain.
        """
        outer = (*starts, *ends)
        ties = [(start, end) for start in starts for end in ends]
        if not _may_be_outer(outer) or any(tie in self.sealed for tie in ties):
            return None
        for start, end in zip(starts, ends, strict=True):
            if start[-1] not in self.graph.leading_to[hops - 1].get(end[0], ()):
                return None

        asked = self._path(starts[0], ends[0], hops, taken=outer)
        if asked is None:
            return None
        other = self._path(starts[1], ends[1], hops, taken=(*outer, *asked))
        return Puzzle(asked, other) if other else None

    def _path(self, start: str, end: str, hops: int, taken: Sequence[str]) -> Chain | None:
        """Return a chain from ``start`` to ``end`` whose syllables no taken word has, or None."""
        firsts = frozenset(word[0] for word in taken)
        lasts = frozenset(word[-1] for word in taken)
        self._steps = _STEPS
        return self._extend((start,), end, hops - 1, _Used(firsts, lasts))

    def _extend(self, chain: Chain, end: str, missing: int, used: _Used) -> Chain | None:
        """Return ``chain`` with ``missing`` words and the end added, or None."""
        if missing == 0:
            return (*chain, end)

        candidates = list(self.graph.starting_with.get(chain[-1][-1], ()))
        self.rng.shuffle(candidates)
        for word in candidates:
            self._steps -= 1
            if self._steps < 0 or not self._fits(word, end, missing, used):
                continue
            longer = self._extend((*chain, word), end, missing - 1, used.with_word(word))
            if longer:
                return longer
        return None

    def _fits(self, word: str, end: str, missing: int, used: _Used) -> bool:
        """Return whether a word may come next, with ``missing`` words to go before the end."""
        if word[0] in used.firsts or word[-1] in used.lasts or word[0] == word[-1]:
            return False
        is_last = missing == 1
        if is_last:
            return word[-1] == end[0]
        if word[-1] in used.firsts:
            return False
        return word[-1] in self.graph.leading_to[missing - 1].get(end[0], ())


def _may_be_outer(outer: Sequence[str]) -> bool:
    """Return whether starts and ends have no link among themselves, nor a syllable in common."""
    firsts = {word[0] for word in outer}
    lasts = {word[-1] for word in outer}
    return len(firsts) == len(outer) == len(lasts) and not firsts & lasts


@dataclass(frozen=True)
class _Used:
    """The syllables that begin or end a word already."""

    firsts: frozenset[str]
    lasts: frozenset[str]

    def with_word(self, word: str) -> _Used:
        """Return these and the syllables of ``word``."""
        return _Used(self.firsts | {word[0]}, self.lasts | {word[-1]})


def glossed(chain: Iterable[str], glosses: Mapping[str, str]) -> str:
    """Return the glosses of words, separated by semicolons.

    Example:
        >>> glossed(["기차", "차표"], {"기차": "train", "차표": "ticket"})
        'train; ticket'
    """
    return "; ".join(glosses[word] for word in chain)
