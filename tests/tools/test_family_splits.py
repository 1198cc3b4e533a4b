"""The part of the data that can be learned as rules: what train shows, and what it never does."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest

from grpo_helpers.data import load_items
from grpo_helpers.splits import SPLITS, TEST_SPLITS, UNSEEN_SPLITS
from tools.corpus.cards import load_cards
from tools.corpus.check import gold_sentence
from tools.corpus.families import TWO_WAY, load_families
from tools.corpus.family_splits import held_out_forms
from tools.corpus.sentences import near_copies

ITEMS = {split.name: load_items(f"data/embedded/{split.file}") for split in SPLITS}
FAMILIES = load_families()


CARDS = [*load_cards(), *(family.card for family in FAMILIES)]


def text_of(split):
    """Return every question and answer of a split in one text."""
    return "\n".join(f"{item.question}\n{item.answer}" for item in ITEMS[split])


@pytest.mark.parametrize("split", [split.name for split in UNSEEN_SPLITS])
@pytest.mark.parametrize("shown", ["train", "few_shot"])
def test_no_held_out_form_is_shown(split, shown):
    text = text_of(shown)
    held_out = held_out_forms(CARDS, FAMILIES, ITEMS[split])
    assert len(held_out) > 100
    assert [form for form in held_out if form in text] == []


def test_no_sentence_is_in_two_splits():
    sentences = defaultdict(set)
    for split, items in ITEMS.items():
        for item in items:
            sentences[gold_sentence(item)].add(split)
    assert [text for text, splits in sentences.items() if len(splits) > 1] == []


def test_no_two_splits_have_near_copies():
    sentences = {split: {gold_sentence(item) for item in items} for split, items in ITEMS.items()}
    assert near_copies(sentences) == []


def test_every_family_has_enough_unseen_words():
    words = defaultdict(set)
    for item in ITEMS["test_unseen_words"]:
        words[item.extra["card"]].add(item.extra["word"])
    for family in FAMILIES:
        assert len(words[family.card.id]) >= 5, family.card.id


@pytest.mark.parametrize("split", ["train", "test", "test_unseen_words", "test_nonce"])
def test_right_forms_of_two_way_families_are_balanced(split):
    forms = defaultdict(Counter)
    for item in ITEMS[split]:
        if item.extra["kind"] == TWO_WAY:
            forms[item.extra["card"]][item.extra["form"]] += 1
    for card, counts in forms.items():
        assert len(counts) == 2, card
        assert max(counts.values()) <= 1.5 * min(counts.values()), (card, counts)


@pytest.mark.parametrize("split", ["train", "test", "test_unseen_words", "test_nonce"])
def test_each_question_type_asks_for_both_forms_of_a_two_way_family_equally(split):
    forms = defaultdict(Counter)
    for item in ITEMS[split]:
        if item.extra["kind"] == TWO_WAY:
            forms[item.extra["card"], item.question_type][item.extra["form"]] += 1
    for asked, counts in forms.items():
        assert len(counts) == 2, asked
        assert max(counts.values()) - min(counts.values()) <= 1, (asked, counts)


def test_train_has_twenty_lexical_words():
    lexical = {item.extra["word"] for item in ITEMS["train"] if item.extra["kind"] == "lexical"}
    assert len(lexical) >= 20


def test_dev_and_test_ask_about_train_words_only():
    train = {item.extra["word"] for item in ITEMS["train"]}
    for split in ("dev", "test"):
        assert {item.extra["word"] for item in ITEMS[split]} <= train


@pytest.mark.parametrize("split", [split.name for split in TEST_SPLITS])
def test_both_question_types_are_equally_frequent(split):
    types = Counter(item.question_type for item in ITEMS[split])
    assert max(types.values()) - min(types.values()) <= 1


def test_nonce_words_are_said_to_be_invented():
    for item in ITEMS["test_nonce"]:
        assert item.extra["source"] == "invented"
        assert item.extra["word_gloss"] == "an invented word"
