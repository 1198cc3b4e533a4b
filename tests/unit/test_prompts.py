"""Prompts and few-shot examples."""

import random

import pytest

from grpo_helpers.data import load_items
from grpo_helpers.files import InputError
from grpo_helpers.models import load_tokenizer
from grpo_helpers.prompts import (
    CategoryFewShotGenerator,
    build_dataset,
    build_prompts,
    drop_long,
    load_instruct,
    load_prompted,
    prompt_lengths,
)

POOL = load_items("data/embedded/few_shot.json")
TRAIN = load_items("data/embedded/train.json")
INSTRUCT = load_instruct("data/instruct.json")


def test_an_item_has_the_same_examples_whenever_and_wherever_it_is_asked():
    first = CategoryFewShotGenerator(POOL, 2)
    expected = {item.id: [e.id for e in first.examples(item)] for item in TRAIN}
    random.seed(1)  # the global dice must not matter, nor the order of asking
    second = CategoryFewShotGenerator(POOL, 2)
    assert {i.id: [e.id for e in second.examples(i)] for i in reversed(TRAIN)} == expected


def test_examples_are_of_the_items_own_type_and_vary_between_items():
    generator = CategoryFewShotGenerator(POOL, 1)
    drawn = [(item, generator.examples(item)[0]) for item in TRAIN]
    assert all(item.question_type == example.question_type for item, example in drawn)
    assert len({example.id for _, example in drawn}) > 10


def test_an_item_is_never_its_own_example():
    generator = CategoryFewShotGenerator(TRAIN, 3)
    for item in TRAIN:
        assert all(e.id != item.id and e.answer != item.answer for e in generator.examples(item))


def test_too_small_a_pool_is_refused():
    with pytest.raises(InputError, match="lower num_few_shot or enlarge the pool"):
        CategoryFewShotGenerator(POOL[:1], 2).examples(TRAIN[0])


def test_a_prompt_is_instruction_examples_question():
    prompt = build_prompts(TRAIN[:1], INSTRUCT, CategoryFewShotGenerator(POOL, 2))[0]
    assert [m["role"] for m in prompt] == [
        "system",
        "user",
        "assistant",
        "user",
        "assistant",
        "user",
    ]
    assert prompt[-1]["content"] == TRAIN[0].question
    assert TRAIN[0].answer not in str(prompt)


def test_an_instruct_file_without_a_key_is_refused(tmp_path):
    file = tmp_path / "instruct.json"
    file.write_text('{"prompt": "x", "selection_prompt": "y"}')
    with pytest.raises(InputError, match="correction_prompt"):
        load_instruct(str(file))


def test_all_prompts_of_a_group_are_identical_in_trls_own_sampler():
    from trl.trainer.utils import RepeatSampler

    items, prompts = load_prompted(
        "data/embedded/train.json", "data/embedded/few_shot.json", "data/instruct.json", 1
    )
    dataset = build_dataset(items, prompts)
    order = list(RepeatSampler(dataset, mini_repeat_count=8, batch_size=2, repeat_count=1, seed=0))
    groups = [
        [str(dataset[i]["prompt"]) for i in order[start : start + 8]]
        for start in range(0, len(order), 8)
    ]
    assert len(groups) > 10 and all(len(set(group)) == 1 for group in groups)


def test_prompts_over_the_limit_are_dropped_whole_and_named():
    tokenizer = load_tokenizer("data/tiny_model")
    items, prompts = load_prompted(
        "data/embedded/train.json", "data/embedded/few_shot.json", "data/instruct.json", 1
    )
    lengths = prompt_lengths(prompts, tokenizer)
    limit = sorted(lengths)[len(lengths) // 2]
    kept, kept_prompts, dropped = drop_long(items, prompts, tokenizer, limit)
    assert dropped and len(kept) == len(kept_prompts) == len(items) - len(dropped)
    assert {item.id for item in items} == {item.id for item in kept} | set(dropped)
    assert max(prompt_lengths(kept_prompts, tokenizer)) <= limit < max(lengths)
    assert all(prompt in prompts for prompt in kept_prompts), "a kept prompt is not cut"


def test_no_limit_drops_nothing_and_a_limit_below_all_prompts_is_refused():
    tokenizer = load_tokenizer("data/tiny_model")
    items, prompts = (
        TRAIN[:2],
        build_prompts(TRAIN[:2], INSTRUCT, CategoryFewShotGenerator(POOL, 1)),
    )
    assert drop_long(items, prompts, tokenizer, 0) == (items, prompts, [])
    with pytest.raises(InputError, match="max_prompt_tokens is 5, but the shortest prompt has"):
        drop_long(items, prompts, tokenizer, 5)


def test_an_example_is_no_near_copy_of_the_question_whatever_its_shape():
    copy = TRAIN[0]
    pool = [
        *POOL,
        copy.__class__("other", copy.question_type, "다음 중 ...\n― 다른 물음이다.", copy.answer),
    ]
    drawn = CategoryFewShotGenerator(
        pool, len([i for i in POOL if i.question_type == copy.question_type])
    )
    assert all(example.id != "other" for example in drawn.examples(copy))
