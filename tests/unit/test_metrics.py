"""The metrics: what counts as right, form, reason and choice."""

from __future__ import annotations

import json
import shutil

import pytest
from helpers import ROOT

from grpo_helpers.answers import parse_gold
from grpo_helpers.data import load_items
from grpo_helpers.files import InputError
from grpo_helpers.metrics import (
    BertScore,
    bert_scorer,
    choice_accuracy,
    exact_match,
    final_mean,
    format_score,
    rouge1_reasons,
)
from grpo_helpers.questions import Item, choice_forms

GOLD = "\"회의까지 며칠밖에 남지 않았다.\"가 옳다. '며칠'은 소리대로 적는다."
WRONG_FORM = GOLD.replace("며칠밖에", "몇일밖에")
SELECT = Item(
    "1", "선택형", '"회의까지 {몇일/며칠}밖에 남지 않았다." 가운데 올바른 것을 선택하고, ...', GOLD
)
CORRECT = Item(
    "2", "교정형", '다음 문장에서 ... 고치고, ...\n"회의까지 몇일밖에 남지 않았다."', GOLD
)
ITEMS = {"choose": SELECT, "correct": CORRECT}

GAMED = {
    "the question's braces kept": GOLD.replace("며칠밖에", "{며칠/몇일}밖에"),
    "no quotes": GOLD.replace('"', ""),
    "no reason": GOLD.split(" '")[0],
    "another verb": GOLD.replace("옳다", "맞다"),
    "two lines": GOLD.replace("옳다. ", "옳다.\n"),
    "the head twice": GOLD + " " + GOLD,
    "a prefix of words": "정답은 " + GOLD,
    "only quotes": '""가 옳다. ',
    "nothing": "",
}
SPLITS = (
    "train",
    "dev",
    "test",
    "test_unseen_words",
    "test_unseen_norms",
    "few_shot",
    "embedded/train",
    "embedded/test",
)


@pytest.mark.parametrize("case", GAMED)
def test_gamed_format_earns_nothing(case):
    assert format_score(GAMED[case]) == 0.0


# -- exact match -----------------------------------------------------------------------------------


def test_other_particle_is_an_exact_match():
    assert exact_match(GOLD.replace('"가 옳다', '"이 옳다'), GOLD) == 1.0


def test_wrong_form_is_no_exact_match():
    assert exact_match(WRONG_FORM, GOLD) == 0.0


def test_other_spacing_is_no_exact_match():
    assert exact_match(GOLD.replace("남지", "남 지"), GOLD) == 0.0


def test_right_and_wrong_sentence_together_are_no_exact_match():
    right = "회의까지 며칠밖에 남지 않았다."
    wrong = "회의까지 몇일밖에 남지 않았다."
    both = f'"{right}" 혹은 "{wrong}"가 옳다. 둘 다 된다.'
    assert exact_match(both, GOLD) == 0.0


# -- reasons ---------------------------------------------------------------------------------------


def test_rouge_of_equal_hangul_is_one():
    assert rouge1_reasons("소리대로 적는다.", "소리대로 적는다.") == 1.0


def test_rouge_of_other_hangul_is_low():
    assert rouge1_reasons("소리대로 적는다.", "띄어 쓰지 않는 말") < 0.5


PAIRS = [
    ("소리대로 적는다.", "소리대로 적는다."),
    ("띄어 쓴다.", "소리대로 적는다."),
    ("", "소리대로 적는다."),
]


@pytest.fixture(scope="module")
def bertscores():
    """The scores of :data:`PAIRS`, computed in one batch."""
    predictions = [prediction for prediction, _ in PAIRS]
    references = [reference for _, reference in PAIRS]
    return BertScore()(predictions, references)


def test_bertscore_of_a_batch_is_that_of_single_pairs(bertscores):
    alone = [BertScore()([prediction], [reference])[0] for prediction, reference in PAIRS]
    assert bertscores == pytest.approx(alone, abs=1e-5)


def test_bertscore_ranks_equal_above_other_above_missing(bertscores):
    equal, other, missing = bertscores
    assert equal > other > missing == 0.0


@pytest.mark.parametrize("layers", [9, -1])
def test_layer_that_the_encoder_has_not_is_refused(layers):
    with pytest.raises(InputError, match=rf"has layers 1 to 4, .* is {layers}"):
        bert_scorer("data/tiny_model", layers)


@pytest.fixture
def decoder(tmp_path):
    """A model of a kind that bert-score does not support, with a tokenizer."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=1207, n_positions=64, n_embd=8, n_layer=2, n_head=1)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "decoder")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(ROOT / "data/tiny_model" / name, tmp_path / "decoder")
    return str(tmp_path / "decoder")


def test_encoder_of_an_unsupported_kind_is_one_line(decoder):
    with pytest.raises(InputError, match="of a kind that bert-score does not support"):
        bert_scorer(decoder, 1)


def test_missing_encoder_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"BERTScore encoder .* cannot be loaded"):
        bert_scorer(str(tmp_path / "nothing"), 1)


@pytest.fixture
def short_encoder(tmp_path):
    """The embedded model, cut off at 16 positions."""
    folder = shutil.copytree(ROOT / "data/tiny_model", tmp_path / "short")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 16}))
    return str(folder)


def test_texts_are_cut_at_the_encoders_own_positions(short_encoder):
    assert BertScore(short_encoder)._scorer._tokenizer.model_max_length == 16


# -- choice ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("item", ITEMS.values(), ids=ITEMS)
@pytest.mark.parametrize("answer", [GOLD, "회의까지 며칠밖에 남지 않았다. 몇일은 틀렸다."])
def test_right_form_counts_in_any_format(item, answer):
    assert choice_accuracy(answer, item) == 1.0


@pytest.mark.parametrize("item", ITEMS.values(), ids=ITEMS)
@pytest.mark.parametrize("answer", [WRONG_FORM, GAMED["the question's braces kept"], ""])
def test_answer_without_a_choice_of_the_right_form_earns_nothing(item, answer):
    assert choice_accuracy(answer, item) == 0.0


@pytest.mark.parametrize("split", SPLITS)
def test_right_form_of_every_item_is_in_its_gold_answer(split):
    for item in load_items(f"data/{split}.json"):
        right, _ = choice_forms(item)
        assert right, item
        assert right in parse_gold(item.answer).sentences[0], item


@pytest.mark.parametrize("split", SPLITS)
def test_wrong_forms_of_every_item_are_not_in_its_gold_answer(split):
    for item in load_items(f"data/{split}.json"):
        _, wrong = choice_forms(item)
        gold = parse_gold(item.answer).sentences[0]
        assert wrong, item
        assert not any(form in gold for form in wrong), item


def test_final_mean_is_the_mean_of_three():
    assert final_mean({"rouge1": 0.3, "bertscore": 0.6, "em": 0.9}) == pytest.approx(0.6)
