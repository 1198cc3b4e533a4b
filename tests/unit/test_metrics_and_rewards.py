"""Metrics and rewards: the metric is the reward."""

import math

import pytest

from grpo_helpers import rewards
from grpo_helpers.answers import parse_gold
from grpo_helpers.data import load_items
from grpo_helpers.files import InputError
from grpo_helpers.metrics import (
    choice_accuracy,
    exact_match,
    final_mean,
    format_score,
    rouge1_reasons,
)
from grpo_helpers.questions import Item, choice_forms

GOLD = "\"회의까지 며칠밖에 남지 않았다.\"가 옳다. '며칠'은 소리대로 적는다."
SELECT = Item(
    "1", "선택형", '"회의까지 {몇일/며칠}밖에 남지 않았다." 가운데 올바른 것을 선택하고, ...', GOLD
)
CORRECT = Item(
    "2", "교정형", '다음 문장에서 ... 고치고, ...\n"회의까지 몇일밖에 남지 않았다."', GOLD
)
ALL = list(rewards.REWARDS)

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


CORPUS = ("train", "dev", "test", "test_unseen_words", "test_unseen_norms", "few_shot")
SPLITS = (*CORPUS, "embedded/train", "embedded/test")


@pytest.mark.parametrize("split", SPLITS)
def test_every_gold_answer_earns_full_marks(split):
    pairs = [
        (said, item.answer)
        for item in load_items(f"data/{split}.json")
        for said in item.answer.split("#")
    ]
    answers, golds = [said for said, _ in pairs], [gold for _, gold in pairs]
    for name in ALL:
        earned = rewards.REWARDS[name](None, answers, references=golds)
        assert min(earned) == pytest.approx(1.0, abs=1e-5), (
            f"{name}: {answers[earned.index(min(earned))]}"
        )
    assert min(rewards.multi_reward(None, answers, references=golds)) == pytest.approx(
        4 / 3, abs=1e-5
    )


@pytest.mark.parametrize("case", GAMED)
def test_a_gamed_format_earns_nothing(case):
    assert format_score(GAMED[case]) == 0.0


def test_strings_and_messages_earn_the_same():
    texts = [GOLD, *GAMED.values()]
    messages = [[{"role": "assistant", "content": text}] for text in texts]
    golds = [GOLD] * len(texts)
    for name in ALL:
        of_strings = rewards.REWARDS[name](None, texts, references=golds)
        assert rewards.REWARDS[name](None, messages, references=golds) == of_strings
        assert all(math.isfinite(value) and 0 <= value <= 1 + 1e-5 for value in of_strings)


def test_exact_match_compares_the_sentence_and_not_the_particle():
    assert exact_match(GOLD.replace('"가 옳다', '"이 옳다'), GOLD) == 1.0
    assert exact_match(GOLD.replace("며칠밖에", "몇일밖에"), GOLD) == 0.0
    assert exact_match(GOLD.replace("남지", "남 지"), GOLD) == 0.0


def test_naming_a_right_and_a_wrong_sentence_is_not_an_exact_match():
    both = (
        '"회의까지 며칠밖에 남지 않았다." 혹은 "회의까지 몇일밖에 남지 않았다."가 옳다. 둘 다 된다.'
    )
    assert exact_match(both, GOLD) == 0.0


def test_a_missing_reason_scores_zero_on_both_likeness_rewards():
    bare = GOLD.split(" '")[0]
    assert rewards.rouge1_reward(None, [bare], [GOLD]) == [0.0]
    assert rewards.bertscore_reward(None, [bare], [GOLD]) == [0.0]


def test_likeness_looks_at_the_reason_only():
    other_sentence = GOLD.replace("회의까지 며칠밖에 남지 않았다.", "봄이다.")
    assert rewards.rouge1_reward(None, [other_sentence], [GOLD]) == [1.0]


def test_rouge_sees_hangul():
    assert rouge1_reasons("소리대로 적는다.", "소리대로 적는다.") == 1.0
    assert rouge1_reasons("소리대로 적는다.", "띄어 쓰지 않는 말") < 0.5


def test_bertscore_gives_the_same_in_a_batch_and_alone():
    from grpo_helpers.metrics import BertScore

    pairs = [
        ("소리대로 적는다.", "소리대로 적는다."),
        ("띄어 쓴다.", "소리대로 적는다."),
        ("", "소리대로 적는다."),
    ]
    together = BertScore()([p for p, _ in pairs], [r for _, r in pairs])
    alone = [BertScore()([p], [r])[0] for p, r in pairs]
    assert together == pytest.approx(alone, abs=1e-5)
    assert together[0] > together[1] > together[2] == 0.0


@pytest.mark.parametrize("item", [SELECT, CORRECT], ids=["choose", "correct"])
def test_choice_accuracy_ignores_the_format(item):
    assert choice_accuracy(GOLD, item) == 1.0
    assert choice_accuracy("회의까지 며칠밖에 남지 않았다. 몇일은 틀렸다.", item) == 1.0
    assert choice_accuracy(GOLD.replace("며칠밖에", "몇일밖에"), item) == 0.0
    assert choice_accuracy(GOLD.replace("며칠밖에", "{몇일/며칠}밖에"), item) == 0.0
    assert choice_accuracy("", item) == 0.0


@pytest.mark.parametrize("split", SPLITS)
def test_the_right_form_is_read_off_every_item(split):
    for item in load_items(f"data/{split}.json"):
        right, wrong = choice_forms(item)
        gold = parse_gold(item.answer).sentences[0]
        assert right and wrong and right in gold and not any(form in gold for form in wrong), item


def test_both_presets_have_the_same_maximum_and_swap_bertscore_with_format():
    article, code = (rewards.reward_weights(name) for name in ("article", "code"))
    assert sum(article.values()) == pytest.approx(4 / 3) == pytest.approx(sum(code.values()))
    assert (article["format"], article["bertscore"]) == (code["bertscore"], code["format"])
    assert article["format"] != article["bertscore"]


def test_multi_reward_is_the_weighted_sum_that_trl_computes():
    texts, golds = [GOLD, GAMED["no reason"], GOLD.replace("며칠밖에", "몇일밖에")], [GOLD] * 3
    functions, weights = rewards.reward_functions("code")
    parts = [function(None, texts, references=golds) for function in functions]
    by_hand = [sum(w * part[i] for w, part in zip(weights, parts, strict=True)) for i in range(3)]
    assert rewards.multi_reward(None, texts, golds, weights="code") == pytest.approx(by_hand)


def test_an_unknown_preset_or_reward_is_named():
    with pytest.raises(InputError, match="articel"):
        rewards.reward_weights("articel")
    with pytest.raises(InputError, match="bleu"):
        rewards.reward_weights({"bleu": 1.0})


def test_final_mean_is_the_mean_of_three():
    assert final_mean({"rouge1": 0.3, "bertscore": 0.6, "em": 0.9}) == pytest.approx(0.6)


@pytest.mark.parametrize("preset", rewards.PRESETS)
def test_one_preset_as_weights_or_as_one_function_gives_trl_the_same_advantages(preset, tmp_path):
    """A step of the real trainer on real completions, twice: four functions with weights, one function without."""
    from transformers import set_seed
    from trl import GRPOConfig, GRPOTrainer

    from grpo_helpers.models import load_model, load_tokenizer
    from grpo_helpers.prompts import PromptSource, build_dataset, load_prompted

    items, prompts = load_prompted("data/smoke/train.json", PromptSource())
    functions, weights = rewards.reward_functions(preset)

    def one_function(prompts, completions, **columns):
        return rewards.multi_reward(prompts, completions, weights=preset, **columns)

    advantages, sampled = [], []
    for reward_funcs, reward_weights in ((functions, weights), (one_function, None)):
        set_seed(0)
        config = GRPOConfig(
            output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none", save_strategy="no", max_steps=1,
            per_device_train_batch_size=16, num_generations=8, gradient_accumulation_steps=1, temperature=1.2,
            max_completion_length=80, reward_weights=reward_weights, seed=0, disable_tqdm=True,
            logging_strategy="no", dataloader_pin_memory=False,
        )  # fmt: skip
        trainer = GRPOTrainer(
            model=load_model("data/tiny_model"), args=config, processing_class=load_tokenizer("data/tiny_model"),
            train_dataset=build_dataset(items, prompts), reward_funcs=reward_funcs,
        )  # fmt: skip
        trainer.train()
        advantages.append(list(trainer._logs["advantages"]))
        sampled.append(list(trainer._logs["completion"]))
    assert sampled[0] == sampled[1] and len(advantages[0]) == 16
    assert len(set(advantages[0])) > 2  # the completions do differ in reward
    assert advantages[0] == pytest.approx(advantages[1], abs=1e-5)
