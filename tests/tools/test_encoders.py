"""The archived tools behind the table of encoders (docs/rewards.md): packed file, comparison."""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from grpo_helpers.files import InputError, read_json
from tools.experiments.archive import e5_encoder, encoders
from tools.experiments.archive.e5_encoder import (
    BLOCK,
    PARTS,
    build_model,
    build_tokenizer,
    read_packed,
    unpack,
)
from tools.experiments.reward_lab import FOLDER

PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", "띄", "어", "▁쓴", "다", "쓴"]
HIDDEN = 32
FFN = 64
POSITIONS = 16
VOCABULARY = 12


@dataclass(frozen=True)
class Packed:
    """A small packed file and the tensors in it."""

    file: Path
    tensors: dict[str, np.ndarray]


def q4(values):
    """Pack whole numbers from -8 to 7: byte j holds weight j low and weight j + 16 high."""
    blocks = (np.asarray(values).reshape(-1, 32) + 8).astype(np.uint8)
    scale = np.float16(0.5).tobytes()
    return b"".join(scale + (block[:16] | (block[16:] << 4)).tobytes() for block in blocks)


def random_tensors():
    """Return the tensors of a model with one layer; whole numbers are packed in 4 bits."""
    rng = np.random.default_rng(0)
    tensors = {
        "emb.word": rng.integers(-8, 8, (VOCABULARY, HIDDEN)),
        "emb.pos": np.zeros((POSITIONS, HIDDEN), "f4"),
        "emb.type": np.zeros((1, HIDDEN), "f4"),
        "emb.ln.w": np.ones(HIDDEN, "f4"),
        "emb.ln.b": np.zeros(HIDDEN, "f4"),
    }
    for part in PARTS:
        shape = {"fi": (FFN, HIDDEN), "fo": (HIDDEN, FFN)}.get(part, (HIDDEN, HIDDEN))
        is_norm = part.endswith("ln")
        weight = np.ones(HIDDEN, "f4") if is_norm else rng.integers(-8, 8, shape)
        tensors[f"l0.{part}.w"] = weight
        tensors[f"l0.{part}.b"] = np.zeros(shape[0], "f4")
    return tensors


def packed_header():
    """Return magic, shape and vocabulary of the file."""
    pieces = [piece.encode() for piece in PIECES]
    ends = np.cumsum([0, *map(len, pieces)]).astype("<u4")
    shape = struct.pack("<I7ifi", 1, HIDDEN, 1, 2, FFN, VOCABULARY, POSITIONS, 1, 1e-12, 32)
    vocabulary = struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, ends[-1])
    vocabulary += ends.tobytes() + np.full(len(PIECES), -2.0, "<f4").tobytes()
    return b"E5S1" + shape + vocabulary + b"".join(pieces) + struct.pack("<iI", 0, 0)


def packed_bytes(tensors):
    """Return the whole file: the header, a table of the tensors, their data."""
    data = {}
    for name, values in tensors.items():
        data[name] = values.tobytes() if values.dtype == np.float32 else q4(values)

    header = packed_header() + struct.pack("<i", len(data))
    position = len(header) + sum(2 + len(name) + 1 + 4 + 8 + 8 for name in data)
    table = b""
    for name, raw in data.items():
        is_quantised = tensors[name].dtype != np.float32
        table += struct.pack("<H", len(name)) + name.encode()
        table += struct.pack("<BIQQ", is_quantised, 0, position, len(raw))
        position += len(raw)
    return header + table + b"".join(data.values())


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    tensors = random_tensors()
    file = tmp_path_factory.mktemp("e5") / "small.bin"
    file.write_bytes(packed_bytes(tensors))
    return Packed(file, tensors)


def test_four_bit_blocks_unpack_to_what_was_packed():
    values = np.arange(-8, 8).repeat(4)
    blocks = np.frombuffer(q4(values), BLOCK)
    assert np.array_equal(unpack(blocks), values * 0.5)


def test_packed_file_holds_vocabulary_and_tensors(packed):
    content = read_packed(packed.file)
    assert [piece for piece, _ in content.vocabulary] == PIECES
    assert set(content.tensors) == set(packed.tensors)


def test_model_has_the_weights_of_the_packed_file(packed):
    model = build_model(read_packed(packed.file))
    weights = model.embeddings.word_embeddings.weight.detach().numpy()
    assert np.array_equal(weights, packed.tensors["emb.word"] * 0.5)


def test_tokenizer_splits_by_the_packed_vocabulary(packed):
    tokenizer = build_tokenizer(read_packed(packed.file))
    assert tokenizer("띄어 쓴다")["input_ids"] == [0, 4, 5, 6, 7, 8, 2]


def test_bertscore_can_use_the_unpacked_folder(packed, tmp_path):
    from grpo_helpers.metrics import BertScore

    content = read_packed(packed.file)
    build_model(content).save_pretrained(tmp_path / "folder")
    build_tokenizer(content).save_pretrained(tmp_path / "folder")

    score = BertScore(str(tmp_path / "folder"), 1)
    same, other = score(["띄어 쓴다", "띄어 쓴다"], ["띄어 쓴다", "어다"])
    assert same == pytest.approx(1.0, abs=1e-5)
    assert other < 0.99


def test_foreign_file_is_refused(tmp_path):
    (tmp_path / "x.bin").write_bytes(b"GGUF....")
    with pytest.raises(InputError, match="not a packed E5 model"):
        read_packed(tmp_path / "x.bin")


def test_missing_package_is_one_error_line(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert e5_encoder.main([]) == 2
    assert "pip install" in capsys.readouterr().err


# -- the comparison --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pairs():
    return encoders.reason_pairs()


@pytest.fixture(scope="module")
def recorded():
    return read_json(FOLDER / "encoders.json")


def test_pairs_of_reasons_are_those_of_the_recorded_table(pairs, recorded):
    assert {kind: len(of_kind) for kind, of_kind in pairs.items()} == recorded["pairs"]


def test_rouge_of_the_pairs_is_that_of_the_recorded_table(pairs, recorded):
    from grpo_helpers.metrics import rouge1_reasons

    again = {"separation": encoders.separation(pairs, rouge1_reasons)}
    again |= encoders.mean_by_kind(pairs, rouge1_reasons)
    assert again == recorded["rouge1"]


@pytest.mark.heavy
def test_encoder_row_is_that_of_the_recorded_table(recorded, monkeypatch):
    monkeypatch.setattr(encoders, "EMBEDDED_LAYERS", [0])
    again = encoders.compare_encoders([])["rows"][0]
    before = recorded["rows"][0]
    for figure in ("encoder", "layer", "r_rouge1", "r_edits", "separation"):
        assert again[figure] == before[figure]
    assert again["by_kind"] == pytest.approx(before["by_kind"], abs=2e-3)


def test_encoder_without_a_layer_is_refused(capsys):
    assert encoders.main(["--encoder", "runs/encoders/mine"]) == 2
    assert "a folder and a layer" in capsys.readouterr().err
