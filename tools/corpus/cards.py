"""Norm cards: read and check ``data/norms/*.yaml``. Format and rules: ``data/norms/README.md``."""

from __future__ import annotations

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
_TEXTS = ("id", "article", "norm", "norm_en", "reason", "reason_full")
_PARTICLES = ("이/가", "을/를", "은/는", "과/와", "으로/로", "이라/라", "이다/다")
_CHOICE = re.compile(r"\[([가-힣]{1,2}/[가-힣]{1,2})\]")


@dataclass(frozen=True)
class Entry:
    """One word of a card.

    Attributes:
        right, wrong: The two forms; neither contains the other.
        meaning_en: What the word means.
        sentences: Carriers (Korean with one ``{}`` for the form) and their English glosses.
        reason, reason_full: The word's own reasons, where the card's do not fit it; else the card's.
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


def filled(template: str, right: str, wrong: str) -> str:
    """Return a reason with the forms filled in and each ``[이/가]`` decided by the syllable before it.

    Example:
        >>> filled("'{right}'[이/가] 아니라 '{wrong}'[으로/로] 적으면 틀린다.", "며칠", "몇일")
        "'며칠'이 아니라 '몇일'로 적으면 틀린다."
    """
    text = template.replace("{right}", right).replace("{wrong}", wrong)
    while match := _CHOICE.search(text):
        chosen = _particle(match[1], text[: match.start()])
        text = text[: match.start()] + chosen + text[match.end() :]
    return text


def _particle(choice: str, before: str) -> str:
    closed, open_ = choice.split("/")
    final = next(((ord(c) - ord("가")) % 28 for c in reversed(before) if "가" <= c <= "힣"), 0)
    if final == 8 and choice == "으로/로":  # ㄹ takes 로
        return open_
    return closed if final else open_


def reason(entry: Entry, full: bool = False, swapped: bool = False) -> str:
    """Return the short or full reason of an entry; ``swapped`` argues for the wrong form instead."""
    forms = (entry.wrong, entry.right) if swapped else (entry.right, entry.wrong)
    return filled(entry.reason_full if full else entry.reason, *forms)


def load_cards(folder: Path | None = None) -> list[Card]:
    """Return every card, in file and card order.

    Raises:
        InputError: A card breaks the rules of ``data/norms/README.md``.
    """
    folder = folder or project_root() / "data" / "norms"
    cards = [
        _card(raw, category, f"{stem}.yaml: card {number}")
        for stem, category in CATEGORIES.items()
        for number, raw in enumerate(
            yaml.safe_load((folder / f"{stem}.yaml").read_text(encoding="utf-8")), 1
        )
    ]
    ids = [card.id for card in cards]
    twice = sorted({i for i in ids if ids.count(i) > 1})
    if twice:
        raise InputError(f"card id used twice: {twice[0]}")
    return cards


def _card(raw: dict[str, Any], category: str, where: str) -> Card:
    for key in _TEXTS:
        if not isinstance(raw.get(key), str) or not raw[key].strip():
            raise InputError(f"{where}: needs {key}")
    where = f"{where} ({raw['id']})"
    entries = tuple(_entry(entry, raw, category, where) for entry in raw["entries"])
    return Card(raw["id"], category, raw["article"], raw["norm"], raw["norm_en"], entries)


def _entry(raw: dict[str, Any], card: dict[str, Any], category: str, where: str) -> Entry:
    right, wrong = raw["right"], raw["wrong"]
    where = f"{where}, {right}/{wrong}"
    if right in wrong or wrong in right:
        raise InputError(f"{where}: one form contains the other")
    for korean, english in raw["sentences"]:
        check_carrier(korean, right, wrong, category, where)
        if not english.strip():
            raise InputError(f"{where}: no gloss for {korean}")
    reasons = [raw.get(key, card[key]) for key in ("reason", "reason_full")]
    for template in reasons:
        _check_reason(template, right, wrong, where)
    blank = raw.get("blank", "")
    if blank and not re.fullmatch(re.escape(blank).replace(r"\(\ \)", r"\S{1,2}"), right):
        raise InputError(f"{where}: filling the ( ) of {blank!r} does not give {right!r}")
    sentences = tuple((korean, english) for korean, english in raw["sentences"])
    return Entry(
        right, wrong, raw["meaning_en"], sentences, *reasons, blank, tuple(raw.get("also", ()))
    )


def _check_reason(template: str, right: str, wrong: str, where: str) -> None:
    text = filled(template, right, wrong)
    choices = re.findall(r"\[([^\[\]]*/[^\[\]]*)\]", template)
    if not text.endswith("다.") or "{right}" not in template or "\n" in text:
        raise InputError(
            f"{where}: a reason must name {{right}}, be one line and end in 다.: {template}"
        )
    if any(choice not in _PARTICLES for choice in choices):
        raise InputError(f"{where}: unknown particle choice in {template}")


def check_carrier(carrier: str, right: str, wrong: str, category: str, where: str) -> None:
    """Refuse a carrier in which the form is not the only thing that can be right or wrong.

    Raises:
        InputError: No single slot, a quote, brace, slash or ``#`` outside it, no sentence end, or a second place
            where either form stands. Outside punctuation cards a sentence ends in a vowel, so that 가 follows it.
    """
    if carrier.count("{}") != 1:
        raise InputError(f"{where}: carrier needs exactly one {{}}: {carrier}")
    rest = carrier.replace("{}", "")
    if any(char in rest for char in "\"'“”‘’{}/#\n"):
        raise InputError(f"{where}: carrier has a quote, brace, slash or #: {carrier}")
    sentence = carrier.replace("{}", right)
    last = sentence.rstrip(".?")
    if category != PUNCTUATION and (
        sentence[-1] not in ".?"
        or not ("가" <= last[-1] <= "힣")
        or (ord(last[-1]) - ord("가")) % 28
    ):
        raise InputError(f"{where}: carrier must end in a vowel and . or ?: {carrier}")
    for form, other in ((right, wrong), (wrong, right)):
        text = carrier.replace("{}", form)
        if text.count(form) != 1 or other in text:
            raise InputError(f"{where}: {form} is not the only difference in: {carrier}")
