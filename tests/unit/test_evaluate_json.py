"""The command that scores a folder: what it prints, writes and refuses."""

from __future__ import annotations

import sys
import unicodedata
from pathlib import Path

import pandas as pd
import pytest
from helpers import run_offline

from grpo_helpers.data import load_items
from grpo_helpers.evaluate_json import main
from grpo_helpers.files import read_json, write_json
from grpo_helpers.inference import write_answers

LABEL_PATH = "data/smoke/dev.json"
LABELS = load_items(LABEL_PATH)
GOLDS = [item.answer for item in LABELS]
UNKNOWN = ["모르겠다"] * len(LABELS)  # "I don't know"


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A run folder with three checkpoints: none right, all right, all but one right."""
    run_dir = tmp_path_factory.mktemp("run")
    folder = run_dir / "infer_results"
    write_answers(folder / "inference_epoch0.json", LABELS, UNKNOWN)
    write_answers(folder / "inference_epoch1.json", LABELS, GOLDS)
    write_answers(folder / "inference_epoch2.json", LABELS, [*GOLDS[:-1], UNKNOWN[0]])
    return run_dir


def evaluate(folder, *options):
    """Run the command in this process; return its exit code."""
    return main(["--label_path", LABEL_PATH, "--input_dir", str(folder), *options])


@pytest.fixture
def evaluated(run_dir, capsys):
    """What the command prints for the three checkpoints, with a rule and an aggregate."""
    code = evaluate(run_dir / "infer_results", "--rule", "earliest_tied", "--aggregate", "code")
    assert code == 0
    return capsys.readouterr().out


def test_command_prints_the_article_block_first(evaluated):
    block = evaluated.split("\n\nHighest: ")[0]

    assert block.startswith("File: inference_epoch0.json\n   - ROUGE-1        : 0.0000\n")
    assert block.endswith("   File       : inference_epoch1.json\n   Final Mean : 1.0000")


def test_command_prints_the_choice_in_two_lines(evaluated):
    choice = evaluated.split("\n\n")[-1].split("\nwritten", 1)[0]

    assert len(choice.splitlines()) == 2
    assert choice.startswith("Highest: epoch_1 (of 3; also highest on ")


def test_command_stores_rule_and_aggregate(evaluated, run_dir):
    stored = read_json(run_dir / "best_checkpoint.json")

    assert (stored["rule"], stored["aggregate"]) == ("earliest_tied", "code")


def test_command_writes_the_table_of_checkpoints(evaluated, run_dir):
    table = pd.read_csv(run_dir / "scores.csv")

    assert list(table["checkpoint"]) == ["epoch_0", "epoch_1", "epoch_2"]


def test_command_writes_the_table_of_items(evaluated, run_dir):
    assert len(pd.read_csv(run_dir / "item_scores.csv")) == 3 * len(LABELS)


def test_command_writes_the_page(evaluated, run_dir):
    assert (run_dir / "report.html").stat().st_size > 10_000


@pytest.mark.heavy
def test_stored_command_makes_the_same_choice_again(evaluated, run_dir):
    stored = read_json(run_dir / "best_checkpoint.json")
    program, *arguments = stored["command"].split()
    assert program == "python"

    done = run_offline([sys.executable, *arguments])

    assert done.returncode == 0, done.stderr
    assert read_json(run_dir / "best_checkpoint.json") == stored


@pytest.fixture
def mixed_folder(tmp_path):
    """A folder in which two files cannot be used."""
    folder = tmp_path / "infer_results"
    write_answers(folder / "inference_epoch0.json", LABELS, UNKNOWN)
    write_answers(folder / "inference_epoch1.json", LABELS, GOLDS)
    (folder / "inference_epoch2.json").write_text('[{"id": ', encoding="utf-8")
    write_json(folder / "settings.json", {"learning_rate": 1})
    return folder


def test_skipped_files_are_named(mixed_folder, capsys):
    evaluate(mixed_folder)

    lines = capsys.readouterr().err.splitlines()
    skipped = [line for line in lines if line.startswith("skipped: ")]
    assert len(skipped) == 2
    assert "settings.json" in skipped[0]
    assert "inference_epoch2.json" in skipped[1]


def test_skipped_files_fail_the_command(mixed_folder):
    assert evaluate(mixed_folder) == 1


def test_skipped_files_are_not_in_the_table(mixed_folder):
    evaluate(mixed_folder)

    table = pd.read_csv(mixed_folder.parent / "scores.csv")
    assert list(table["checkpoint"]) == ["epoch_0", "epoch_1"]


def test_only_file_of_another_layout_is_bad_input(tmp_path, capsys):
    rows = [row | {"output": row["output"]["answer"]} for row in read_json(LABEL_PATH)]
    write_json(tmp_path / "infer_results/inference_epoch1.json", rows)

    assert evaluate(tmp_path / "infer_results") == 2
    assert "no answer in output.answer: output is a text" in capsys.readouterr().err


def test_decomposed_files_are_scored_like_composed_ones(tmp_path):
    answers = write_answers(tmp_path / "in/inference_epoch1.json", LABELS, GOLDS)
    labels = tmp_path / "labels.json"
    for file, source in ((labels, LABEL_PATH), (answers, answers)):
        text = Path(source).read_text(encoding="utf-8")
        file.write_text(unicodedata.normalize("NFD", text), encoding="utf-8")

    assert main(["--label_path", str(labels), "--input_dir", str(answers.parent)]) == 0
    assert pd.read_csv(tmp_path / "scores.csv")["em"].tolist() == [1.0]


@pytest.fixture
def refused(tmp_path):
    """The command on an empty folder, in a process of its own."""
    command = [sys.executable, "-m", "grpo_helpers.evaluate_json"]
    return run_offline([*command, "--label_path", LABEL_PATH, "--input_dir", tmp_path])


def test_folder_without_answers_is_bad_input_in_one_line(refused):
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: no *.json")
    assert refused.stderr.count("\n") == 1


def test_folder_without_answers_stays_empty(refused, tmp_path):
    assert list(tmp_path.iterdir()) == []
