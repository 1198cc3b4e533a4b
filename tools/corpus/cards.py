"""Norm cards: the single source of every question in the course.

In: ``data/norms/*.yaml``. Out: :class:`Card` and :class:`Entry`, checked. The format of a card and
the rules it must keep are described in ``data/norms/README.md``.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from grpo_helpers.files import InputError, project_root

CATEGORIES = {
    "hangul_orthography": "한글 맞춤법",
    "spacing": "띄어쓰기",
    "loanwords": "외래어 표기법",
    "standard_language": "표준어",
    "punctuation": "문장 부호",
}
PUNCTUATION = CATEGORIES["punctuation"]

_REQUIRED_TEXTS = ("id", "article", "norm", "norm_en", "reason", "reason_full")
_PARTICLES = ("이/가", "을/를", "은/는", "과/와", "으로/로", "이라/라", "이다/다")
_PARTICLE_CHOICE = re.compile(r"\[([가-힣]{1,2}/[가-힣]{1,2})\]")
_ANY_CHOICE = re.compile(r"\[([^\[\]]*/[^\[\]]*)\]")
_FINAL_RIEUL = 8  # number of ㄹ among the 28 possible finals of a syllable


@dataclass(frozen=True)
class Entry:
    """One word of a card.

    Attributes:
        right: The form that the norm prescribes.
        wrong: The form to be avoided; neither form contains the other.
        meaning_en: What the word means.
        sentences: Carriers (Korean with one ``{}`` for the form) and their English glosses.
        reason: The short reason: the word's own where it has one, otherwise the card's.
        reason_full: The full reason, likewise.
        blank: The right form with ``( )`` where a punctuation mark is to be filled in, or empty.
        also: Further right forms, where the norm allows several.
    """

    right: str
    wrong: str
    meaning_en: str
    sentences: tuple[tuple[str, str], ...]
    reason: str
    reason_full: str
    blank: str = ""
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Card:
    """One norm with the words it decides."""

    id: str
    category: str
    article: str
    norm: str
    norm_en: str
    entries: tuple[Entry, ...]


# -- Korean -----------------------------------------------------------------------------------


def is_syllable(char: str) -> bool:
    """Return whether ``char`` is a Hangul syllable."""
    return "가" <= char <= "힣"


def final_of(syllable: str) -> int:
    """Return the number of a syllable's final consonant, 0 if it ends in a vowel.

    Example:
        >>> final_of("나"), final_of("날") == 8
        (0, True)
    """
    return (ord(syllable) - ord("가")) % 28


def filled(template: str, right: str, wrong: str) -> str:
    """Return a reason with the forms filled in and its particles chosen.

    Each ``[이/가]`` is decided by the syllable before it.

    Example:
        >>> filled("'{right}'[이/가] 아니라 '{wrong}'[으로/로] 적으면 틀린다.", "며칠", "몇일")
        "'며칠'이 아니라 '몇일'로 적으면 틀린다."
    """
    text = template.replace("{right}", right).replace("{wrong}", wrong)
    while match := _PARTICLE_CHOICE.search(text):
        before = text[: match.start()]
        text = before + _particle(match[1], before) + text[match.end() :]
    return text


def _particle(choice: str, before: str) -> str:
    """Return the particle of ``choice`` that fits after the text ``before``."""
    after_consonant, after_vowel = choice.split("/")

    final = 0
    for char in reversed(before):
        if is_syllable(char):
            final = final_of(char)
            break

    takes_short_form = final == _FINAL_RIEUL and choice == "으로/로"
    if final == 0 or takes_short_form:
        return after_vowel
    return after_consonant


def reason(entry: Entry, full: bool = False, swapped: bool = False) -> str:
    """Return the short or full reason of an entry; ``swapped`` argues for the wrong form."""
    template = entry.reason_full if full else entry.reason
    if swapped:
        return filled(template, right=entry.wrong, wrong=entry.right)
    return filled(template, right=entry.right, wrong=entry.wrong)


# -- reading ----------------------------------------------------------------------------------


def load_cards(folder: Path | None = None) -> list[Card]:
    """Return every card, in file and card order.

    Args:
        folder: The folder of the YAML files; ``data/norms`` if not given.

    Raises:
        InputError: A card breaks a rule of ``data/norms/README.md``.
    """
    folder = folder or project_root() / "data" / "norms"
    cards = []
    for stem, category in CATEGORIES.items():
        text = (folder / f"{stem}.yaml").read_text(encoding="utf-8")
        for number, raw in enumerate(yaml.safe_load(text), 1):
            cards.append(_card(raw, category, f"{stem}.yaml: card {number}"))

    ids = sorted(card.id for card in cards)
    for card_id, next_id in itertools.pairwise(ids):
        if card_id == next_id:
            raise InputError(f"card id used twice: {card_id}")
    return cards


def _card(raw: dict[str, Any], category: str, where: str) -> Card:
    """Return the card of one YAML mapping; ``where`` names it in error messages."""
    for key in _REQUIRED_TEXTS:
        value = raw.get(key)
        if not isinstance(value, str) or not value.strip():
            raise InputError(f"{where}: needs {key}")

    where = f"{where} ({raw['id']})"
    entries = []
    for raw_entry in raw["entries"]:
        entries.append(_entry(raw_entry, raw, category, where))

    return Card(
        id=raw["id"],
        category=category,
        article=raw["article"],
        norm=raw["norm"],
        norm_en=raw["norm_en"],
        entries=tuple(entries),
    )


def _entry(raw: dict[str, Any], card: dict[str, Any], category: str, where: str) -> Entry:
    """Return one word of a card; the card's reasons stand in for those that the word lacks."""
    entry = Entry(
        right=raw["right"],
        wrong=raw["wrong"],
        meaning_en=raw["meaning_en"],
        sentences=tuple(map(tuple, raw["sentences"])),
        reason=raw.get("reason", card["reason"]),
        reason_full=raw.get("reason_full", card["reason_full"]),
        blank=raw.get("blank", ""),
        also=tuple(raw.get("also", ())),
    )
    _check_entry(entry, category, f"{where}, {entry.right}/{entry.wrong}")
    return entry


# -- rules ------------------------------------------------------------------------------------


def _check_entry(entry: Entry, category: str, where: str) -> None:
    """Raise InputError where a word, one of its sentences or reasons breaks a rule."""
    right, wrong = entry.right, entry.wrong
    if right in wrong or wrong in right:
        raise InputError(f"{where}: one form contains the other")

    for carrier, gloss in entry.sentences:
        check_carrier(carrier, right, wrong, category=category, where=where)
        if not gloss.strip():
            raise InputError(f"{where}: no gloss for {carrier}")

    for template in (entry.reason, entry.reason_full):
        _check_reason(template, right, wrong, where)

    if entry.blank and not _fits_blank(right, entry.blank):
        raise InputError(f"{where}: filling the ( ) of {entry.blank!r} does not give {right!r}")


def _fits_blank(form: str, blank: str) -> bool:
    """Return whether one or two characters in place of ``( )`` turn ``blank`` into ``form``."""
    pattern = re.escape(blank).replace(r"\(\ \)", r"\S{1,2}")
    return re.fullmatch(pattern, form) is not None


def _check_reason(template: str, right: str, wrong: str, where: str) -> None:
    """Raise InputError where a reason breaks a rule."""
    text = filled(template, right, wrong)
    if not text.endswith("다.") or "{right}" not in template or "\n" in text:
        raise InputError(
            f"{where}: a reason must name {{right}}, be one line and end in 다.: {template}"
        )

    for choice in _ANY_CHOICE.findall(template):
        if choice not in _PARTICLES:
            raise InputError(f"{where}: unknown particle choice in {template}")


def check_carrier(carrier: str, right: str, wrong: str, *, category: str, where: str) -> None:
    """Refuse a carrier in which anything but the form can be right or wrong.

    Args:
        carrier: A sentence with one ``{}`` for the form.
        right: The right form.
        wrong: The wrong form.
        category: The card's category. Outside punctuation cards a sentence ends in a vowel, so
            that the particle 가 follows it in every answer.
        where: What the error message calls the place.

    Raises:
        InputError: No single slot, a quote, brace, slash or ``#`` outside it, no sentence end, or
            a second place where either form occurs.
    """
    if carrier.count("{}") != 1:
        raise InputError(f"{where}: carrier needs exactly one {{}}: {carrier}")

    rest = carrier.replace("{}", "")
    if any(char in rest for char in "\"'“”‘’{}/#\n"):
        raise InputError(f"{where}: carrier has a quote, brace, slash or #: {carrier}")

    sentence = carrier.replace("{}", right)
    if category != PUNCTUATION and not _ends_in_vowel(sentence):
        raise InputError(f"{where}: carrier must end in a vowel and . or ?: {carrier}")

    for form, other in ((right, wrong), (wrong, right)):
        text = carrier.replace("{}", form)
        if text.count(form) != 1 or other in text:
            raise InputError(f"{where}: {form} is not the only difference in: {carrier}")


def _ends_in_vowel(sentence: str) -> bool:
    """Return whether a sentence ends in ``.`` or ``?`` after a syllable without a final."""
    if sentence[-1] not in ".?":
        return False
    last = sentence.rstrip(".?")[-1]
    return is_syllable(last) and final_of(last) == 0
