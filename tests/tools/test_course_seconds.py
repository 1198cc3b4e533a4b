"""Where the minutes of the course go: notebooks, parts of notebook 05, pairs of BERTScore."""

from __future__ import annotations

from types import SimpleNamespace

import nbformat
import pytest

from grpo_helpers.files import InputError
from grpo_helpers.headless import NOTEBOOKS
from tools.benchmarks.step_profile import Stopwatch
from tools.course import seconds
from tools.course.seconds import IMPORTS, REST, Pairs


def cell(source, *tags):
    """Return a code cell."""
    return nbformat.v4.new_code_cell(source, metadata={"tags": list(tags)})


@pytest.fixture
def cells(monkeypatch):
    """The cells of the notebook that is executed; a test appends to them."""
    notebook = []
    monkeypatch.setattr(seconds, "evaluation_cells", lambda: notebook)
    return notebook


def test_seconds_of_notebooks_are_papermills(tmp_path):
    (tmp_path / "notebooks").mkdir()
    for name in NOTEBOOKS:
        notebook = nbformat.v4.new_notebook(metadata={"papermill": {"duration": 12.34}})
        nbformat.write(notebook, tmp_path / "notebooks" / f"{name}.ipynb")
    assert seconds.notebook_seconds(tmp_path) == dict.fromkeys(NOTEBOOKS, 12.3)


def test_run_without_notebooks_is_refused(tmp_path):
    with pytest.raises(InputError, match="run `make run` first"):
        seconds.notebook_seconds(tmp_path)


def test_parameters_replace_those_of_their_cell(cells):
    cells += [cell("run_name = 'default'", "parameters"), cell("assert run_name == 'copy'")]
    seconds.execute_evaluation({"run_name": "copy"}, Stopwatch())


def test_cell_that_imports_is_counted_apart(cells):
    cells += [cell("from math import pi"), cell("area = pi")]
    stopwatch = Stopwatch()
    seconds.execute_evaluation({}, stopwatch)
    assert set(stopwatch.seconds) == {IMPORTS, REST}


def test_answers_are_counted_by_their_file():
    stopwatch = Stopwatch()
    answer_file = seconds._by_file(lambda path, output: output, stopwatch)
    assert answer_file("data/test.json", "answers.json") == "answers.json"
    assert set(stopwatch.seconds) == {"answering test"}


def test_pair_that_is_known_is_not_counted_as_encoded():
    def score_new(scorer, pairs):
        scorer._cache |= dict.fromkeys(pairs, 1.0)

    pairs = Pairs()
    counted = seconds._counted(score_new, Stopwatch(), pairs)
    scorer = SimpleNamespace(_cache={})
    counted(scorer, [("a", "b"), ("a", "b"), ("c", "d")])
    counted(scorer, [("a", "b")])
    assert (pairs.asked, pairs.encoded) == (4, 2)
