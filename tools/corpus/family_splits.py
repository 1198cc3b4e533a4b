"""The embedded model's part of the data, which can be learned as rules: ``data/embedded/``.

In: the families (:mod:`tools.corpus.families`), the sentences of the norm cards, ``splits.yaml``.
Out: the items of each split, with the main question shape of each type and short reasons.

===================  =============================================================================
train                one sentence of each train word of the families, two of each lexical word
dev, test            unseen sentences of the train words
test_unseen_words    words of the families, and lexical words, that train never shows
test_nonce           invented words of the families
test_unseen_norms    norm cards that are about nothing that a family is about
few_shot             norms that no other split has
===================  =============================================================================

A *lexical* word is one whose spelling no rule gives away (며칠, 육개장): the control that cannot be
learned from other words. Every item says what kind its word is, in the field ``kind``.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from grpo_helpers.files import InputError
from grpo_helpers.questions import CORRECTION, SELECTION, Item
from tools.corpus.cards import Card, Entry, reason
from tools.corpus.families import ONE_WAY, TWO_WAY, Family, Word
from tools.corpus.nonce import distinct_words
from tools.corpus.questions import Draft, make_items, without_long_answers
from tools.corpus.sentences import Use, seeded, shuffled_uses

LEXICAL = "lexical"
OTHER = "other"  # the kind of a word of a held-out norm, or of an example

UNSEEN_WORDS = {TWO_WAY: 6, ONE_WAY: 5}  # words of a family that train never shows
UNSEEN_SENTENCES = 2  # of each of them
NONCE_WORDS = {TWO_WAY: 16, ONE_WAY: 8}  # invented words of a family
REAL_WORDS = frozenset({"녹는 만큼"})  # invented by chance, and real: as much as it melts
LEXICAL_SENTENCES = 2  # of each lexical word in train, dev and test
LEXICAL_UNSEEN_SENTENCES = 3
UNSEEN_NORM_SENTENCES = 8  # of each held-out card
FEW_SHOT_SENTENCES = 4  # of each example's word


@dataclass(frozen=True)
class Asked:
    """A sentence to be asked about.

    Attributes:
        use: The sentence.
        kind: The kind of its word: two-way, one-way, lexical or other.
        form: Which of its family's right forms the word has.
    """

    use: Use
    kind: str
    form: str = ""


# -- which words are held out -----------------------------------------------------------------


def held_out_words(families: Sequence[Family], shown: Iterable[str]) -> set[str]:
    """Return the right forms of the words of all families that train never shows.

    Of each right form of a family equally many are held out. A word with a form that is written
    anywhere but in its own sentences is not chosen.

    Args:
        families: All families.
        shown: Further texts that training shows.
    """
    texts = _texts_of_words(families)
    chosen: set[str] = set()
    for family in families:
        free = []
        for word in family.words:
            others = [text for right, text in texts if right != word.entry.right]
            if not _is_written(word.entry, itertools.chain(others, shown)):
                free.append(word)
        chosen |= _balanced(family, free, UNSEEN_WORDS[family.kind])
    return chosen


def _texts_of_words(families: Iterable[Family]) -> list[tuple[str, str]]:
    """Return every sentence and reason with the right form of the word that it is about."""
    texts = []
    for family in families:
        for entry in family.card.entries:
            texts.append((entry.right, reason(entry)))
            for carrier, _ in entry.sentences:
                texts.append((entry.right, carrier.replace("{}", entry.right)))
    return texts


def _is_written(entry: Entry, texts: Iterable[str]) -> bool:
    """Return whether one of the texts contains a form of the word."""
    return any(entry.right in text or entry.wrong in text for text in texts)


def _balanced(family: Family, words: Sequence[Word], count: int) -> set[str]:
    """Return the right forms of ``count`` words; the family's right forms alternate."""
    queues: dict[str, list[str]] = {form: [] for form in family.right_forms}
    for word in seeded("unseen words", family.card.id).sample(words, len(words)):
        queues[word.side.form].append(word.entry.right)

    chosen: list[str] = []
    for form in itertools.islice(itertools.cycle(queues), count):
        if not queues[form]:
            raise InputError(f"{family.card.id}: too few words for {form} can be held out")
        chosen.append(queues[form].pop())
    return set(chosen)


# -- the splits -------------------------------------------------------------------------------


def embedded_part(
    families: Sequence[Family], uses: Mapping[str, list[Use]], plan: Mapping[str, Any]
) -> dict[str, list[Item]]:
    """Return the items of every split of ``data/embedded/``.

    Args:
        families: All families.
        uses: The sentences of each split of the corpus.
        plan: The content of ``splits.yaml``.
    """
    own = plan["embedded"]
    cards = {use.card.id: use.card for use in itertools.chain(*uses.values())}
    examples = _first_sentences(cards, own["few_shot"], FEW_SHOT_SENTENCES)
    lexical = _lexical_splits(cards, own)

    shown = [ask.use.right for ask in itertools.chain(examples, *lexical.values())]
    splits = _family_splits(families, held_out_words(families, shown))
    for split, asked in lexical.items():
        splits[split] += asked
    splits["test_nonce"] = ask_about_invented(families, nonce_words)
    splits["test_unseen_norms"] = _unseen_norms(uses["test_unseen_norms"], own["unseen_norms"])
    splits["few_shot"] = examples

    return {split: items_of(split, asked) for split, asked in splits.items()}


def _family_splits(families: Sequence[Family], held_out: set[str]) -> dict[str, list[Asked]]:
    """Return the sentences of the families' words for train, dev, test and unseen words.

    Of a train word's three sentences train and test have one each; dev has the third of every
    second word.
    """
    splits: dict[str, list[Asked]] = {
        "train": [],
        "dev": [],
        "test": [],
        "test_unseen_words": [],
    }
    for family in families:
        dev_turns = itertools.cycle([True, False])
        for word in family.words:
            uses = shuffled_uses(family.card, word.entry)
            asked = [Asked(use, family.kind, word.side.form) for use in uses]
            if word.entry.right in held_out:
                splits["test_unseen_words"] += asked[:UNSEEN_SENTENCES]
                continue

            for split, ask in zip(("train", "test", "dev"), asked, strict=True):
                if split != "dev" or next(dev_turns):
                    splits[split].append(ask)
    return splits


def _lexical_splits(cards: Mapping[str, Card], own: Mapping[str, Any]) -> dict[str, list[Asked]]:
    """Return the sentences of the lexical words: those of train, and those it never shows."""
    splits: dict[str, list[Asked]] = {}
    for card_id in own["lexical"]:
        sentences = iter(shuffled_uses(cards[card_id], cards[card_id].entries[0]))
        for split in ("train", "dev", "test"):
            for use in itertools.islice(sentences, LEXICAL_SENTENCES):
                splits.setdefault(split, []).append(Asked(use, LEXICAL))

    unseen = _first_sentences(cards, own["lexical_unseen"], LEXICAL_UNSEEN_SENTENCES)
    splits["test_unseen_words"] = [replace(ask, kind=LEXICAL) for ask in unseen]
    return splits


def _first_sentences(cards: Mapping[str, Card], ids: Iterable[str], count: int) -> list[Asked]:
    """Return ``count`` sentences of the first word of each card."""
    asked = []
    for card_id in ids:
        card = cards[card_id]
        for use in shuffled_uses(card, card.entries[0], count):
            asked.append(Asked(use, OTHER))
    return asked


def nonce_words(family: Family) -> list[Word]:
    """Return the invented words of a family that ``test_nonce`` asks about."""
    rng = seeded("nonce words", family.card.id)
    return distinct_words(family, rng, NONCE_WORDS[family.kind])


def ask_about_invented(
    families: Iterable[Family], words_of: Callable[[Family], list[Word]]
) -> list[Asked]:
    """Return invented words of every family, in sentences that any such word fits.

    Args:
        families: The families.
        words_of: Invents the words of a family, whose right forms alternate.
    """
    asked = []
    for family in families:
        carriers = itertools.cycle(family.nonce_carriers)
        of_family = []
        for word in words_of(family):
            carrier, gloss = next(carriers)
            translation = gloss.replace("{}", word.entry.right)
            use = Use(family.card, word.entry, carrier, translation, source="invented")
            of_family.append(Asked(use, family.kind, word.side.form))
        asked += _every_second_pair_reversed(of_family)
    return asked


def _every_second_pair_reversed(asked: Sequence[Asked]) -> list[Asked]:
    """Return sentences whose right forms do not alternate in step with the question types.

    Right forms alternate, and so do the types that sentences get: 선택형 would ask for one form
    only, and preferring it would look like a rule. A pair with a real word is left out.
    """
    pairs = []
    for place in range(0, len(asked), 2):
        pair = asked[place : place + 2]
        if not any(ask.use.entry.right in REAL_WORDS for ask in pair):
            pairs.append(pair)

    ordered: list[Asked] = []
    for number, pair in enumerate(pairs):
        is_second = number % 2 == 1
        ordered += reversed(pair) if is_second else pair
    return ordered


def _unseen_norms(uses: Iterable[Use], ids: Sequence[str]) -> list[Asked]:
    """Return the first sentences of each held-out card; those of a card are neighbours."""
    asked = []
    for card_id, group in itertools.groupby(uses, _card_of):
        if card_id in ids:
            for use in itertools.islice(group, UNSEEN_NORM_SENTENCES):
                asked.append(Asked(use, OTHER))
    return asked


def _card_of(use: Use) -> str:
    return use.card.id


def held_out_forms(
    cards: Iterable[Card], families: Iterable[Family], unseen: Iterable[Item]
) -> frozenset[str]:
    """Return both forms of every word that training never shows.

    Args:
        cards: The norm cards and those of the families.
        families: The families, for their invented words.
        unseen: Items about unseen words and unseen norms.
    """
    entries = {}
    for card in cards:
        for entry in card.entries:
            entries[card.id, entry.right] = entry

    held_out = [word.entry for family in families for word in nonce_words(family)]
    for item in unseen:
        unseen_entry = entries.get((item.extra["card"], item.extra["word"]))
        if unseen_entry:
            held_out.append(unseen_entry)
    return frozenset(form for entry in held_out for form in (entry.right, entry.wrong))


# -- items ------------------------------------------------------------------------------------


def items_of(split: str, asked: Sequence[Asked]) -> list[Item]:
    """Return the items of a split: examples as both types, other sentences as one in turn.

    Items with answers that are too long for a small model are left out.

    Args:
        split: The name of the split; it begins every id, and decides the order.
        asked: The sentences.
    """
    types: Iterator[tuple[str, ...]] = itertools.cycle([(SELECTION,), (CORRECTION,)])
    if split == "few_shot":
        types = itertools.repeat((SELECTION, CORRECTION))

    drafts = []
    kinds = []
    for ask, question_types in zip(asked, types, strict=False):
        for question_type in question_types:
            drafts.append(Draft(ask.use, question_type))
            kinds.append(ask)

    order = list(range(len(drafts)))
    random.Random(f"item order of {split}").shuffle(order)
    items = make_items([drafts[place] for place in order], split)

    labelled = []
    for item, place in zip(items, order, strict=True):
        labels = {"kind": kinds[place].kind, "form": kinds[place].form}
        labelled.append(replace(item, extra=item.extra | labels))
    return without_long_answers(f"embedded/{split}", labelled)
