"""Notebook 02 writes GRPO's loss by hand: it is TRL's, and it clips as TRL does."""

from __future__ import annotations

import nbformat
import numpy as np
import pytest
import torch
from datasets import Dataset
from helpers import ROOT, TINY_MODEL
from trl import GRPOConfig, GRPOTrainer

from grpo_helpers.models import load_model, load_tokenizer

pytestmark = pytest.mark.heavy  # every test builds TRL's trainer

LENGTHS = (9, 4, 6, 2)  # tokens of the four completions of a group
LONGEST = 12
NOTEBOOK = ROOT / "notebooks/02_reward_exploration.ipynb"


@pytest.fixture(scope="module")
def by_hand():
    """The functions of the notebook's cell, as a reader sees them."""
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    (cell,) = [cell for cell in cells if "by-hand" in cell.metadata.get("tags", [])]

    names = {"np": np}
    exec(cell.source, names)
    return names["token_losses"], names["average"]


def build_trainer(folder, loss_type, beta):
    """Return TRL's trainer of the embedded model; only its loss is asked for."""
    args = GRPOConfig(
        output_dir=str(folder),
        per_device_train_batch_size=4,
        num_generations=4,
        loss_type=loss_type,
        beta=beta,
        max_completion_length=LONGEST,
        use_cpu=True,
        bf16=False,
        report_to="none",
    )
    return GRPOTrainer(
        load_model(TINY_MODEL),
        lambda completions, **_: [0.0] * len(completions),
        args,
        Dataset.from_list([{"prompt": [{"role": "user", "content": "며칠"}]}] * 4),
        processing_class=load_tokenizer(TINY_MODEL),
    )


def group_inputs():
    """Return a group of random token ids as TRL's loss takes them."""
    rng = np.random.default_rng(0)
    prompts = torch.tensor(rng.integers(10, 200, (4, 7)))
    completions = torch.tensor(rng.integers(10, 200, (4, max(LENGTHS))))

    rows = [[1] * length + [0] * (max(LENGTHS) - length) for length in LENGTHS]
    mask = torch.tensor(rows)
    return {
        "prompt_ids": prompts,
        "prompt_mask": torch.ones_like(prompts),
        "completion_ids": completions,
        "completion_mask": mask,
        "num_items_in_batch": mask.sum(),
        "advantages": torch.tensor([1.2, -0.5, -0.9, 0.2]),
    }


def log_probabilities(trainer, inputs):
    """Return the log-probability of every token of the completions, (4, longest length)."""
    ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
    mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
    with torch.no_grad():
        values, *_ = trainer._get_per_token_logps_and_entropies(
            trainer.model, ids, mask, max(LENGTHS)
        )
    return values


def gradient_norm(trainer, inputs):
    trainer.model.zero_grad()
    trainer.compute_loss(trainer.model, inputs).backward()

    norms = [p.grad.norm().item() for p in trainer.model.parameters() if p.grad is not None]
    return sum(norms)


@pytest.mark.parametrize("beta", [0.0, 0.1])
@pytest.mark.parametrize("loss_type", ["grpo", "dapo", "dr_grpo"])
def test_loss_by_hand_is_the_loss_of_trl(by_hand, tmp_path, loss_type, beta):
    token_losses, average = by_hand
    trainer = build_trainer(tmp_path, loss_type, beta)
    inputs = group_inputs()
    now = log_probabilities(trainer, inputs)

    generator = torch.Generator().manual_seed(1)
    old = now + 0.3 * torch.randn(now.shape, generator=generator)
    reference = now + 0.3 * torch.randn(now.shape, generator=generator)
    earlier = {"old_per_token_logps": old, "ref_per_token_logps": reference}
    expected = trainer.compute_loss(trainer.model, inputs | earlier).item()

    tensors = (now, old, reference, inputs["advantages"])
    arrays = [tensor.double().numpy() for tensor in tensors]
    losses = token_losses(*arrays, beta)
    mask = inputs["completion_mask"].numpy()
    assert average(losses, mask, loss_type, LONGEST) == pytest.approx(expected, abs=1e-6)


@pytest.fixture
def trainer(tmp_path):
    return build_trainer(tmp_path, "grpo", beta=0.0)


def test_loss_before_any_update_is_zero(trainer):
    loss = trainer.compute_loss(trainer.model, group_inputs())
    assert loss.item() == pytest.approx(0, abs=1e-6)


def test_gradient_before_any_update_is_not_zero(trainer):
    assert gradient_norm(trainer, group_inputs()) > 1e-3


def moved(trainer, along):
    """Return inputs whose tokens moved since sampling, along their advantage or against it."""
    inputs = group_inputs()
    now = log_probabilities(trainer, inputs)
    direction = torch.sign(inputs["advantages"])[:, None]
    return inputs | {"old_per_token_logps": now - 0.5 * along * direction}


def test_tokens_far_along_their_advantage_have_no_gradient(trainer):
    assert gradient_norm(trainer, moved(trainer, along=1)) == 0


def test_tokens_far_against_their_advantage_have_a_gradient(trainer):
    assert gradient_norm(trainer, moved(trainer, along=-1)) > 1e-3
