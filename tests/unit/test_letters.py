"""The letters of Hangul syllables."""

from __future__ import annotations

import unicodedata

import pytest

from grpo_helpers.letters import all_syllables, is_syllable, letters_of


def test_letters_of_every_syllable_make_up_the_syllable():
    assert all(letters_of(syllable).syllable == syllable for syllable in all_syllables())


def test_there_are_11172_syllables():
    assert len(set(all_syllables())) == 11_172


def test_syllables_have_a_final_where_unicode_has_one():
    for syllable in all_syllables():
        has_final = len(unicodedata.normalize("NFD", syllable)) == 3
        assert bool(letters_of(syllable).final) == has_final


@pytest.mark.parametrize("char", ["ㄱ", "a", " ", "1"])
def test_other_character_is_no_syllable(char):
    assert not is_syllable(char)


def test_letters_of_another_character_are_refused():
    with pytest.raises(ValueError, match="not a Hangul syllable"):
        letters_of("ㄱ")
