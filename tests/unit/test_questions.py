"""What a question asks."""

import math

import pytest

from grpo_helpers.questions import CORRECTION, SELECTION, Item, brace_options, chance, choice_forms

# Question type, question, right sentence: the right form and the wrong ones.
FORMS = {
    "a brace": (
        SELECTION,
        '"{며칠/몇일}이 걸렸다." 가운데 ...',
        "며칠이 걸렸다.",
        ("며칠", ("몇일",)),
    ),
    "a brace of three": (
        SELECTION,
        '"{몇일/며칠/몇 일} 걸렸다." 가운데 ...',
        "며칠 걸렸다.",
        ("며칠", ("몇일", "몇 일")),
    ),
    "the first of two braces": (
        SELECTION,
        '"{몇일/며칠} 뒤에 {뵈요/봬요}." 가운데 ...',
        "며칠 뒤에 봬요.",
        ("며칠", ("몇일",)),
    ),
    "two lines": (
        SELECTION,
        "다음 중 ...\n― 며칠 걸렸다.\n― 몇일 걸렸다.",
        "며칠 걸렸다.",
        ("며칠", ("몇일",)),
    ),
    "a sentence to correct": (
        CORRECTION,
        '... 설명하세요.\n"몇일 걸렸다."',
        "며칠 걸렸다.",
        ("며칠", ("몇일",)),
    ),
    "a space": (
        CORRECTION,
        '... 설명하세요.\n"혼자서 할수 없다."',
        "혼자서 할 수 없다.",
        ("할 수", ("할수",)),
    ),
    "a comma, with the next word": (
        CORRECTION,
        '... 설명하세요.\n"네 내일 가요."',
        "네, 내일 가요.",
        ("네, 내일", ("네 내일",)),
    ),
    "a sentence that is right already": (
        CORRECTION,
        '... 설명하세요.\n"며칠 걸렸다."',
        "며칠 걸렸다.",
        ("", ("",)),
    ),
}


@pytest.mark.parametrize("case", FORMS)
def test_forms_are_read_off_question_and_answer(case):
    question_type, question, right_sentence, expected = FORMS[case]
    item = Item("1", question_type, question, f'"{right_sentence}"가 옳다. 까닭.')
    assert choice_forms(item) == expected


def test_first_option_counts_as_right_without_a_gold_answer():
    assert choice_forms(Item("1", SELECTION, '"{며칠/몇일}이다."')) == ("며칠", ("몇일",))


def test_options_are_read_brace_by_brace():
    assert brace_options("{a / b}와 {c/d}") == [["a", "b"], ["c", "d"]]


def test_brace_without_slash_is_no_choice():
    assert brace_options("집{에, 으로} 갔다.") == []


def test_options_may_contain_braces_themselves():
    assert brace_options("{집{에/으로}/집(에/으로)} 갔다.") == [["집{에/으로}", "집(에/으로)"]]


def test_unclosed_brace_is_no_choice():
    assert brace_options("{며칠/몇일") == []


def test_choice_beside_a_marking_brace_gives_the_forms():
    question = '"집{에/으로} {갔다/같다}." 가운데 올바른 것을 선택하고, 그 이유를 설명하세요.'
    item = Item("1", SELECTION, question, '"집{에/으로} 갔다."가 옳다. 까닭.')
    assert choice_forms(item) == ("갔다", ("같다",))


def test_braces_on_two_lines_are_compared_as_words():
    question = "다음 중 ...\n― 집{에/으로} 갔다.\n― 집(에/으로) 갔다."
    item = Item("1", SELECTION, question, '"집{에/으로} 갔다."가 옳다. 까닭.')
    assert choice_forms(item) == ("집{에/으로}", ("집(에/으로)",))


def test_chance_counts_lines_where_braces_are_marks():
    question = "다음 중 ...\n― 집{에/으로} 갔다.\n― 집(에/으로) 갔다."
    assert chance(Item("1", SELECTION, question, '"집{에/으로} 갔다."가 옳다.')) == 1 / 2


def test_text_without_brace_has_no_options():
    assert brace_options("며칠") == []


def test_chance_of_lines_is_one_over_their_number():
    assert chance(Item("1", SELECTION, "다음 중 ...\n― 며칠.\n― 몇일.\n― 몇 일.")) == 1 / 3


def test_chance_of_a_sentence_to_correct_is_undefined():
    assert math.isnan(chance(Item("1", CORRECTION, '"{며칠/몇일} 걸렸다."')))
