"""Families: norms that are rules, with many words each, for a small model.

In: ``data/norms/families/*.yaml``, one family per file. Out: :class:`Family` objects, checked.

A norm card of :mod:`tools.corpus.cards` may have a single word, and nobody can learn a rule from
one word. A family has many, and its norm decides each of them by something that can be seen in
the question: the last consonant of the syllable before (합격률, 할인율), a vowel, the next
syllable, a position, a space. A *two-way* family has two right forms, so that preferring one of
them is right half of the time; in a *one-way* family the same form is always right. The two kinds
are reported apart, because a one-way family can be learned by preferring a letter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from grpo_helpers.files import InputError, project_root
from grpo_helpers.letters import is_syllable, letters_of
from tools.corpus.cards import CATEGORIES, Card, Entry, check_reason, check_sentences

TWO_WAY = "two-way"
ONE_WAY = "one-way"
KINDS = (TWO_WAY, ONE_WAY)

# What a norm looks at to decide a word.
CUES = (
    "final consonant",
    "vowel",
    "next syllable",
    "position",
    "spacing",
    "ending",
    "loanword letters",
)


@dataclass(frozen=True)
class Side:
    """One of the cases that a norm distinguishes.

    Attributes:
        name: Its name in the file, such as ``consonant``.
        form: What is right then: ``률``. Two cases of a family may have the same right form.
        when_en: When a word belongs to it.
        reason: The template of the short reason. ``{final}``, ``{vowel}``, ``{initial}`` and
            ``{syllable}`` are those of the deciding syllable.
        at: Where the deciding syllable is, counted from the first character in which the two forms
            differ: ``-1`` is the one before. None if no single syllable decides.
    """

    name: str
    form: str
    when_en: str
    reason: str
    at: int | None


@dataclass(frozen=True)
class Word:
    """A word of a family, and the case of the norm that it belongs to."""

    entry: Entry
    side: Side


@dataclass(frozen=True)
class Family:
    """A norm that is a rule, and the words that it decides.

    Attributes:
        card: The norm and its words; the reasons of the words have their letters filled in.
        words: The words again, each with its case.
        kind: :data:`TWO_WAY` or :data:`ONE_WAY`.
        cue: What the norm looks at: one of :data:`CUES`.
        sides: The cases, by their names.
        nonce_carriers: Sentences, with their glosses, that any invented word of the family fits.
    """

    card: Card
    words: tuple[Word, ...]
    kind: str
    cue: str
    sides: Mapping[str, Side]
    nonce_carriers: tuple[tuple[str, str], ...]

    @property
    def right_forms(self) -> list[str]:
        """What can be right: two forms in a two-way family, one in a one-way family."""
        return list(dict.fromkeys(side.form for side in self.sides.values()))

    def invented(self, right: str, wrong: str, side_name: str) -> Word:
        """Return an invented word of this family: without sentences, and without a meaning."""
        side = self.sides[side_name]
        raw = {"right": right, "wrong": wrong, "meaning_en": "an invented word", "sentences": ()}
        return Word(_entry(raw, side), side)


def load_families(folder: Path | None = None) -> list[Family]:
    """Return every family, sorted by the names of their files.

    Args:
        folder: The folder of the YAML files; ``data/norms/families`` if not given.

    Raises:
        InputError: A family breaks a rule of ``data/norms/README.md``.
    """
    folder = folder or project_root() / "data" / "norms" / "families"
    families = []
    for file in sorted(folder.glob("*.yaml")):
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
        families.append(_family(raw, file.name))
    return families


def _family(raw: Mapping[str, Any], where: str) -> Family:
    """Return the family of one file; ``where`` names it in error messages."""
    _check_choice(raw["kind"], KINDS, where)
    _check_choice(raw["turns_on"], CUES, where)
    _check_choice(raw["category"], CATEGORIES, where)
    category = CATEGORIES[raw["category"]]

    sides = {}
    for name, side in raw["sides"].items():
        sides[name] = Side(
            name=name,
            form=side["form"],
            when_en=side["when_en"],
            reason=side["reason"],
            at=side.get("at"),
        )

    words = _words(raw["entries"], sides, category, where)
    card = Card(
        id=raw["id"],
        category=category,
        article=raw["article"],
        norm=raw["norm"],
        norm_en=raw["norm_en"],
        entries=tuple(word.entry for word in words),
    )
    return Family(
        card=card,
        words=words,
        kind=raw["kind"],
        cue=raw["turns_on"],
        sides=sides,
        nonce_carriers=tuple(map(tuple, raw["nonce_carriers"])),
    )


def _words(
    raw_entries: Iterable[Mapping[str, Any]],
    sides: Mapping[str, Side],
    category: str,
    where: str,
) -> tuple[Word, ...]:
    """Return the words of a family, checked."""
    words: dict[str, Word] = {}
    for raw in raw_entries:
        _check_choice(raw["side"], sides, where)
        side = sides[raw["side"]]
        entry = _entry(raw, side)
        of_word = f"{where}, {entry.right}/{entry.wrong}"
        check_sentences(entry, category, of_word)
        check_reason(entry.reason, entry.right, entry.wrong, of_word)

        if entry.right in words:
            raise InputError(f"{where}: {entry.right} is there twice")
        words[entry.right] = Word(entry, side)
    return tuple(words.values())


def _check_choice(value: str, known: Any, where: str) -> None:
    if value not in known:
        raise InputError(f"{where}: {value!r} is none of {', '.join(known)}")


def _entry(raw: Mapping[str, Any], side: Side) -> Entry:
    """Return a word with the reason of its side, the letters filled in."""
    right, wrong = raw["right"], raw["wrong"]
    reason = side.reason
    if side.at is not None:
        reason = _with_letters(reason, right[_first_difference(right, wrong) + side.at])

    return Entry(
        right=right,
        wrong=wrong,
        meaning_en=raw["meaning_en"],
        sentences=tuple(map(tuple, raw["sentences"])),
        reason=reason,
        reason_full=reason,
    )


def _first_difference(right: str, wrong: str) -> int:
    """Return the first place where two forms differ."""
    for place, (one, other) in enumerate(zip(right, wrong, strict=False)):
        if one != other:
            return place
    raise InputError(f"one form contains the other: {right}, {wrong}")


def _with_letters(template: str, deciding: str) -> str:
    """Fill the letters of the deciding syllable into the template of a reason."""
    if not is_syllable(deciding):
        return template

    letters = letters_of(deciding)
    named = {
        "{initial}": letters.initial,
        "{vowel}": letters.medial,
        "{final}": letters.final,
        "{syllable}": deciding,
    }
    for slot, letter in named.items():
        template = template.replace(slot, letter)
    return template
