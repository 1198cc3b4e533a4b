"""Build the course's data from the norm cards: ``python -m tools.build_data`` (``make data``).

Writes ``data/train.json``, ``dev.json``, ``test.json`` and ``few_shot.json`` in the contest's shape. Deterministic:
the same cards give the same bytes. Every sentence of an entry goes to one split only, and no two sentences of
different splits are near copies (character 5-gram Jaccard <= 0.6), so dev and test hold sentences never trained on.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections import Counter
from pathlib import Path

from grpo_helpers.answers import format_answer
from grpo_helpers.data import CORRECTION, SELECTION, InputError, Item, item_to_row, project_root, write_json
from grpo_helpers.prompts import NEAR_COPY, char_ngrams, jaccard
from tools.cards import Card, Entry, load_cards

SELECTION_TEMPLATE = '"{sentence}" 가운데 올바른 것을 선택하고, 그 이유를 설명하세요.'
CORRECTION_TEMPLATE = '다음 문장에서 어문 규범에 부합하지 않는 부분을 찾아 고치고, 그 이유를 설명하세요.\n"{sentence}"'
DEV_SENTENCES = 3  # of an entry's ten; each becomes one item of each type
TEST_SENTENCES = 3
SMOKE = {"train": 16, "dev": 16, "test": 16}  # first items of a split, for runs that take seconds
TRAIN_SENTENCES = 2  # the first becomes a 선택형 item, the second a 교정형 item: 102 prompts an epoch


def selection_question(carrier: str, first: str, second: str) -> str:
    """Return a 선택형 question with the two forms in a brace, in the given order."""
    return SELECTION_TEMPLATE.format(sentence=carrier.replace("{}", "{" + f"{first}/{second}" + "}"))


def correction_question(carrier: str, wrong: str) -> str:
    """Return a 교정형 question whose sentence holds the wrong form."""
    return CORRECTION_TEMPLATE.format(sentence=carrier.replace("{}", wrong))


def make_item(card: Card, entry: Entry, carrier: str, gloss: str, kind: str, right_first: bool, item_id: str) -> Item:
    """Return one item: the question of ``kind`` on ``carrier``, its gold answer, and where it comes from."""
    if kind == SELECTION:
        forms = (entry.right, entry.wrong) if right_first else (entry.wrong, entry.right)
        question = selection_question(carrier, *forms)
    else:
        question = correction_question(carrier, entry.wrong)
    answer = format_answer(carrier.replace("{}", entry.right), card.short_reason(entry))
    extra = {
        "card": card.id,
        "category": card.category,
        "source": "written",
        "gloss": gloss,
        "word_gloss": entry.meaning_en,
    }
    return Item(item_id, kind, question, answer, extra)


def shuffled_sentences(entry: Entry, card: Card) -> list[tuple[str, str]]:
    """Return the entry's sentences in an order drawn from its card's id."""
    seed = int.from_bytes(hashlib.sha256(f"{card.id}/{entry.right}".encode()).digest()[:8])
    return random.Random(seed).sample(entry.sentences, len(entry.sentences))


def build_splits(cards: list[Card]) -> dict[str, list[Item]]:
    """Return the items of ``train``, ``dev``, ``test`` and ``few_shot``."""
    wanted: dict[str, list[tuple[Card, Entry, str, str, str]]] = {k: [] for k in ("train", "dev", "test", "few_shot")}
    both = (SELECTION, CORRECTION)
    for card, entry in ((c, e) for c in cards for e in c.entries):
        sentences = shuffled_sentences(entry, card)
        if card.few_shot:
            wanted["few_shot"] += [(card, entry, *s, kind) for s in sentences for kind in both]
            continue
        parts = _cut(sentences, DEV_SENTENCES, TEST_SENTENCES, TRAIN_SENTENCES)
        wanted["dev"] += [(card, entry, *s, kind) for s in parts[0] for kind in both]
        wanted["test"] += [(card, entry, *s, kind) for s in parts[1] for kind in both]
        wanted["train"] += [(card, entry, *s, kind) for s, kind in zip(parts[2], both, strict=True)]
    return {split: _number(split, rows) for split, rows in wanted.items()}


def _cut(sentences: list, *sizes: int) -> list[list]:
    if len(sentences) < sum(sizes):
        raise InputError(f"an entry has {len(sentences)} sentences, {sum(sizes)} are needed: {sentences[0][0]}")
    edges = [0, *itertools.accumulate(sizes)]
    return [sentences[a:b] for a, b in itertools.pairwise(edges)]


def _number(split: str, rows: list) -> list[Item]:
    # The option order is balanced exactly: half of a split's 선택형 items show the right form first.
    order = random.Random(f"option order of {split}")
    selections = sum(kind == SELECTION for *_, kind in rows)
    right_first = [True] * (selections // 2) + [False] * (selections - selections // 2)
    order.shuffle(right_first)
    rows = rows.copy()
    random.Random(f"item order of {split}").shuffle(rows)
    flags = iter(right_first)
    return [
        make_item(card, entry, carrier, gloss, kind, kind == SELECTION and next(flags), f"{split}-{number:04d}")
        for number, (card, entry, carrier, gloss, kind) in enumerate(rows, 1)
    ]


def near_copies(splits: dict[str, list[Item]]) -> list[tuple[str, str, float]]:
    """Return (sentence, sentence, Jaccard) of every pair of different splits above the limit."""
    grams = {
        split: {sentence: char_ngrams(sentence) for sentence in map(_gold_sentence, items)}
        for split, items in splits.items()
    }
    return [
        (left, right, score)
        for one, other in itertools.combinations(grams, 2)
        for left, lgrams in grams[one].items()
        for right, rgrams in grams[other].items()
        if (score := jaccard(lgrams, rgrams)) > NEAR_COPY
    ]


def _gold_sentence(item: Item) -> str:
    return item.answer.split('"')[1]


def main(folder: Path | None = None) -> None:
    """Build, check and write the splits; print their counts."""
    folder = folder or project_root() / "data"
    splits = build_splits(load_cards())
    copies = near_copies(splits)
    if copies:
        raise InputError(f"{len(copies)} near copies across splits, e.g. {copies[0]}")
    for split, items in splits.items():
        write_json(folder / f"{split}.json", [item_to_row(item) for item in items])
        if split in SMOKE:
            write_json(folder / "smoke" / f"{split}.json", [item_to_row(item) for item in items[: SMOKE[split]]])
        types = Counter(item.question_type for item in items)
        print(f"{split:9} {len(items):4d} items  " + "  ".join(f"{k} {v}" for k, v in sorted(types.items())))


if __name__ == "__main__":
    main()
