"""Nonce words: invented words that follow the pattern of a family (*a wug, two wugs*, for Korean).

In: a family and a seeded generator. Out: a word with two forms, such as ``뎝률`` and ``뎝율``, of
which the norm allows one. Nobody has seen such a word before, so nobody can know it by heart; what
else than the rule may give its right form away, :mod:`grpo_helpers.carry_over` tells. The idea is
Jean Berko's (1958).

A word has no sound and no history, so it is taken to be of the kind that the norm speaks of: the
tense sound of 먼꼬 is heard, 여뎝 is Sino-Korean, the parts of 멧조 are joined with a change of
sound.

The warm start of the embedded model uses such words without end, where either form is called right
equally often; ``data/embedded/test_nonce.json`` has a fixed few that never occur there.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from grpo_helpers.letters import Letters, letters_of
from tools.corpus.families import Family, Word

PLAIN_TO_TENSE = {"ㄱ": "ㄲ", "ㄷ": "ㄸ", "ㅂ": "ㅃ", "ㅅ": "ㅆ", "ㅈ": "ㅉ"}
TENSE_TO_ASPIRATED = {"ㄲ": "ㅋ", "ㄸ": "ㅌ", "ㅃ": "ㅍ"}
STRONG = "ㄲㄸㅃㅆㅉㅊㅋㅌㅍ"  # tense and aspirated consonants

# Letters of invented syllables: common ones, so that the words can be pronounced.
STEM_INITIALS = "ㄱㄴㄷㅁㅂㅅㅇㅈㅊㅋㅌㅍㅎ"  # no Korean word begins with ㄹ
STEM_MEDIALS = "ㅏㅐㅑㅓㅔㅕㅗㅚㅛㅜㅟㅠㅡㅣ"
STEM_FINALS = "ㄱㄴㄹㅁㅂㅅㅇ"
# Vowels that would break a norm of their own after these consonants.
NOT_AFTER = {"ㄴ": "ㅑㅕㅛㅠㅣ", "ㅈ": "ㅑㅕㅛㅠ", "ㅊ": "ㅑㅕㅛㅠ"}


@dataclass(frozen=True)
class Invented:
    """An invented word.

    Attributes:
        right: The form that the norm prescribes.
        wrong: The other form.
        side: The case of the family's norm.
    """

    right: str
    wrong: str
    side: str


def invent(family: Family, rng: random.Random) -> Word:
    """Return an invented word of a family; each of its right forms is equally likely."""
    invented = INVENTORS[family.card.id](rng)
    return family.invented(invented.right, invented.wrong, invented.side)


def distinct_words(family: Family, rng: random.Random, count: int) -> list[Word]:
    """Return ``count`` different invented words of a family, whose right forms alternate."""
    words: dict[str, Word] = {}
    turns = itertools.cycle(family.right_forms)
    form = next(turns)
    while len(words) < count:
        word = invent(family, rng)
        if word.side.form == form and word.entry.right not in words:
            words[word.entry.right] = word
            form = next(turns)
    return list(words.values())


# -- syllables --------------------------------------------------------------------------------


def syllable(
    rng: random.Random,
    *,
    initials: str = STEM_INITIALS,
    medials: str = STEM_MEDIALS,
    finals: str | tuple[str, ...] = ("", "", "", "", *STEM_FINALS),
) -> str:
    """Return a random syllable whose letters are among those given."""
    initial = rng.choice(initials)
    fitting = [medial for medial in medials if medial not in NOT_AFTER.get(initial, "")]
    return Letters(initial, rng.choice(fitting), rng.choice(finals)).syllable


def stem(rng: random.Random, low: int, high: int) -> str:
    """Return ``low`` to ``high`` random syllables."""
    return "".join(syllable(rng) for _ in range(rng.randint(low, high)))


def _after(rng: random.Random, finals: str | tuple[str, ...], low: int = 1, high: int = 1) -> str:
    """Return a stem whose last syllable has one of the given finals."""
    return stem(rng, low, high) + syllable(rng, finals=finals)


def _open(rng: random.Random, low: int = 1, high: int = 1) -> str:
    """Return a stem that ends in a vowel."""
    return _after(rng, ("",), low, high)


def _with_final(word: str, final: str) -> str:
    """Return a word that ends in a vowel with a final consonant added to its last syllable."""
    letters = letters_of(word[-1])
    return word[:-1] + replace(letters, final=final).syllable


# -- the final consonant before ---------------------------------------------------------------


def _ryul_yul(rng: random.Random) -> Invented:
    if rng.random() < 0.5:
        before = _after(rng, "ㄱㄹㅁㅂㅇ")
        return Invented(before + "률", before + "율", "consonant")

    if rng.random() < 0.5:
        before = _after(rng, "ㄴ")
        return Invented(before + "율", before + "률", "nieun")

    before = _open(rng)
    return Invented(before + "율", before + "률", "vowel")


def _ieyo_yeyo(rng: random.Random) -> Invented:
    if rng.random() < 0.5:
        before = _after(rng, STEM_FINALS, 1, 2)
        return Invented(before + "이에요", before + "이예요", "consonant")

    # After ㅣ nobody could tell whether the noun ends in 이.
    before = stem(rng, 1, 2) + syllable(rng, medials=STEM_MEDIALS.replace("ㅣ", ""), finals=("",))
    return Invented(before + "예요", before + "에요", "vowel")


def _ji_chi(rng: random.Random) -> Invented:
    if rng.random() < 0.5:
        before = _after(rng, "ㄱㅂㅅ")
        return Invented(before + "지", before + "치", "plain")

    before = _after(rng, ("", "ㄴ", "ㄹ", "ㅁ", "ㅇ"))
    return Invented(before + "치", before + "지", "aspirated")


def _i_hi(rng: random.Random) -> Invented:
    if rng.random() < 0.5:
        before = _after(rng, "ㅅ")
        return Invented(before + "이", before + "히", "siot")

    before = _after(rng, ("", "ㄴ", "ㄹ", "ㅁ", "ㅂ", "ㅇ"))
    return Invented(before + "히", before + "이", "other")


def _plain_tense(rng: random.Random) -> Invented:
    initial = rng.choice(list(PLAIN_TO_TENSE))
    medial = rng.choice(STEM_MEDIALS)
    final = rng.choice(["", "", *STEM_FINALS])
    plain = Letters(initial, medial, final).syllable
    tense = Letters(PLAIN_TO_TENSE[initial], medial, final).syllable
    after = stem(rng, 0, 1)

    if rng.random() < 0.5:
        before = syllable(rng, finals="ㄱㅂ")
        return Invented(before + plain + after, before + tense + after, "plain")

    before = syllable(rng, finals="ㄴㄹㅁㅇ")
    return Invented(before + tense + after, before + plain + after, "tense")


# -- the vowel before -------------------------------------------------------------------------


def _vowel_harmony(rng: random.Random) -> Invented:
    ending = rng.choice(["서", "도", "야"])
    if rng.random() < 0.5:
        before = stem(rng, 0, 1) + syllable(rng, medials="ㅏㅗㅑ", finals=STEM_FINALS)
        return Invented(before + "아" + ending, before + "어" + ending, "bright")

    before = stem(rng, 0, 1) + syllable(rng, medials="ㅓㅜㅡㅣㅐㅔㅚㅟㅕ", finals=STEM_FINALS)
    return Invented(before + "어" + ending, before + "아" + ending, "dark")


# -- the syllable after -----------------------------------------------------------------------


def _doe_dwae(rng: random.Random) -> Invented:
    before = stem(rng, 1, 2)
    if rng.random() < 0.5:
        ending = rng.choice(["고", "면", "지", "는", "니", "자", "며", "던", "기", "려"])
        return Invented(f"{before}되{ending}", f"{before}돼{ending}", "doe")

    ending = rng.choice(["요", "서", "도", "야"])
    return Invented(f"{before}돼{ending}", f"{before}되{ending}", "dwae")


def _saisiot(rng: random.Random) -> Invented:
    open_part = _open(rng)
    with_siot = _with_final(open_part, "ㅅ")

    if rng.random() < 0.5:
        second = syllable(rng, initials=STRONG) + stem(rng, 0, 1)
        return Invented(open_part + second, with_siot + second, "strong")

    second = syllable(rng, initials="ㄱㄷㅂㅅㅈㄴㅁ") + stem(rng, 0, 1)
    return Invented(with_siot + second, open_part + second, "other")


# -- the position in the word -----------------------------------------------------------------

# What the initial law makes of a syllable's first letter: before y-vowels and ㅣ silent, else ㄴ.
_INITIAL_LAW = (("ㄹ", "ㅇ", "ㅑㅕㅛㅠㅣㅖ"), ("ㄴ", "ㅇ", "ㅕㅛㅠㅣ"), ("ㄹ", "ㄴ", "ㅏㅐㅗㅚㅜ"))


def _initial_law(rng: random.Random) -> Invented:
    original, changed, medials = rng.choice(_INITIAL_LAW)
    medial = rng.choice(medials)
    final = rng.choice(["", "", "ㄱ", "ㄴ", "ㅁ", "ㅇ"])
    kept_syllable = Letters(original, medial, final).syllable
    changed_syllable = Letters(changed, medial, final).syllable

    if rng.random() < 0.5:
        after = stem(rng, 1, 2)
        return Invented(changed_syllable + after, kept_syllable + after, "first")

    before = stem(rng, 1, 2)
    return Invented(before + kept_syllable, before + changed_syllable, "inside")


def _an_anh(rng: random.Random) -> Invented:
    ending = rng.choice(["고", "다", "지만", "네", "는", "게", "더라", "거든"])
    verb = stem(rng, 0, 1) + syllable(rng)
    if rng.random() < 0.5:
        return Invented(f"안 {verb}{ending}", f"않 {verb}{ending}", "an")
    return Invented(f"{verb}지 않{ending}", f"{verb}지 안{ending}", "anh")


# -- spaces -----------------------------------------------------------------------------------


def _noun_or_verb(word: str) -> Callable[[random.Random], Invented]:
    """Return the inventor of a particle that is also a dependent noun."""

    def inventor(rng: random.Random) -> Invented:
        if rng.random() < 0.5:
            noun = _after(rng, ("", "ㄱ", "ㅁ", "ㅂ", "ㅅ", "ㅇ"), 1, 1)
            return Invented(noun + word, f"{noun} {word}", "noun")

        verb = _modifying(rng)
        return Invented(f"{verb} {word}", verb + word, "verb")

    return inventor


def _modifying(rng: random.Random) -> str:
    """Return an invented verb in a form that modifies a noun: 먹은, 가는, 볼."""
    if rng.random() < 0.4:
        return _after(rng, "ㄴㄹ")
    return stem(rng, 1, 2) + rng.choice(["은", "는", "을", "던"])


def _bound_nouns(rng: random.Random) -> Invented:
    noun = rng.choice(["수", "것", "줄", "데", "바", "리", "적"])
    verb = _modifying(rng)
    if noun in ("데", "바"):
        verb = stem(rng, 1, 2) + "을"  # 는데 and 는바 are endings, too
    return Invented(f"{verb} {noun}", verb + noun, "only")


# -- endings and loanwords: the same form is always right ---------------------------------------


def _lge(rng: random.Random) -> Invented:
    verb = _after(rng, "ㄹ") if rng.random() < 0.6 else stem(rng, 1, 2) + "을"
    return Invented(verb + "게", verb + "께", "only")


def _sipsio(rng: random.Random) -> Invented:
    verb = stem(rng, 1, 2) + rng.choice(["", "으"])
    return Invented(verb + "십시오", verb + "십시요", "only")


def _ryeogo(rng: random.Random) -> Invented:
    if rng.random() < 0.5:
        verb = stem(rng, 1, 2)
        return Invented(verb + "으려고", verb + "을려고", "only")

    verb = _open(rng)
    return Invented(verb + "려고", _with_final(verb, "ㄹ") + "려고", "only")


def _lm(rng: random.Random) -> Invented:
    before = stem(rng, 1, 2)
    initial, medial = rng.choice(STEM_INITIALS), rng.choice(STEM_MEDIALS)
    right = before + Letters(initial, medial, "ㄻ").syllable
    wrong = before + Letters(initial, medial, "ㅁ").syllable
    return Invented(right, wrong, "only")


def _simple_vowel(rng: random.Random) -> Invented:
    initial = rng.choice("ㅈㅊ")
    simple, double = rng.choice([("ㅏ", "ㅑ"), ("ㅓ", "ㅕ"), ("ㅗ", "ㅛ"), ("ㅜ", "ㅠ")])
    final = rng.choice(["", "", "ㄴ", "ㄹ", "ㅁ"])
    return _around(rng, Letters(initial, simple, final), Letters(initial, double, final))


def _no_tense(rng: random.Random) -> Invented:
    tense = rng.choice(list(TENSE_TO_ASPIRATED))
    medial = rng.choice("ㅏㅐㅓㅔㅗㅜㅣ")
    final = rng.choice(["", "", "ㄴ", "ㄹ", "ㅁ"])
    aspirated = TENSE_TO_ASPIRATED[tense]
    return _around(rng, Letters(aspirated, medial, final), Letters(tense, medial, final))


def _around(rng: random.Random, right: Letters, wrong: Letters) -> Invented:
    """Put random syllables before and after the syllable in question."""
    before, after = stem(rng, 0, 2), stem(rng, 1, 2)
    return Invented(before + right.syllable + after, before + wrong.syllable + after, "only")


INVENTORS: dict[str, Callable[[random.Random], Invented]] = {
    "ryul-yul": _ryul_yul,
    "ieyo-yeyo": _ieyo_yeyo,
    "ji-chi": _ji_chi,
    "i-hi": _i_hi,
    "plain-tense": _plain_tense,
    "vowel-harmony": _vowel_harmony,
    "doe-dwae": _doe_dwae,
    "saisiot": _saisiot,
    "initial-law": _initial_law,
    "an-anh": _an_anh,
    "mankeum": _noun_or_verb("만큼"),
    "daero": _noun_or_verb("대로"),
    "bound-nouns": _bound_nouns,
    "lge": _lge,
    "sipsio": _sipsio,
    "ryeogo": _ryeogo,
    "lm": _lm,
    "simple-vowel": _simple_vowel,
    "no-tense": _no_tense,
}
