"""The metrics: what counts as right, form, reason and choice."""

from __future__ import annotations

import json
import shutil

import pytest
from helpers import ROOT

from grpo_helpers import rewards
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
from grpo_helpers.rewards import gold_offenders

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


# -- what the format is depends on the question ----------------------------------------------------

CHOOSE_ASK = " 가운데 올바른 것을 선택하고, 그 이유를 설명하세요."
CORRECT_ASK = "다음 문장에서 어문 규범에 부합하지 않는 부분을 찾아 고치고, 그 이유를 설명하세요.\n"
LINES_ASK = "다음 중 올바른 것을 선택하고, 그 이유를 설명하세요.\n"
MARK_REASON = "나란한 말을 묶을 때에는 중괄호를 쓴다."

# Right answers without Hangul, with braces, or with another head: question type, question, answer.
OTHER_SHAPES = {
    "a date": (
        "교정형",
        f'{CORRECT_ASK}"2024. 5. 3"',
        '"2024. 5. 3."이 옳다. 일 뒤에도 점을 찍는다.',
    ),
    "a date to choose": (
        "선택형",
        f'"{{2024. 5. 3./2024. 5. 3}}"{CHOOSE_ASK}',
        '"2024. 5. 3."이 옳다. 일 뒤에도 점을 찍는다.',
    ),
    "a time": ("교정형", f'{CORRECT_ASK}"9 : 30"', '"9:30"이 옳다. 쌍점은 붙여 쓴다.'),
    "a ratio": ("교정형", f'{CORRECT_ASK}"3 : 1"', '"3:1"이 옳다. 쌍점은 붙여 쓴다.'),
    "years": ("교정형", f'{CORRECT_ASK}"1914 ~ 1918"', '"1914~1918"이 옳다. 물결표는 붙여 쓴다.'),
    "only a mark": ("교정형", f'{CORRECT_ASK}"......."', '"……"가 옳다. 줄임표는 여섯 점이다.'),
    "a brace": (
        "교정형",
        f'{CORRECT_ASK}"집(에, 으로) 갔다."',
        f'"집{{에, 으로}} 갔다."가 옳다. {MARK_REASON}',
    ),
    "a brace with a slash": (
        "교정형",
        f'{CORRECT_ASK}"집(에/으로) 갔다."',
        f'"집{{에/으로}} 갔다."가 옳다. {MARK_REASON}',
    ),
    "a brace on one of two lines": (
        "선택형",
        f"{LINES_ASK}― 집{{에/으로}} 갔다.\n― 집(에/으로) 갔다.",
        f'"집{{에/으로}} 갔다."가 옳다. {MARK_REASON}',
    ),
    "a brace among the options": (
        "선택형",
        f'"{{집{{에, 으로}}/집(에, 으로)}} 갔다."{CHOOSE_ASK}',
        f'"집{{에, 으로}} 갔다."가 옳다. {MARK_REASON}',
    ),
    "a brace beside the options": (
        "선택형",
        f'"집{{에/으로}} {{갔다/같다}}."{CHOOSE_ASK}',
        '"집{에/으로} 갔다."가 옳다. 가다의 과거이다.',
    ),
    "a correction": (
        "교정형",
        f'{CORRECT_ASK}"몇일이 걸렸다."',
        '"며칠이 걸렸다."로 고쳐 쓴다. 소리대로 적는다.',
    ),
    "a correction whose reason quotes": (
        "교정형",
        f'{CORRECT_ASK}"몇일이 걸렸다."',
        "\"며칠이 걸렸다.\"로 고쳐 쓴다. '며칠'이 옳다.",
    ),
    "a choice that says how to write": (
        "선택형",
        f'"{{며칠/몇일}}이 걸렸다."{CHOOSE_ASK}',
        '"며칠이 걸렸다."와 같이 써야 한다. 소리대로 적는다.',
    ),
}


def item_of(shape):
    question_type, question, answer = OTHER_SHAPES[shape]
    return Item("1", question_type, question, answer)


@pytest.mark.parametrize("shape", OTHER_SHAPES)
def test_right_answer_of_another_shape_earns_full_marks(shape):
    assert gold_offenders([item_of(shape)]) == []


def test_wrong_answer_without_hangul_keeps_the_format():
    assert format_score('"2024. 5. 3"이 옳다. 점을 찍지 않는다.', item_of("a date")) == 1.0


def test_sentence_without_hangul_fails_where_gold_has_hangul():
    assert format_score('"2024. 5. 3."이 옳다. 소리대로 적는다.', SELECT) == 0.0


def test_options_copied_with_other_spaces_fail():
    kept = GOLD.replace("며칠밖에", "{ 몇일 / 며칠 }밖에")
    assert format_score(kept, SELECT) == 0.0


def test_option_brace_around_a_marking_brace_fails():
    kept = f'"{{집{{에, 으로}}/집(에, 으로)}} 갔다."가 옳다. {MARK_REASON}'
    assert format_score(kept, item_of("a brace among the options")) == 0.0


def test_options_beside_a_marking_brace_fail():
    kept = '"집{에/으로} {갔다/같다}."가 옳다. 가다의 과거이다.'
    assert format_score(kept, item_of("a brace beside the options")) == 0.0


def test_brace_in_an_answer_to_a_question_without_braces_fails():
    assert format_score(GOLD.replace("며칠", "{며칠}"), CORRECT) == 0.0


def test_correction_is_no_answer_to_a_choice():
    assert format_score(GOLD.replace('"가 옳다', '"로 고쳐 쓴다'), SELECT) == 0.0


def test_correction_given_twice_fails():
    correction = '"며칠이 걸렸다."로 고쳐 쓴다. 소리대로 적는다.'
    assert format_score(f"{correction} {correction}", item_of("a correction")) == 0.0


def test_rewards_of_trl_columns_know_the_question():
    item = item_of("a brace beside the options")
    columns = {"question": [item.question], "question_type": [item.question_type]}
    assert rewards.format_reward(None, [item.answer], [item.answer], **columns) == [1.0]


TWO_REASONS = Item(
    "1",
    "교정형",
    f'{CORRECT_ASK}"서울 ~ 강릉"',
    '"서울~강릉"이 옳다. 물결표는 붙여 쓴다.#"서울-강릉"이 옳다. 붙임표를 쓸 수도 있다.',
)


def test_encoder_computes_in_single_precision():
    encoder = bert_scorer()._scorer._model

    assert {str(weight.dtype) for weight in encoder.parameters()} == {"torch.float32"}


def test_each_alternative_is_compared_with_its_own_reason():
    assert gold_offenders([TWO_REASONS]) == []


def test_reason_of_the_other_alternative_earns_less():
    swapped = '"서울-강릉"이 옳다. 물결표는 붙여 쓴다.'
    assert rewards.rouge1_reward(None, [swapped], [TWO_REASONS.answer])[0] < 1.0


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
