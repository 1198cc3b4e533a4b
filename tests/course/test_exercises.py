"""The exercises of the notebooks: unfilled they say what is missing and stop nothing; with their solution, "right"."""

import re
import shutil

import nbformat
import papermill
import pytest

from grpo_helpers.files import project_root
from tools.course.run import HEADLESS, NOTEBOOKS, profile_parameters

ROOT = project_root()
SOLUTION = re.compile(r"^## (\d\.\d) [^\n]*\n.*?```python\n(.*?)```", re.M | re.S)


def solutions(name):
    """Return {exercise: code} of a page of solutions."""
    return dict(SOLUTION.findall((ROOT / f"solutions/{name}.md").read_text(encoding="utf-8")))


def tagged(notebook, kind):
    """Return {exercise: cell} of the cells tagged ``kind-N.K``."""
    tags = {tag: cell for cell in notebook.cells for tag in cell.metadata.get("tags", [])}
    return {
        tag.removeprefix(f"{kind}-"): cell
        for tag, cell in tags.items()
        if tag.startswith(f"{kind}-")
    }


def read(name):
    return nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_has_three_exercises_with_difficulty_time_check_and_solution(name):
    notebook = read(name)
    numbers = [f"{int(name[:2])}.{k}" for k in (1, 2, 3)]
    assert (
        list(tagged(notebook, "exercise"))
        == list(tagged(notebook, "check"))
        == list(solutions(name))
        == numbers
    )
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    heads = re.findall(r"\*\*Exercise (\d\.\d)\*\* [★☆]{3} \d+ minutes\.", prose)
    assert heads == numbers and f"solutions/{name}.md" in prose


@pytest.fixture(scope="module")
def worked(tmp_path_factory):
    """Every notebook at smoke size, each check run twice: on the stub, and on the solution pasted after it."""
    folder, done = tmp_path_factory.mktemp("exercises"), {}
    for name in NOTEBOOKS:
        notebook, told = read(name), solutions(name)
        for number, check in tagged(notebook, "check").items():
            again = [
                nbformat.v4.new_code_cell(told[number]),
                nbformat.v4.new_code_cell(check.source),
            ]
            again[1].metadata["tags"] = [f"solved-{number}"]
            place = notebook.cells.index(check) + 1
            notebook.cells[place:place] = again
        nbformat.write(notebook, folder / f"{name}.ipynb")
        known = papermill.inspect_notebook(str(folder / f"{name}.ipynb"))
        given = profile_parameters("smoke", name) | HEADLESS | {"run_name": "test-exercises"}
        done[name] = papermill.execute_notebook(
            str(folder / f"{name}.ipynb"), str(folder / f"{name}-done.ipynb"), cwd=str(ROOT / "notebooks"),
            parameters={key: value for key, value in given.items() if key in known}, progress_bar=False,
        )  # fmt: skip
    yield done
    shutil.rmtree(ROOT / "runs/test-exercises")


def printed(cell):
    return "".join(output.get("text", "") for output in cell.outputs)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_unfilled_exercises_say_what_is_missing_and_solved_ones_that_they_are_right(worked, name):
    for number, cell in tagged(worked[name], "check").items():
        assert printed(cell).startswith(f"{number}: not yet, "), printed(cell)
    for number, cell in tagged(worked[name], "solved").items():
        assert printed(cell).startswith(f"{number}: right"), printed(cell)
