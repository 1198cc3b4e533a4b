"""The shape of a Llama-like decoder, and the bytes of its weights and of LoRA.

In: a local ``config.json``, or a name of ``data/architectures.json``. Out: an
:class:`Architecture`, and bytes. Nothing is downloaded and no weight is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grpo_helpers.files import InputError, project_root, read_json, resolve_path

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
ALL_LINEAR = "all-linear"  # PEFT's word for every linear layer but the output head
# Bytes per number. NF4: 4 bits, a uint8 scale per 64 weights, a float32 per 64*256 of them.
BF16 = 2
FP32 = 4
NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)
DTYPE_BYTES = {"bfloat16": BF16, "float16": BF16, "float32": FP32}
SHAPE_KEYS = (
    "num_hidden_layers",
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "vocab_size",
)


@dataclass(frozen=True)
class Architecture:
    """A Llama-shaped decoder, in the names of its ``config.json``.

    Attributes:
        name: What the model is called here.
        num_hidden_layers: Blocks.
        hidden_size: Width of the residual stream.
        intermediate_size: Width inside the MLP.
        num_attention_heads: Query heads.
        num_key_value_heads: Key and value heads, fewer where queries share them.
        head_dim: Width of one head.
        vocab_size: Tokens.
        tie_word_embeddings: Whether the output head is the embedding table.
        inferred: Whether the shape is our inference, since no config was read for it.
    """

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
    def key_value_width(self) -> int:
        """Width of all key heads together, and of all value heads."""
        return self.num_key_value_heads * self.head_dim

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """(in, out) of each linear layer of one block."""
        return {
            "q_proj": (self.hidden_size, self.query_width),
            "k_proj": (self.hidden_size, self.key_value_width),
            "v_proj": (self.hidden_size, self.key_value_width),
            "o_proj": (self.query_width, self.hidden_size),
            "gate_proj": (self.hidden_size, self.intermediate_size),
            "up_proj": (self.hidden_size, self.intermediate_size),
            "down_proj": (self.intermediate_size, self.hidden_size),
        }

    @property
    def largest_linear(self) -> int:
        """Parameters of the largest linear layer."""
        return max(width * out for width, out in self.linears.values())

    @property
    def linear_params(self) -> int:
        """Parameters that quantisation shrinks: the linear layers of all blocks."""
        per_block = sum(width * out for width, out in self.linears.values())
        return self.num_hidden_layers * per_block

    @property
    def unquantised_params(self) -> int:
        """Parameters that stay in bfloat16: embeddings, output head (unless tied) and norms."""
        tables = 1 if self.tie_word_embeddings else 2
        norms = 2 * self.num_hidden_layers + 1
        return self.hidden_size * (self.vocab_size * tables + norms)

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of one token in the KV cache: a key and a value in bfloat16, all layers."""
        return self.num_hidden_layers * 2 * self.key_value_width * BF16


def load_architecture(name_or_config_path: str | Path) -> Architecture:
    """Return the shape of a model.

    Args:
        name_or_config_path: A local ``config.json``, its folder, or a name of
            ``data/architectures.json``; of a hub name only the last part counts.

    Raises:
        InputError: There is no such config and no such name, or the config lacks a key.

    >>> load_architecture("Qwen/Qwen3-0.6B").num_hidden_layers
    28
    """
    path = resolve_path(name_or_config_path)
    file = path / "config.json" if path.is_dir() else path
    if file.is_file():
        return _read_config(file)

    table = _known_models()
    name = _short_name(name_or_config_path)
    if name not in table:
        raise InputError(
            f"model {name_or_config_path!r}: no local config.json; "
            f"the table knows {', '.join(table)}"
        )
    return architecture_of(name, table[name])


def template_characters(model_name: str | Path) -> int:
    """Return the characters of the text that a model's chat template adds to every prompt.

    Args:
        model_name: A name of ``data/architectures.json``, as in :func:`load_architecture`.

    Returns:
        What was counted in a public copy of the template; 0 where there is none, or nobody has
        looked. A run itself counts the tokens of its rendered prompts.
    """
    entry = _known_models().get(_short_name(model_name), {})
    return entry.get("template_characters", 0)


def _known_models() -> dict[str, Any]:
    return read_json(project_root() / "data" / "architectures.json", "architecture table")


def _short_name(name: str | Path) -> str:
    """Return the last part of a hub name or path."""
    return str(name).rstrip("/").split("/")[-1]


def _read_config(file: Path) -> Architecture:
    config = read_json(file, "model config")
    if not isinstance(config, dict):
        config = {}
    # A model of text and images keeps the shape of its decoder one level down.
    return architecture_of(file.parent.name, config.get("text_config", config))


def architecture_of(name: str, config: Mapping[str, Any]) -> Architecture:
    """Return the shape that a configuration describes.

    Args:
        name: What to call the model.
        config: The entries of a decoder's ``config.json``.

    Raises:
        InputError: An entry that the shape needs is missing.
    """
    for key in SHAPE_KEYS:
        if not isinstance(config.get(key), int):
            raise InputError(
                f"config of {name}: {key} is missing; "
                "memory is predicted for Llama-shaped models only"
            )

    heads = config["num_attention_heads"]
    return Architecture(
        name=name,
        num_hidden_layers=config["num_hidden_layers"],
        hidden_size=config["hidden_size"],
        intermediate_size=config["intermediate_size"],
        num_attention_heads=heads,
        num_key_value_heads=config.get("num_key_value_heads") or heads,
        head_dim=config.get("head_dim") or config["hidden_size"] // heads,
        vocab_size=config["vocab_size"],
        tie_word_embeddings=bool(config.get("tie_word_embeddings", False)),
        inferred=bool(config.get("inferred", False)),
    )


def weights_bytes(
    arch: Architecture, quant: str | None = None, bytes_per_number: int = BF16
) -> int:
    """Return the bytes of the frozen weights.

    Args:
        arch: The model's shape.
        quant: None, ``"8bit"``, or ``"4bit"`` (nf4 with double quantisation).
        bytes_per_number: Of weights that are not quantised: in bfloat16 or in float32.

    Raises:
        InputError: An unknown quantisation.
    """
    if quant is None:
        linear: float = bytes_per_number * arch.linear_params
    elif quant == "8bit":
        # One byte a weight, and a float32 scale for each row of outputs.
        rows_per_block = sum(out for _, out in arch.linears.values())
        linear = arch.linear_params + FP32 * arch.num_hidden_layers * rows_per_block
    elif quant == "4bit":
        linear = NF4 * arch.linear_params
    else:
        raise InputError(f"quant must be None, 8bit or 4bit, got {quant!r}")

    return round(linear + bytes_per_number * arch.unquantised_params)


def lora_params(arch: Architecture, rank: int, targets: Sequence[str] = ATTENTION) -> int:
    """Return the trained parameters of LoRA: ``rank * (in + out)`` per target layer, all blocks.

    Args:
        arch: The model's shape.
        rank: Of the two trained matrices.
        targets: Names of linear layers, as in :attr:`Architecture.linears`, or
            :data:`ALL_LINEAR` alone.

    Raises:
        InputError: There is no target, or an unknown one.

    >>> lora_params(load_architecture("Midm-2.0-Base-Instruct"), rank=64)
    81788928
    """
    known = arch.linears
    if list(targets) == [ALL_LINEAR]:
        targets = list(known)

    unknown = [name for name in targets if name not in known]
    if unknown or not targets:
        raise InputError(f"lora targets {unknown[:1] or 'none'}; known are {', '.join(known)}")

    per_rank = sum(sum(known[name]) for name in targets)
    return arch.num_hidden_layers * rank * per_rank
