"""What a question asks: its type, its sentences, the right and wrong forms, the chance of a guess.

In: a question as the contest words it, and its gold answer. Out: the parts that prompts, metrics
and figures need. The article reads the question type only; the forms are what choice accuracy
compares.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

from grpo_helpers.answers import normalize_quotes, parse_gold

SELECTION = "선택형"  # "choose": pick one option of every {A/B} in a sentence
CORRECTION = "교정형"  # "correct": find and fix the one error of a sentence
QUESTION_TYPES = (SELECTION, CORRECTION)

# A line after a dash, its bold variant, or the vowel ㅡ, which the contest types by mistake.
_BULLET = re.compile(r"^\s*[―ㅡ—–]\s*(\S.*)$", re.MULTILINE)
_QUOTED = re.compile(r'"(.+)"', re.DOTALL)
_BRACE = re.compile(r"\{([^{}]*)\}")  # {A/B}: the options of one choice


@dataclass(frozen=True)
class Item:
    """One question of the contest.

    Attributes:
        id: Unique within its file; a string or a number, as in the file.
        question_type: :data:`SELECTION` or :data:`CORRECTION`.
        question: The question as the contest words it.
        answer: The gold answer, or None in a file without answers.
        extra: The other fields of its row; in our data ``card``, ``source``, ``gloss`` and more.

    >>> item = Item("7", SELECTION, '"{며칠/몇일}이 걸렸다." 가운데 ...', '"며칠이 걸렸다."가 ...')
    >>> item.question_type
    '선택형'
    """

    id: str | int
    question_type: str
    question: str
    answer: str | None = None
    extra: dict[str, Any] = field(default_factory=dict, compare=False)


def question_sentences(question: str) -> list[str]:
    r"""Return the sentences that a question is about.

    These are its bullet lines; without any, what is between its outer double quotes; without
    quotes, all of it.

    >>> question_sentences('"{며칠/몇일}이 걸렸다." 가운데 올바른 것을 선택하고, ...')
    ['{며칠/몇일}이 걸렸다.']
    >>> question_sentences("다음 중 ... 선택하고, ...\n― 며칠 걸렸다.\n― 몇일 걸렸다.")
    ['며칠 걸렸다.', '몇일 걸렸다.']
    """
    bullet_lines = _BULLET.findall(question)
    if bullet_lines:
        return [line.strip() for line in bullet_lines]

    quoted = _QUOTED.search(question)
    if quoted:
        return [quoted[1]]

    return [question]


def brace_options(text: str) -> list[list[str]]:
    """Return the options of every ``{A/B}`` in ``text``, brace by brace.

    >>> brace_options("{며칠/몇일} 뒤에 {봬요/뵈요}.")
    [['며칠', '몇일'], ['봬요', '뵈요']]
    """
    choices = []

    for inside in _BRACE.findall(text):
        choices.append([option.strip() for option in inside.split("/")])

    return choices


def choice_forms(item: Item) -> tuple[str, tuple[str, ...]]:
    """Return the right form and the wrong forms of an item, from its question and gold answer.

    선택형: the options of the first brace, or the words in which the lines to choose from differ.
    교정형: the words in which the question's sentence and the gold sentence differ. Forms include
    their neighbouring words where they would be indistinguishable without them (할 수 and 할수;
    "네, 내일" and "네 내일").

    >>> question = '"{며칠/몇일}이 걸렸다." 가운데 ...'
    >>> item = Item("1", SELECTION, question, '"며칠이 걸렸다."가 옳다. 까닭.')
    >>> choice_forms(item)
    ('며칠', ('몇일',))
    """
    gold_sentences = parse_gold(item.answer or "").sentences
    gold = gold_sentences[0] if gold_sentences else ""
    sentences = [normalize_quotes(sentence) for sentence in question_sentences(item.question)]

    if item.question_type == SELECTION and _BRACE.search(sentences[0]):
        return _forms_of_first_brace(gold, sentences[0])

    return _forms_of_sentences(gold, sentences)


def _forms_of_first_brace(gold: str, sentence: str) -> tuple[str, tuple[str, ...]]:
    """Return the right and wrong options of the first brace of ``sentence``."""
    options = brace_options(sentence)[0]
    right = options[0]  # if the gold sentence is not one of the options, the first one counts

    # The gold sentence starts like the question's with the right option put in. What follows a
    # second brace depends on the choice there, so the comparison ends before it.
    before, _, rest = sentence.partition("{")
    _, _, after_brace = rest.partition("}")
    after, _, _ = after_brace.partition("{")

    for option in options:
        if gold.startswith(before + option + after):
            right = option
            break

    wrong = tuple(option for option in options if option != right)
    return right, wrong


def _forms_of_sentences(gold: str, sentences: list[str]) -> tuple[str, tuple[str, ...]]:
    """Return the words of ``gold`` that differ from the other sentences, and theirs."""
    right_forms = []
    wrong_forms = []

    for sentence in sentences:
        if sentence != gold:
            right, wrong = _differing_words(gold, sentence)
            right_forms.append(right)
            wrong_forms.append(wrong)

    if not right_forms:  # the question's sentence is right as it is
        return "", ("",)

    return right_forms[0], tuple(wrong_forms)


def _differing_words(gold: str, other: str) -> tuple[str, str]:
    """Return the whole words in which two sentences differ: those of ``gold``, those of ``other``.

    The stretch grows by a word while one side also occurs in the other sentence: "네" is part of
    "네, 내일", but "네 내일" is not.
    """
    # Lengths of the common start and of the common end, cut back to whole words.
    head = _common_start(gold, other)
    tail = _common_start(gold[head:][::-1], other[head:][::-1])
    head = _up_to_last_space(gold, head)
    tail = _up_to_last_space(gold[::-1], tail)

    while True:
        right = gold[head : len(gold) - tail].strip()
        wrong = other[head : len(other) - tail].strip()

        distinct = right and wrong and right not in other and wrong not in gold
        whole_sentence = head == 0 and tail == 0
        if distinct or whole_sentence:
            return right, wrong

        # One word more at the end; where the end is reached, at the start.
        if tail:
            tail = _up_to_last_space(gold[::-1], tail - 1)
        else:
            head = _up_to_last_space(gold, head - 1)


def _common_start(left: str, right: str) -> int:
    """Return how many characters two texts have in common at their start."""
    length = 0

    for left_char, right_char in zip(left, right, strict=False):  # up to the end of the shorter
        if left_char != right_char:
            break
        length += 1

    return length


def _up_to_last_space(text: str, length: int) -> int:
    """Return the length of ``text[:length]`` up to and including its last space, 0 without one."""
    return text.rfind(" ", 0, length) + 1


def chance(item: Item) -> float:
    """Return how often a random guess at an item is right, 0 to 1.

    Returns:
        1 over the number of possible answers of a 선택형 item; NaN for a 교정형 item, which has no
        options to guess from.

    >>> chance(Item("1", SELECTION, '"{며칠/몇일}이 {걸렸다/걸렷다}." 가운데 ...'))
    0.25
    """
    if item.question_type != SELECTION:
        return math.nan

    choices = brace_options(item.question)
    if choices:
        combinations = math.prod(len(options) for options in choices)
        return 1 / combinations

    lines = question_sentences(item.question)
    return 1 / len(lines)
