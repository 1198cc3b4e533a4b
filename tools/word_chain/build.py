"""Build the files of the word-chain game: ``python -m tools.word_chain.build``.

In: ``data/word_chain/words.yaml``. Out, in the contest's shape: ``train.json``, ``dev.json``,
``test.json``, ``test_unseen_words.json`` and ``few_shot.json`` in the same folder. The same words
give the same bytes.

Three things keep the splits apart. No two items of any files have a start and an end in common, be
it as the right or as a wrong pair: so no chain, and no path between the same two words, is in two
splits, and it helps nobody to remember which end a start had. Some words are held out: they are in
no file but ``test_unseen_words.json``, where all starts and ends are such words, and many of those
between them. And the careless teacher gets the pairs of all files, and the held-out words, as what
it must not use (:class:`Reserved`).
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from grpo_helpers.command_line import run_command
from grpo_helpers.data import item_to_row, load_items
from grpo_helpers.files import InputError, project_root, write_json
from grpo_helpers.questions import Item
from tools.word_chain.chains import ChainMaker, Tie
from tools.word_chain.questions import make_item, puzzle_of, shuffled
from tools.word_chain.words import load_words

FOLDER = Path("data/word_chain")
HOPS = (4, 5, 6, 7, 8)
COUNTS = {"few_shot": 20, "test_unseen_words": 150, "test": 300, "dev": 200, "train": 2000}
UNSEEN_SPLIT = "test_unseen_words"
HELD_OUT = 250  # words
COMPANIONS = 750  # words seen in train that may stand between held-out words


@dataclass(frozen=True)
class Reserved:
    """What belongs to the files and must not be in a lesson.

    Attributes:
        ties: The pairs of a start and an end of all items.
        words: The words that are held out.
    """

    ties: frozenset[Tie]
    words: frozenset[str]


def seeded(*names: object) -> random.Random:
    """Return a generator of random numbers whose seed is a text."""
    return random.Random("word chain: " + " ".join(map(str, names)))


def held_out_words(words: Iterable[str]) -> frozenset[str]:
    """Return the words that train never shows.

    All of them can stand inside a chain: their first syllable ends other words, their last one
    begins other words.
    """
    ordered = sorted(words)
    firsts = Counter(word[0] for word in ordered)
    lasts = Counter(word[-1] for word in ordered)
    inner = [word for word in ordered if lasts[word[0]] > 1 and firsts[word[-1]] > 1]
    return frozenset(seeded("held out").sample(inner, HELD_OUT))


def build(
    glosses: Mapping[str, str], hops: Sequence[int] = HOPS, counts: Mapping[str, int] = COUNTS
) -> dict[str, list[Item]]:
    """Return the items of every split.

    Args:
        glosses: The gloss of every word.
        hops: The numbers of hops; each is the number of equally many items of a split.
        counts: The number of items of each split.

    Raises:
        InputError: A count is no multiple of twice the number of ``hops``, so that the right option
            cannot be the first in half of the items of each.
    """
    held_out = held_out_words(glosses)
    seen_words = [word for word in glosses if word not in held_out]
    used: set[Tie] = set()
    files = {}

    for split, count in counts.items():
        if count % (2 * len(hops)):
            raise InputError(f"{split}: {count} items cannot be divided: take {2 * len(hops)}s")

        rng = seeded(split)
        if split == UNSEEN_SPLIT:
            pool = [*sorted(held_out), *rng.sample(seen_words, COMPANIONS)]
            maker = ChainMaker(pool, rng, sealed=used, outer=held_out)
        else:
            maker = ChainMaker(seen_words, rng, sealed=used)

        items = []
        for number, (hop_count, right_first) in enumerate(_order(hops, count, rng), 1):
            puzzle = maker.puzzle(hop_count)
            used.update(puzzle.ties)
            layout = shuffled(puzzle, rng, right_first)
            items.append(make_item(f"{split}-{number:04d}", puzzle, layout, glosses))
        files[split] = items

    return files


def _order(hops: Sequence[int], count: int, rng: random.Random) -> list[tuple[int, bool]]:
    """Return the hops of each item, and whether its right option is first, in random order."""
    order = [(hop_count, first) for hop_count in hops for first in (True, False)]
    order *= count // len(order)
    rng.shuffle(order)
    return order


def reserved(folder: Path | None = None) -> Reserved:
    """Return what the files in a folder keep for themselves.

    Args:
        folder: The folder of the files; ``data/word_chain`` if not given.
    """
    folder = folder or project_root() / FOLDER
    ties: set[Tie] = set()
    for split in COUNTS:
        for item in load_items(folder / f"{split}.json"):
            ties.update(puzzle_of(item).ties)
    return Reserved(frozenset(ties), held_out_words(load_words()))


def write_files(folder: Path, hops: Sequence[int]) -> None:
    """Build and write every file; print their counts."""
    for split, items in build(load_words(), hops, counts=COUNTS).items():
        write_json(folder / f"{split}.json", list(map(item_to_row, items)))
        kinds = Counter(str(item.extra["kind"]) for item in items)
        listing = ", ".join(f"{kinds[kind]} of {kind}" for kind in sorted(kinds))
        print(f"{split:18} {len(items):5d} items: {listing}")


def main(argv: Sequence[str] | None = None) -> int:
    """Write the files; return 0, or 2 where the words or the arguments cannot be used."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.word_chain.build", description=__doc__.splitlines()[0]
    )
    add = parser.add_argument
    add("--hops", type=int, nargs="+", default=HOPS, help="links from a start to its end")
    add("--folder", type=Path, default=project_root() / FOLDER, help="where the files go")
    args = parser.parse_args(argv)

    def body() -> int:
        write_files(args.folder, args.hops)
        return 0

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
