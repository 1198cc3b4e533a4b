"""The model of notebook 07: its tokenizer, its making at a small scale, and what its card says."""

import pytest

from grpo_helpers.answers import split_thought
from grpo_helpers.data import load_items
from grpo_helpers.files import project_root, read_json
from grpo_helpers.models import load_tokenizer
from grpo_helpers.splits import TEST_UNSEEN_WORDS
from tools.tiny_model.model import build_tokenizer
from tools.word_chain import thinking_card, train
from tools.word_chain.words import load_words

FOLDER = project_root() / "data" / "thinking_model"
EXAMPLE = "<think>기차 차표</think>표지"


def test_tag_is_one_token_and_stays_in_the_text():
    tokenizer = build_tokenizer(train.alphabet(), train.TAGS)
    tokens = tokenizer(EXAMPLE)["input_ids"]

    assert len(tokens) == len("기차 차표표지") + len(train.TAGS)
    assert tokenizer.decode(tokens, skip_special_tokens=True) == EXAMPLE


def test_alphabet_has_all_that_the_game_writes():
    alphabet = set(train.alphabet())
    assert set("".join(load_words())) <= alphabet
    for item in load_items("data/word_chain/test.json"):
        assert set(item.question + (item.answer or "")) <= alphabet


def test_committed_model_reads_its_own_questions_without_a_gap():
    tokenizer = load_tokenizer(str(FOLDER))
    for item in load_items("data/word_chain/test_unseen_words.json"):
        tokens = tokenizer(item.question + (item.answer or ""))["input_ids"]
        assert tokenizer.unk_token_id not in tokens


def card_row(split, answers):
    """Return what the card says of the answers to a split."""
    rows = read_json(FOLDER / thinking_card.FIGURES_FILE)["answers"]
    (row,) = [row for row in rows if (row["split"], row["answers"]) == (split, answers)]
    return row


@pytest.mark.parametrize("split", ["dev", "test", "unseen words"])
def test_base_thinks_in_about_half_of_its_samples(split):
    assert 0.4 <= card_row(split, "sampled")["thinks"] <= 0.6


@pytest.mark.parametrize("split", ["dev", "test", "unseen words"])
def test_base_thinks_truly(split):
    assert card_row(split, "sampled")["thought is the chain"] >= 0.9


@pytest.mark.parametrize("split", ["dev", "test", "unseen words"])
def test_base_guesses_where_it_does_not_think(split):
    assert 0.4 <= card_row(split, "sampled")["right without"] <= 0.6


def test_card_is_what_its_template_and_figures_give():
    made = read_json(FOLDER / thinking_card.FIGURES_FILE)
    making, gate = thinking_card.Making(**made["making"]), thinking_card.Gate(**made["gate"])
    text = thinking_card.card_text(made["answers"], making, gate)
    assert (FOLDER / thinking_card.CARD_FILE).read_text(encoding="utf-8") == text


@pytest.mark.heavy
def test_two_steps_of_each_phase_make_a_model_with_a_card(tmp_path, monkeypatch):
    monkeypatch.setattr(thinking_card, "SPLITS", (TEST_UNSEEN_WORDS,))
    monkeypatch.setattr(thinking_card, "SAMPLES", 1)
    monkeypatch.setattr(thinking_card, "LONGEST", 4)  # tokens: it has nothing to say yet
    train.make(tmp_path, seed=0, scale=0, threads=1)

    made = read_json(tmp_path / thinking_card.FIGURES_FILE)["making"]
    assert made["steps"] == 2 * len(train.PHASES)
    assert load_tokenizer(str(tmp_path)).convert_tokens_to_ids(train.TAGS[0]) > 0


@pytest.mark.heavy
def test_committed_model_answers_as_its_card_says():
    from grpo_helpers.models import load_model
    from grpo_helpers.splits import DEV

    model, tokenizer = load_model(str(FOLDER)).eval(), load_tokenizer(str(FOLDER))
    answers = thinking_card.answer_table(model, tokenizer, DEV)

    said = card_row("dev", "greedy")
    assert answers["em"].mean() == pytest.approx(said["right"], abs=0.015)
    assert {bool(split_thought(text).thought) for text in answers["text"]} == set(answers["thinks"])
