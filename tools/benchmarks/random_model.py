"""A model of any shape with random weights: nothing is downloaded.

In: a shape and a quantisation. Out: a Llama on the device, filled there module by module, so that a
large 4-bit model never exists in bfloat16, and none of it in the main memory. It carries the marks
of a model that transformers has quantised: without them ``Trainer`` refuses to train it.
"""

from __future__ import annotations

from typing import Any

import torch

from grpo_helpers.architecture import Architecture
from grpo_helpers.library_fixes import keep_gradients_on_cpu
from grpo_helpers.models import quantization_config
from tools.benchmarks.memory_trace import llama_config

SIZE = 0.02  # standard deviation of the weights


def random_model(
    arch: Architecture, quant: str | None, device: str, dtype: str = "bfloat16"
) -> Any:
    """Return a Llama with random weights.

    Args:
        arch: The shape.
        quant: ``4bit`` for linear layers in nf4, or None.
        device: ``cpu`` or ``cuda``.
        dtype: Of what is not quantised, and of what a quantised layer computes in.
    """
    from transformers import LlamaForCausalLM

    config = llama_config(
        arch, pad_token_id=0, eos_token_id=2, bos_token_id=None, max_position_embeddings=32_768
    )
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        with torch.device("meta"):
            model: Any = LlamaForCausalLM(config)
        if quant == "4bit":
            _quantise(model, device)
        for module in model.modules():
            _fill(module, device)
        model.tie_weights()
    finally:
        torch.set_default_dtype(before)
    return model


def _quantise(model: Any, device: str) -> None:
    """Replace every linear layer but the head by a random 4-bit layer."""
    from transformers.quantizers import AutoHfQuantizer

    for name, child in list(model.named_modules()):
        if isinstance(child, torch.nn.Linear) and name != "lm_head":
            parent, _, own_name = name.rpartition(".")
            layer = _nf4_layer(child.in_features, child.out_features, device)
            setattr(model.get_submodule(parent), own_name, layer)

    # What a quantised model from transformers carries, and what the course then does to it.
    config = quantization_config("4bit")
    model.config.quantization_config = config
    model.hf_quantizer = AutoHfQuantizer.from_config(config)
    model.quantization_method = config.quant_method
    model.is_loaded_in_4bit = True
    model.is_quantized = True
    keep_gradients_on_cpu(model)


def _nf4_layer(width: int, out: int, device: str) -> Any:
    """Return a random bitsandbytes layer in nf4 with double quantisation."""
    import bitsandbytes as bnb

    layer = bnb.nn.Linear4bit(
        width,
        out,
        bias=False,
        compute_dtype=torch.get_default_dtype(),
        quant_type="nf4",
        device="meta",
    )
    weight = torch.randn(out, width, device=device) * SIZE
    layer.weight = bnb.nn.Params4bit(
        weight, requires_grad=False, quant_type="nf4", compress_statistics=True
    )
    return layer.to(device)


def _fill(module: Any, device: str) -> None:
    """Put random numbers where a module has parameters or buffers without data."""
    for name, value in list(module.named_parameters(recurse=False)):
        if value.is_meta:
            data = torch.randn(value.shape, dtype=value.dtype, device=device) * SIZE
            is_norm = value.dim() == 1
            filled = torch.nn.Parameter(data + float(is_norm), requires_grad=False)
            setattr(module, name, filled)

    if hasattr(module, "inv_freq"):  # the rotary embedding computes its buffers itself
        fresh = type(module)(module.config).to(device)
        module.inv_freq = fresh.inv_freq
        module.original_inv_freq = fresh.inv_freq.clone()
