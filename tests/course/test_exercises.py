"""The exercises: a stub is "not yet" and stops nothing, its solution is "right"."""

import re

import nbformat
import pytest
from exercises import read_notebook, solutions, tagged

from grpo_helpers.headless import NOTEBOOKS

# Exercises; in all other notebooks there are three.
HOW_MANY = {"08_write_grpo_yourself": 5, "09_clinic": 8}

every_notebook = pytest.mark.parametrize("name", NOTEBOOKS)


def prose_of(name):
    """Return the Markdown of a notebook."""
    cells = read_notebook(name).cells
    return "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def numbers_of(name):
    """Return the numbers of a notebook's exercises, such as 4.1, 4.2 and 4.3."""
    chapter = int(name[:2])
    count = HOW_MANY.get(name, 3)
    return [f"{chapter}.{number}" for number in range(1, count + 1)]


def printed_by(cell):
    return "".join(output.get("text", "") for output in cell.outputs)


@every_notebook
def test_notebook_has_its_exercises(name):
    assert list(tagged(read_notebook(name), "exercise")) == numbers_of(name)


@every_notebook
def test_every_exercise_has_a_check(name):
    assert list(tagged(read_notebook(name), "check")) == numbers_of(name)


@every_notebook
def test_every_exercise_has_a_solution(name):
    assert list(solutions(name)) == numbers_of(name)


@every_notebook
def test_every_exercise_states_its_difficulty_and_minutes(name):
    headings = re.findall(r"\*\*Exercise (\d\.\d)\*\* [★☆]{3} \d+ minutes\.", prose_of(name))

    assert headings == numbers_of(name)


@every_notebook
def test_notebook_says_where_its_solutions_are(name):
    assert f"solutions/{name}.md" in prose_of(name)


@pytest.fixture(scope="module")
def worked(smoke_run):
    """Every notebook of the smoke run, in which each check ran on the stub and on the solution."""
    notebooks = {}
    for name in NOTEBOOKS:
        notebooks[name] = nbformat.read(smoke_run / f"notebooks/{name}.ipynb", as_version=4)
    return notebooks


@every_notebook
def test_check_of_an_empty_exercise_says_what_is_missing(worked, name):
    checks = tagged(worked[name], "check")

    assert list(checks) == numbers_of(name)
    for number, cell in checks.items():
        assert printed_by(cell).startswith(f"{number}: not yet, "), printed_by(cell)


@every_notebook
def test_check_of_a_solved_exercise_says_that_it_is_right(worked, name):
    checks = tagged(worked[name], "solved")

    assert list(checks) == numbers_of(name)
    for number, cell in checks.items():
        assert printed_by(cell).startswith(f"{number}: right"), printed_by(cell)
