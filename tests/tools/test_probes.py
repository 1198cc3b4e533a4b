"""The questions with which coins are watched: one for each word, and where its answers part."""

from types import SimpleNamespace

import pytest
from helpers import TINY_MODEL, smoke_settings

from grpo_helpers.coins import COLUMNS, FAMILIES, LEXICAL
from grpo_helpers.files import InputError
from grpo_helpers.models import load_tokenizer
from grpo_helpers.prompts import PromptSource, load_prompted, prompt_texts
from grpo_helpers.questions import CORRECTION, SELECTION, Item
from tools.corpus.families import load_families
from tools.experiments.probes import (
    BOTH,
    as_choice,
    encode_probes,
    load_probes,
    part,
    rewarded_probes,
    words_table,
)

PATHS = {
    "train_data_path": "data/embedded/train.json",
    "eval_data_path": "data/embedded/dev.json",
}


@pytest.fixture(scope="module")
def probes():
    """The probes of the default run."""
    return load_probes(SimpleNamespace(**PATHS))


def correction(sentence, word="며칠", card="c"):
    """Return a 교정형 item about a sentence that ought to be 며칠이 걸렸다."""
    answer = '"며칠이 걸렸다."가 옳다. 까닭.'
    return Item("1", CORRECTION, f'"{sentence}"', answer, {"card": card, "word": word})


def choice(sentence, word="며칠", card="c"):
    """Return a 선택형 item, also about this word."""
    question = f'"{sentence}" 가운데 올바른 것을 선택하세요.'
    answer = '"며칠이 갔다."가 옳다. 까닭.'
    return Item("2", SELECTION, question, answer, {"card": card, "word": word})


# -- which words -----------------------------------------------------------------------------------


def test_every_probe_is_a_choice_unless_it_is_to_be_corrected(probes):
    for probe in probes:
        expected = CORRECTION if probe.block == "corrected" else SELECTION
        assert probe.item.question_type == expected


def test_probe_of_a_correction_compares_with_what_its_question_shows(probes):
    for probe in probes:
        if probe.block == "corrected":
            assert f'"{probe.wrong}"' in probe.item.question
            assert probe.right not in probe.item.question


def test_no_word_is_asked_about_twice(probes):
    keys = [(probe.block, probe.item.extra["card"], probe.item.extra["word"]) for probe in probes]
    assert len(set(keys)) == len(keys)


def test_no_sentence_of_a_probe_is_in_train(probes):
    train, _ = load_prompted(PATHS["train_data_path"], PromptSource())
    answers = {item.answer for item in train}
    assert not any(probe.item.answer in answers for probe in probes)


def test_only_rewarded_words_are_words_of_train(probes):
    train, _ = load_prompted(PATHS["train_data_path"], PromptSource())
    words = {item.extra["word"] for item in train}
    for probe in probes:
        is_rewarded = probe.block in ("rewarded", "corrected")
        assert (probe.item.extra["word"] in words) == is_rewarded, probe.item


def test_right_form_comes_first_in_about_half_of_the_probes(probes):
    for block in ("rewarded", "real", "invented"):
        asked = [probe for probe in probes if probe.block == block]
        first = [f"{{{probe.item.extra['word']}/" in probe.item.question for probe in asked]
        assert 0.4 < sum(first) / len(first) < 0.6


def test_every_family_has_a_name():
    families = {family.card.id for family in load_families()}
    assert set(FAMILIES) == families | {LEXICAL}


def test_table_of_words_has_the_columns_of_the_record(probes):
    table = words_table(probes)

    assert list(table) == list(COLUMNS)
    assert len(table) == len(probes)
    assert (table["right"] != table["wrong"]).all()


def test_correction_is_asked_as_a_choice():
    asked = as_choice(correction("몇일이 걸렸다."), right_first=False)

    assert asked.question_type == SELECTION
    assert asked.question.startswith('"{몇일/며칠}이 걸렸다." 가운데')


def test_correction_of_something_else_is_refused():
    with pytest.raises(InputError, match="with another form of '며칠'"):
        as_choice(correction("며칠이 거렸다."), right_first=True)


def test_choice_of_dev_is_taken_before_a_correction():
    dev = [correction("몇일이 걸렸다."), choice("{며칠/몇일}이 갔다.")]

    (probe,) = rewarded_probes([correction("몇일이 걸렸다.")], dev)

    assert probe.item is dev[1]
    assert (probe.right, probe.wrong) == ("며칠이 갔다.", "몇일이 갔다.")


def test_probe_says_how_train_asks_about_its_word():
    as_correction = correction("몇일이 걸렸다.")
    asked = choice("{며칠/몇일}이 갔다.")

    (once,) = rewarded_probes([as_correction], [asked])
    (twice,) = rewarded_probes([as_correction, asked], [asked])

    assert once.trained_as == CORRECTION
    assert twice.trained_as == BOTH


def test_word_that_train_has_not_is_not_asked_about():
    assert (
        rewarded_probes([correction("몇일이 걸렸다.")], [choice("{며칠/몇일}이", card="d")]) == []
    )


# -- where the answers part ------------------------------------------------------------------------


def test_forms_of_two_tokens_are_taken_whole():
    parting = part([1, 5, 6, 9], [1, 7, 8, 9])

    assert (parting.right, parting.wrong) == ((5, 6), (7, 8))


def test_form_that_lacks_a_space_is_followed_by_the_next_token():
    parting = part([1, 0, 2, 3], [1, 2, 3])

    assert (parting.right, parting.wrong) == ((0, 2), (2,))


def test_forms_begin_with_different_tokens_where_a_token_is_repeated():
    parting = part([1, 2, 2, 3], [1, 2, 3])

    assert (parting.common, parting.right, parting.wrong) == ((1, 2), (2, 3), (3,))


def test_sentence_that_is_the_beginning_of_the_other_is_refused():
    with pytest.raises(InputError, match="the beginning of the other's"):
        part([1, 2], [1, 2, 3])


# -- tokens ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def smoke_probe(tmp_path_factory):
    """The first rewarded probe of the smallest run that has one, encoded, with what it was."""
    settings = smoke_settings(tmp_path_factory.mktemp("probes"), **PATHS)
    tokenizer = load_tokenizer(TINY_MODEL)
    asked = choice("{며칠/몇일}이 갔다.")
    (probe,) = rewarded_probes([asked], [asked])
    (encoded,) = encode_probes([probe], tokenizer, settings)
    return settings, tokenizer, probe, encoded


def test_encoded_parts_are_prompt_and_answer_without_a_gap(smoke_probe):
    _, tokenizer, probe, encoded = smoke_probe
    tokens = encoded.head + encoded.middle + encoded.right

    text = tokenizer.decode(tokens, skip_special_tokens=True)

    assert text.endswith(f'{probe.item.question}"며칠')


def test_prompt_of_a_probe_is_that_of_the_run(smoke_probe):
    settings, tokenizer, probe, encoded = smoke_probe
    from grpo_helpers.data import load_items
    from grpo_helpers.prompts import CategoryFewShotGenerator, build_prompts, load_instruct

    pool = load_items(settings.few_shot_data_path)
    few_shot = CategoryFewShotGenerator(pool, settings.num_few_shot)
    prompts = build_prompts([probe.item], load_instruct(settings.instruct_path), few_shot)
    (text,) = prompt_texts(prompts, tokenizer, settings.chat_template_kwargs)
    whole = tokenizer(f'{text}"', add_special_tokens=False)["input_ids"]

    assert list(encoded.head + encoded.middle) == whole
