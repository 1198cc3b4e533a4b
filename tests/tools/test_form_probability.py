"""P(right) against P(wrong), compared with one forward pass for each sequence."""

import random

import numpy as np
import pytest
import torch

from tools.experiments.form_probability import measure, untouched_randomness
from tools.experiments.probes import EncodedProbe

PAD = 0
VOCABULARY = 40


@pytest.fixture(scope="module")
def model():
    """A tiny model with random weights, large enough that tokens differ in probability."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        initializer_range=0.3,
        pad_token_id=PAD,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def probes():
    """Probes whose heads, middles and forms have many lengths; some of them share a head."""
    rng = random.Random(0)

    def tokens(length):
        return tuple(rng.randrange(1, VOCABULARY) for _ in range(length))

    heads = [tokens(3), tokens(9), tokens(6)]
    made = []
    for number, (of_right, of_wrong) in enumerate([(1, 1), (2, 1), (1, 3), (2, 2)] * 20):
        head = heads[number % len(heads)]
        made.append(EncodedProbe(head, tokens(1 + number % 7), tokens(of_right), tokens(of_wrong)))
    return made


@pytest.fixture(scope="module")
def measured(model, probes):
    return measure(model, probes, PAD)


@torch.no_grad()
def probability(model, before, form):
    """Return P(form | before), from one pass over both, without a cache."""
    ids = torch.tensor([[*before, *form]])
    log_probs = model(input_ids=ids).logits[0].log_softmax(-1)

    product = 1.0
    for place, token in enumerate(form, len(before)):
        product *= float(log_probs[place - 1, token].exp())
    return product


def by_hand(model, probe):
    """Return P(right) and P(wrong) of a probe."""
    before = probe.head + probe.middle
    return probability(model, before, probe.right), probability(model, before, probe.wrong)


def test_share_is_the_ratio_of_two_sequence_probabilities(model, probes, measured):
    for probe, share in zip(probes, measured.shares, strict=True):
        right, wrong = by_hand(model, probe)
        assert share == pytest.approx(right / (right + wrong), abs=1e-5), probe


def test_mass_is_the_sum_of_two_sequence_probabilities(model, probes, measured):
    for probe, mass in zip(probes, measured.masses, strict=True):
        assert mass == pytest.approx(sum(by_hand(model, probe)), abs=1e-5), probe


def test_shares_of_made_up_models_are_no_constant(measured):
    assert measured.shares.std() > 0.1


def test_measuring_leaves_the_mode_of_the_model(model, probes):
    measure(model, probes[:2], PAD)

    assert not model.training


def test_measuring_leaves_no_gradient(model, probes):
    measure(model, probes[:2], PAD)

    assert all(parameter.grad is None for parameter in model.parameters())


def draws():
    """Return a number from each generator."""
    return torch.rand(1).item(), np.random.rand(), random.random()


def test_random_numbers_are_those_without_the_measuring():
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    expected = draws()

    torch.set_rng_state(states[0])
    np.random.set_state(states[1])
    random.setstate(states[2])
    with untouched_randomness():
        draws()

    assert draws() == expected


def test_random_numbers_are_put_back_after_an_error():
    before = random.getstate()
    with pytest.raises(RuntimeError), untouched_randomness():
        draws()
        raise RuntimeError

    assert random.getstate() == before
