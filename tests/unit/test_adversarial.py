"""Answers that try to fool the rewards, strings that try to break them, and faults that the gates must notice."""

import json
import math
import random
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grpo_helpers import metrics, rewards
from grpo_helpers.answers import format_answer, normalize_quotes, parse, parse_gold
from grpo_helpers.metrics import (
    READINGS,
    bert_scorer,
    choice_accuracy,
    exact_match,
    format_score,
    rouge1_reasons,
)
from grpo_helpers.questions import Item

RIGHT, WRONG = "회의까지 며칠밖에 남지 않았다.", "회의까지 몇일밖에 남지 않았다."
REASON = "'며칠'은 어원이 분명하지 않으므로 소리 나는 대로 적는다."
OTHER_REASON = "외래어에서는 'ㅈ' 다음에 이중 모음을 쓰지 않는다."
GOLD = format_answer(RIGHT, REASON)
HONEST = format_answer(WRONG, REASON)  # the right shape, the wrong form
QUESTION = (
    '"회의까지 {며칠/몇일}밖에 남지 않았다." 가운데 올바른 것을 선택하고, 그 이유를 설명하세요.'
)
JAMO = "\u1106\u1167\u110e\u1175\u11af"  # 며칠 in single letters, as some keyboards send it
ITEM = Item("1", "선택형", QUESTION, GOLD)

# Text, and what it may earn at most: "gold" (it is right), or less than the honest wrong answer.
TABLE = {
    "curly quotes": ("“회의까지 며칠밖에 남지 않았다.”가 옳다. " + REASON, "gold"),
    "the wrong particle": (GOLD.replace('"가 옳다', '"이 옳다'), "gold"),
    "both options at once": (format_answer(RIGHT.replace("며칠", "며칠/몇일"), REASON), "honest"),
    "both sentences": (f'"{RIGHT}" 혹은 "{WRONG}"가 옳다. {REASON}', "honest"),
    "braces kept": (format_answer(RIGHT.replace("며칠", "{며칠/몇일}"), REASON), "unformed"),
    "the question copied": (QUESTION, "unformed"),
    "no reason": (f'"{RIGHT}"가 옳다.', "unformed"),
    "a reason without a letter": (f'"{RIGHT}"가 옳다. ...', "unformed"),
    "the reason of another item": (format_answer(WRONG, OTHER_REASON), "honest"),
    "polite style": (f'"{RIGHT}"가 옳습니다. {REASON}', "unformed"),
    "a prefix": (f"[답변]: {GOLD}", "unformed"),
    "the answer twice": (f"{GOLD} {GOLD}", "unformed"),
    "two answers on two lines": (f"{GOLD}\n{HONEST}", "unformed"),
    "a very long answer": (format_answer(WRONG, f"{REASON} {OTHER_REASON * 60}"), "honest"),
    "only quotes": ('""가 옳다. ' + REASON, "unformed"),
    "nothing but quotes": ('"' * 200, "unformed"),
    "nothing": ("", "unformed"),
    "a right answer to another question": (format_answer("주스를 마셨다.", OTHER_REASON), "honest"),
    "letters apart": (format_answer(" ".join(RIGHT), " ".join(REASON)), "honest"),
    "zero-width letters": (format_answer(RIGHT.replace("며칠", "며\u200b칠"), REASON), "honest"),
    "decomposed letters": (format_answer(JAMO, JAMO), "unformed"),
    "a lone surrogate": (format_answer(RIGHT + "\ud800", REASON + "\ud800"), "honest"),
    "the other way round": (f"\u202e{GOLD}", "unformed"),
}  # fmt: skip


def earned(text, weights="article"):
    return rewards.multi_reward(None, [text], [GOLD], weights=weights)[0]


@pytest.mark.parametrize("weights", rewards.PRESETS)
@pytest.mark.parametrize("case", TABLE)
def test_a_trick_earns_no_more_than_it_should(case, weights):
    text, most = TABLE[case]
    gold, honest, value = earned(GOLD, weights), earned(HONEST, weights), earned(text, weights)
    assert gold == pytest.approx(4 / 3, abs=1e-5) and honest < gold - 0.3
    if most == "gold":
        assert value == pytest.approx(gold, abs=1e-5)
    elif most == "honest":
        assert value <= honest + 1e-5
    else:  # badly formed: less than the same words in form would earn, and never the whole
        assert format_score(text) == 0.0
        assert value <= gold - rewards.PRESETS[weights]["format"] + 1e-5


def test_choice_accuracy_is_not_bought_by_naming_both():
    for case in ("both options at once", "both sentences", "braces kept", "the question copied"):
        assert choice_accuracy(TABLE[case][0], ITEM) == 0.0, case


# -- any string ----------------------------------------------------------------------------------------------------

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=80)
PIECES = [
    *(
        '"',
        "'",
        "“",
        "”",
        "‘",
        "가 옳다",
        "이 옳다.",
        "으가 옳다",
        " 혹은 ",
        '" 또는 "',
        "로 고쳐 쓴다",
        "[답변]:",
    ),
    *(
        "#",
        "{",
        "}",
        "/",
        "\n",
        "\r",
        "\t",
        "\x00",
        "\x1b",
        "\u00a0",
        "\u200b",
        "\u202e",
        "\ufeff",
        "\ud800",
        "\udfff",
    ),
    *(
        "며칠",
        "몇일",
        "봄",
        "ㄱ",
        "ㅏ",
        "漢",
        "\u1106\u1167",
        "𝕏",
        "👩‍👩‍👧",
        "abc",
        "3월",
        " ",
        "   ",
        ". ",
    ),
]
A_HEAD = re.compile(r""""\s*(으?[이가]\s*옳다|(혹은|또는|[와과]\s*같이\s*쓰거나|이나|나|,)\s*")""")


def hostile(dice):
    """A string of pieces that matter to the parser; now and then a run of ten thousand."""
    if dice.random() < 0.002:
        return dice.choice(PIECES) * (10_000 // 2)
    return "".join(dice.choices(PIECES, k=dice.randint(0, 14)))


def survives(text, gold):
    """No exception, and every score in its range."""
    parsed = parse(text)
    assert (parsed.head == "none") == (parsed.sentences == ()) and parse_gold(text) is not None
    values = [
        format_score(text),
        choice_accuracy(text, ITEM),
        rouge1_reasons(text, gold),
        rouge1_reasons(gold, text),
    ]
    values += [exact_match(text, gold, reading) for reading in READINGS]
    values += [exact_match(gold, text, reading) for reading in READINGS]
    assert all(math.isfinite(value) and 0.0 <= value <= 1.0 for value in values), (text, values)


@given(ANY_TEXT)
@settings(max_examples=300, deadline=None)
def test_no_text_breaks_the_parser_or_leaves_the_range(text):
    survives(text, GOLD)


@given(ANY_TEXT, ANY_TEXT)
@settings(max_examples=500, deadline=None)
def test_what_is_formatted_is_parsed_back(sentence, reason):
    sentence, reason = normalize_quotes(sentence), normalize_quotes(reason).lstrip(" .,").strip()
    if A_HEAD.search(f'"{sentence}"'):
        return
    parsed = parse(format_answer(sentence, reason))
    assert (parsed.sentences, parsed.reason, parsed.head) == ((sentence.strip(),), reason, "quoted")


@pytest.mark.parametrize("count", [3_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_hostile_strings_are_survived(count):
    dice = random.Random(count)
    for _ in range(count):
        survives(hostile(dice), GOLD if dice.random() < 0.5 else hostile(dice))


@pytest.mark.parametrize("count", [100, pytest.param(2_000, marks=pytest.mark.slow)])
def test_hostile_strings_are_survived_by_bertscore(count):
    dice = random.Random(count)
    texts = [hostile(dice) for _ in range(count)]
    values = bert_scorer()(texts, [hostile(dice) for _ in texts])
    assert all(math.isfinite(value) and 0.0 <= value <= 1.0 for value in values)
    assert any(value > 0 for value in values) and "" in texts


@pytest.mark.parametrize("piece", [*PIECES, '"며칠"이 옳다. ', "옳다 "])
def test_ten_thousand_of_anything_take_no_second(piece):
    import time

    started = time.perf_counter()
    text = piece * 10_000
    parse(text), format_score(text), exact_match(text, GOLD), exact_match(text, GOLD, "seed")
    assert time.perf_counter() - started < 1.0


# -- a fault that is planted must be found -------------------------------------------------------------------------

NESTED = Item(
    "n", "교정형", "...", '"그는 "가자"라고 말했다."가 옳다. 큰따옴표는 말을 옮길 때 쓴다.'
)


def test_the_gate_names_a_gold_answer_that_misses_a_reward():
    bad = Item("b", "교정형", "...", '"봄이다."로 고쳐 쓴다. 까닭이다.')
    assert rewards.gold_offenders([ITEM, NESTED]) == []
    assert rewards.gold_offenders([ITEM, bad]) == [rewards.Offender("b", "format", 0.0)]


def test_the_gate_notices_a_format_that_rejects_nested_quotes(monkeypatch):
    seed = re.compile(r'^"[^"]+"[이가] 옳다[.]?')
    monkeypatch.setattr(rewards, "format_score", lambda text: float(bool(seed.match(text))))
    assert rewards.Offender("n", "format", 0.0) in rewards.gold_offenders([ITEM, NESTED])


def test_the_gate_notices_a_tokenizer_that_drops_hangul(monkeypatch):
    from rouge_score.rouge_scorer import RougeScorer

    rouge1_reasons.cache_clear()
    monkeypatch.setattr(metrics, "_rouge_scorer", lambda: RougeScorer(["rouge1"]))
    try:
        assert rewards.Offender("1", "rouge1", 0.0) in rewards.gold_offenders([ITEM])
    finally:
        rouge1_reasons.cache_clear()


PARTS = {"format": 1.0, "em": 0.0, "rouge1": 0.5, "bertscore": 0.25}


def by_formula(preset):
    f, e, r, b = PARTS.values()
    return (b + e + (f + 3 * r) / 2) / 3 if preset == "article" else (e + f + (b + 3 * r) / 2) / 3


@pytest.mark.parametrize("planted", [False, True], ids=["as they are", "swapped"])
def test_the_presets_are_the_two_formulas(monkeypatch, planted):
    if planted:
        swapped = {"article": rewards.PRESETS["code"], "code": rewards.PRESETS["article"]}
        monkeypatch.setattr(rewards, "PRESETS", swapped)
    fixed = {
        name: replace(reward, function=lambda *_, value=PARTS[name], **__: [value])
        for name, reward in rewards.registered().items()
    }
    monkeypatch.setattr(rewards, "_registry", fixed)
    values = {
        preset: rewards.multi_reward(None, [""], [""], weights=preset)[0]
        for preset in ("article", "code")
    }
    agree = {preset: value == pytest.approx(by_formula(preset)) for preset, value in values.items()}
    assert agree == {"article": not planted, "code": not planted}


# -- the command ---------------------------------------------------------------------------------------------------


def test_the_check_command_lists_offenders_and_says_how_many(tmp_path, capsys):
    file = tmp_path / "mine.jsonl"
    rows = [{"id": key, "Question": "봄이다.", "Question_Type": "교정형", "Answer": answer}
            for key, answer in (("a", "봄이다."), ("b", '"봄이다."가 옳다. 까닭이다.'))]  # fmt: skip
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert rewards.main(["check", str(file)]) == 1
    said = capsys.readouterr().out
    assert (
        "id a earns 0.000 of format, " in said
        and "1 of 2 gold answers miss a reward" in said
        and "id b" not in said
    )
    assert rewards.main(["check", "data/smoke/dev.json"]) == 0
    assert rewards.main(["check", str(tmp_path / "none.json")]) == 2
