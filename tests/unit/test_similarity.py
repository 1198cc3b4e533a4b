"""Similar sentences, and the words in which two texts differ."""

import pytest

from grpo_helpers.similarity import changed_words, char_ngrams, jaccard

CHANGES = {
    "one word": ("마음씨가 고워서 좋아해요.", "마음씨가 고와서 좋아해요.", "고워서 -> 고와서"),
    "one word becomes two": ("혼자서 할수 없는", "혼자서 할 수 없는", "할수 -> 할 수"),
    "two places": ("가 나 다 라", "마 나 다 바", "가 -> 마, 라 -> 바"),
    "a word is added": ("가 다", "가 나 다", " -> 나"),
    "a word is removed": ("가 나 다", "가 다", "나 -> "),
    "only the spaces": ("가  나", "가 나", ""),
    "nothing": ("가 나", "가 나", ""),
    "from nothing": ("", "가", " -> 가"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_changed_words_are_old_words_and_new_words(case):
    before, after, expected = CHANGES[case]
    assert changed_words(before, after) == expected


def test_changed_words_compares_places_not_sets():
    assert changed_words("가 나 가", "가 나 나") == "가 -> 나"


def test_ngrams_of_a_short_text_are_the_text():
    assert char_ngrams("봄", 5) == {"봄"}


def test_equal_sets_have_similarity_one():
    assert jaccard({"a"}, {"a"}) == 1.0


def test_empty_sets_have_similarity_one():
    assert jaccard(set(), set()) == 1.0


def test_disjoint_sets_have_similarity_zero():
    assert jaccard({"a"}, {"b"}) == 0.0
