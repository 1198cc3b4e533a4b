"""Norm cards: read and check ``data/norms/*.yaml``. Format and rules: ``data/norms/README.md``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from grpo_helpers.data import InputError, project_root

CATEGORIES = {
    "hangul_orthography": "한글 맞춤법",
    "spacing": "띄어쓰기",
    "loanwords": "외래어 표기법",
    "standard_language": "표준어",
    "punctuation": "문장 부호",
}
_TEXTS = ("id", "article", "norm", "norm_en", "reason")


@dataclass(frozen=True)
class Entry:
    """One word of a card: the right form, the wrong form, and the carrier sentences (Korean with {}, English)."""

    right: str
    wrong: str
    meaning_en: str
    sentences: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Card:
    """One norm with the words it decides."""

    id: str
    category: str
    article: str
    norm: str
    norm_en: str
    reason: str
    few_shot: bool
    entries: tuple[Entry, ...]

    def short_reason(self, entry: Entry, swapped: bool = False) -> str:
        """Return the one-sentence reason for ``entry``; ``swapped`` argues for the wrong form instead."""
        right, wrong = (entry.wrong, entry.right) if swapped else (entry.right, entry.wrong)
        return self.reason.format(right=right, wrong=wrong)


def load_cards(folder: Path | None = None) -> list[Card]:
    """Return every card, in file and card order.

    Raises:
        InputError: A card breaks the rules of ``data/norms/README.md``.
    """
    folder = folder or project_root() / "data" / "norms"
    cards = [
        _card(raw, category, f"{stem}.yaml: card {number}")
        for stem, category in CATEGORIES.items()
        for number, raw in enumerate(yaml.safe_load((folder / f"{stem}.yaml").read_text(encoding="utf-8")), 1)
    ]
    ids = [card.id for card in cards]
    twice = sorted({i for i in ids if ids.count(i) > 1})
    if twice:
        raise InputError(f"card id used twice: {twice[0]}")
    return cards


def _card(raw: dict, category: str, where: str) -> Card:
    for key in _TEXTS:
        if not isinstance(raw.get(key), str) or not raw[key].strip():
            raise InputError(f"{where}: needs {key}")
    where = f"{where} ({raw['id']})"
    if not raw["reason"].endswith("다.") or "{right}" not in raw["reason"]:
        raise InputError(f"{where}: reason must name {{right}} and end in 다.")
    entries = tuple(_entry(entry, where) for entry in raw["entries"])
    texts = [raw[key] for key in _TEXTS[1:]]
    return Card(raw["id"], category, *texts, raw["few_shot"], entries)


def _entry(raw: dict, where: str) -> Entry:
    right, wrong = raw["right"], raw["wrong"]
    where = f"{where}, {right}/{wrong}"
    if right in wrong or wrong in right:
        raise InputError(f"{where}: one form contains the other")
    for korean, english in raw["sentences"]:
        _check_carrier(korean, right, wrong, where)
        if not english.strip():
            raise InputError(f"{where}: no gloss for {korean}")
    return Entry(right, wrong, raw["meaning_en"], tuple((k, e) for k, e in raw["sentences"]))


def _check_carrier(carrier: str, right: str, wrong: str, where: str) -> None:
    if carrier.count("{}") != 1:
        raise InputError(f"{where}: carrier needs exactly one {{}}: {carrier}")
    rest = carrier.replace("{}", "")
    if any(char in rest for char in "\"'“”‘’{}/#\n"):
        raise InputError(f"{where}: carrier has a quote, brace, slash or #: {carrier}")
    last = carrier.replace("{}", right).rstrip(".?")
    if carrier[-1] not in ".?" or not ("가" <= last[-1] <= "힣") or (ord(last[-1]) - ord("가")) % 28:
        raise InputError(f"{where}: carrier must end in a vowel and . or ?: {carrier}")
    for form, other in ((right, wrong), (wrong, right)):
        text = carrier.replace("{}", form)
        if text.count(form) != 1 or other in text:
            raise InputError(f"{where}: {form} is not the only difference in: {carrier}")
