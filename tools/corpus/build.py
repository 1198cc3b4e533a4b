"""Build the course's data from the norm cards: ``python -m tools.corpus.build`` (``make data``).

In: ``data/norms/*.yaml`` and ``data/norms/families/``. Out: from the cards, the corpus in the
contest's shape and mix (``data/train.json``, ``dev``, ``test``, ``test_unseen_words``,
``test_unseen_norms``, ``few_shot``); from the families and a few cards, the embedded model's part,
``data/embedded/``; and ``data/smoke/``, its first items. Deterministic: the same cards give the
same bytes.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from grpo_helpers.command_line import run_command
from grpo_helpers.data import item_to_row
from grpo_helpers.files import InputError, project_root, write_json
from grpo_helpers.questions import CORRECTION, SELECTION, Item
from tools.corpus.cards import load_cards
from tools.corpus.families import load_families
from tools.corpus.family_splits import embedded_part
from tools.corpus.questions import Share, drafts_of, make_items, quoted
from tools.corpus.sentences import Use, divide, load_plan, near_copies, seeded

# First items of a split, for runs that take seconds.
SMOKE = {
    "train": 16,
    "dev": 16,
    "test": 16,
    "test_unseen_words": 8,
    "test_nonce": 8,
    "test_unseen_norms": 8,
}


def corpus_items(uses: Sequence[Use], split: str) -> list[Item]:
    """Return the items of one split of the corpus, with full reasons.

    Types, shapes and rates are the contest's.
    """
    share = Share()
    drafts = []
    ordered = seeded("order", split).sample(uses, len(uses))
    for number, use in enumerate(ordered):
        drafts += drafts_of(quoted(use, share), number, share)

    seeded("items", split).shuffle(drafts)
    return make_items(drafts, split, share=share, full=True)


# -- files ------------------------------------------------------------------------------------


def build() -> dict[str, list[Item]]:
    """Return every file of the data by its path below ``data/``, without ``.json``.

    Raises:
        InputError: A card breaks a rule, or two splits contain near copies.
    """
    plan = load_plan()
    uses = divide(load_cards(), plan)

    _refuse_near_copies(uses)

    files = {}
    for split, sentences in uses.items():
        files[split] = corpus_items(sentences, split)

    embedded = embedded_part(load_families(), uses, plan)
    for split, items in embedded.items():
        files[f"embedded/{split}"] = items
    for split, count in SMOKE.items():
        files[f"smoke/{split}"] = embedded[split][:count]
    return files


def _refuse_near_copies(uses: Mapping[str, list[Use]]) -> None:
    """Raise InputError where two splits contain near copies."""
    sentences = {}
    for split, of_split in uses.items():
        sentences[split] = [use.right for use in of_split]

    copies = near_copies(sentences)
    if copies:
        example = f"{copies[0].sentence} | {copies[0].other_sentence}"
        raise InputError(f"{len(copies)} near copies across splits, e.g. {example}")


def write_data(folder: Path) -> None:
    """Build, check and write every file below ``folder``; print their counts."""
    for name, items in build().items():
        write_json(folder / f"{name}.json", list(map(item_to_row, items)))

        types = Counter(item.question_type for item in items)
        corrections, selections = types[CORRECTION], types[SELECTION]
        print(
            f"{name:28} {len(items):5d} items  {CORRECTION} {corrections}  {SELECTION} {selections}"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Write the data; return 0, or 2 where a card breaks a rule."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.corpus.build", description=__doc__.splitlines()[0]
    )
    parser.parse_args(argv)

    def body() -> int:
        write_data(project_root() / "data")
        return 0

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
