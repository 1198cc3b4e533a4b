"""Question types and what a question asks: its sentences, the right and wrong forms, the chance of a guess."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from grpo_helpers.answers import normalize_quotes, parse_gold

SELECTION = "선택형"  # "choose": pick one option of every {A/B} in a sentence
CORRECTION = "교정형"  # "correct": find and mend the one error of a sentence
QUESTION_TYPES = (SELECTION, CORRECTION)


@dataclass(frozen=True)
class Item:
    """One question of the contest; ``extra`` holds the other fields of its row (in our data ``card``, ``source`` ...).

    >>> item = Item("7", SELECTION, '"{며칠/몇일}이 걸렸다." 가운데 ...', '"며칠이 걸렸다."가 옳다. ...')
    >>> item.question_type
    '선택형'
    """

    id: str | int  # unique within its file; kept as the file has it
    question_type: str  # 선택형 (choose) or 교정형 (correct)
    question: str  # as the contest words it
    answer: str | None = None  # the gold answer; None in a file without answers
    extra: dict[str, Any] = field(default_factory=dict, compare=False)


_BULLET = re.compile(
    r"^\s*[―ㅡ—–]\s*(\S.*)$", re.MULTILINE
)  # a dash, its bold cousin, or the vowel ㅡ by mistake
_QUOTED = re.compile(r'"(.+)"', re.DOTALL)
_BRACE = re.compile(r"\{([^{}]*)\}")


def question_sentences(question: str) -> list[str]:
    """Return the sentences a question is about: its bullet lines, else what its outer double quotes hold, else all.

    >>> question_sentences('"{며칠/몇일}이 걸렸다." 가운데 올바른 것을 선택하고, 그 이유를 설명하세요.')
    ['{며칠/몇일}이 걸렸다.']
    >>> question_sentences("다음 중 어문 규범에 부합하는 것을 선택하고, ...\\n― 며칠 걸렸다.\\n― 몇일 걸렸다.")
    ['며칠 걸렸다.', '몇일 걸렸다.']
    """
    quoted = _QUOTED.search(question)
    return [line.strip() for line in _BULLET.findall(question)] or [
        quoted[1] if quoted else question
    ]


def choice_forms(item: Item) -> tuple[str, tuple[str, ...]]:
    """Return (right form, wrong forms) of an item, read off its question and gold answer.

    선택형: the options of the first brace, or the words in which two lines to choose from differ. 교정형: the words in
    which question and gold sentence differ. Forms are taken with their surrounding words where that is needed to tell
    them apart (할 수 vs 할수; "네, 내일" vs "네 내일").

    >>> item = Item("1", SELECTION, '"{며칠/몇일}이 걸렸다." 가운데 ...', '"며칠이 걸렸다."가 옳다. 까닭.')
    >>> choice_forms(item)
    ('며칠', ('몇일',))
    """
    gold = next(iter(parse_gold(item.answer or "").sentences), "")
    asked = [normalize_quotes(sentence) for sentence in question_sentences(item.question)]
    brace = _BRACE.search(asked[0]) if item.question_type == SELECTION else None
    if brace:
        options = [option.strip() for option in brace[1].split("/")]
        # The gold sentence is the question's with the right option in its first brace; later braces are left open.
        before, after = asked[0].split("{", 1)[0], asked[0].split("}", 1)[1].split("{", 1)[0]
        right = next(
            (option for option in options if gold.startswith(before + option + after)), options[0]
        )
        return right, tuple(option for option in options if option != right)
    pairs = [_differing_words(gold, other) for other in asked if other != gold] or [("", "")]
    return pairs[0][0], tuple(wrong for _, wrong in pairs)


def _differing_words(gold: str, asked: str) -> tuple[str, str]:
    """Return the stretch of whole words in which two sentences differ, in each of them.

    It grows by a word where it could be read in the other sentence too: "네" is in "네, 내일", "네 내일" is not.
    """
    head = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(gold, asked, strict=False))))
    rest = zip(reversed(gold[head:]), reversed(asked[head:]), strict=False)
    tail = len(list(takewhile(lambda pair: pair[0] == pair[1], rest)))
    head, tail = _to_space(gold, head), _to_space(gold[::-1], tail)
    while True:
        right, wrong = (
            gold[head : len(gold) - tail].strip(),
            asked[head : len(asked) - tail].strip(),
        )
        if not (head or tail) or (right and wrong and right not in asked and wrong not in gold):
            return right, wrong
        if tail:
            tail = _to_space(gold[::-1], tail - 1)
        else:
            head = _to_space(gold, head - 1)


def _to_space(text: str, length: int) -> int:
    """Return how many of the first ``length`` characters go up to their last space, it included: 0 without one."""
    return text.rfind(" ", 0, length) + 1


def chance(item: Item) -> float:
    """Return how often a guess at a 선택형 item is right: 1 over its options; NaN for a 교정형, which has none.

    >>> chance(Item("1", "선택형", '"{며칠/몇일}이 {걸렸다/걸렷다}." 가운데 ...', '"며칠이 걸렸다."가 옳다. 까닭.'))
    0.25
    """
    braces = re.findall(r"\{([^{}]*)\}", item.question)
    options = (
        math.prod(len(brace.split("/")) for brace in braces)
        if braces
        else len(question_sentences(item.question))
    )
    return 1 / options if item.question_type == SELECTION else math.nan
