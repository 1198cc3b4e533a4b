"""The answer parser."""

import random

import pytest

from grpo_helpers.answers import (
    LATE,
    NESTED,
    REPEATED,
    THOUGHT_TAGS,
    UNCLOSED,
    format_answer,
    opens_thought,
    parse,
    parse_gold,
    split_official,
    split_thought,
    strip_prefixes_and_normalize,
    subject_particle,
    without_thought,
)
from grpo_helpers.metrics import choice_accuracy, exact_match, format_score
from grpo_helpers.questions import Item

# Text: sentences, particle, reason.
CASES = {
    '"며칠이 걸렸다."가 옳다. 까닭이다.': (("며칠이 걸렸다.",), "가", "까닭이다."),
    "“며칠이 걸렸다.”가 옳다. 까닭이다.": (("며칠이 걸렸다.",), "가", "까닭이다."),
    '[답변]: "봄"이 옳다. 까닭이다.': (("봄",), "이", "까닭이다."),
    '"봄" 이 옳다. 까닭이다.': (("봄",), "이", "까닭이다."),
    '"온오프라인"으가 옳다. 까닭이다.': (("온오프라인",), "으가", "까닭이다."),
    '"그는 "가자"라고 했다."가 옳다. 까닭이다.': (('그는 "가자"라고 했다.',), "가", "까닭이다."),
    '"하나" 혹은 "둘"이 옳다. 까닭이다.': (("하나", "둘"), "이", "까닭이다."),
    '"하나"\u00a0또는\u00a0"둘"이 옳다. 까닭이다.': (("하나", "둘"), "이", "까닭이다."),
    '"하나"와 같이 쓰거나 "둘"이 옳다. 까닭이다.': (("하나", "둘"), "이", "까닭이다."),
    "\"며칠\"이 옳다. '몇일'이 아니라 '며칠'이 옳다.": (
        ("며칠",),
        "이",
        "'몇일'이 아니라 '며칠'이 옳다.",
    ),
    '"며칠"로 고쳐 쓴다. 까닭이다.': (("며칠",), "로", "까닭이다."),
    '"며칠"로 바꿔 쓴다. 까닭이다.': (("며칠",), "로", "까닭이다."),
    '"며칠"로 고친다. 까닭이다.': (("며칠",), "로", "까닭이다."),
    '"며칠"로 고쳐 쓴다. "봄"이 옳다.': (("며칠",), "로", '"봄"이 옳다.'),
    "\"'며칠'로 쓴다.\"가 옳다. 까닭이다.": (("'며칠'로 쓴다.",), "가", "까닭이다."),
    '"며칠"과 같이 써야 한다. 까닭이다.': (("며칠",), "과 같이", "까닭이다."),
    '"며칠"이 옳다.': (("며칠",), "이", ""),
    "며칠": ((), "", ""),
    "": ((), "", ""),
}
PIECES = [
    *['"', "'", "“", "”", "가 옳다", "이 옳다.", " 혹은 "],
    *["\n", "\x00", "\ud800", "{", "}", "#", "봄", "ㄱ", "𝕏"],
]


@pytest.mark.parametrize("text", CASES)
def test_answer_is_parsed_into_its_parts(text):
    parsed = parse(text)
    assert (parsed.sentences, parsed.particle, parsed.reason) == CASES[text]


def test_gold_alternatives_are_separated_by_a_hash():
    assert parse_gold('"하나"가 옳다. 까닭.#"둘"이 옳다. 까닭.').sentences == ("하나", "둘")


@pytest.mark.parametrize(
    ("attribute", "expected"),
    [("sentences", ("며칠이 걸렸다.",)), ("reason", "소리대로 적는다."), ("head", "quoted")],
)
def test_formatted_answer_is_parsed_back(attribute, expected):
    parsed = parse(format_answer("며칠이 걸렸다.", "소리대로 적는다."))
    assert getattr(parsed, attribute) == expected


@pytest.mark.parametrize(
    ("word", "particle"),
    [
        ("봄", "이"),
        ("나무", "가"),
        ("할 거야?", "가"),
        ("2024. 5. 3.", "이"),
        ("9:30", "이"),
        ("14:05", "이"),
        ("3:2", "가"),
        ("1:2", "가"),
    ],
)
def test_particle_follows_the_last_sound(word, particle):
    assert subject_particle(word) == particle


def test_prefix_is_removed_before_quotes_and_spaces_are_normalised():
    assert strip_prefixes_and_normalize(" 답변:  ‘봄’이\u00a0 옳다 ") == "'봄'이 옳다"


def test_parser_finds_sentences_exactly_where_there_is_a_head():
    rng = random.Random(0)
    for _ in range(3000):
        length = rng.randint(0, 12)
        parsed = parse("".join(rng.choices(PIECES, k=length)))
        assert (parsed.head == "none") == (parsed.sentences == ())


@pytest.mark.parametrize("text", ['"' * 10_000, "가 옳다" * 2_000], ids=["quotes", "endings"])
def test_long_repetitions_have_no_head(text):
    assert parse(text).head == "none"


ANSWER = '"며칠"이 옳다. 까닭이다.'
THOUGHTS = {
    "a thought": '<think>"몇일"이 옳다?\n아니다.</think>\n\n',
    "an empty thought": "<think>\n\n</think>\n\n",
    "a thought that the template opened": '"몇일"이 옳다?</think>',
    "a thought in capitals": " <Think>음</Think>",
    "a long thought": f"<think>{'음' * 20_000}</think>",
    "a thought of another name": "<reasoning>음</reasoning>",
}


@pytest.mark.parametrize("case", THOUGHTS)
def test_thought_before_an_answer_is_no_part_of_it(case):
    text = THOUGHTS[case] + ANSWER
    assert parse(text) == parse(ANSWER)
    assert split_official(text) == split_official(ANSWER)


@pytest.mark.parametrize("case", THOUGHTS)
def test_answer_after_a_thought_earns_full_marks(case):
    text = THOUGHTS[case] + ANSWER
    item = Item("1", "선택형", '"{며칠/몇일}" 가운데', ANSWER)
    assert format_score(text) == exact_match(text, ANSWER) == choice_accuracy(text, item) == 1


def test_thought_that_was_cut_off_is_followed_by_nothing():
    assert without_thought(f"<think>{ANSWER}") == ""


def test_text_without_a_thought_stays_as_it_is():
    text = " 1 < 2 > 0 \n</thinks> "
    assert without_thought(text) == text


# Text: what is wrong with its thoughts, and what is left as its answer.
HOSTILE = {
    f"<think>{ANSWER}": (UNCLOSED, ""),
    f"<think>{'음' * 10_000}": (UNCLOSED, ""),
    f"{'<think>' * 10_000}{ANSWER}": (UNCLOSED, ""),
    f"{ANSWER}<think>": (UNCLOSED, ANSWER),
    f"<think>하나<think>둘</think>셋</think>{ANSWER}": (NESTED, ANSWER),
    f"<think>하나<think>둘</think>{ANSWER}": (NESTED, ANSWER),
    f"{'<think>' * 10_000}</think>{ANSWER}": (NESTED, ANSWER),
    f"<think>하나</think><think>둘</think>{ANSWER}": (REPEATED, ANSWER),
    f"<think></think>{ANSWER}</think>": (REPEATED, ""),
    f"{'</think>' * 10_000}{ANSWER}": (REPEATED, ANSWER),
    f"{'<think></think>' * 10_000}{ANSWER}": (REPEATED, ANSWER),
    f"{ANSWER}<think>음</think>": (LATE, ANSWER),
    f"답은 <think>음</think>{ANSWER}": (LATE, f"답은\n{ANSWER}"),
}
SHORTENED = [text[:30] for text in HOSTILE]


@pytest.mark.parametrize("text", HOSTILE, ids=SHORTENED)
def test_thought_in_a_wrong_place_is_called_a_fault(text):
    assert split_thought(text).fault == HOSTILE[text][0]


@pytest.mark.parametrize("text", HOSTILE, ids=SHORTENED)
def test_thought_in_a_wrong_place_is_no_part_of_the_answer(text):
    assert without_thought(text) == HOSTILE[text][1]


@pytest.mark.parametrize("text", HOSTILE, ids=SHORTENED)
def test_thought_in_a_wrong_place_earns_no_format(text):
    assert format_score(text) == 0


@pytest.mark.parametrize("case", THOUGHTS)
def test_thought_in_its_place_is_no_fault(case):
    assert split_thought(THOUGHTS[case] + ANSWER).fault == ""


def test_empty_thought_thinks_nothing():
    assert split_thought(THOUGHTS["an empty thought"] + ANSWER).thought == ""


def test_every_character_is_thought_or_answer():
    rng = random.Random(0)
    for _ in range(2000):
        text = "".join(rng.choices([*THOUGHT_TAGS, "가", "나", "다"], k=rng.randint(0, 9)))
        split = split_thought(text)
        kept = "".join(split.thoughts) + split.answer

        for letter in "가나다":
            assert kept.count(letter) == text.count(letter), text


@pytest.mark.parametrize(
    ("prompt", "is_open"),
    [
        ("<|assistant|><think>\n", True),
        ("<|assistant|><Reasoning>", True),
        ("<|assistant|><think>\n\n</think>\n\n", False),
        ("<think> 몇일 <|assistant|>", False),
        ("", False),
    ],
)
def test_prompt_opens_a_thought_only_at_its_end(prompt, is_open):
    assert opens_thought(prompt) is is_open
