"""Notebook 02 writes advantages and losses by hand: they are TRL's, and they clip as TRL does."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from datasets import Dataset
from exercises import BY_HAND, loss_by_hand
from helpers import TINY_MODEL
from trl import GRPOConfig, GRPOTrainer

from grpo_helpers.models import load_model, load_tokenizer

pytestmark = pytest.mark.heavy  # every test builds TRL's trainer

LENGTHS = (9, 4, 6, 2)  # tokens of the four completions of a group
LONGEST = 12
REWARDS = (1.0, 0.4, 0.5, 0.0)
VARIANTS = {  # options of GRPOConfig, and the method of ``token_losses`` that goes with them
    "grpo": ({"loss_type": "grpo"}, "grpo"),
    "dapo": ({"loss_type": "dapo"}, "grpo"),
    "dr_grpo": ({"loss_type": "dr_grpo"}, "grpo"),
    "gspo": ({"loss_type": "grpo", "importance_sampling_level": "sequence"}, "gspo"),
    "cispo": ({"loss_type": "cispo", "epsilon_high": 1.2}, "cispo"),
}


@pytest.fixture(scope="module")
def by_hand():
    """The functions as the notebook defines them, without the cells around them."""
    names = loss_by_hand()
    assert set(BY_HAND) <= names.keys()
    return names


@pytest.fixture(scope="module")
def model():
    return load_model(TINY_MODEL)


@pytest.fixture(scope="module")
def token_ids():
    """Random tokens: the prompt, and four completions of different lengths."""
    rng = np.random.default_rng(0)
    prompt = rng.integers(10, 200, 7).tolist()
    return prompt, [rng.integers(10, 200, length).tolist() for length in LENGTHS]


@pytest.fixture
def build(tmp_path, model, token_ids):
    """Return a function that builds TRL's trainer, which is handed our tokens and rewards."""
    prompt, completions = token_ids
    row = {"prompt": [{"role": "user", "content": "며칠"}]}

    def build_trainer(**options):
        args = GRPOConfig(
            output_dir=str(tmp_path),
            per_device_train_batch_size=4,
            num_generations=4,
            max_completion_length=LONGEST,
            use_cpu=True,
            bf16=False,
            report_to="none",
            **options,
        )
        trainer = GRPOTrainer(
            copy.deepcopy(model),
            lambda completions, **_: list(REWARDS),
            args,
            Dataset.from_list([row] * 4),
            processing_class=load_tokenizer(TINY_MODEL),
            rollout_func=lambda prompts, trainer: {
                "prompt_ids": [prompt] * 4,
                "completion_ids": completions,
                "logprobs": None,
            },
        )
        return trainer, trainer._generate_and_score_completions([row] * 4)

    return build_trainer


def log_probabilities(trainer, inputs):
    """Return the log-probability of every token of the completions, (4, longest length)."""
    ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
    mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
    with torch.no_grad():
        values, *_ = trainer._get_per_token_logps_and_entropies(
            trainer.model, ids, mask, max(LENGTHS)
        )
    return values


def moved_at_random(values, seed):
    """Return log-probabilities that differ from ``values`` by about 0.3."""
    generator = torch.Generator().manual_seed(seed)
    return values + 0.3 * torch.randn(values.shape, generator=generator)


def gradient_norm(trainer, inputs):
    trainer.model.zero_grad()
    trainer.compute_loss(trainer.model, inputs).backward()

    norms = [p.grad.norm().item() for p in trainer.model.parameters() if p.grad is not None]
    return sum(norms)


# -- the same numbers as TRL ---------------------------------------------------------------------


@pytest.mark.parametrize("scale", ["group", "none"])
def test_advantages_by_hand_are_those_of_trl(by_hand, build, scale):
    _, inputs = build(scale_rewards=scale)
    ours = by_hand["advantages_of"](np.array(REWARDS), scale)

    assert inputs["advantages"].numpy() == pytest.approx(ours, abs=1e-6)


@pytest.mark.parametrize("beta", [0.0, 0.1])
@pytest.mark.parametrize("variant", VARIANTS)
def test_loss_by_hand_is_the_loss_of_trl(by_hand, build, variant, beta):
    options, method = VARIANTS[variant]
    trainer, inputs = build(beta=beta, **options)
    now = log_probabilities(trainer, inputs)
    old, reference = moved_at_random(now, seed=1), moved_at_random(now, seed=2)
    earlier = {"old_per_token_logps": old, "ref_per_token_logps": reference}
    expected = trainer.compute_loss(trainer.model, inputs | earlier).item()

    new, old, reference = now.double(), old.double(), reference.double()
    mask = inputs["completion_mask"]
    A = inputs["advantages"].double()
    losses = by_hand["token_losses"](new, old, A, mask, method=method)
    if method == "gspo":  # the KL term, too, is then weighted by the ratio of the whole answer
        log_ratio = ((new - old) * mask).sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True)
        old = new - log_ratio
    losses = losses + beta * by_hand["kl_terms"](new, old, reference)

    ours = by_hand["average"](losses, mask, options["loss_type"], LONGEST).item()
    assert ours == pytest.approx(expected, abs=1e-6)


def test_kl_terms_average_to_the_kl_divergence(by_hand):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 50, generator=generator, dtype=torch.double)
    new, reference = logits.log_softmax(dim=-1)
    terms = by_hand["kl_terms"](new, new, reference)

    assert (terms >= 0).all()
    exact = (new.exp() * (new - reference)).sum().item()
    assert (new.exp() * terms).sum().item() == pytest.approx(exact, abs=1e-9)


def test_cispo_without_a_cap_of_its_own_shrinks_every_push(build):
    norms = {}
    for cap in (None, 1.2):
        trainer, inputs = build(loss_type="cispo", epsilon_high=cap)
        norms[cap] = gradient_norm(trainer, inputs)

    assert norms[None] == pytest.approx(0.2 * norms[1.2], rel=1e-3)


# -- before any update ---------------------------------------------------------------------------


def test_loss_before_any_update_is_zero(build):
    trainer, inputs = build(loss_type="grpo")
    loss = trainer.compute_loss(trainer.model, inputs)

    assert loss.item() == pytest.approx(0, abs=1e-6)


def test_gradient_before_any_update_is_not_zero(build):
    trainer, inputs = build(loss_type="grpo")

    assert gradient_norm(trainer, inputs) > 1e-3


# -- clipping ------------------------------------------------------------------------------------


def moved(trainer, inputs, along):
    """Return inputs whose tokens moved since sampling, along their advantage or against it."""
    now = log_probabilities(trainer, inputs)
    direction = torch.sign(inputs["advantages"])[:, None]
    return inputs | {"old_per_token_logps": now - 0.5 * along * direction}


SEQUENCE = {"importance_sampling_level": "sequence"}
CISPO = {"loss_type": "cispo", "epsilon_high": 1.2}


@pytest.mark.parametrize("options", [{"loss_type": "grpo"}, SEQUENCE])
def test_tokens_far_along_their_advantage_have_no_gradient(build, options):
    trainer, inputs = build(**options)

    assert gradient_norm(trainer, moved(trainer, inputs, along=1)) == 0


@pytest.mark.parametrize("options", [{"loss_type": "grpo"}, SEQUENCE])
def test_tokens_far_against_their_advantage_have_a_gradient(build, options):
    trainer, inputs = build(**options)

    assert gradient_norm(trainer, moved(trainer, inputs, along=-1)) > 1e-3


def test_cispo_keeps_the_gradient_of_tokens_far_along(build):
    trainer, inputs = build(**CISPO)

    assert gradient_norm(trainer, moved(trainer, inputs, along=1)) > 1e-3
