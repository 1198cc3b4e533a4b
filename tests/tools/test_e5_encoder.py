"""The optional encoder for BERTScore: the packed file's format, on a small file written here."""

import struct

import numpy as np
import pytest

from grpo_helpers.files import InputError
from tools.experiments.e5_encoder import PARTS, build_model, build_tokenizer, main, read, unpack

PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", "띄", "어", "▁쓴", "다", "쓴"]
HIDDEN, FFN, POSITIONS, VOCABULARY = 32, 64, 16, 12


def q4(values):
    """Pack whole numbers from -8 to 7 at scale 1/2: byte j holds weight j low and weight j + 16 high."""
    blocks = (np.asarray(values).reshape(-1, 32) + 8).astype(np.uint8)
    return b"".join(np.float16(0.5).tobytes() + (b[:16] | (b[16:] << 4)).tobytes() for b in blocks)


@pytest.fixture
def packed(tmp_path):
    dice = np.random.default_rng(0)
    tensors = {
        "emb.word": dice.integers(-8, 8, (VOCABULARY, HIDDEN)),
        "emb.pos": np.zeros((POSITIONS, HIDDEN), "f4"),
        "emb.type": np.zeros((1, HIDDEN), "f4"),
        "emb.ln.w": np.ones(HIDDEN, "f4"),
        "emb.ln.b": np.zeros(HIDDEN, "f4"),
    }
    for part in PARTS:
        shape = {"fi": (FFN, HIDDEN), "fo": (HIDDEN, FFN)}.get(part, (HIDDEN, HIDDEN))
        weight = np.ones(HIDDEN, "f4") if part.endswith("ln") else dice.integers(-8, 8, shape)
        tensors |= {f"l0.{part}.w": weight, f"l0.{part}.b": np.zeros(shape[0], "f4")}
    raw = {name: v.tobytes() if v.dtype == np.float32 else q4(v) for name, v in tensors.items()}
    blob = [piece.encode() for piece in PIECES]
    head = b"E5S1" + struct.pack(
        "<I7ifi", 1, HIDDEN, 1, 2, FFN, VOCABULARY, POSITIONS, 1, 1e-12, 32
    )
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, sum(map(len, blob)))
    head += (
        np.cumsum([0, *map(len, blob)]).astype("<u4").tobytes()
        + np.full(len(PIECES), -2.0, "<f4").tobytes()
    )
    head += b"".join(blob) + struct.pack("<iI", 0, 0) + struct.pack("<i", len(raw))
    at = len(head) + sum(2 + len(name) + 1 + 4 + 8 + 8 for name in raw)
    for name, data in raw.items():
        quantised = tensors[name].dtype != np.float32
        head += (
            struct.pack("<H", len(name))
            + name.encode()
            + struct.pack("<BIQQ", quantised, 0, at, len(data))
        )
        at += len(data)
    file = tmp_path / "small.bin"
    file.write_bytes(head + b"".join(raw.values()))
    return file, tensors


def test_four_bit_blocks_come_back_as_the_numbers_that_went_in():
    values = np.arange(-8, 8).repeat(4)
    blocks = np.frombuffer(q4(values), np.dtype([("scale", "<f2"), ("nibbles", "u1", 16)]))
    assert np.array_equal(unpack(blocks), values * 0.5)


def test_a_packed_file_becomes_a_model_and_a_tokenizer_that_bert_score_can_use(packed, tmp_path):
    from grpo_helpers.metrics import BertScore

    file, tensors = packed
    shape, vocabulary, found = read(file)
    assert [piece for piece, _ in vocabulary] == PIECES and set(found) == set(tensors)
    model, tokenizer = build_model(shape, found), build_tokenizer(shape, vocabulary)
    assert np.array_equal(
        model.embeddings.word_embeddings.weight.detach().numpy(), tensors["emb.word"] * 0.5
    )
    assert tokenizer("띄어 쓴다")["input_ids"] == [0, 4, 5, 6, 7, 8, 2]
    model.save_pretrained(tmp_path / "folder"), tokenizer.save_pretrained(tmp_path / "folder")
    score = BertScore(str(tmp_path / "folder"), 1)
    same, other = score(["띄어 쓴다", "띄어 쓴다"], ["띄어 쓴다", "어다"])
    assert same == pytest.approx(1.0, abs=1e-5) and other < 0.99


def test_a_foreign_file_and_a_missing_package_are_told_in_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "x.bin").write_bytes(b"GGUF....")
    with pytest.raises(InputError, match="not a packed E5 model"):
        read(tmp_path / "x.bin")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("sys.argv", ["e5_encoder"])
    assert main() == 2 and "pip install" in capsys.readouterr().err
