"""Build the course's data from the norm cards: ``python -m tools.corpus.build`` (``make data``).

In: ``data/norms/*.yaml``. Out, in the contest's shape and mix: the corpus (``data/train.json``,
``dev``, ``test``, ``test_unseen_words``, ``test_unseen_norms``, ``few_shot``); from the same
sentences ``data/embedded/``, the part that the embedded model can learn within minutes, and
``data/smoke/``, its first items; from ``data/norms/families/`` the part that can be learned as
rules, ``data/families/``. Deterministic: the same cards give the same bytes.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from grpo_helpers.command_line import run_command
from grpo_helpers.data import item_to_row
from grpo_helpers.files import InputError, project_root, write_json
from grpo_helpers.questions import CORRECTION, SELECTION, Item
from tools.corpus.cards import load_cards
from tools.corpus.families import load_families
from tools.corpus.family_splits import family_part
from tools.corpus.questions import (
    Draft,
    Share,
    drafts_of,
    make_items,
    quoted,
    without_long_answers,
)
from tools.corpus.sentences import Use, divide, load_plan, near_copies, seeded, shuffled_uses

EMBEDDED_TRAIN = 2  # train sentences of a word
EMBEDDED_UNSEEN_NORMS = 6  # sentences of each held-out card

# First items of a split, for runs that take seconds.
SMOKE = {"train": 16, "dev": 16, "test": 16, "test_unseen_words": 8, "test_unseen_norms": 8}


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


# -- the embedded model's part ----------------------------------------------------------------


def embedded_splits(
    uses: Mapping[str, list[Use]], plan: Mapping[str, Any]
) -> dict[str, list[Item]]:
    """Return the embedded model's splits: main shapes and short reasons.

    Its words are those of the cards with one word. Its unseen words are those of families whose
    norm is represented by such a word. Items with answers that are too long for that model are left
    out.

    Args:
        uses: The sentences of each split of the corpus.
        plan: The content of ``splits.yaml``.
    """
    own = plan["embedded"]
    unseen_words = [use for use in uses["test_unseen_words"] if use.card.id in own["unseen_words"]]
    chosen = {
        "train": _first_of_each_card(_of_single_words(uses["train"]), EMBEDDED_TRAIN),
        "dev": _of_single_words(uses["dev"]),
        "test": _of_single_words(uses["test"]),
        "test_unseen_words": unseen_words,
        "test_unseen_norms": _first_of_each_card(uses["test_unseen_norms"], EMBEDDED_UNSEEN_NORMS),
        "few_shot": _embedded_examples(uses["few_shot"], own),
    }

    items = {}
    for split, sentences in chosen.items():
        items[split] = embedded_items(split, sentences)
    return items


def _of_single_words(uses: Iterable[Use]) -> list[Use]:
    """Return the sentences of cards with one word."""
    return [use for use in uses if len(use.card.entries) == 1]


def _card_of(use: Use) -> str:
    return use.card.id


def _word_of(use: Use) -> tuple[str, str]:
    return use.card.id, use.entry.right


def _first_of_each_card(uses: Iterable[Use], count: int) -> list[Use]:
    """Return the first ``count`` sentences of each card; those of a card are neighbours."""
    first: list[Use] = []
    for _, group in itertools.groupby(uses, _card_of):
        first += itertools.islice(group, count)
    return first


def _embedded_examples(few_shot: Iterable[Use], own: Mapping[str, Any]) -> list[Use]:
    """Return a few sentences of the first word of each of the embedded model's few-shot cards."""
    examples: list[Use] = []
    for card_id, group in itertools.groupby(few_shot, _card_of):
        if card_id in own["few_shot"]:
            card = next(group).card
            examples += shuffled_uses(card, card.entries[0], own["few_shot_sentences"])
    return examples


def embedded_items(split: str, uses: Sequence[Use]) -> list[Item]:
    """Return both types of question about each sentence, without the items that are too long.

    Of two train sentences of a word each gets one type only: every prompt costs training time.
    """
    drafts: list[Draft] = []
    for _, group in itertools.groupby(uses, _word_of):
        sentences = list(group)
        if split == "train" and len(sentences) == 2:
            first, second = sentences
            drafts += [Draft(first, SELECTION), Draft(second, CORRECTION)]
            continue
        for use in sentences:
            drafts += [Draft(use, SELECTION), Draft(use, CORRECTION)]

    random.Random(f"item order of {split}").shuffle(drafts)
    return without_long_answers(f"embedded/{split}", make_items(drafts, split))


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

    embedded = embedded_splits(uses, plan)
    for split, items in embedded.items():
        files[f"embedded/{split}"] = items
    for split, items in family_part(load_families(), uses, plan).items():
        files[f"families/{split}"] = items
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
