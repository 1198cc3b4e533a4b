"""Norm cards: the single source of every question in the course.

In: ``data/norms/*.yaml``. Out: :class:`Card` and :class:`Entry`, checked. The format of a card and
the rules it must keep are described in ``data/norms/README.md``.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from grpo_helpers.files import InputError, project_root
from grpo_helpers.letters import is_syllable, letters_of

CATEGORIES = {
    "hangul_orthography": "한글 맞춤법",
    "spacing": "띄어쓰기",
    "loanwords": "외래어 표기법",
    "standard_language": "표준어",
    "punctuation": "문장 부호",
}
PUNCTUATION = CATEGORIES["punctuation"]

_REQUIRED_TEXTS = ("id", "article", "norm", "norm_en", "reason")
_PARTICLES = ("이/가", "을/를", "은/는", "과/와", "으로/로", "이라/라", "이다/다")
_PARTICLE_CHOICE = re.compile(r"\[([가-힣]{1,2}/[가-힣]{1,2})\]")
_ANY_CHOICE = re.compile(r"\[([^\[\]]*/[^\[\]]*)\]")


@dataclass(frozen=True)
class Alternative:
    """A further form that the norm allows, with reasons of its own.

    Attributes:
        form: The form.
        reason: The short reason; its ``{right}`` is this form.
        reason_full: The full reason, likewise.
    """

    form: str
    reason: str
    reason_full: str


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
        blank_reason: The short reason for a question with a blank, where the wrong form is not to
            be seen.
        blank_reason_full: The full reason for such a question.
        also: Further right forms, where the norm allows several.
        task: What a 교정형 question asks for where its usual wording would leave a second right
            answer ("replace the wrong bracket ..."), or empty.
    """

    right: str
    wrong: str
    meaning_en: str
    sentences: tuple[tuple[str, str], ...]
    reason: str
    reason_full: str
    blank: str = ""
    blank_reason: str = ""
    blank_reason_full: str = ""
    also: tuple[Alternative, ...] = ()
    task: str = ""


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

    final = ""
    for char in reversed(before):
        if is_syllable(char):
            final = letters_of(char).final
            break

    takes_short_form = final == "ㄹ" and choice == "으로/로"
    if not final or takes_short_form:
        return after_vowel
    return after_consonant


def reason(entry: Entry, full: bool = False, swapped: bool = False) -> str:
    """Return the short or full reason of an entry; ``swapped`` argues for the wrong form."""
    template = entry.reason_full if full else entry.reason
    if swapped:
        return filled(template, right=entry.wrong, wrong=entry.right)
    return filled(template, right=entry.right, wrong=entry.wrong)


def blank_reason(entry: Entry, full: bool = False) -> str:
    """Return the short or full reason of an entry for a question with a blank."""
    template = entry.blank_reason_full if full else entry.blank_reason
    return filled(template, right=entry.right, wrong=entry.wrong)


def alternative_reason(entry: Entry, alternative: Alternative, full: bool = False) -> str:
    """Return the short or full reason for a further right form of an entry."""
    template = alternative.reason_full if full else alternative.reason
    return filled(template, right=alternative.form, wrong=entry.wrong)


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
    where = f"{where}, {raw['right']}/{raw['wrong']}"
    reason_full = raw.get("reason_full", card.get("reason_full"))
    if not reason_full:
        raise InputError(f"{where}: needs reason_full, of its own or of the card")

    short = raw.get("reason", card["reason"])
    entry = Entry(
        right=raw["right"],
        wrong=raw["wrong"],
        meaning_en=raw["meaning_en"],
        sentences=tuple(map(tuple, raw["sentences"])),
        reason=short,
        reason_full=reason_full,
        blank=raw.get("blank", ""),
        blank_reason=_blank_reason(raw, card, "reason"),
        blank_reason_full=_blank_reason(raw, card, "reason_full"),
        also=_alternatives(raw.get("also", ()), short, reason_full, where),
        task=raw.get("task", card.get("task", "")),
    )
    _check_entry(entry, category, where)
    return entry


def _blank_reason(raw: dict[str, Any], card: dict[str, Any], key: str) -> str:
    """Return the reason for a blank, nearest first: the word's before the card's."""
    for source in (raw, card):
        for name in (f"blank_{key}", key):
            if name in source:
                return source[name]
    return ""


def _alternatives(
    raw: Iterable[Any], short: str, reason_full: str, where: str
) -> tuple[Alternative, ...]:
    """Return further right forms; a plain text shares the reasons of its entry."""
    alternatives = []
    for one in raw:
        if isinstance(one, str):
            alternatives.append(Alternative(one, short, reason_full))
            continue
        if set(one) != {"form", "reason", "reason_full"}:
            raise InputError(f"{where}: also needs form, reason and reason_full: {one}")
        alternatives.append(Alternative(**one))
    return tuple(alternatives)


# -- rules ------------------------------------------------------------------------------------


def _check_entry(entry: Entry, category: str, where: str) -> None:
    """Raise InputError where a word, one of its sentences or reasons breaks a rule."""
    right, wrong = entry.right, entry.wrong
    check_sentences(entry, category, where)

    for template in (entry.reason, entry.reason_full, entry.blank_reason, entry.blank_reason_full):
        check_reason(template, right, wrong, where)

    for alternative in entry.also:
        if alternative.form in (right, wrong):
            raise InputError(f"{where}: also repeats a form: {alternative.form}")
        for template in (alternative.reason, alternative.reason_full):
            check_reason(template, alternative.form, wrong, where)

    if entry.also and entry.task:
        raise InputError(f"{where}: a task leaves one right form, so also does not go with it")
    if entry.blank and not fits_blank(right, entry.blank):
        raise InputError(f"{where}: filling the ( ) of {entry.blank!r} does not give {right!r}")


def check_sentences(entry: Entry, category: str, where: str) -> None:
    """Raise InputError where the forms of a word, a sentence or a gloss break a rule.

    Args:
        entry: The word.
        category: The category of its card.
        where: What the error message calls the place.
    """
    right, wrong = entry.right, entry.wrong
    if right in wrong or wrong in right:
        raise InputError(f"{where}: one form contains the other")

    for carrier, gloss in entry.sentences:
        check_carrier(carrier, right, wrong, category=category, where=where)
        if not gloss.strip():
            raise InputError(f"{where}: no gloss for {carrier}")


def fits_blank(form: str, blank: str) -> bool:
    """Return whether one or two characters in place of ``( )`` turn ``blank`` into ``form``."""
    pattern = re.escape(blank).replace(r"\(\ \)", r"\S{1,2}")
    return re.fullmatch(pattern, form) is not None


def check_reason(template: str, right: str, wrong: str, where: str) -> None:
    """Raise InputError where the template of a reason breaks a rule.

    Args:
        template: The reason, with ``{right}`` and perhaps ``{wrong}``.
        right: The right form.
        wrong: The wrong form.
        where: What the error message calls the place.
    """
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
    return is_syllable(last) and not letters_of(last).final
