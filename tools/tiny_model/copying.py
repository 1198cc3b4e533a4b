"""How honest the base is: shares of answers that are copied, in format, and right."""

from __future__ import annotations

from collections.abc import Sequence

from grpo_helpers.answers import normalize_quotes, parse_gold
from grpo_helpers.questions import Item, choice_forms


def copied(answer: str, item: Item) -> bool:
    """Return whether ``answer`` holds the item's sentence letter by letter, with any option at the chosen place."""
    gold = parse_gold(item.answer or "").sentences[0]
    right, wrong = choice_forms(item)
    text = normalize_quotes(answer)
    return any(gold.replace(right, form) in text for form in (right, *wrong))


def copy_share(answers: Sequence[str], items: Sequence[Item]) -> float:
    """Return the share of answers whose sentence is copied outside the chosen word, 0 to 1."""
    return sum(copied(a, item) for a, item in zip(answers, items, strict=True)) / len(items)
