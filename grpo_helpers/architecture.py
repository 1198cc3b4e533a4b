"""The shape of a Llama-like decoder, read from a config.json, and the bytes of its weights and LoRA."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grpo_helpers.files import InputError, project_root, read_json, resolve_path

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
BF16, FP32 = 2, 4  # bytes per number
NF4 = (
    0.5 + 1 / 64 + 4 / (64 * 256)
)  # bytes per weight: 4 bits, a uint8 scale per 64, a float32 per 64*256
SHAPE_KEYS = (
    "num_hidden_layers",
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "vocab_size",
)


@dataclass(frozen=True)
class Architecture:
    """A Llama-shaped decoder, in the names of its ``config.json``. ``inferred``: no config was read for it."""

    name: str
    num_hidden_layers: int
    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    tie_word_embeddings: bool
    inferred: bool = False

    @property
    def query_width(self) -> int:
        """Width of all query heads together (not always ``hidden_size``)."""
        return self.num_attention_heads * self.head_dim

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """(in, out) of each linear layer of one block."""
        h, i, q = self.hidden_size, self.intermediate_size, self.query_width
        k = self.num_key_value_heads * self.head_dim
        attention = {"q_proj": (h, q), "k_proj": (h, k), "v_proj": (h, k), "o_proj": (q, h)}
        return {**attention, "gate_proj": (h, i), "up_proj": (h, i), "down_proj": (i, h)}

    @property
    def linear_params(self) -> int:
        """Parameters that quantisation shrinks: the linear layers of all blocks."""
        return self.num_hidden_layers * sum(width * out for width, out in self.linears.values())

    @property
    def kept_params(self) -> int:
        """Parameters that stay in bfloat16: embeddings, output head (unless tied) and norms."""
        tables = self.vocab_size * (1 if self.tie_word_embeddings else 2)
        return self.hidden_size * (tables + 2 * self.num_hidden_layers + 1)

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of one token of one sequence in the KV cache: a key and a value in bfloat16, all layers."""
        return self.num_hidden_layers * 2 * self.num_key_value_heads * self.head_dim * BF16


def load_architecture(name_or_config_path: str | Path) -> Architecture:
    """Return the shape of a local ``config.json`` (or its folder), else of ``data/architectures.json`` by name.

    A hub name is matched by its last part; nothing is downloaded. InputError where neither has it, or a key is missing.
    """
    path = resolve_path(name_or_config_path)
    file = path / "config.json" if path.is_dir() else path
    if file.is_file():
        config = read_json(file, "model config")
        config = config if isinstance(config, dict) else {}
        return _architecture(
            path.name if path.is_dir() else path.parent.name, config.get("text_config", config)
        )
    table = read_json(project_root() / "data" / "architectures.json", "architecture table")
    name = str(name_or_config_path).rstrip("/").split("/")[-1]
    if name not in table:
        raise InputError(
            f"model {name_or_config_path!r}: no local config.json; the table knows {', '.join(table)}"
        )
    return _architecture(name, table[name])


def _architecture(name: str, config: dict[str, Any]) -> Architecture:
    missing = [key for key in SHAPE_KEYS if not isinstance(config.get(key), int)]
    if missing:
        raise InputError(
            f"config of {name}: {missing[0]} is missing; memory is predicted for Llama-shaped models only"
        )
    return Architecture(
        name=name,
        **{key: config[key] for key in SHAPE_KEYS},
        num_key_value_heads=config.get("num_key_value_heads") or config["num_attention_heads"],
        head_dim=config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"],
        tie_word_embeddings=bool(config.get("tie_word_embeddings", False)),
        inferred=bool(config.get("inferred", False)),
    )


def weights_bytes(arch: Architecture, quant: str | None = None) -> int:
    """Return the bytes of the frozen weights: bfloat16, 8 bits or 4 bits (nf4, double quantisation)."""
    params, rows = (
        arch.linear_params,
        arch.num_hidden_layers * sum(out for _, out in arch.linears.values()),
    )
    sizes = {
        None: BF16 * params,
        "8bit": params + FP32 * rows,
        "4bit": NF4 * params,
    }  # 8bit: a scale per output row
    if quant not in sizes:
        raise InputError(f"quant must be None, 8bit or 4bit, got {quant!r}")
    return round(sizes[quant] + BF16 * arch.kept_params)


def lora_params(arch: Architecture, rank: int, targets: Sequence[str] = ATTENTION) -> int:
    """Return the trained parameters of LoRA: ``rank * (in + out)`` per target layer, all blocks.

    >>> lora_params(load_architecture("Midm-2.0-Base-Instruct"), rank=64)
    81788928
    """
    unknown = [name for name in targets if name not in arch.linears]
    if unknown or not targets:
        raise InputError(
            f"lora targets {unknown[:1] or 'none'}; known are {', '.join(arch.linears)}"
        )
    return arch.num_hidden_layers * rank * sum(sum(arch.linears[name]) for name in targets)
