"""The forward pass of a Llama as an ONNX graph; its weights lie in a file of their own.

In: a model's ``config.json`` and the tensors of that file. Out: an ONNX model of a few kilobytes.
It reads tokens after those that it has read before, so that writing an answer costs one token a
step and not the whole prompt again:

    tokens (new,) int64, past (blocks, 2, heads, before, head_dim)
        -> logits (new, vocabulary), present (blocks, 2, heads, before + new, head_dim)

``past`` holds keys and values; at the beginning, ``before`` is 0. All numbers are float32. Only
what a Llama with as many key as query heads and tied embeddings needs is here: the graph is built
node by node, because an exported one drags along the masks and caches of transformers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from grpo_helpers.files import InputError

OPSET = 18
IR_VERSION = 10  # what onnxruntime has read since 2024
WEIGHTS_FILE = "weights.bin"  # what the graph calls the file of its weights
EMBEDDING = "model.embed_tokens.weight"
LAST_NORM = "model.norm.weight"
FLOAT_BYTES = 4


@dataclass(frozen=True)
class Placed:
    """A tensor of the file of weights.

    Attributes:
        name: Its name in ``model.safetensors``.
        shape: Its shape.
        start: How many numbers of the file come before it.
    """

    name: str
    shape: tuple[int, ...]
    start: int

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)


class GraphBuilder:
    """Collects nodes and constants; every node has one output, which is named after it."""

    def __init__(self) -> None:
        """Begin with an empty graph."""
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        from onnx import helper

        output = name or f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def split(self, value: str, parts: int) -> list[str]:
        """Return the names of equal parts of a value along its last axis."""
        from onnx import helper

        outputs = [f"Split_{len(self.nodes)}_{part}" for part in range(parts)]
        node = helper.make_node("Split", [value], outputs, axis=-1, num_outputs=parts)
        self.nodes.append(node)
        return outputs

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """Add a constant and return its name."""
        from onnx import numpy_helper

        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def shape(self, *sizes: int) -> str:
        """Add the constant that a Reshape takes, and return its name."""
        return self.constant(sizes, np.int64)


def check_shape(config: Mapping[str, Any]) -> None:
    """Make sure that the graph computes what a model does.

    Args:
        config: The model's ``config.json``.

    Raises:
        InputError: The model has something that the graph has not.
    """
    needed = {
        "model_type": "llama",
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "num_key_value_heads": config["num_attention_heads"],
    }
    for key, value in needed.items():
        if config[key] != value:
            raise InputError(f"the demo computes models with {key} {value}, not {config[key]}")


def build_graph(config: Mapping[str, Any], tensors: Sequence[Placed]) -> bytes:
    """Return the graph of a model as the bytes of an ONNX file.

    Args:
        config: The model's ``config.json``.
        tensors: The file of its weights.
    """
    check_shape(config)
    return _Llama(config).model(tensors)


class _Llama:
    """Builds the graph of one model."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self.heads = config["num_attention_heads"]
        self.head_dim = config["head_dim"]
        self.blocks = config["num_hidden_layers"]
        self.graph = GraphBuilder()

    def model(self, tensors: Sequence[Placed]) -> bytes:
        from onnx import TensorProto, helper

        cache = (self.blocks, 2, self.heads)
        floats, whole = TensorProto.FLOAT, TensorProto.INT64
        logits = ("new", self.config["vocab_size"])
        self._forward()

        graph = helper.make_graph(
            self.graph.nodes,
            "llama",
            inputs=[
                helper.make_tensor_value_info("tokens", whole, ("new",)),
                helper.make_tensor_value_info("past", floats, (*cache, "before", self.head_dim)),
            ],
            outputs=[
                helper.make_tensor_value_info("logits", floats, logits),
                helper.make_tensor_value_info("present", floats, (*cache, "after", self.head_dim)),
            ],
            initializer=[*self.graph.constants, *map(_external, tensors)],
        )
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        content: bytes = model.SerializeToString(deterministic=True)
        return content

    def _forward(self) -> None:
        add = self.graph.add
        self._positions()
        stream = add("Gather", EMBEDDING, "tokens")

        caches = []
        for block in range(self.blocks):
            prefix = f"model.layers.{block}"
            normed = self._norm(stream, f"{prefix}.input_layernorm.weight")
            attended, cache = self._attention(normed, block)
            stream = add("Add", stream, attended)
            normed = self._norm(stream, f"{prefix}.post_attention_layernorm.weight")
            stream = add("Add", stream, self._mlp(normed, f"{prefix}.mlp"))
            caches.append(cache)

        add("Concat", *caches, axis=0, name="present")
        last = self._norm(stream, LAST_NORM)
        add("MatMul", last, add("Transpose", EMBEDDING, perm=[1, 0]), name="logits")

    def _positions(self) -> None:
        """Compute the rotations and the causal mask of the new tokens."""
        add, constant = self.graph.add, self.graph.constant
        zero, one = constant(0, np.int64), constant(1, np.int64)
        before = add("Gather", add("Shape", "past"), constant(3, np.int64))
        new = add("Gather", add("Shape", "tokens"), zero)
        after = add("Add", before, new)

        positions = add("Unsqueeze", add("Range", before, after, one), constant([1], np.int64))
        keys = add("Range", zero, after, one)
        hidden = add("Greater", keys, positions)  # (new, after)
        lowest = constant(np.finfo(np.float32).min)
        self.mask = add("Where", hidden, lowest, constant(0.0))

        angles = add("Mul", add("Cast", positions, to=1), constant(self._frequencies()))
        both = add("Concat", angles, angles, axis=1)  # (new, head_dim)
        self.cos = add("Cos", both)
        self.sin = add("Sin", both)

    def _frequencies(self) -> np.ndarray:
        """Return the angle of each pair of numbers per position, (head_dim / 2,)."""
        theta = self.config["rope_parameters"]["rope_theta"]
        exponents = np.arange(0, self.head_dim, 2, dtype=np.float32) / self.head_dim
        return 1.0 / theta**exponents

    def _linear(self, value: str, name: str) -> str:
        weight = self.graph.add("Transpose", f"{name}.weight", perm=[1, 0])
        return self.graph.add("MatMul", value, weight)

    def _norm(self, value: str, weight: str) -> str:
        """Divide by the root of the mean square, and scale."""
        add, constant = self.graph.add, self.graph.constant
        square = add("Mul", value, value)
        mean = add("ReduceMean", square, constant([-1], np.int64), keepdims=1)
        root = add("Sqrt", add("Add", mean, constant(self.config["rms_norm_eps"])))
        return add("Mul", add("Div", value, root), weight)

    def _heads(self, value: str) -> str:
        """(new, width) -> (heads, new, head_dim)."""
        split = self.graph.add("Reshape", value, self.graph.shape(-1, self.heads, self.head_dim))
        return self.graph.add("Transpose", split, perm=[1, 0, 2])

    def _rotated(self, value: str) -> str:
        """Turn each pair of numbers by the angle of its position."""
        add = self.graph.add
        first, second = self.graph.split(value, 2)
        turned = add("Concat", add("Neg", second), first, axis=-1)
        return add("Add", add("Mul", value, self.cos), add("Mul", turned, self.sin))

    def _attention(self, value: str, block: int) -> tuple[str, str]:
        """Return what a block's attention writes, and its cache of keys and values."""
        add, constant, shape = self.graph.add, self.graph.constant, self.graph.shape
        name = f"model.layers.{block}.self_attn"
        queries, keys, values = (
            self._heads(self._linear(value, f"{name}.{part}_proj")) for part in "qkv"
        )
        fresh = (1, 2, self.heads, -1, self.head_dim)
        pair = add("Concat", self._rotated(keys), values, axis=0)
        past = add("Gather", "past", constant([block], np.int64), axis=0)
        cache = add("Concat", past, add("Reshape", pair, shape(*fresh)), axis=3)

        both = add("Squeeze", cache, constant([0], np.int64))
        all_keys = add("Gather", both, constant(0, np.int64), axis=0)
        all_values = add("Gather", both, constant(1, np.int64), axis=0)

        scale = constant(self.head_dim**-0.5)
        scaled = add("Mul", self._rotated(queries), scale)
        scores = add("MatMul", scaled, add("Transpose", all_keys, perm=[0, 2, 1]))
        weights = add("Softmax", add("Add", scores, self.mask), axis=-1)

        mixed = add("Transpose", add("MatMul", weights, all_values), perm=[1, 0, 2])
        joined = add("Reshape", mixed, shape(-1, self.heads * self.head_dim))
        return self._linear(joined, f"{name}.o_proj"), cache

    def _mlp(self, value: str, name: str) -> str:
        add = self.graph.add
        gate = self._linear(value, f"{name}.gate_proj")
        opened = add("Mul", gate, add("Sigmoid", gate))
        wide = add("Mul", opened, self._linear(value, f"{name}.up_proj"))
        return self._linear(wide, f"{name}.down_proj")


def _external(tensor: Placed) -> Any:
    """Return an initializer whose numbers lie in the file of weights."""
    from onnx import TensorProto

    proto = TensorProto(name=tensor.name, data_type=TensorProto.FLOAT, dims=tensor.shape)
    proto.data_location = TensorProto.EXTERNAL
    place = {
        "location": WEIGHTS_FILE,
        "offset": str(tensor.start * FLOAT_BYTES),
        "length": str(tensor.size * FLOAT_BYTES),
    }
    for key, value in place.items():
        proto.external_data.add(key=key, value=value)
    return proto
