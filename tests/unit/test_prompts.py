"""Prompts and few-shot examples."""

import json
import random
import unicodedata
from collections import Counter

import pytest

from grpo_helpers.data import load_items
from grpo_helpers.files import InputError
from grpo_helpers.models import load_tokenizer
from grpo_helpers.prompts import (
    CategoryFewShotGenerator,
    PromptSource,
    build_dataset,
    build_prompts,
    drop_long,
    load_instruct,
    load_prompted,
    prompt_lengths,
    prompt_texts,
    suit_template,
    unknown_characters,
)
from grpo_helpers.questions import Item
from grpo_helpers.settings import TrainSettings

POOL = load_items("data/embedded/few_shot.json")
TRAIN = load_items("data/embedded/train.json")
INSTRUCT = load_instruct("data/instruct.json")
TRAIN_PATH = "data/embedded/train.json"


# -- few-shot examples -----------------------------------------------------------------------------


def ids_of_examples(generator, items):
    return {item.id: [example.id for example in generator.examples(item)] for item in items}


def test_examples_do_not_depend_on_the_global_generator():
    expected = ids_of_examples(CategoryFewShotGenerator(POOL, 2), TRAIN)
    random.seed(1)
    assert ids_of_examples(CategoryFewShotGenerator(POOL, 2), TRAIN) == expected


def test_examples_do_not_depend_on_the_order_of_items():
    expected = ids_of_examples(CategoryFewShotGenerator(POOL, 2), TRAIN)
    backwards = list(reversed(TRAIN))
    assert ids_of_examples(CategoryFewShotGenerator(POOL, 2), backwards) == expected


def test_examples_are_of_the_items_own_type():
    generator = CategoryFewShotGenerator(POOL, 1)
    for item in TRAIN:
        (example,) = generator.examples(item)
        assert example.question_type == item.question_type


def test_examples_vary_between_items():
    generator = CategoryFewShotGenerator(POOL, 1)
    drawn = {generator.examples(item)[0].id for item in TRAIN}
    assert len(drawn) > 10


def test_item_is_never_its_own_example():
    generator = CategoryFewShotGenerator(TRAIN, 3)
    for item in TRAIN:
        assert item.id not in [example.id for example in generator.examples(item)]


def test_example_never_has_the_items_answer():
    generator = CategoryFewShotGenerator(TRAIN, 3)
    for item in TRAIN:
        assert item.answer not in [example.answer for example in generator.examples(item)]


def test_near_copy_of_another_shape_is_never_an_example():
    item = TRAIN[0]
    copy = Item("copy", item.question_type, "다음 중 ...\n― 다른 물음이다.", item.answer)
    same_type = Counter(example.question_type for example in POOL)[item.question_type]

    generator = CategoryFewShotGenerator([*POOL, copy], same_type)

    assert "copy" not in [example.id for example in generator.examples(item)]


def test_no_examples_are_drawn_when_none_are_wanted():
    assert CategoryFewShotGenerator([], 0).examples(TRAIN[0]) == []


def test_negative_number_of_examples_is_refused():
    with pytest.raises(InputError, match="num_few_shot is -1; it must be 0 or more"):
        CategoryFewShotGenerator(POOL, -1)


def test_too_small_a_pool_is_refused():
    with pytest.raises(InputError, match="lower num_few_shot or enlarge the pool"):
        CategoryFewShotGenerator(POOL[:1], 2).examples(TRAIN[0])


# -- messages --------------------------------------------------------------------------------------


@pytest.fixture
def prompt():
    """The prompt of the first train item, with two examples."""
    return build_prompts(TRAIN[:1], INSTRUCT, CategoryFewShotGenerator(POOL, 2))[0]


def test_prompt_is_instruction_examples_question(prompt):
    turns = ["user", "assistant"]
    assert [message["role"] for message in prompt] == ["system", *turns, *turns, "user"]


def test_prompt_ends_with_the_question(prompt):
    assert prompt[-1]["content"] == TRAIN[0].question


def test_prompt_does_not_contain_the_answer(prompt):
    assert TRAIN[0].answer not in str(prompt)


def test_instruct_file_without_a_key_is_refused(tmp_path):
    file = tmp_path / "instruct.json"
    file.write_text('{"prompt": "x", "selection_prompt": "y"}')
    with pytest.raises(InputError, match="wrong: correction_prompt"):
        load_instruct(str(file))


def test_instruct_file_with_a_list_is_refused(tmp_path):
    file = tmp_path / "instruct.json"
    file.write_text(json.dumps(["prompt"]))
    with pytest.raises(InputError, match="wrong: prompt"):
        load_instruct(str(file))


def test_decomposed_instruction_is_composed(tmp_path):
    file = tmp_path / "instruct.json"
    text = json.dumps(INSTRUCT, ensure_ascii=False)
    file.write_text(unicodedata.normalize("NFD", text), encoding="utf-8")
    assert load_instruct(str(file)) == INSTRUCT


# -- loading ---------------------------------------------------------------------------------------


def test_source_takes_its_fields_from_the_settings():
    settings = TrainSettings(num_few_shot=3)
    expected = PromptSource(settings.few_shot_data_path, settings.instruct_path, 3)
    assert PromptSource.from_settings(settings) == expected


def test_default_source_is_that_of_the_settings():
    assert PromptSource() == PromptSource.from_settings(TrainSettings())


def test_pool_is_not_read_when_no_examples_are_wanted():
    source = PromptSource(few_shot_data_path="no/such.json", num_few_shot=0)
    _, prompts = load_prompted(TRAIN_PATH, source)
    assert [message["role"] for message in prompts[0]] == ["system", "user"]


@pytest.mark.heavy
def test_all_prompts_of_a_group_are_identical_in_trls_own_sampler():
    from trl.trainer.utils import RepeatSampler

    group_size = 8
    dataset = build_dataset(*load_prompted(TRAIN_PATH, PromptSource()))
    sampler = RepeatSampler(
        dataset, mini_repeat_count=group_size, batch_size=2, repeat_count=1, seed=0
    )
    texts = [str(dataset[index]["prompt"]) for index in sampler]

    groups = [texts[start : start + group_size] for start in range(0, len(texts), group_size)]

    assert len(groups) > 10
    assert all(len(set(group)) == 1 for group in groups)


# -- chat templates --------------------------------------------------------------------------------


@pytest.fixture
def template(tiny_tokenizer):
    """A function that gives the tokenizer a template of its own."""

    def give(text):
        tiny_tokenizer.chat_template = text
        return tiny_tokenizer

    return give


@pytest.fixture
def tiny_tokenizer():
    return load_tokenizer("data/tiny_model")


TURN = "<{{ m.role }}>{{ m.content }}\n"
DROPS_SYSTEM = f"{{% for m in messages if m.role != 'system' %}}{TURN}{{% endfor %}}"
SYSTEM_LAST = (
    f"{{% for m in messages[1:] %}}{{% if loop.last %}}{{{{ messages[0].content }}}}{{% endif %}}"
    f"{TURN}{{% endfor %}}"
)
INCOMPLETE = {
    "a dropped example": (
        f"{{% for m in [messages[0], messages[-1]] %}}{TURN}{{% endfor %}}",
        "a worked example",
    ),
    "dropped answers of examples": (
        f"{{% for m in messages if m.role != 'assistant' %}}{TURN}{{% endfor %}}",
        "a worked example",
    ),
    "a cut question": (
        "{% for m in messages %}<{{ m.role }}>{{ m.content[:20] }}{% endfor %}",
        "the instruction|a worked example|the question",
    ),
    "an escaped question": (
        f"{{% for m in messages[:-1] %}}{TURN}{{% endfor %}}{{{{ messages[-1].content | e }}}}",
        "the question",
    ),
    "a template that always fails": ("{{ raise_exception('no') }}", "fails: no"),
}


def test_dropped_instruction_goes_before_the_first_question(prompt, template):
    (suited,) = suit_template(template(DROPS_SYSTEM), [prompt])

    first = f"{prompt[0]['content']}\n\n{prompt[1]['content']}"
    assert suited == [{"role": "user", "content": first}, *prompt[2:]]


def test_instruction_may_stand_before_the_last_question(prompt, template):
    assert suit_template(template(SYSTEM_LAST), [prompt]) == [prompt]


def test_template_that_trims_messages_is_complete(prompt, template):
    padded = [message | {"content": f" {message['content']}\n"} for message in prompt]
    trims = TURN.replace("m.content", "m.content | trim")
    tokenizer = template(f"{{% for m in messages %}}{trims}{{% endfor %}}")

    assert suit_template(tokenizer, [padded]) == [padded]


@pytest.mark.parametrize("case", INCOMPLETE)
def test_template_that_hides_a_part_is_refused_with_it(prompt, template, case):
    text, part = INCOMPLETE[case]
    with pytest.raises(InputError, match=f"^the chat template of .* ({part})"):
        suit_template(template(text), [prompt])


def test_template_is_tried_on_every_prompt(prompt, template):
    longer = [*prompt[:-1], prompt[-1] | {"content": "가" * 300}]
    cut = TURN.replace("m.content", "m.content[:200]")
    with pytest.raises(InputError, match=r"the question \(prompt 2\)"):
        suit_template(template(f"{{% for m in messages %}}{cut}{{% endfor %}}"), [prompt, longer])


SWITCH = "{% if skip_reasoning %}skip{% else %}think{% endif %}"


def test_template_gets_the_arguments_of_the_run(prompt, template):
    settings = TrainSettings(extra_grpo_args={"chat_template_kwargs": {"skip_reasoning": True}})
    tokenizer = template(SWITCH)

    assert prompt_texts([prompt], tokenizer) == ["think"]
    assert prompt_texts([prompt], tokenizer, settings.chat_template_kwargs) == ["skip"]


def test_template_arguments_are_no_mapping_and_refused():
    with pytest.raises(InputError, match="chat_template_kwargs is 'no'; give a mapping"):
        TrainSettings(extra_grpo_args={"chat_template_kwargs": "no"})


# -- characters that a model does not know ---------------------------------------------------------


def test_unknown_characters_are_counted(tiny_tokenizer):
    prompts = [[{"role": "user", "content": "며칠 뷁뷁 𝕏"}], [{"role": "user", "content": "뷁"}]]
    assert unknown_characters(prompts, tiny_tokenizer) == {"뷁": 3, "𝕏": 1}


def test_embedded_questions_have_no_unknown_character(prompted, tiny_tokenizer):
    assert unknown_characters(prompted[1], tiny_tokenizer) == {}


# -- prompts over the limit ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("data/tiny_model")


@pytest.fixture(scope="module")
def prompted():
    return load_prompted(TRAIN_PATH, PromptSource())


@pytest.fixture(scope="module")
def median_length(prompted, tokenizer):
    lengths = prompt_lengths(prompted[1], tokenizer)
    return sorted(lengths)[len(lengths) // 2]


@pytest.fixture(scope="module")
def retained(prompted, tokenizer, median_length):
    """What is left when the limit is the median length."""
    return drop_long(*prompted, tokenizer, median_length)


def test_limit_below_the_longest_prompt_drops_items(retained):
    assert retained.dropped_ids


def test_every_item_is_either_retained_or_dropped(retained):
    retained_ids = [item.id for item in retained.items]
    assert sorted(retained_ids + retained.dropped_ids) == sorted(item.id for item in TRAIN)


def test_no_retained_prompt_is_over_the_limit(retained, tokenizer, median_length):
    assert max(prompt_lengths(retained.prompts, tokenizer)) <= median_length


def test_retained_prompts_are_uncut(retained, prompted):
    prompt_of = {item.id: prompt for item, prompt in zip(*prompted, strict=True)}
    assert retained.prompts == [prompt_of[item.id] for item in retained.items]


def test_dropped_prompts_are_over_the_limit(retained, prompted, tokenizer, median_length):
    dropped = [
        prompt
        for item, prompt in zip(*prompted, strict=True)
        if item.id in set(retained.dropped_ids)
    ]
    assert min(prompt_lengths(dropped, tokenizer)) > median_length


def test_no_limit_drops_nothing(prompted, tokenizer):
    items, prompts = prompted
    retained = drop_long(items, prompts, tokenizer, limit=0)
    assert (retained.items, retained.prompts, retained.dropped_ids) == (items, prompts, [])


def test_limit_below_all_prompts_is_refused(prompted, tokenizer):
    with pytest.raises(InputError, match="max_prompt_tokens is 5, but the shortest prompt has"):
        drop_long(*prompted, tokenizer, limit=5)
