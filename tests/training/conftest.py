"""Fixtures of the training tests: a model in a GGUF file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

LETTERS = [*"몇일이며칠걸렸다고쳐라. ", "▁"]
SPECIAL = ["<unk>", "<s>", "</s>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
TOKENS = [*SPECIAL, *BYTES, *LETTERS]
# As GGUF counts them: 1 normal, 2 unknown, 3 control, 6 byte.
TOKEN_TYPES = [2, 3, 3] + [6] * len(BYTES) + [1] * len(LETTERS)

WIDTH = 64
INNER = 128
LAYERS = 2
HEADS = 4


@pytest.fixture(scope="session")
def gguf_file(tmp_path_factory) -> Path:
    """A Llama of two layers with random weights, a tokenizer and a chat template, in one file."""
    import gguf

    file = tmp_path_factory.mktemp("gguf") / "small.gguf"
    writer = gguf.GGUFWriter(str(file), "llama")

    write_shape(writer)
    write_tokenizer(writer)
    write_weights(writer)

    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def write_shape(writer):
    """Write what the model's configuration is made from."""
    writer.add_context_length(256)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(TOKENS))


def write_tokenizer(writer):
    """Write a tokenizer of letters, and a chat template that joins the messages."""
    writer.add_tokenizer_model("llama")
    writer.add_token_list(TOKENS)
    writer.add_token_scores([-float(place) for place in range(len(TOKENS))])
    writer.add_token_types(TOKEN_TYPES)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template("{% for m in messages %}{{ m['content'] }}{% endfor %}")


def write_weights(writer):
    """Write random matrices, quantised to 8 bits, and norms of ones."""
    import gguf

    rng = np.random.default_rng(0)
    quantised = gguf.GGMLQuantizationType.Q8_0

    for name, shape in weight_shapes().items():
        if len(shape) == 1:
            writer.add_tensor(f"{name}.weight", np.ones(shape, np.float32))
            continue
        matrix = rng.normal(0, 0.05, shape).astype(np.float32)
        packed = gguf.quants.quantize(matrix, quantised)
        writer.add_tensor(f"{name}.weight", packed, raw_dtype=quantised)


def weight_shapes():
    """Return the shape of every weight, by its name in the file."""
    shapes = {
        "token_embd": (len(TOKENS), WIDTH),
        "output": (len(TOKENS), WIDTH),
        "output_norm": (WIDTH,),
    }
    for layer in range(LAYERS):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            shapes[f"blk.{layer}.{name}"] = (WIDTH, WIDTH)
        for name in ("ffn_gate", "ffn_up"):
            shapes[f"blk.{layer}.{name}"] = (INNER, WIDTH)
        shapes[f"blk.{layer}.ffn_down"] = (WIDTH, INNER)
        for name in ("attn_norm", "ffn_norm"):
            shapes[f"blk.{layer}.{name}"] = (WIDTH,)
    return shapes
