"""The answer parser."""

import random

import pytest

from grpo_helpers.answers import (
    format_answer,
    parse,
    parse_gold,
    strip_prefixes_and_normalize,
    subject_particle,
)

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
    '"며칠"과 같이 써야 한다. 까닭이다.': (("며칠",), "과 같이", "까닭이다."),
    '"며칠"이 옳다.': (("며칠",), "이", ""),
    "며칠": ((), "", ""),
    "": ((), "", ""),
}


@pytest.mark.parametrize("text", CASES)
def test_an_answer_is_taken_apart(text):
    parsed = parse(text)
    assert (parsed.sentences, parsed.particle, parsed.reason) == CASES[text]


def test_gold_alternatives_are_separated_by_a_hash():
    assert parse_gold('"하나"가 옳다. 까닭.#"둘"이 옳다. 까닭.').sentences == ("하나", "둘")


def test_what_is_formatted_is_parsed_back():
    parsed = parse(format_answer("며칠이 걸렸다.", "소리대로 적는다."))
    assert (parsed.sentences, parsed.reason, parsed.head) == (
        ("며칠이 걸렸다.",),
        "소리대로 적는다.",
        "quoted",
    )


def test_the_particle_follows_the_last_sound():
    assert [subject_particle(word) for word in ("봄", "나무", "할 거야?", "123")] == [
        "이",
        "가",
        "가",
        "가",
    ]


def test_a_prefix_goes_and_spaces_fold():
    assert strip_prefixes_and_normalize(" 답변:  ‘봄’이\u00a0 옳다 ") == "'봄'이 옳다"


def test_no_string_makes_the_parser_raise():
    dice = random.Random(0)
    pieces = [
        '"',
        "'",
        "“",
        "”",
        "가 옳다",
        "이 옳다.",
        " 혹은 ",
        "\n",
        "\x00",
        "\ud800",
        "{",
        "}",
        "#",
        "봄",
        "ㄱ",
        "𝕏",
    ]
    for _ in range(3000):
        parsed = parse("".join(dice.choices(pieces, k=dice.randint(0, 12))))
        assert (parsed.head == "none") == (parsed.sentences == ())
    assert parse('"' * 10_000).head == "none"
    assert parse("가 옳다" * 2_000).head == "none"
