"""Families of words, and invented words that follow their patterns."""

from __future__ import annotations

import random
from collections import Counter

import pytest
import yaml

from grpo_helpers.files import InputError, project_root
from tools.corpus.cards import load_cards, reason
from tools.corpus.families import ONE_WAY, TWO_WAY, load_families
from tools.corpus.nonce import INVENTORS, distinct_words, invent

FAMILIES = load_families()
FOLDER = project_root() / "data" / "norms" / "families"
by_id = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.card.id)


# -- what there is ----------------------------------------------------------------------------


def test_there_are_enough_families_of_both_kinds():
    kinds = Counter(family.kind for family in FAMILIES)
    assert sum(kinds.values()) >= 16
    assert kinds[TWO_WAY] >= 8


def test_families_look_at_different_things():
    assert len({family.cue for family in FAMILIES}) >= 6


@by_id
def test_family_has_enough_words(family):
    least = {TWO_WAY: 24, ONE_WAY: 14}[family.kind]
    assert len(family.words) >= least


@by_id
def test_kind_says_how_many_right_forms_there_are(family):
    assert len(family.right_forms) == {TWO_WAY: 2, ONE_WAY: 1}[family.kind]


@pytest.mark.parametrize(
    "family", [family for family in FAMILIES if family.kind == TWO_WAY], ids=lambda f: f.card.id
)
def test_words_are_divided_between_the_right_forms(family):
    counts = Counter(word.side.form for word in family.words)
    assert min(counts.values()) >= 12


@by_id
def test_every_word_has_three_sentences(family):
    assert all(len(entry.sentences) == 3 for entry in family.card.entries)


@by_id
def test_forms_differ_in_one_syllable_or_one_space(family):
    for entry in family.card.entries:
        if entry.right.replace(" ", "") == entry.wrong.replace(" ", ""):
            assert abs(len(entry.right) - len(entry.wrong)) == 1, entry.right
            continue
        differences = [a for a, b in zip(entry.right, entry.wrong, strict=True) if a != b]
        assert len(differences) == 1, entry.right


@by_id
def test_reasons_have_no_slot_left(family):
    assert not any(set("{}[]") & set(reason(entry)) for entry in family.card.entries)


def test_ids_are_those_of_no_card():
    cards = {card.id for card in load_cards()}
    assert not cards & {family.card.id for family in FAMILIES}


def test_reason_names_the_deciding_letter():
    (family,) = [family for family in FAMILIES if family.card.id == "ryul-yul"]
    word = family.invented("뎝률", "뎝율", "consonant")
    assert "'ㅂ'" in reason(word.entry)


# -- bad files --------------------------------------------------------------------------------


def broken(tmp_path, **changed):
    """Write a family with some fields changed; return its folder."""
    raw = yaml.safe_load((FOLDER / "ryul-yul.yaml").read_text(encoding="utf-8"))
    text = yaml.safe_dump(raw | changed, allow_unicode=True)
    (tmp_path / "broken.yaml").write_text(text, encoding="utf-8")
    return tmp_path


def entry(**changed):
    """Return a word of ryul-yul with some fields changed."""
    sentences = [["올해 {}이 높다고 하네요.", "They say that the rate is high this year."]]
    return {
        "right": "합격률",
        "wrong": "합격율",
        "side": "consonant",
        "meaning_en": "pass rate",
        "sentences": sentences,
    } | changed


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"kind": "three-way"}, "'three-way' is none of two-way, one-way"),
        ({"turns_on": "the weather"}, "'the weather' is none of final consonant"),
        ({"category": "poetry"}, "'poetry' is none of"),
        ({"entries": [entry(side="middle")]}, "'middle' is none of consonant"),
        ({"entries": [entry(), entry()]}, "합격률 is there twice"),
        ({"entries": [entry(wrong="합격률이")]}, "one form contains the other"),
        ({"entries": [entry(sentences=[["올해도 높다고 하네요.", "It is high."]])]}, "exactly one"),
        ({"entries": [entry(sentences=[["올해 {}이 높다고 하네요.", " "]])]}, "no gloss"),
    ],
)
def test_broken_family_is_refused_in_one_line(tmp_path, changed, message):
    with pytest.raises(InputError, match=message) as error:
        load_families(broken(tmp_path, **changed))
    assert "\n" not in str(error.value)


# -- invented words ---------------------------------------------------------------------------


def test_every_family_can_invent_words():
    assert set(INVENTORS) == {family.card.id for family in FAMILIES}


@by_id
def test_invented_forms_differ_in_one_syllable_or_one_space(family):
    rng = random.Random(1)
    for _ in range(200):
        word = invent(family, rng).entry
        right, wrong = word.right.replace(" ", ""), word.wrong.replace(" ", "")
        assert len(right) == len(wrong)
        assert sum(a != b for a, b in zip(right, wrong, strict=True)) == (right != wrong)
        assert word.right != word.wrong


@by_id
def test_invented_words_have_each_right_form_equally_often(family):
    rng = random.Random(2)
    forms = Counter(invent(family, rng).side.form for _ in range(400))
    assert set(forms) == set(family.right_forms)
    assert min(forms.values()) > 0.4 * 400 / len(forms)


@by_id
def test_right_forms_of_distinct_words_alternate(family):
    words = distinct_words(family, random.Random(3), 8)
    assert len({word.entry.right for word in words}) == 8
    forms = Counter(word.side.form for word in words)
    assert set(forms.values()) == {8 // len(family.right_forms)}


def deciding(word):
    """Return the syllable that decides an invented word."""
    pairs = zip(word.entry.right, word.entry.wrong, strict=False)
    place = [one == other for one, other in pairs].index(False)
    return word.entry.right[place + word.side.at]


@pytest.mark.parametrize("family_id", ["ryul-yul", "ji-chi", "i-hi", "plain-tense"])
def test_final_consonant_decides_the_invented_word(family_id):
    from grpo_helpers.letters import letters_of

    (family,) = [family for family in FAMILIES if family.card.id == family_id]
    rng = random.Random(4)
    forms_of_final = {}
    for _ in range(400):
        word = invent(family, rng)
        final = letters_of(deciding(word)).final
        forms_of_final.setdefault(final, set()).add(word.side.form)
    assert all(len(forms) == 1 for forms in forms_of_final.values())
