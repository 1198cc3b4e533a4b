"""The letters of a Hangul syllable: initial, medial and final.

In: a syllable, or its letters. Out: the letters, or the syllable. Unicode lists all 11,172
syllables in the order of their letters, so that a syllable's number says which they are.
"""

from __future__ import annotations

from dataclasses import dataclass

INITIALS = "ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ"
MEDIALS = "ㅏㅐㅑㅒㅓㅔㅕㅖㅗㅘㅙㅚㅛㅜㅝㅞㅟㅠㅡㅢㅣ"
FINALS = ("", *"ㄱㄲㄳㄴㄵㄶㄷㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅄㅅㅆㅇㅈㅊㅋㅌㅍㅎ")
FIRST, LAST = "가", "힣"


@dataclass(frozen=True)
class Letters:
    """The letters of a syllable.

    Attributes:
        initial: Its first consonant; ``ㅇ`` is silent there.
        medial: Its vowel.
        final: Its last consonant or cluster, or the empty string.
    """

    initial: str
    medial: str
    final: str = ""

    @property
    def syllable(self) -> str:
        """The syllable that the letters make up.

        Example:
            >>> Letters("ㄱ", "ㅕ", "ㄱ").syllable
            '격'
        """
        number = INITIALS.index(self.initial)
        number = number * len(MEDIALS) + MEDIALS.index(self.medial)
        number = number * len(FINALS) + FINALS.index(self.final)
        return chr(ord(FIRST) + number)


def is_syllable(char: str) -> bool:
    """Return whether ``char`` is a Hangul syllable."""
    return FIRST <= char <= LAST


def letters_of(syllable: str) -> Letters:
    """Return the letters of a Hangul syllable.

    Example:
        >>> letters_of("격")
        Letters(initial='ㄱ', medial='ㅕ', final='ㄱ')

    Raises:
        ValueError: It is not a Hangul syllable.
    """
    if not is_syllable(syllable):
        raise ValueError(f"not a Hangul syllable: {syllable!r}")

    number = ord(syllable) - ord(FIRST)
    number, final = divmod(number, len(FINALS))
    initial, medial = divmod(number, len(MEDIALS))
    return Letters(INITIALS[initial], MEDIALS[medial], FINALS[final])


def all_syllables() -> list[str]:
    """Return all 11,172 syllables, in Unicode's order: by initial, medial and final."""
    return [chr(code) for code in range(ord(FIRST), ord(LAST) + 1)]
