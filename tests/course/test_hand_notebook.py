"""Notebook 08 comes to its end in any state: with no function written, and with all five."""

import nbformat
import pytest
from helpers import ROOT
from notebook_cells import run_notebook

from grpo_helpers.files import read_yaml

NAME = "08_write_grpo_yourself"


def printed_in(notebook):
    """Return everything that an executed notebook has printed."""
    printed = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            printed.append(output.get("text", ""))
    return "".join(printed)


@pytest.fixture(scope="module")
def unsolved(tmp_path_factory):
    """What the notebook prints at smoke size when no function is written, and its folder."""
    folder = tmp_path_factory.mktemp("unsolved")
    values = read_yaml(ROOT / f"params/smoke/{NAME}.yaml") | {"output_dir": str(folder)}
    return run_notebook(NAME, values), folder


@pytest.mark.heavy
def test_unsolved_notebook_trains_with_the_functions_of_the_course(unsolved):
    printed, _ = unsolved

    assert "training with the course's own functions" in printed
    assert "not yours yet: sample, score, advantage, loss, step" in printed


@pytest.mark.heavy
def test_unsolved_notebook_draws_its_curve(unsolved):
    _, folder = unsolved

    assert (folder / "default/figures/08_by_hand.png").is_file()


@pytest.mark.heavy
def test_unsolved_notebook_compares_gradients(unsolved):
    printed, _ = unsolved

    assert "- 0 of 5 functions are yours" in printed
    assert "- The gradient of the loss differs from TRL's by" in printed


def test_solved_notebook_trains_with_the_functions_of_its_reader(smoke_run):
    executed = nbformat.read(smoke_run / f"notebooks/{NAME}.ipynb", as_version=4)

    printed = printed_in(executed)

    assert "training with your five functions" in printed
    assert "- 5 of 5 functions are yours" in printed
