"""Notebook 04 shows a whole program in bare TRL: saved as a file, it runs without the course."""

import sys

import pytest
from exercises import read_notebook
from helpers import ROOT, run_offline


@pytest.fixture(scope="module")
def script():
    """The source of the cell."""
    cells = read_notebook("04_train").cells
    (cell,) = [cell for cell in cells if "script" in cell.metadata.get("tags", [])]
    return cell.source


def test_script_needs_nothing_of_the_course(script):
    assert "grpo_helpers" not in script


def test_script_goes_from_its_imports_to_the_training(script):
    assert script.startswith("import ")
    assert script.endswith("\ntrainer.train()")


@pytest.fixture(scope="module")
def done(script, tmp_path_factory):
    """The script, saved in a folder with nothing but the data and run there; and the folder."""
    folder = tmp_path_factory.mktemp("bare")
    (folder / "data").symlink_to(ROOT / "data")
    (folder / "bare.py").write_text(script, encoding="utf-8")
    return run_offline([sys.executable, "bare.py"], cwd=folder), folder


@pytest.mark.heavy
def test_script_trains_from_a_file_of_its_own(done):
    finished, _ = done

    assert finished.returncode == 0, finished.stderr[-2000:]
    assert finished.stdout.count("'frac_reward_zero_std'") == 2  # one line for each step


@pytest.mark.heavy
def test_script_leaves_nothing_behind(done):
    _, folder = done

    assert {path.name for path in folder.iterdir()} == {"data", "bare.py"}
