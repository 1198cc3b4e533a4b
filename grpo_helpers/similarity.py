"""How similar two texts are, and where they differ.

In: two texts. Out: the Jaccard similarity of their character n-grams, which finds near copies
between splits, the length of their common start, or the words that changed from one to the other.
The article compares no sentences; here a near copy of a question must not be its few-shot example.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher

NEAR_COPY = 0.6  # character 5-gram Jaccard above which two sentences count as copies of each other


def char_ngrams(text: str, n: int = 5) -> set[str]:
    """Return the set of character n-grams of ``text`` (all of the text if it is shorter than n).

    >>> sorted(char_ngrams("며칠이다", 3))
    ['며칠이', '칠이다']
    """
    starts = range(len(text) - n + 1)
    return {text[start : start + n] for start in starts} or {text}


def common_start(left: Sequence[object], right: Sequence[object]) -> int:
    """Return how many characters, or tokens, two texts have in common at their start.

    >>> common_start("며칠이다", "며칠밖에"), common_start([5, 6], [5, 6, 7])
    (2, 2)
    """
    length = 0
    for of_left, of_right in zip(left, right, strict=False):  # up to the end of the shorter
        if of_left != of_right:
            break
        length += 1
    return length


def jaccard(left: set[str], right: set[str]) -> float:
    """Return the Jaccard similarity of two sets, 0 to 1; two empty sets are the same.

    >>> jaccard({"a", "b"}, {"b", "c"})
    0.3333333333333333
    """
    if not left and not right:
        return 1.0

    return len(left & right) / len(left | right)


def changed_words(before: str, after: str) -> str:
    """Return what changed between two texts, compared word by word.

    Returns:
        ``"old words -> new words"`` for each place that differs, separated by commas. One side is
        empty where words were only added or only removed. Empty if all words are the same.

    >>> changed_words("노력한만큼 성적이 올랐다.", "노력한 만큼 성적이 올랐다.")
    '노력한만큼 -> 노력한 만큼'
    """
    old, new = before.split(), after.split()

    # autojunk would ignore words that are frequent in long texts.
    matcher = SequenceMatcher(None, old, new, autojunk=False)
    changes = []

    for kind, old_start, old_end, new_start, new_end in matcher.get_opcodes():
        if kind == "equal":
            continue

        old_words = " ".join(old[old_start:old_end])
        new_words = " ".join(new[new_start:new_end])
        changes.append(f"{old_words} -> {new_words}")

    return ", ".join(changes)
