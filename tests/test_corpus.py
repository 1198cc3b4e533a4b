"""The course's own data: built from the cards, split without leaks, covered by the embedded model's vocabulary."""

import json
from collections import Counter

import pytest

from grpo_helpers.data import InputError, load_items, project_root
from grpo_helpers.prompts import char_ngrams, jaccard
from tools import build_data
from tools.cards import Entry, _check_carrier, load_cards

SPLITS = {name: load_items(f"data/{name}.json") for name in ("train", "dev", "test", "few_shot")}


def gold_sentence(item):
    return item.answer.split('"')[1]


def test_the_committed_data_is_what_the_builder_makes(tmp_path):
    build_data.main(tmp_path)
    for name in ("train", "dev", "test", "few_shot", "smoke/train", "smoke/dev", "smoke/test"):
        made = (tmp_path / f"{name}.json").read_bytes()
        assert made == (project_root() / "data" / f"{name}.json").read_bytes(), name


def test_dev_and_test_are_large_enough_and_both_types_are_equally_frequent():
    assert len(load_cards()) >= 40
    for name in ("dev", "test"):
        types = Counter(item.question_type for item in SPLITS[name])
        assert len(SPLITS[name]) >= 240 and len(set(types.values())) == 1 and len(types) == 2
    assert 96 <= len(SPLITS["train"]) <= 128


def test_no_sentence_of_dev_or_test_is_a_near_copy_of_one_in_another_split():
    for name in ("dev", "test"):
        for other in ("train", "few_shot", *({"dev", "test"} - {name})):
            grams = [char_ngrams(gold_sentence(item)) for item in SPLITS[other]]
            for item in SPLITS[name]:
                nearest = max(jaccard(char_ngrams(gold_sentence(item)), g) for g in grams)
                assert nearest <= 0.6, (name, item.id, other)


def test_the_option_order_gives_nothing_away():
    for name in ("train", "dev", "test"):
        first = [
            item.question[item.question.index("{") + 1 :].startswith(_right(item))
            for item in SPLITS[name]
            if item.question_type == "선택형"
        ]
        assert abs(sum(first) - len(first) / 2) <= 1


def _right(item):
    from grpo_helpers.metrics import choice_forms

    return choice_forms(item)[0]


def test_few_shot_words_are_none_of_the_words_that_are_asked():
    few_shot_cards = {item.extra["card"] for item in SPLITS["few_shot"]}
    asked = {item.extra["card"] for name in ("train", "dev", "test") for item in SPLITS[name]}
    assert few_shot_cards and not few_shot_cards & asked


def test_every_item_has_an_english_gloss():
    assert all(item.extra["gloss"] and item.extra["word_gloss"] for items in SPLITS.values() for item in items)


def test_the_vocabulary_covers_every_character_of_every_split_and_instruction():
    vocabulary = json.loads((project_root() / "data/tiny_model/tokenizer.json").read_text())["model"]["vocab"]
    texts = [f"{item.question}{item.answer}" for items in SPLITS.values() for item in items]
    texts.append((project_root() / "data/instruct.json").read_text(encoding="utf-8"))
    assert {char for text in texts for char in text} - set(vocabulary) == set()


@pytest.mark.parametrize(
    ("carrier", "told"),
    [
        ("회의까지 남지 않았다.", "exactly one"),
        ("{} 며칠 남았다.", "not the only difference"),
        ("회의까지 {}밖에 \"남지\" 않았다.", "quote"),
        ("회의까지 {} 남음.", "must end in a vowel"),
    ],
)  # fmt: skip
def test_a_carrier_that_breaks_a_rule_is_refused(carrier, told):
    with pytest.raises(InputError, match=told):
        _check_carrier(carrier, "며칠", "몇일", "here")


def test_an_entry_with_too_few_sentences_is_refused():
    card = next(card for card in load_cards() if not card.few_shot)
    short = Entry("며칠", "몇일", "days", card.entries[0].sentences[:3])
    with pytest.raises(InputError, match="3 sentences, 8 are needed"):
        build_data.build_splits([card.__class__(**{**card.__dict__, "entries": (short,)})])
