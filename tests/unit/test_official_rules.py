"""The contest's rules, written a second time from their description, against the package's."""

import math
import random
from collections import Counter

import numpy as np
import pytest

from grpo_helpers.data import load_items
from grpo_helpers.metrics import exact_match, final_mean, rouge1_reasons, score_answers
from grpo_helpers.scoring import checkpoint_means

# -- the rules, written again ----------------------------------------------------------------------


def split_by_the_rules(text):
    """The answer ends at the first 가 옳다; without one, at the first 이 옳다; else it is all."""
    place = text.find("가 옳다")
    if place < 0:
        place = text.find("이 옳다")
    if place < 0:
        return without_quotes(text), ""

    end = place + len("가 옳다")
    reason = text[end:]
    while reason and reason[0] in " .,":
        reason = reason[1:]

    return without_quotes(text[:end]), reason.strip()


def without_quotes(text):
    return "".join(char for char in text if char not in "\"'").strip()


def official_em(prediction, gold):
    answer, _ = split_by_the_rules(prediction)
    gold_answers = [split_by_the_rules(part)[0] for part in gold.split("#")]
    return 1.0 if answer in gold_answers else 0.0


def official_reasons(prediction, item):
    """The reason of a prediction, and that of the first gold alternative."""
    first_alternative = item.answer.split("#")[0]
    return split_by_the_rules(prediction)[1], split_by_the_rules(first_alternative)[1]


def morpheme_counts(text):
    from mecab import MeCab

    cleaned = ""
    for char in text.lower():
        is_latin_or_digit = char.isascii() and char.isalnum()
        is_hangul = "가" <= char <= "힣"
        cleaned += char if is_latin_or_digit or is_hangul else " "

    return Counter(MeCab().morphs(cleaned))


def official_rouge1(prediction, reference):
    """F1 of clipped unigram counts of Mecab morphemes."""
    predicted, expected = morpheme_counts(prediction), morpheme_counts(reference)
    common = (predicted & expected).total()

    if not common:
        return 0.0

    precision = common / predicted.total()
    recall = common / expected.total()
    return 2 * precision * recall / (precision + recall)


# -- answers as models give them -------------------------------------------------------------------


def spoilt(answer, other, rng):
    """One of the ways in which an answer differs from the gold answer."""
    head, _, reason = answer.partition("옳다. ")
    other_head, _, other_reason = other.partition("옳다. ")
    words = reason.split()
    some_words = " ".join(word for word in words if rng.random() > 0.3)
    mixed_words = " ".join(rng.sample(words, len(words)))

    ways = [
        answer,
        answer.replace('"가 옳다', '"이 옳다'),
        answer.replace('"', "“", 1),
        answer.replace(" ", "  "),
        f"{head}옳다.",
        f"{head}옳다. {some_words}",
        f"{head}옳다. {other_reason}",
        f"{other_head}옳다. {reason}",
        reason,
        f"[답변]: {answer}",
        f"{head}옳다. {mixed_words} ABC 3월",
        other,
    ]
    return rng.choice(ways)


@pytest.fixture(scope="module")
def items():
    return [item for split in ("train", "dev", "test") for item in load_items(f"data/{split}.json")]


@pytest.fixture(scope="module")
def predictions(items):
    """One spoilt answer per item."""
    rng = random.Random(0)
    golds = [item.answer for item in items]
    texts = []

    for gold in golds:
        other = rng.choice(golds)
        texts.append(spoilt(gold.split("#")[0], other.split("#")[0], rng))

    return texts


@pytest.fixture(scope="module")
def reasons(predictions, items):
    """The reasons of prediction and gold answer where both have one."""
    pairs = []
    for prediction, item in zip(predictions, items, strict=True):
        pair = official_reasons(prediction, item)
        if all(pair):
            pairs.append(pair)

    return pairs


@pytest.fixture(scope="module")
def matches(predictions, items):
    """Exact match as the package computes it."""
    pairs = zip(predictions, items, strict=True)
    return [exact_match(prediction, item.answer, "official") for prediction, item in pairs]


@pytest.fixture(scope="module")
def official_matches(predictions, items):
    """Exact match by the rules."""
    pairs = zip(predictions, items, strict=True)
    return [official_em(prediction, item.answer) for prediction, item in pairs]


# -- exact match -----------------------------------------------------------------------------------


def test_rules_are_compared_on_a_thousand_pairs(predictions):
    assert len(predictions) >= 1000


def test_exact_match_follows_the_contest(matches, official_matches):
    assert matches == official_matches


def test_exact_match_is_compared_on_both_outcomes(matches):
    assert 0.2 < np.mean(matches) < 0.8


# -- ROUGE-1 ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rouge_scores(reasons):
    return [rouge1_reasons(reason, gold_reason) for reason, gold_reason in reasons]


def test_rouge1_is_compared_on_eight_hundred_pairs(reasons):
    assert len(reasons) >= 800


@pytest.mark.heavy
def test_rouge1_follows_the_contest(rouge_scores, reasons):
    expected = [official_rouge1(reason, gold_reason) for reason, gold_reason in reasons]
    assert rouge_scores == pytest.approx(expected, abs=1e-9)


@pytest.mark.heavy
def test_rouge1_is_compared_on_middling_scores(rouge_scores):
    assert 0.3 < np.mean(rouge_scores) < 0.9


# -- the Final Mean --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scores(predictions, items):
    return score_answers(predictions, items)


@pytest.fixture(scope="module")
def means(scores):
    return checkpoint_means({"epoch_0": scores})["epoch_0"]


@pytest.fixture(scope="module")
def has_reasons(predictions, items):
    """Whether both reasons are there, item by item."""
    pairs = zip(predictions, items, strict=True)
    return [all(official_reasons(prediction, item)) for prediction, item in pairs]


@pytest.mark.heavy
@pytest.mark.parametrize("score", ["rouge1_official", "bertscore_official"])
def test_official_score_is_missing_where_a_reason_is(scores, has_reasons, score):
    assert [not math.isnan(value) for value in scores[score]] == has_reasons


def test_some_items_lack_a_reason_but_not_most(has_reasons):
    assert 100 < has_reasons.count(False) < 500


@pytest.mark.heavy
def test_official_mean_leaves_out_items_without_reasons(
    scores, means, has_reasons, official_matches
):
    counted = np.array(has_reasons)
    rouge = np.array(scores["rouge1_official"])[counted].mean()
    bert = np.array(scores["bertscore_official"])[counted].mean()

    expected = ((rouge + bert) / 2 + np.mean(official_matches)) / 2

    assert final_mean(means, "official") == pytest.approx(expected, abs=1e-9)


@pytest.mark.heavy
def test_article_mean_is_the_mean_of_three(scores, means):
    rouge, bert, em = (np.mean(scores[name]) for name in ("rouge1", "bertscore", "em"))
    assert final_mean(means, "article") == pytest.approx((rouge + bert + em) / 3, abs=1e-9)


@pytest.mark.heavy
def test_code_mean_counts_exact_match_half(scores, means):
    rouge, bert, em = (np.mean(scores[name]) for name in ("rouge1", "bertscore", "em"))
    assert final_mean(means, "code") == pytest.approx(((rouge + bert) / 2 + em) / 2, abs=1e-9)


# -- the three readings of exact match -------------------------------------------------------------

SENTENCE_GOLD = '"하루 종일 비가 왔다."가 옳다. 까닭.'

# Prediction: what the official, the article's and our reading give it.
READINGS = {
    "the same": (SENTENCE_GOLD, [1, 1, 1]),
    "another particle": (SENTENCE_GOLD.replace('"가 옳다', '"이 옳다'), [0, 0, 1]),
    "curly quotes": ("“하루 종일 비가 왔다.”가 옳다. 까닭.", [0, 1, 1]),
    "two spaces": (SENTENCE_GOLD.replace("하루 종일", "하루  종일"), [0, 1, 1]),
    "a prefix": (f"[답변]: {SENTENCE_GOLD}", [0, 0, 1]),
}


@pytest.mark.parametrize("case", READINGS)
def test_readings_of_exact_match_differ_where_they_should(case):
    prediction, expected = READINGS[case]
    values = [exact_match(prediction, SENTENCE_GOLD, r) for r in ("official", "seed", "sentence")]
    assert values == expected


QUOTE_GOLD = "\"그는 '가자'라고 생각했다.\"가 옳다. 생각은 작은따옴표로 싼다."
WRONG_QUOTES = '"그는 "가자"라고 생각했다."가 옳다. 까닭.'


@pytest.mark.parametrize("reading", ["official", "seed"])
def test_older_readings_are_blind_to_inner_quotes(reading):
    assert exact_match(WRONG_QUOTES, QUOTE_GOLD, reading) == 1.0


def test_our_reading_sees_inner_quotes():
    assert exact_match(WRONG_QUOTES, QUOTE_GOLD) == 0.0


def test_our_reading_accepts_the_right_inner_quotes():
    assert exact_match(QUOTE_GOLD, QUOTE_GOLD) == 1.0
