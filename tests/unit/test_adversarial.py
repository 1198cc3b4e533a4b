"""Answers that try to fool the rewards, strings that try to break them, faults planted in them."""

import json
import math
import random
import re
import time
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
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

# Rounding of the BERTScore of two equal texts.
CLOSE = 1e-5


# -- tricks ----------------------------------------------------------------------------------------

# Right answers in an unusual shape: they earn what the gold answer earns.
HARMLESS = {
    "curly quotes": "“회의까지 며칠밖에 남지 않았다.”가 옳다. " + REASON,
    "the wrong particle": GOLD.replace('"가 옳다', '"이 옳다'),
}

# Well-formed tricks: they earn no more than an honest wrong answer.
TRICKS = {
    "both options at once": format_answer(RIGHT.replace("며칠", "며칠/몇일"), REASON),
    "both sentences": f'"{RIGHT}" 혹은 "{WRONG}"가 옳다. {REASON}',
    "the reason of another item": format_answer(WRONG, OTHER_REASON),
    "a very long answer": format_answer(WRONG, f"{REASON} {OTHER_REASON * 60}"),
    "a right answer to another question": format_answer("주스를 마셨다.", OTHER_REASON),
    "letters apart": format_answer(" ".join(RIGHT), " ".join(REASON)),
    "zero-width letters": format_answer(RIGHT.replace("며칠", "며\u200b칠"), REASON),
    "a lone surrogate": format_answer(RIGHT + "\ud800", REASON + "\ud800"),
}

# Badly formed answers: they lose at least the format reward, whatever else they contain.
UNFORMED = {
    "braces kept": format_answer(RIGHT.replace("며칠", "{며칠/몇일}"), REASON),
    "the question copied": QUESTION,
    "no reason": f'"{RIGHT}"가 옳다.',
    "a reason without a letter": f'"{RIGHT}"가 옳다. ...',
    "polite style": f'"{RIGHT}"가 옳습니다. {REASON}',
    "a prefix": f"[답변]: {GOLD}",
    "the answer twice": f"{GOLD} {GOLD}",
    "two answers on two lines": f"{GOLD}\n{HONEST}",
    "only quotes": '""가 옳다. ' + REASON,
    "nothing but quotes": '"' * 200,
    "nothing": "",
    "decomposed letters": format_answer(JAMO, JAMO),
    "the other way round": f"\u202e{GOLD}",
}

BOTH_FORMS = {
    "both options at once": TRICKS["both options at once"],
    "both sentences": TRICKS["both sentences"],
    "braces kept": UNFORMED["braces kept"],
    "the question copied": UNFORMED["the question copied"],
}

weights_of_both_presets = pytest.mark.parametrize("weights", rewards.PRESETS)


def earned(text, weights="article"):
    return rewards.multi_reward(None, [text], [GOLD], weights=weights)[0]


@weights_of_both_presets
def test_gold_answer_earns_full_marks(weights):
    assert earned(GOLD, weights) == pytest.approx(4 / 3, abs=CLOSE)


@weights_of_both_presets
def test_honest_mistake_earns_clearly_less_than_gold(weights):
    assert earned(HONEST, weights) < earned(GOLD, weights) - 0.3


@weights_of_both_presets
@pytest.mark.parametrize("case", HARMLESS)
def test_harmless_variation_earns_full_marks(case, weights):
    assert earned(HARMLESS[case], weights) == pytest.approx(earned(GOLD, weights), abs=CLOSE)


@weights_of_both_presets
@pytest.mark.parametrize("case", TRICKS)
def test_trick_earns_no_more_than_an_honest_mistake(case, weights):
    assert earned(TRICKS[case], weights) <= earned(HONEST, weights) + CLOSE


@pytest.mark.parametrize("case", UNFORMED)
def test_badly_formed_answer_has_format_score_zero(case):
    assert format_score(UNFORMED[case]) == 0.0


@weights_of_both_presets
@pytest.mark.parametrize("case", UNFORMED)
def test_badly_formed_answer_loses_the_format_reward(case, weights):
    most = earned(GOLD, weights) - rewards.PRESETS[weights]["format"]
    assert earned(UNFORMED[case], weights) <= most + CLOSE


@pytest.mark.parametrize("case", BOTH_FORMS)
def test_choice_accuracy_cannot_be_bought_by_naming_both_forms(case):
    assert choice_accuracy(BOTH_FORMS[case], ITEM) == 0.0


# -- any string ------------------------------------------------------------------------------------

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=80)
FORM_PIECES = [
    *['"', "'", "“", "”", "‘", "가 옳다", "이 옳다.", "으가 옳다"],
    *[" 혹은 ", '" 또는 "', "로 고쳐 쓴다", "[답변]:"],
]
ODD_PIECES = [
    *["#", "{", "}", "/", "\n", "\r", "\t", "\x00", "\x1b"],
    *["\u00a0", "\u200b", "\u202e", "\ufeff", "\ud800", "\udfff"],
]
THOUGHT_PIECES = ["<think>", "</think>", "<THINK>", "</reasoning>", "<think"]
WORD_PIECES = [
    *["며칠", "몇일", "봄", "ㄱ", "ㅏ", "漢", "\u1106\u1167", "𝕏", "👩‍👩‍👧"],
    *["abc", "3월", " ", "   ", ". "],
]
PIECES = FORM_PIECES + ODD_PIECES + THOUGHT_PIECES + WORD_PIECES
A_HEAD = re.compile(r""""\s*(으?[이가]\s*옳다|(혹은|또는|[와과]\s*같이\s*쓰거나|이나|나|,)\s*")""")


def hostile(rng):
    """A string of pieces that matter to the parser; now and then one piece thousands of times."""
    if rng.random() < 0.002:
        return rng.choice(PIECES) * 5_000
    return "".join(rng.choices(PIECES, k=rng.randint(0, 14)))


def in_range(values):
    return all(math.isfinite(value) and 0.0 <= value <= 1.0 for value in values)


def head_fits_sentences(text):
    """Whether the parser found sentences exactly where it found a head."""
    parsed = parse(text)
    return (parsed.head == "none") == (parsed.sentences == ())


def scores_of(text, gold):
    """Every score of ``text`` that needs no encoder, and those of ``gold`` against it."""
    values = [
        format_score(text),
        choice_accuracy(text, ITEM),
        rouge1_reasons(text, gold),
        rouge1_reasons(gold, text),
    ]
    for reading in READINGS:
        values.append(exact_match(text, gold, reading))
        values.append(exact_match(gold, text, reading))

    return values


@given(ANY_TEXT)
@settings(max_examples=300, deadline=None)
def test_any_text_has_sentences_only_with_a_head(text):
    assert head_fits_sentences(text)


@given(ANY_TEXT)
@settings(max_examples=300, deadline=None)
def test_any_text_can_be_read_as_a_gold_answer(text):
    assert parse_gold(text) is not None


@given(ANY_TEXT)
@settings(max_examples=300, deadline=None)
def test_scores_of_any_text_are_between_zero_and_one(text):
    assert in_range(scores_of(text, GOLD))


@given(ANY_TEXT, ANY_TEXT)
@settings(max_examples=500, deadline=None)
def test_any_formatted_answer_is_parsed_back(sentence, reason):
    sentence = normalize_quotes(sentence)
    reason = normalize_quotes(reason).lstrip(" .,").strip()
    assume(not A_HEAD.search(f'"{sentence}"'))

    parsed = parse(format_answer(sentence, reason))

    expected = ((sentence.strip(),), reason, "quoted")
    assert (parsed.sentences, parsed.reason, parsed.head) == expected


@pytest.mark.parametrize("count", [1_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_hostile_strings_are_scored_between_zero_and_one(count):
    rng = random.Random(count)
    for _ in range(count):
        text = hostile(rng)
        gold = GOLD if rng.random() < 0.5 else hostile(rng)
        assert in_range(scores_of(text, gold)), text


@pytest.mark.parametrize("count", [1_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_hostile_strings_have_sentences_only_with_a_head(count):
    rng = random.Random(count)
    for _ in range(count):
        text = hostile(rng)
        assert head_fits_sentences(text), text


@pytest.fixture(scope="module", params=[100, pytest.param(2_000, marks=pytest.mark.slow)])
def hostile_bert_scores(request):
    """BERTScores of hostile texts against others, by text and reference."""
    rng = random.Random(request.param)
    texts = [hostile(rng) for _ in range(request.param)]
    references = [hostile(rng) for _ in texts]
    values = bert_scorer()(texts, references)

    return list(zip(texts, references, values, strict=True))


def test_bertscore_of_hostile_strings_is_between_zero_and_one(hostile_bert_scores):
    assert in_range([value for _, _, value in hostile_bert_scores])


def test_bertscore_of_some_hostile_strings_is_positive(hostile_bert_scores):
    assert any(value > 0 for _, _, value in hostile_bert_scores)


def test_bertscore_of_an_empty_string_is_zero(hostile_bert_scores):
    of_empty = [value for text, _, value in hostile_bert_scores if text == ""]
    assert of_empty
    assert set(of_empty) == {0.0}


@pytest.mark.parametrize("piece", [*PIECES, '"며칠"이 옳다. ', "옳다 "])
def test_piece_ten_thousand_times_takes_less_than_a_second(piece):
    text = piece * 10_000

    started = time.perf_counter()
    parse(text)
    format_score(text)
    exact_match(text, GOLD)
    exact_match(text, GOLD, "seed")
    seconds = time.perf_counter() - started

    assert seconds < 1.0


# -- planted faults must be found ------------------------------------------------------------------

NESTED = Item(
    "n", "교정형", "...", '"그는 "가자"라고 말했다."가 옳다. 큰따옴표는 말을 옮길 때 쓴다.'
)


def test_gate_accepts_good_gold_answers():
    assert rewards.gold_offenders([ITEM, NESTED]) == []


def test_gate_names_a_gold_answer_that_misses_a_reward():
    bad = Item("b", "선택형", "...", f"정답은 {GOLD}")
    assert rewards.gold_offenders([ITEM, bad]) == [rewards.Offender("b", "format", 0.0)]


def test_gate_notices_a_format_that_rejects_nested_quotes(monkeypatch):
    article_format = re.compile(r'^"[^"]+"[이가] 옳다[.]?')

    def planted_format_score(text, item):
        return float(bool(article_format.match(text)))

    monkeypatch.setattr(rewards, "format_score", planted_format_score)
    assert rewards.Offender("n", "format", 0.0) in rewards.gold_offenders([ITEM, NESTED])


@pytest.fixture
def rouge_that_drops_hangul(monkeypatch):
    """ROUGE-1 with its package's own tokenizer."""
    from rouge_score.rouge_scorer import RougeScorer

    rouge1_reasons.cache_clear()
    monkeypatch.setattr(metrics, "_rouge_scorer", lambda: RougeScorer(["rouge1"]))
    yield
    rouge1_reasons.cache_clear()


def test_gate_notices_a_tokenizer_that_drops_hangul(rouge_that_drops_hangul):
    assert rewards.Offender("1", "rouge1", 0.0) in rewards.gold_offenders([ITEM])


FIXED = {"format": 1.0, "em": 0.0, "rouge1": 0.5, "bertscore": 0.25}


def by_formula(preset):
    """The reward of FIXED, as the article prints it and as its author's code computes it."""
    form, em, rouge, bert = FIXED.values()

    if preset == "article":
        return (bert + em + (form + 3 * rouge) / 2) / 3
    return (em + form + (bert + 3 * rouge) / 2) / 3


@pytest.fixture
def fixed_rewards(monkeypatch):
    """Rewards that return FIXED, whatever the completion."""

    def returns(value):
        return lambda *_, **__: [value]

    fixed = {
        name: replace(reward, function=returns(FIXED[name]))
        for name, reward in rewards.registered().items()
    }
    monkeypatch.setattr(rewards, "_registry", fixed)


def fixed_reward(preset):
    return rewards.multi_reward(None, [""], [""], weights=preset)[0]


@weights_of_both_presets
def test_preset_is_its_formula(fixed_rewards, weights):
    assert fixed_reward(weights) == pytest.approx(by_formula(weights))


@weights_of_both_presets
def test_swapped_presets_are_noticed(fixed_rewards, monkeypatch, weights):
    swapped = {"article": rewards.PRESETS["code"], "code": rewards.PRESETS["article"]}
    monkeypatch.setattr(rewards, "PRESETS", swapped)
    assert fixed_reward(weights) != pytest.approx(by_formula(weights))


# -- the command -----------------------------------------------------------------------------------


@pytest.fixture
def file_with_an_offender(tmp_path):
    """Two rows; the gold answer of row a lacks the form."""
    answers = {"a": "봄이다.", "b": '"봄이다."가 옳다. 까닭이다.'}
    lines = []
    for key, answer in answers.items():
        row = {"id": key, "Question": "봄이다.", "Question_Type": "교정형", "Answer": answer}
        lines.append(json.dumps(row))

    file = tmp_path / "mine.jsonl"
    file.write_text("\n".join(lines), encoding="utf-8")
    return str(file)


def test_check_fails_for_a_file_with_an_offender(file_with_an_offender):
    assert rewards.main(["check", file_with_an_offender]) == 1


@pytest.mark.parametrize(
    "expected", ["id a earns 0.000 of format, ", "1 of 2 gold answers miss a reward"]
)
def test_check_reports_offender_and_count(file_with_an_offender, capsys, expected):
    rewards.main(["check", file_with_an_offender])
    assert expected in capsys.readouterr().out


def test_check_does_not_list_good_answers(file_with_an_offender, capsys):
    rewards.main(["check", file_with_an_offender])
    assert "id b" not in capsys.readouterr().out


def test_check_passes_for_good_answers():
    assert rewards.main(["check", "data/smoke/dev.json"]) == 0


def test_check_of_a_missing_file_is_bad_input(tmp_path):
    assert rewards.main(["check", str(tmp_path / "none.json")]) == 2
