"""The contest's rules, written a second time from their description, against the package's on our data."""

import random
from collections import Counter

import numpy as np
import pytest

from grpo_helpers.data import load_items
from grpo_helpers.metrics import exact_match, final_mean, rouge1_reasons, score_answers
from grpo_helpers.scoring import checkpoint_means

# -- the rules, again -----------------------------------------------------------------------------------------------


def cut(text):
    """The answer reaches to the first 가 옳다; where there is none, to the first 이 옳다; else it is everything."""
    place = text.find("가 옳다")
    if place < 0:
        place = text.find("이 옳다")
    if place < 0:
        return bare(text), ""
    reason = text[place + 4 :]
    while reason and reason[0] in " .,":
        reason = reason[1:]
    return bare(text[: place + 4]), reason.strip()


def bare(text):
    return "".join(char for char in text if char not in "\"'").strip()


def official_em(prediction, gold):
    return 1.0 if any(cut(prediction)[0] == cut(part)[0] for part in gold.split("#")) else 0.0


def official_rouge1(prediction, reference):
    """Clipped unigram counts of Mecab morphemes, F1."""
    from mecab import MeCab

    def counts(text):
        kept = [
            c if (c.isascii() and c.isalnum()) or "가" <= c <= "힣" else " " for c in text.lower()
        ]
        return Counter(MeCab().morphs("".join(kept)))

    said, asked = counts(prediction), counts(reference)
    common = sum(min(said[token], asked[token]) for token in said)
    if not common:
        return 0.0
    precision, recall = common / sum(said.values()), common / sum(asked.values())
    return 2 * precision * recall / (precision + recall)


# -- answers as models give them -----------------------------------------------------------------------------------


def spoilt(answer, other, dice):
    """One of the ways in which an answer differs from the gold answer."""
    head, _, reason = answer.partition("옳다. ")
    words = reason.split()
    dropped = " ".join(word for word in words if dice.random() > 0.3)
    return dice.choice([
        answer,
        answer.replace('"가 옳다', '"이 옳다'),
        answer.replace('"', "“", 1),
        answer.replace(" ", "  "),
        f"{head}옳다.",
        f"{head}옳다. {dropped}",
        f"{head}옳다. {other.partition('옳다. ')[2]}",
        f"{other.partition('옳다. ')[0]}옳다. {reason}",
        f"{reason}",
        f"[답변]: {answer}",
        f"{head}옳다. {' '.join(dice.sample(words, len(words)))} ABC 3월",
        other,
    ])  # fmt: skip


@pytest.fixture(scope="module")
def pairs():
    dice = random.Random(0)
    items = [
        item for split in ("train", "dev", "test") for item in load_items(f"data/{split}.json")
    ]
    golds = [item.answer for item in items]
    return [(spoilt(gold.split("#")[0], dice.choice(golds).split("#")[0], dice), item)
            for gold, item in zip(golds, items, strict=True)]  # fmt: skip


def test_exact_match_follows_the_contest_on_a_thousand_pairs(pairs):
    assert len(pairs) >= 1000
    ours = [exact_match(said, item.answer, "official") for said, item in pairs]
    assert ours == [official_em(said, item.answer) for said, item in pairs]
    assert 0.2 < np.mean(ours) < 0.8  # neither side of the rule is left untried


def test_rouge1_follows_the_contest_on_a_thousand_pairs(pairs):
    reasons = [(cut(said)[1], cut(item.answer.split("#")[0])[1]) for said, item in pairs]
    both = [(said, asked) for said, asked in reasons if said and asked]
    assert len(both) >= 800
    ours = [rouge1_reasons(said, asked) for said, asked in both]
    assert ours == pytest.approx([official_rouge1(said, asked) for said, asked in both], abs=1e-9)
    assert 0.3 < np.mean(ours) < 0.9


def test_the_aggregates_follow_their_formulas(pairs):
    answers, items = [said for said, _ in pairs], [item for _, item in pairs]
    scores = score_answers(answers, items)
    means = checkpoint_means({"epoch_0": scores})["epoch_0"]
    counted = [bool(cut(said)[1] and cut(item.answer.split("#")[0])[1]) for said, item in pairs]
    assert [value == value for value in scores["rouge1_official"]] == counted
    assert 100 < counted.count(False) < 500  # both kinds are there
    kept = np.array(counted)
    likeness = [
        np.array(scores[f"{name}_official"])[kept].mean() for name in ("rouge1", "bertscore")
    ]
    em = np.mean([official_em(said, item.answer) for said, item in pairs])
    assert final_mean(means, "official") == pytest.approx((np.mean(likeness) + em) / 2, abs=1e-9)
    r, b, e = (float(np.mean(scores[name])) for name in ("rouge1", "bertscore", "em"))
    assert final_mean(means, "article") == pytest.approx((r + b + e) / 3, abs=1e-9)
    assert final_mean(means, "code") == pytest.approx(((r + b) / 2 + e) / 2, abs=1e-9)


def test_the_readings_of_exact_match_differ_where_they_should():
    gold = '"하루 종일 비가 왔다."가 옳다. 까닭.'
    said = {
        "the same": gold,
        "another particle": gold.replace('"가 옳다', '"이 옳다'),
        "curly quotes": "“하루 종일 비가 왔다.”가 옳다. 까닭.",
        "two spaces": gold.replace("하루 종일", "하루  종일"),
        "a prefix": f"[답변]: {gold}",
    }
    table = {case: [exact_match(text, gold, reading) for reading in ("official", "seed", "sentence")]
             for case, text in said.items()}  # fmt: skip
    assert table == {
        "the same": [1, 1, 1],
        "another particle": [0, 0, 1],
        "curly quotes": [0, 1, 1],
        "two spaces": [0, 1, 1],
        "a prefix": [0, 0, 1],
    }


def test_quotes_count_where_they_are_the_point():
    gold = "\"그는 '가자'라고 생각했다.\"가 옳다. 생각은 작은따옴표로 싼다."
    unmended = '"그는 "가자"라고 생각했다."가 옳다. 까닭.'
    assert (
        exact_match(unmended, gold, "official") == exact_match(unmended, gold, "seed") == 1.0
    )  # blind to them
    assert exact_match(unmended, gold) == 0.0 and exact_match(gold, gold) == 1.0
