"""Check that reasons argue for their answers: a part of ``python -m tools.corpus.check``.

In: norm cards, items, the instruction text. Out: one line per fault. A reason must name the form
that its answer gives and call no other form right; a further right form needs an argument of its
own; a blank shows no wrong form to argue against; no two words of a card share a full reason.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from grpo_helpers.answers import parse
from grpo_helpers.questions import Item
from tools.corpus.cards import (
    Alternative,
    Card,
    Entry,
    alternative_reason,
    blank_reason,
    reason,
)

DISTINCT_FULL_REASONS = 0.90  # at least this share of the words has a full reason of its own

MARKS = {
    ",": "쉼표",
    "·": "가운뎃점",
    "-": "붙임표",
    "~": "물결표",
    "―": "줄표",
    ":": "쌍점",
    "/": "빗금",
}

# What follows a form that a reason calls right: 처럼 적는다, 이 맞다, 으로 쓴다 and so on.
_CALLED_RIGHT = (
    r"""['"]?(?:처럼|이라|라|이라고|라고|[이가은는을를도]|으로|로)?\s*"""
    r"(?:적는다|쓴다|적으며|쓰며|적어야|써야|옳|맞|바르|끝맺는다|묶는다)"
)
_CONTRAST = re.compile(r"말고|대신(?!하|할|한)|아니라|아닌|아니고|틀리|틀린|잘못")
_SENTENCE_END = re.compile(r"다\.(?=\s|$)")
_PROMISED_LENGTH = re.compile(r"(한두|두세|한|두|세) 문장")
_LENGTHS = {"한": (1, 1), "두": (2, 2), "세": (3, 3), "한두": (1, 2), "두세": (2, 3)}
_UNNUMBERED_PART = re.compile(r"표준어 규정 제\d+항")


@dataclass(frozen=True)
class Argument:
    """The form that an answer calls right, the other forms of the word, and the reason given."""

    where: str
    form: str
    others: tuple[str, ...]
    text: str


def arguments(card: Card) -> list[Argument]:
    """Return every argument of a card: short and full, for blanks and for further right forms."""
    found = []
    for entry in card.entries:
        alternatives = [alternative.form for alternative in entry.also]
        forms = (entry.right, entry.wrong, *alternatives)
        for form, text in _texts(entry):
            others = tuple(other for other in forms if other != form)
            found.append(Argument(f"{card.id}, {entry.right}", form, others, text))
    return found


def _texts(entry: Entry) -> list[tuple[str, str]]:
    """Return the filled-in reasons of an entry, each with the form that it argues for."""
    texts = []
    for full in (False, True):
        texts.append((entry.right, reason(entry, full)))
        if entry.blank:
            texts.append((entry.right, blank_reason(entry, full)))
        for alternative in entry.also:
            texts.append((alternative.form, alternative_reason(entry, alternative, full)))
    return texts


def form_faults(cards: Iterable[Card]) -> list[str]:
    """Check that a reason names its answer's form and calls no other form right."""
    faults = []
    for card in cards:
        for argument in arguments(card):
            if argument.form not in argument.text:
                faults.append(
                    f"{argument.where}: the reason does not name {argument.form}: {argument.text}"
                )
            for other in _called_right(argument):
                faults.append(f"{argument.where}: the reason calls {other} right: {argument.text}")
    return faults


def _called_right(argument: Argument) -> list[str]:
    """Return the other forms that a reason calls right."""
    found = []
    for other in argument.others:
        if re.search(re.escape(other) + _CALLED_RIGHT, argument.text):
            found.append(other)
    return found


def alternative_faults(cards: Iterable[Card]) -> list[str]:
    """Check that the reason for a further right form is about the mark of this form."""
    faults = []
    for card in cards:
        for entry in card.entries:
            for alternative in entry.also:
                faults += _mark_faults(card, entry, alternative)
    return faults


def _mark_faults(card: Card, entry: Entry, alternative: Alternative) -> list[str]:
    """Return a line for each reason that leaves out the mark that makes the form another one."""
    own = [mark for mark in MARKS if mark in alternative.form]
    new = [mark for mark in own if mark not in entry.right]
    names = [MARKS[mark] for mark in new or own]

    faults = []
    for full in (False, True):
        text = alternative_reason(entry, alternative, full)
        if names and not any(name in text for name in names):
            expected = " or ".join(names)
            faults.append(
                f"{card.id}, {alternative.form}: the reason does not name {expected}: {text}"
            )
    return faults


def blank_faults(cards: Iterable[Card]) -> list[str]:
    """Check that the reason for a blank says nothing against a form that is not in the question."""
    faults = []
    for card in cards:
        for entry in card.entries:
            if not entry.blank:
                continue
            for full in (False, True):
                text = blank_reason(entry, full)
                if entry.wrong in text or _CONTRAST.search(text):
                    faults.append(
                        f"{card.id}, {entry.blank}: the reason argues against a form that is "
                        f"not in the question: {text}"
                    )
    return faults


def length_faults(items: Iterable[Item], prompt: str) -> list[str]:
    """Check that the reasons are as long as the instruction says, if it says so.

    Args:
        items: Items whose prompts begin with the instruction.
        prompt: The instruction, for example ``... 이유를 한 문장으로 쓴다`` (in one sentence).
    """
    promised = _PROMISED_LENGTH.search(prompt)
    if not promised:
        return []

    least, most = _LENGTHS[promised[1]]
    faults = []
    for item in items:
        for answer in (item.answer or "").split("#"):
            count = len(_SENTENCE_END.findall(parse(answer).reason))
            if not least <= count <= most:
                faults.append(f"{item.id}: {count} sentences, but the prompt says: {prompt}")
    return faults


def sharing_faults(cards: Sequence[Card]) -> list[str]:
    """Check that no two words of a card share a full reason, and few words of different cards.

    The share counts over all cards; :data:`DISTINCT_FULL_REASONS` is the least.
    """
    faults = []
    for card in cards:
        templates = Counter(entry.reason_full for entry in card.entries)
        for template, count in templates.items():
            if count > 1:
                faults.append(f"{card.id}: {count} words share a full reason: {template}")

    share = distinct_share(cards)
    if share < DISTINCT_FULL_REASONS:
        faults.append(
            f"distinct full reasons: {share:.0%} of the words, "
            f"expected at least {DISTINCT_FULL_REASONS:.0%}"
        )
    return faults


def distinct_share(cards: Iterable[Card]) -> float:
    """Return the number of different full reasons over the number of words, 0 to 1."""
    templates = []
    for card in cards:
        templates += [entry.reason_full for entry in card.entries]
    return len(set(templates)) / max(1, len(templates))


def citation_faults(cards: Iterable[Card]) -> list[str]:
    """Check that 표준어 규정 is cited with its part: both parts number their articles from 1."""
    faults = []
    for card in cards:
        texts = [card.article, card.norm]
        for entry in card.entries:
            texts += [text for _, text in _texts(entry)]
        for text in dict.fromkeys(texts):
            if _UNNUMBERED_PART.search(text):
                faults.append(f"{card.id}: cite 표준어 규정 제1부 or 제2부: {text}")
    return faults
