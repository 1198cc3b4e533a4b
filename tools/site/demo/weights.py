"""The weights of the demo: the base model in 16 bits, and each checkpoint as its adapter.

In: a model folder, and the adapter folders of a run. Out: bytes, and where in them each tensor
lies. The base model is kept as ``model.safetensors`` has it (float16); the page makes float32 of
it. A checkpoint is its LoRA matrices in float32, as they were trained: the page merges them,
``W + scale * B @ A``, as PEFT would. Merged here, each checkpoint would weigh several times as
much. Weights of 8 bits are not used, because they change answers (``int8.py`` counts them).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from grpo_helpers.files import InputError, read_json, show_path
from grpo_helpers.model_checks import ADAPTER_CONFIG, ADAPTER_WEIGHTS, WEIGHTS
from tools.site.demo.graph import Placed

_PREFIX = "base_model.model."
# What changes how an adapter is added to a weight, with the value that leaves the addition plain.
_PLAIN = {
    "alpha_pattern": {},
    "bias": "none",
    "fan_in_fan_out": False,
    "modules_to_save": None,
    "rank_pattern": {},
    "use_dora": False,
    "use_rslora": False,
}


@dataclass(frozen=True)
class BaseWeights:
    """The base model.

    Attributes:
        content: All its tensors, one after the other, as little-endian float16.
        tensors: Where each lies.
    """

    content: bytes
    tensors: list[Placed]


@dataclass(frozen=True)
class LoraPair:
    """The two matrices of one adapted layer.

    Attributes:
        weight: The name of the layer's weight in the base model.
        a: Where ``lora_A`` lies, (rank, in).
        b: Where ``lora_B`` lies, (out, rank).
    """

    weight: str
    a: Placed
    b: Placed


@dataclass(frozen=True)
class AdapterWeights:
    """A checkpoint.

    Attributes:
        content: Its matrices, one after the other, as little-endian float32.
        scale: What ``B @ A`` is multiplied with.
        pairs: The matrices of each adapted layer.
    """

    content: bytes
    scale: float
    pairs: list[LoraPair]


def read_base(folder: Path) -> BaseWeights:
    """Return the weights of a model folder."""
    from safetensors.numpy import load_file

    arrays = load_file(folder / WEIGHTS)
    content, tensors = _packed(arrays, np.dtype("<f2"))
    return BaseWeights(content, tensors)


def read_adapter(folder: Path) -> AdapterWeights:
    """Return the weights of an adapter folder.

    Raises:
        InputError: The adapter is not plain LoRA.
    """
    from safetensors.numpy import load_file

    config = read_json(folder / ADAPTER_CONFIG, "adapter configuration")
    for key, plain in _PLAIN.items():
        if config.get(key, plain) not in (plain, None):
            raise InputError(f"{show_path(folder)}: the demo knows plain LoRA only, not {key}")

    arrays = load_file(folder / ADAPTER_WEIGHTS)
    return packed_adapter(arrays, scale=config["lora_alpha"] / config["r"])


def packed_adapter(arrays: Mapping[str, np.ndarray], scale: float) -> AdapterWeights:
    """Return a checkpoint made of LoRA matrices.

    Args:
        arrays: The matrices by the names that PEFT gives them.
        scale: What ``B @ A`` is multiplied with.
    """
    content, tensors = _packed(arrays, np.dtype("<f4"))
    return AdapterWeights(content, scale, _pairs(tensors))


def _packed(arrays: Mapping[str, np.ndarray], dtype: np.dtype[Any]) -> tuple[bytes, list[Placed]]:
    """Return arrays one after the other in the order of their names, and where each lies."""
    tensors: list[Placed] = []
    pieces = []
    start = 0
    for name in sorted(arrays):
        placed = Placed(name, arrays[name].shape, start)
        tensors.append(placed)
        pieces.append(np.ascontiguousarray(arrays[name], dtype).tobytes())
        start += placed.size
    return b"".join(pieces), tensors


def _pairs(tensors: list[Placed]) -> list[LoraPair]:
    by_name = {tensor.name: tensor for tensor in tensors}
    pairs = []
    for name, tensor in by_name.items():
        layer, part, _ = name.removeprefix(_PREFIX).partition(".lora_A.weight")
        if part:
            second = by_name[name.replace(".lora_A.", ".lora_B.")]
            pairs.append(LoraPair(f"{layer}.weight", a=tensor, b=second))
    return pairs


def merged(base: BaseWeights, adapter: AdapterWeights | None) -> dict[str, np.ndarray]:
    """Return the weights of a checkpoint in float32, by name, as the page merges them.

    Args:
        base: The base model.
        adapter: The checkpoint; None for the base model itself.
    """
    numbers = np.frombuffer(base.content, "<f2").astype(np.float32)
    weights = {tensor.name: _taken(numbers, tensor).copy() for tensor in base.tensors}
    if adapter is None:
        return weights

    factors = np.frombuffer(adapter.content, "<f4")
    for pair in adapter.pairs:
        change = _taken(factors, pair.b) @ _taken(factors, pair.a)
        weights[pair.weight] += np.float32(adapter.scale) * change
    return weights


def _taken(numbers: np.ndarray, tensor: Placed) -> np.ndarray:
    return numbers[tensor.start : tensor.start + tensor.size].reshape(tensor.shape)
