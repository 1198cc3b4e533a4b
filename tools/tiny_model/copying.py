"""Does the embedded model copy? The share of answers that repeat the question's sentence exactly.

In: answers and their items. Out: a share, 0 to 1. A base that copies well and is right half of the
time leaves room for GRPO to teach the one thing that the course measures: which form is right.
"""

from __future__ import annotations

from collections.abc import Sequence

from grpo_helpers.answers import normalize_quotes, parse_gold
from grpo_helpers.questions import Item, choice_forms

EMBEDDED = "data/embedded"  # the part of the data that the model is made for


def copied(answer: str, item: Item) -> bool:
    """Return whether ``answer`` contains the item's sentence, letter by letter, with either form.

    Args:
        answer: What the model wrote.
        item: The question; any of its forms may be at the place in question.
    """
    gold = parse_gold(item.answer or "").sentences[0]
    right, wrong = choice_forms(item)
    text = normalize_quotes(answer)

    return any(gold.replace(right, form) in text for form in (right, *wrong))


def copy_share(answers: Sequence[str], items: Sequence[Item]) -> float:
    """Return the share of answers whose sentence is copied outside the chosen word, 0 to 1."""
    copies = 0
    for answer, item in zip(answers, items, strict=True):
        copies += copied(answer, item)
    return copies / len(items)
