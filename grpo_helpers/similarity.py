"""How alike two sentences are: character n-grams and their Jaccard similarity."""

from __future__ import annotations

NEAR_COPY = 0.6  # character 5-gram Jaccard above which two sentences count as copies of each other


def char_ngrams(text: str, n: int = 5) -> set[str]:
    """Return the set of character n-grams of ``text`` (the whole text if it is shorter than n)."""
    return {text[i : i + n] for i in range(len(text) - n + 1)} or {text}


def jaccard(left: set[str], right: set[str]) -> float:
    """Return the Jaccard similarity of two sets, 0 to 1.

    >>> jaccard({"a", "b"}, {"b", "c"})
    0.3333333333333333
    """
    return len(left & right) / len(left | right) if left or right else 1.0
