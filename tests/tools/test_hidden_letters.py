"""The embedded model without letters: what is hidden, and what stays."""

from __future__ import annotations

import random

import pytest
import torch

from grpo_helpers.letters import is_syllable
from grpo_helpers.models import load_model, load_tokenizer
from tools.tiny_model.hidden_letters import (
    LETTERS,
    Phase,
    deal_syllables,
    lessons_without_letters,
    with_random_letters,
)
from tools.tiny_model.train import build_teacher

FULL = Phase(steps=1, batch=40, frame="full", lr=(1e-3, 1e-3))


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("data/tiny_model")


@pytest.fixture(scope="module")
def tables():
    """The embedding table before and after the syllables were dealt."""
    model = load_model("data/tiny_model")
    table = model.get_input_embeddings().weight.detach()
    before = table.clone()

    deal_syllables(model, load_tokenizer("data/tiny_model"), random.Random(0))
    return before, table


@pytest.fixture
def known(tokenizer):
    return {token for token in tokenizer.get_vocab() if len(token) == 1}


@pytest.fixture
def draw(known):
    return lessons_without_letters(build_teacher(0), known, random.Random(0))


def rows_of(tokenizer, *, syllables):
    vocabulary = tokenizer.get_vocab()
    return [row for token, row in vocabulary.items() if is_syllable(token) == syllables]


def test_nearly_every_syllable_gets_another_vector(tokenizer, tables):
    before, after = tables
    rows = rows_of(tokenizer, syllables=True)

    moved = (before[rows] != after[rows]).any(dim=1)

    assert moved.float().mean() > 0.99


def test_no_vector_of_a_syllable_is_lost(tokenizer, tables):
    before, after = tables
    rows = rows_of(tokenizer, syllables=True)

    sums_before, sums_after = before[rows].sum(dim=1), after[rows].sum(dim=1)

    assert torch.equal(sums_before.sort().values, sums_after.sort().values)


def test_other_characters_keep_their_vectors(tokenizer, tables):
    before, after = tables
    rows = rows_of(tokenizer, syllables=False)

    assert torch.equal(before[rows], after[rows])


def test_a_letter_becomes_another_one_and_syllables_stay():
    text = with_random_letters("받침 'ㅂ' 뒤", random.Random(0))

    assert text[:4] == "받침 '"
    assert text[5:] == "' 뒤"
    assert text[4] in LETTERS


def test_letters_of_reasons_say_nothing(draw):
    """Both answers to a question name its letters; drawn at random, they seldom agree."""
    letters = []
    for _ in range(20):
        for lesson in draw(FULL):
            reason = lesson.answer.partition("옳다.")[2]
            letters += [letter for letter in reason if letter in LETTERS]

    most_frequent = max(letters.count(letter) for letter in set(letters))
    assert len(letters) > 100
    assert most_frequent / len(letters) < 2 / len(LETTERS)


def test_lessons_have_known_characters_only(draw, known):
    assert all(known.issuperset(lesson.answer) for lesson in draw(FULL))
