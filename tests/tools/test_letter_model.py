"""The committed model that sees letters, and its card."""

from __future__ import annotations

import pytest

from grpo_helpers.files import project_root, read_json
from grpo_helpers.models import load_model, load_tokenizer
from tools.tiny_model.card import OF_TWO, Figures, Making, card_text, measure
from tools.tiny_model.model import corpus_characters

FOLDER = project_root() / "data" / "letter_model"
FIGURES = read_json(FOLDER / "figures.json")
MAKING = Making(**FIGURES["making"])
SPLITS = {row["split"]: row for row in FIGURES["splits"]}
OF_KNOWN_NORMS = ("dev", "test", "unseen words", "nonce words")


@pytest.fixture(scope="module")
def letter_model():
    """The model and its tokenizer."""
    return load_model("data/letter_model"), load_tokenizer("data/letter_model")


def test_weights_are_small():
    assert (FOLDER / "model.safetensors").stat().st_size <= 10e6


def test_card_is_what_the_tool_writes():
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert card_text(Figures(FIGURES["splits"], FIGURES["families"]), MAKING) == card


@pytest.mark.heavy
def test_card_counts_parameters_and_tokens(letter_model):
    model, tokenizer = letter_model
    assert model.num_parameters() == MAKING.parameters
    assert len(tokenizer) == MAKING.vocabulary


@pytest.mark.heavy
def test_no_character_of_the_corpus_is_unknown(letter_model):
    _, tokenizer = letter_model
    text = "".join(sorted(corpus_characters()))
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.unk_token_id not in tokens


@pytest.mark.parametrize("split", OF_KNOWN_NORMS)
def test_sentences_are_copied_almost_perfectly(split):
    assert SPLITS[split]["copied outside the chosen word"] >= 0.97


@pytest.mark.parametrize("split", OF_KNOWN_NORMS)
def test_model_does_not_know_which_form_is_right(split):
    assert 0.45 <= SPLITS[split][OF_TWO] <= 0.65


@pytest.mark.slow
def test_figures_are_measured_again(letter_model):
    assert measure(*letter_model) == Figures(FIGURES["splits"], FIGURES["families"])
