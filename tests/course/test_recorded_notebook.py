"""Notebook 06 where runs are missing, and the table by kind in notebook 05 where kinds are."""

import pandas as pd
import pytest
from exercises import read_notebook
from helpers import ROOT
from notebook_cells import refusal_of, run_notebook

from grpo_helpers.files import read_json
from grpo_helpers.questions import CORRECTION, SELECTION

NAME = "06_what_grpo_did"
SPLITS = {"test": "test", "unseen words": "test_unseen_words", "nonce words": "test_nonce"}


def run_on(folder):
    """Return what the notebook prints for a folder of recorded runs."""
    values = {"recorded_dir": str(folder), "output_dir": str(folder), "bootstrap_samples": 100}
    return run_notebook(NAME, values)


@pytest.fixture(scope="module")
def nothing_recorded(tmp_path_factory):
    """What the notebook prints where nothing is recorded."""
    return run_on(tmp_path_factory.mktemp("nothing"))


@pytest.fixture(scope="module")
def points_recorded(tmp_path_factory):
    """The folder in which two trainings of the first section are recorded, and what is printed."""
    folder = tmp_path_factory.mktemp("points")
    (folder / "words_per_norm").mkdir()
    for way in ("grpo", "gold"):
        point(right=1.0).to_csv(folder / "words_per_norm" / f"{way}_8_0.csv", index=False)
    return folder, run_on(folder)


def point(right):
    """Return the table of a training after which a share of every answer is right."""
    rows = []
    for title, name in SPLITS.items():
        for row in read_json(ROOT / f"data/embedded/{name}.json"):
            about = {key: row[key] for key in ("id", "card", "kind", "form")}
            question_type = row["input"]["question_type"]
            is_trained = name == "test"
            about |= {"split": title, "question_type": question_type, "is_trained": is_trained}
            rows.append(about | {"em": right, "choice": right})
    return pd.DataFrame(rows)


def test_notebook_without_recorded_runs_comes_to_its_end(nothing_recorded):
    assert "nothing is recorded in" in nothing_recorded


@pytest.mark.parametrize(
    "command",
    [
        "python -m tools.experiments.words_per_norm makes all of them",
        "python -m tools.experiments.record 'format_only_*'",
        "python -m tools.experiments.record 'seed_*'",
        "python -m tools.experiments.record quoted",
        "python -m tools.experiments.record 'iterations_*' 'generations_*' 'temperature_*'",
        "python -m tools.experiments.gemma",
    ],
)
def test_missing_runs_are_told_with_their_command(nothing_recorded, command):
    assert command in nothing_recorded


def test_recorded_points_are_drawn(points_recorded):
    folder, _ = points_recorded

    assert (folder / "default/figures/06_memory_and_rule.png").is_file()


def test_recorded_points_are_among_the_findings(points_recorded):
    _, printed = points_recorded

    assert "- GRPO, four rewards, 8 words of each norm: memory 1.00, rule 1.00" in printed


def test_missing_folder_of_runs_is_refused_in_one_line(tmp_path):
    refusal = refusal_of(NAME, {"recorded_dir": str(tmp_path / "none"), "output_dir": "runs"})

    assert refusal.startswith("recorded_dir: no folder ")
    assert "\n" not in refusal


# -- notebook 05 ----------------------------------------------------------------------------------


def table_by_kind(kinds):
    """Return what the cell with the table by kind shows for answers about words of these kinds.

    Args:
        kinds: The kind of each word; every word is asked about in both types, and only 선택형 is
            answered correctly.
    """
    cells = {cell.id: cell for cell in read_notebook("05_evaluate_and_select").cells}
    lines = cells["05-knd2"].source.splitlines()
    rows = []
    for kind in kinds:
        for question_type, right in (("choose", 1.0), ("correct", 0.0)):
            row = {"split": "test", "checkpoint": "epoch_1", "kind": kind}
            rows.append(row | {"question_type": question_type, "em": right, "choice": right})

    namespace = {"both": pd.DataFrame(rows), "TYPES": {SELECTION: "choose", CORRECTION: "correct"}}
    exec("\n".join(lines[:-1]), namespace)
    return eval(lines[-1], namespace)


def test_table_by_kind_tells_choosing_from_correcting():
    table = table_by_kind(["two-way", "lexical"])

    assert table.index.tolist() == [("test", "two-way"), ("test", "lexical")]
    assert table["choice", "epoch_1"].tolist() == [0.5, 0.5]
    assert table["choice, choose only", "epoch_1"].tolist() == [1.0, 1.0]


def test_questions_without_a_kind_are_told_in_one_line(capsys):
    assert table_by_kind(["", ""]) is None
    assert capsys.readouterr().out.startswith("these questions have no field kind")
