"""The probability of a right answer from the logits."""

import numpy as np
import pytest

from grpo_helpers.answers import parse
from grpo_helpers.inference import sample_groups
from grpo_helpers.models import load_model, load_tokenizer
from grpo_helpers.prompts import PromptSource, load_prompted, prompt_texts, suit_template
from tools.experiments import coverage

MODEL = "data/tiny_model"
QUESTIONS = 8
SAMPLES = 32
TEMPERATURE = 0.7


@pytest.fixture(scope="module")
def asked():
    """The tiny model, its tokenizer, some dev questions, and their prompts as texts."""
    items, prompts = load_prompted("data/embedded/dev.json", PromptSource(num_few_shot=1))
    tokenizer = load_tokenizer(MODEL)
    chosen = slice(0, len(items), len(items) // QUESTIONS)
    texts = prompt_texts(suit_template(tokenizer, prompts[chosen]), tokenizer)
    return load_model(MODEL).eval(), tokenizer, items[chosen], texts


@pytest.mark.heavy
def test_probability_is_the_share_of_right_samples(asked):
    model, tokenizer, items, texts = asked
    probabilities = coverage.probability_of_gold(
        model, tokenizer, texts, items, temperature=TEMPERATURE
    )

    sampled = sample_groups(
        model, tokenizer, texts, group_size=SAMPLES, temperature=TEMPERATURE, max_new_tokens=64
    )
    shares = []
    for item, completions in zip(items, sampled, strict=True):
        opening = coverage.opening_of_gold(item)
        shares.append(np.mean([text.startswith(opening) for text in completions]))

    variance = probabilities * (1 - probabilities) / SAMPLES
    standard_error = np.sqrt(variance.sum()) / len(items)
    assert abs(np.mean(shares) - probabilities.mean()) < 4 * standard_error


@pytest.mark.heavy
def test_high_temperature_makes_a_sure_answer_less_probable(asked):
    model, tokenizer, items, texts = asked

    cool, hot = (
        coverage.probability_of_gold(model, tokenizer, texts, items, temperature=temperature)
        for temperature in (0.7, 1.5)
    )

    assert hot.mean() < cool.mean()


@pytest.mark.heavy
def test_probability_does_not_depend_on_the_batch(asked):
    model, tokenizer, items, texts = asked
    together = coverage.probability_of_gold(model, tokenizer, texts, items, temperature=TEMPERATURE)

    alone = coverage.probability_of_gold(
        model, tokenizer, texts[:1], items[:1], temperature=TEMPERATURE
    )

    assert together[0] == pytest.approx(alone[0], rel=1e-3)


def test_opening_of_a_gold_answer_states_its_sentence():
    (item, *_), _ = load_prompted("data/embedded/dev.json", PromptSource(num_few_shot=0))

    stated = parse(coverage.opening_of_gold(item))

    assert stated.sentences[0] in (item.answer or "")
