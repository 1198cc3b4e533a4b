"""What a question asks: its type, its sentences, the right and wrong forms, the chance of a guess.

In: a question as the contest words it, and its gold answer. Out: the parts that prompts, metrics
and figures need. The article reads the question type only; the forms are what choice accuracy
compares.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from grpo_helpers.answers import normalize_quotes, parse_gold
from grpo_helpers.similarity import common_start

SELECTION = "선택형"  # "choose": pick one option of every {A/B} in a sentence
CORRECTION = "교정형"  # "correct": find and fix the one error of a sentence
QUESTION_TYPES = (SELECTION, CORRECTION)

# A line after a dash, its bold variant, or the vowel ㅡ, which the contest types by mistake.
_BULLET = re.compile(r"^\s*[―ㅡ—–]\s*(\S.*)$", re.MULTILINE)
_QUOTED = re.compile(r'"(.+)"', re.DOTALL)
_SPACES = re.compile(r"\s+")
_OPENING, _CLOSING = "{([", "})]"


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


@dataclass(frozen=True)
class Choice:
    """The options ``{A/B}`` of one choice, and where the brace stands.

    Attributes:
        start: The position of its opening brace.
        end: The position after its closing brace.
        options: The options, stripped.
    """

    start: int
    end: int
    options: tuple[str, ...]


def brace_choices(text: str) -> list[Choice]:
    """Return every choice ``{A/B}`` in ``text``, from left to right.

    A brace that does not divide its content by a slash offers nothing to choose from: in
    ``집{에, 으로} 갔다`` ("went {to, toward} the house") it is a punctuation mark. Options may
    contain brackets themselves; a slash in those divides nothing.

    >>> brace_choices("{며칠/몇일} 뒤에")
    [Choice(start=0, end=7, options=('며칠', '몇일'))]
    >>> brace_choices("집{에, 으로} 갔다.")
    []
    >>> brace_choices("{집{에, 으로}/집(에, 으로)} 갔다.")[0].options
    ('집{에, 으로}', '집(에, 으로)')
    """
    choices = []
    depth = 0  # of nested brackets, counted from the opening brace of a choice
    borders: list[int] = []  # of the options: the opening brace, each slash, the closing brace

    for place, char in enumerate(text):
        if char == "{" and depth == 0:
            depth = 1
            borders = [place]
        elif char in _OPENING and depth > 0:
            depth += 1
        elif char == "/" and depth == 1:
            borders.append(place)
        elif char in _CLOSING and depth > 1:
            depth -= 1
        elif char == "}" and depth == 1:
            depth = 0
            borders.append(place)
            if len(borders) > 2:
                choices.append(Choice(borders[0], place + 1, _between(text, borders)))

    return choices


def _between(text: str, borders: list[int]) -> tuple[str, ...]:
    """Return the stripped texts between neighbouring borders."""
    texts = []

    for left, right in pairwise(borders):
        texts.append(text[left + 1 : right].strip())

    return tuple(texts)


def brace_options(text: str) -> list[list[str]]:
    """Return the options of every choice ``{A/B}`` in ``text``, brace by brace.

    >>> brace_options("{며칠/몇일} 뒤에 {봬요/뵈요}.")
    [['며칠', '몇일'], ['봬요', '뵈요']]
    """
    return [list(choice.options) for choice in brace_choices(text)]


def offered_choices(item: Item) -> list[Choice]:
    """Return the choices that an item's sentence offers; positions are those in that sentence.

    There are none in a 교정형 item, nor in one whose lines are the options. A brace that the gold
    sentence keeps as it is belongs to the sentence: its slash is a punctuation mark.

    >>> offered_choices(Item("1", CORRECTION, '"집(에/으로) 갔다."', '"집{에/으로} 갔다."가 옳다.'))
    []
    """
    sentences = question_sentences(item.question)
    if item.question_type != SELECTION or len(sentences) > 1:
        return []

    sentence = normalize_quotes(sentences[0])
    gold_sentences = [without_spaces(gold) for gold in parse_gold(item.answer or "").sentences]
    offered = []

    for choice in brace_choices(sentence):
        brace = without_spaces(sentence[choice.start : choice.end])
        belongs_to_sentence = any(brace in gold for gold in gold_sentences)
        if not belongs_to_sentence:
            offered.append(choice)

    return offered


def without_spaces(text: str) -> str:
    """Return ``text`` without white space.

    >>> without_spaces("{며칠 / 몇일}")
    '{며칠/몇일}'
    """
    return _SPACES.sub("", text)


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
    choices = offered_choices(item)

    if choices:
        return _forms_of_first_choice(gold, sentences[0], choices)

    return _forms_of_sentences(gold, sentences)


def _forms_of_first_choice(
    gold: str, sentence: str, choices: list[Choice]
) -> tuple[str, tuple[str, ...]]:
    """Return the right and wrong options of the first choice of ``sentence``."""
    first = choices[0]
    right = first.options[0]  # if the gold sentence is not one of the options, the first one counts

    # The gold sentence starts like the question's with the right option put in. What follows a
    # second choice depends on it, so the comparison ends before it.
    end_of_comparison = choices[1].start if len(choices) > 1 else len(sentence)
    before = sentence[: first.start]
    after = sentence[first.end : end_of_comparison]

    for option in first.options:
        if gold.startswith(before + option + after):
            right = option
            break

    wrong = tuple(option for option in first.options if option != right)
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
    head = common_start(gold, other)
    tail = common_start(gold[head:][::-1], other[head:][::-1])
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

    choices = offered_choices(item)
    if choices:
        combinations = math.prod(len(choice.options) for choice in choices)
        return 1 / combinations

    lines = question_sentences(item.question)
    return 1 / len(lines)
