"""The adapter is merged for vLLM and taken out again: the frozen weights stay as they are.

TRL's own code sends the weights; only the engine that receives them is a stand-in, for vLLM needs a
GPU.
"""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
import transformers
from helpers import smoke_settings
from peft import LoraConfig, get_peft_model
from trl.generation.vllm_generation import VLLMGeneration

from grpo_helpers.library_fixes import apply_to, keep_base_weights
from grpo_helpers.training import build_trainer, grpo_config, prepare

SYNCS = 300  # one for each optimizer step
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj"]


class Engine:
    """Takes what vLLM would take: the name and the values of one weight after another."""

    def __init__(self) -> None:
        self.weights: dict[str, torch.Tensor] = {}

    def load_weights(self, weights):
        """Copy the weights, as vLLM does."""
        for name, values in weights:
            self.weights[name] = values.clone()


def policy() -> torch.nn.Module:
    """Return a small Llama in bfloat16 with an adapter in float32, as a run without use_quant."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=32,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
    )
    base = transformers.LlamaForCausalLM(config).to(torch.bfloat16)
    return get_peft_model(base, LoraConfig(r=4, target_modules=TARGETS, task_type="CAUSAL_LM"))


def sender(model, engine: Engine) -> VLLMGeneration:
    """Return TRL's sender of weights with a stand-in for the engine in the same process."""
    worker = SimpleNamespace(model_runner=SimpleNamespace(model=engine))
    executor = SimpleNamespace(driver_worker=worker)
    llm = SimpleNamespace(
        llm_engine=SimpleNamespace(model_executor=executor), reset_prefix_cache=lambda: None
    )

    generation = VLLMGeneration.__new__(VLLMGeneration)  # its constructor starts vLLM
    generation.model = model
    generation.mode = "colocate"
    generation.enable_sleep_mode = False
    generation.accelerator = None
    generation.llm = llm
    generation._dist = SimpleNamespace(is_fsdp=False, gather_params=lambda _: nullcontext())
    return generation


def frozen(model) -> dict[str, torch.Tensor]:
    """Return a copy of every frozen weight."""
    named = model.named_parameters()
    return {name: value.detach().clone() for name, value in named if not value.requires_grad}


def step(model) -> None:
    """Move the adapter, as an optimizer step does."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_" in name:
                value += 0.01 * torch.randn_like(value)


def sync_often(model, engine: Engine) -> None:
    """Send the weights after each of many steps."""
    generation = sender(model, engine)
    for _ in range(SYNCS):
        step(model)
        generation.sync_weights()


@pytest.fixture(scope="module")
def drifted():
    """The frozen weights before and after many syncs as TRL does them."""
    model = policy()
    before = frozen(model)
    sync_often(model, Engine())
    return before, frozen(model)


@pytest.fixture(scope="module")
def kept():
    """The same with the patch, and what the engine got at the last sync."""
    model = policy()
    before = frozen(model)
    keep_base_weights(model)
    engine = Engine()
    sync_often(model, engine)
    return before, model, engine


def test_base_drifts_without_the_patch(drifted):
    before, after = drifted
    name = "base_model.model.model.layers.0.self_attn.q_proj.base_layer.weight"

    drift = (after[name] - before[name]).abs().mean() / before[name].abs().mean()
    assert drift > 0.01


def test_base_stays_bit_for_bit_with_the_patch(kept):
    before, model, _ = kept
    after = frozen(model)

    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert not changed


def test_trainer_that_samples_with_vllm_gets_the_patch(tmp_path):
    settings = smoke_settings(tmp_path, max_steps=1)
    trainer = build_trainer(settings, prepare(settings), grpo_config(settings)).trainer
    trainer.use_vllm = True
    trainer.vllm_generation = SimpleNamespace(model=trainer.model)
    apply_to(trainer)

    before = frozen(trainer.model)
    for _ in range(2):
        step(trainer.model)
        trainer.model.merge_adapter()
        trainer.model.unmerge_adapter()

    after = frozen(trainer.model)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_adapter_is_taken_out_again(kept):
    _, model, _ = kept

    assert not any(getattr(module, "merged", False) for module in model.modules())


def test_engine_gets_the_merged_weights(kept):
    _, model, engine = kept
    layer = model.base_model.model.model.layers[1].self_attn.v_proj

    merged = layer.get_base_layer().weight + layer.get_delta_weight("default")
    sent = engine.weights["model.layers.1.self_attn.v_proj.weight"]
    assert torch.equal(sent, merged.to(torch.bfloat16))


def test_engine_gets_no_weights_of_the_adapter(kept):
    _, _, engine = kept

    assert not [name for name in engine.weights if "lora_" in name]


def test_merging_twice_keeps_the_weights_of_the_first_time():
    model = policy()
    before = frozen(model)
    keep_base_weights(model)
    step(model)

    with pytest.warns(UserWarning, match="already merged"):
        model.merge_adapter()
        model.merge_adapter()
    model.unmerge_adapter()

    after = frozen(model)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_unmerging_without_a_merge_changes_nothing():
    model = policy()
    before = frozen(model)
    keep_base_weights(model)

    with pytest.warns(UserWarning, match="Already unmerged"):
        model.unmerge_adapter()

    after = frozen(model)
    assert all(torch.equal(before[name], after[name]) for name in before)
