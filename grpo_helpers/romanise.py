"""Hangul in Latin letters, one letter for each, so that two spellings can be told apart.

In: text. Out: the same text with every Hangul syllable in Latin letters. It follows clause 8 of
chapter 3 of the Revised Romanisation (국어의 로마자 표기법): the one for papers that discuss
*spelling*. It writes letters, not sounds: in the ordinary romanisation, 같이 (*together*) and its
misspelling 가치 are both *gachi*, for they sound alike, and a reader would see no difference. Here
they are *gat-i* and *gachi*. ㄱ, ㄷ, ㅂ, ㄹ are g, d, b, l in every place; ㅇ without a sound is a
hyphen inside a word; a further hyphen stands where the letters could be read in two ways.

The article shows Hangul only. Whoever cannot read it compares pictures; with this, letters.
"""

from __future__ import annotations

from itertools import product

from grpo_helpers import letters

# In the order of grpo_helpers.letters. The first final stands for none.
_INITIALS = "g kk n d tt l m b pp s ss - j jj ch k t p h"
_VOWELS = "a ae ya yae eo e yeo ye o wa wae oe yo u wo we wi yu eu ui i"
_FINALS = "- g kk gs n nj nh d l lg lm lb ls lt lp lh m b bs s ss ng j ch k t p h"

INITIALS = tuple(_INITIALS.split())
VOWELS = tuple(_VOWELS.split())
FINALS = tuple(_FINALS.split())
SILENT = "-"  # ㅇ before a vowel; as a final, none

LATIN_INITIALS = dict(zip(letters.INITIALS, INITIALS, strict=True))
LATIN_VOWELS = dict(zip(letters.MEDIALS, VOWELS, strict=True))
LATIN_FINALS = dict(zip(letters.FINALS, FINALS, strict=True))


def _ambiguous_borders() -> set[str]:
    """Return what could be read as two different pairs of a final and the initial after it.

    앗사 and 아싸 would both be *assa*: ㅅ and ㅅ, or ㅆ.
    """
    pairs: dict[str, int] = {}
    for final, initial in product(FINALS, INITIALS):
        if initial != SILENT:  # that one has its hyphen anyway
            border = final.strip(SILENT) + initial
            pairs[border] = pairs.get(border, 0) + 1
    return {border for border, count in pairs.items() if count > 1}


AMBIGUOUS = _ambiguous_borders()


def romanise(text: str) -> str:
    """Return ``text`` with Hangul in Latin letters; everything else stays as it is.

    >>> romanise("며칠"), romanise("몇일")
    ('myeochil', 'myeoch-il')
    >>> romanise("{취업률/취업율}")
    '{chwi-eoblyul/chwi-eob-yul}'
    """
    written = []
    final_before: str | None = None  # of the syllable before, if there is one

    for character in text:
        if not letters.is_syllable(character):
            written.append(character)
            final_before = None
            continue

        of_syllable = letters.letters_of(character)
        initial = LATIN_INITIALS[of_syllable.initial]
        vowel = LATIN_VOWELS[of_syllable.medial]
        final = LATIN_FINALS[of_syllable.final]

        written.append(_border(final_before, initial) + vowel + final.strip(SILENT))
        final_before = final
    return "".join(written)


def _border(final_before: str | None, initial: str) -> str:
    """Return the initial of a syllable as it is written after the one before."""
    if final_before is None:  # at the beginning of a word, a silent letter is not written
        return initial.strip(SILENT)

    is_ambiguous = final_before.strip(SILENT) + initial in AMBIGUOUS
    if is_ambiguous and final_before != SILENT:
        return SILENT + initial
    return initial
