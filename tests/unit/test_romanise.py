"""Romanisation: letter by letter, so that no two spellings look the same."""

from itertools import product

import pytest

from grpo_helpers.letters import FIRST, LAST
from grpo_helpers.romanise import FINALS, INITIALS, VOWELS, romanise

# The examples of the notice itself (국어의 로마자 표기법, chapter 3, clause 8).
OFFICIAL = {
    "집": "jib",
    "짚": "jip",
    "밖": "bakk",
    "값": "gabs",
    "붓꽃": "buskkoch",
    "먹는": "meogneun",
    "독립": "doglib",
    "문리": "munli",
    "물엿": "mul-yeos",
    "굳이": "gud-i",
    "좋다": "johda",
    "가곡": "gagog",
    "조랑말": "jolangmal",
    "없었습니다": "eobs-eoss-seubnida",
}


@pytest.mark.parametrize("word", OFFICIAL)
def test_romanisation_agrees_with_the_examples_of_the_notice(word):
    assert romanise(word) == OFFICIAL[word]


def test_tables_cover_every_syllable_of_unicode():
    syllables = ord(LAST) - ord(FIRST) + 1

    assert len(INITIALS) * len(VOWELS) * len(FINALS) == syllables


def test_no_two_syllables_look_the_same():
    syllables = [chr(code) for code in range(ord(FIRST), ord(LAST) + 1)]

    assert len({romanise(syllable) for syllable in syllables}) == len(syllables)


def test_no_two_words_of_two_syllables_look_the_same():
    # The border between them is all that can be ambiguous: every final before every initial.
    step = len(VOWELS) * len(FINALS)
    first = [chr(ord(FIRST) + final) for final in range(len(FINALS))]
    second = [chr(ord(FIRST) + initial * step) for initial in range(len(INITIALS))]
    words = ["".join(pair) for pair in product(first, second)]

    assert len({romanise(word) for word in words}) == len(words)


def test_misspelling_that_sounds_alike_looks_different():
    assert (romanise("같이"), romanise("가치")) == ("gat-i", "gachi")


def test_text_without_hangul_stays_as_it_is():
    assert romanise("buffet [byfɛ], 11:20 (田畓)") == "buffet [byfɛ], 11:20 (田畓)"


def test_word_after_a_space_begins_without_a_hyphen():
    assert romanise("한 아이") == "han a-i"
