"""Notebook 02 writes GRPO's loss by hand: it is TRL's, and says of clipping what TRL does."""

import nbformat
import numpy as np
import pytest
import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from grpo_helpers.files import project_root
from grpo_helpers.models import load_model, load_tokenizer

LENGTHS, LONGEST = (9, 4, 6, 2), 12
NOTEBOOK = project_root() / "notebooks/02_reward_exploration.ipynb"


@pytest.fixture(scope="module")
def by_hand():
    """The functions of the notebook's cell, as a reader sees them."""
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    (cell,) = [cell for cell in cells if "by-hand" in cell.metadata.get("tags", [])]
    names = {"np": np}
    exec(cell.source, names)
    return names["token_losses"], names["average"]


def trainer_and_inputs(folder, loss_type, beta):
    args = GRPOConfig(
        output_dir=str(folder), per_device_train_batch_size=4, num_generations=4, loss_type=loss_type, beta=beta,
        max_completion_length=LONGEST, use_cpu=True, bf16=False, report_to="none",
    )  # fmt: skip
    rows = Dataset.from_list([{"prompt": [{"role": "user", "content": "며칠"}]}] * 4)
    trainer = GRPOTrainer(
        load_model("data/tiny_model"), lambda completions, **_: [0.0] * len(completions), args, rows,
        processing_class=load_tokenizer("data/tiny_model"),
    )  # fmt: skip
    dice = np.random.default_rng(0)
    prompt, answer = (torch.tensor(dice.integers(10, 200, (4, n))) for n in (7, max(LENGTHS)))
    mask = torch.tensor([[1] * n + [0] * (max(LENGTHS) - n) for n in LENGTHS])
    inputs = {
        "prompt_ids": prompt,
        "prompt_mask": torch.ones_like(prompt),
        "completion_ids": answer,
    }
    inputs |= {"completion_mask": mask, "num_items_in_batch": mask.sum()}
    inputs["advantages"] = torch.tensor([1.2, -0.5, -0.9, 0.2])
    ids, seen = torch.cat([prompt, answer], 1), torch.cat([inputs["prompt_mask"], mask], 1)
    with torch.no_grad():
        now, *_ = trainer._get_per_token_logps_and_entropies(trainer.model, ids, seen, max(LENGTHS))
    return trainer, inputs, now


@pytest.mark.parametrize("beta", [0.0, 0.1])
@pytest.mark.parametrize("loss_type", ["grpo", "dapo", "dr_grpo"])
def test_the_loss_written_by_hand_is_the_one_of_trl(by_hand, tmp_path, loss_type, beta):
    token_losses, average = by_hand
    trainer, inputs, now = trainer_and_inputs(tmp_path, loss_type, beta)
    dice = torch.Generator().manual_seed(1)
    old, ref = (now + 0.3 * torch.randn(now.shape, generator=dice) for _ in range(2))
    told = trainer.compute_loss(
        trainer.model, inputs | {"old_per_token_logps": old, "ref_per_token_logps": ref}
    )
    arrays = [values.double().numpy() for values in (now, old, ref, inputs["advantages"])]
    ours = average(
        token_losses(*arrays, beta), inputs["completion_mask"].numpy(), loss_type, LONGEST
    )
    assert ours == pytest.approx(told.item(), abs=1e-6)


def gradient_norm(trainer, inputs):
    trainer.model.zero_grad()
    trainer.compute_loss(trainer.model, inputs).backward()
    return sum(p.grad.norm().item() for p in trainer.model.parameters() if p.grad is not None)


def test_before_any_update_the_loss_is_zero_and_its_gradient_is_not(tmp_path):
    trainer, inputs, _ = trainer_and_inputs(tmp_path, "grpo", 0.0)
    assert trainer.compute_loss(trainer.model, inputs).item() == pytest.approx(0, abs=1e-6)
    assert gradient_norm(trainer, inputs) > 1e-3


def test_tokens_that_went_too_far_the_way_of_their_advantage_have_no_gradient(tmp_path):
    trainer, inputs, now = trainer_and_inputs(tmp_path, "grpo", 0.0)
    signs = torch.sign(inputs["advantages"])[:, None]
    assert gradient_norm(trainer, inputs | {"old_per_token_logps": now - 0.5 * signs}) == 0
    assert gradient_norm(trainer, inputs | {"old_per_token_logps": now + 0.5 * signs}) > 1e-3
