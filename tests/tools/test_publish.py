"""Publishing a run: results, README tables, notebooks as they are committed."""

import base64
import io
import shutil

import nbformat
import pytest
from helpers import ROOT

from grpo_helpers.course_summary import comparisons_on_tests
from grpo_helpers.files import read_json, write_json
from grpo_helpers.run_folder import BASE, ITEM_SCORES_FILE, RunFolder
from grpo_helpers.splits import TEST_NONCE
from tools.course import publish
from tools.course.committed_notebooks import (
    commit_notebook,
    describe_figures,
    joined_streams,
    small_png,
    write_descriptions,
)
from tools.course.publish import (
    BEGIN,
    END,
    WORDINGS,
    block,
    choice_between_two,
    results,
    write_block,
)

COMPARISON = {
    "metric": "em",
    "items": 306,
    "reference_mean": 0.5,
    "mean": 0.9,
    "difference": 0.4,
    "low": 0.35,
    "high": 0.45,
    "wins": 130,
    "losses": 8,
    "p_value": 0.0,
}
ITEMS = """checkpoint,id,question_type,kind,choice
base,n-1,선택형,two-way,0
base,n-2,선택형,two-way,1
base,n-3,교정형,two-way,0
base,n-4,선택형,one-way,0
epoch_4,n-1,선택형,two-way,1
epoch_4,n-2,선택형,two-way,1
epoch_4,n-3,교정형,two-way,1
epoch_4,n-4,선택형,one-way,1
"""
UNSEEN = COMPARISON | {"metric": "choice", "items": 80, "difference": -0.06, "low": -0.14}
REPORT = {
    "best_checkpoint": "epoch_4",
    "test_versus_base": [COMPARISON, COMPARISON | {"metric": "format", "difference": 0.0}],
    "by_split": {
        "dev": [COMPARISON, COMPARISON | {"metric": "choice"}],
        "unseen words": [UNSEEN | {"metric": "em"}, UNSEEN],
        "nonce words": [UNSEEN | {"metric": "em"}, UNSEEN],
        "unseen norms": [UNSEEN | {"metric": "em"}, UNSEEN],
    },
}

every_page = pytest.mark.parametrize("page", WORDINGS)


@pytest.fixture
def run(tmp_path):
    """A finished run: its choice, a log of seven minutes, and answers about invented words."""
    run = RunFolder(tmp_path / "default")
    answers = TEST_NONCE.answer_folder(run.path)
    answers.mkdir(parents=True)
    (answers / ITEM_SCORES_FILE).write_text(ITEMS.replace("base", BASE), encoding="utf-8")
    write_json(run.path / "best_checkpoint.json", REPORT)
    run.log.append({"step": 1, "seconds": 20.0})
    run.log.append({"step": 30, "seconds": 420.0})
    return run


def test_reported_comparisons_are_test_and_exact_match_on_the_other_splits():
    named = [(split, row["metric"]) for split, row in comparisons_on_tests(REPORT)]
    assert named == [
        ("test", "em"),
        ("test", "format"),
        ("unseen words", "em"),
        ("nonce words", "em"),
        ("unseen norms", "em"),
    ]


def test_run_without_test_answers_has_no_comparisons():
    assert comparisons_on_tests({"best_checkpoint": "epoch_4"}) == []


def test_results_are_the_choice_and_the_minutes_of_a_run(run):
    published = results(run.path)
    assert published["best_checkpoint"] == "epoch_4"
    assert published["minutes"] == 7.0
    assert published["test"][0] == {"split": "test", **COMPARISON}


def test_choice_between_two_counts_what_only_a_rule_answers(run):
    rule = choice_between_two(run.path, "epoch_4")

    assert (rule.items, rule.reference_mean, rule.mean) == (2, 0.5, 1.0)


@every_page
def test_block_has_a_row_per_comparison(run, page):
    rows = [line for line in block(results(run.path), page).splitlines() if "| 0.500 |" in line]
    assert len(rows) == 6


@every_page
def test_block_states_choice_minutes_and_questions(run, page):
    head = block(results(run.path), page).splitlines()[1]
    for figure in ("epoch_4", "7", "306"):
        assert figure in head


def test_block_gives_gains_in_points_with_their_interval(run):
    assert "| 0.500 | 0.900 | +40.0 [+35.0, +45.0] |" in block(results(run.path), "README.md")


def test_block_is_replaced_between_its_marks_only(run, tmp_path, monkeypatch):
    monkeypatch.setattr(publish, "project_root", lambda: tmp_path)
    page = tmp_path / "README.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    published = results(run.path)
    write_block(published, "README.md")
    assert page.read_text(encoding="utf-8") == f"before\n{block(published, 'README.md')}\nafter\n"


def test_published_results_of_the_course_have_every_row():
    metrics = [row["metric"] for row in read_json(publish.RESULTS)["test"]]
    assert metrics == ["em", "choice", "format", "em", "em", "em", publish.RULE]


# -- notebooks -------------------------------------------------------------------------------------


def stream(text, name="stdout"):
    return nbformat.v4.new_output("stream", name=name, text=text)


def test_consecutive_pieces_of_a_stream_are_joined():
    outputs = [stream("a"), stream("b"), stream("c", name="stderr"), stream("d")]
    assert [output.text for output in joined_streams(outputs)] == ["ab", "c", "d"]


def test_small_png_keeps_the_size_of_a_figure():
    from PIL import Image

    original = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(original, "PNG")
    encoded = base64.b64encode(original.getvalue()).decode("ascii")

    small = Image.open(io.BytesIO(base64.b64decode(small_png(encoded))))
    assert small.size == (256, 256)
    assert small.mode == "P"


@pytest.fixture
def committed(tmp_path):
    """A notebook, executed by papermill with one parameter, and then committed."""
    source = nbformat.v4.new_notebook()
    source.cells = [nbformat.v4.new_markdown_cell("text"), nbformat.v4.new_code_cell("print(1)")]
    target = tmp_path / "notebook.ipynb"
    nbformat.write(source, target)

    executed = nbformat.read(target, as_version=4)
    injected = nbformat.v4.new_code_cell("seed = 1", metadata={"tags": ["injected-parameters"]})
    code = executed.cells[1]
    code.execution_count = 7
    code.metadata["papermill"] = {"duration": 1.5}
    code.outputs = [stream("1"), stream("\n")]
    executed.cells.insert(1, injected)
    executed.metadata["papermill"] = {"duration": 2.5}
    nbformat.write(executed, tmp_path / "executed.ipynb")

    commit_notebook(tmp_path / "executed.ipynb", target)
    return nbformat.read(target, as_version=4)


def test_committed_notebook_has_no_injected_cell(committed):
    assert [cell.cell_type for cell in committed.cells] == ["markdown", "code"]


def test_committed_notebook_has_no_timings(committed):
    assert "papermill" not in committed.metadata
    assert committed.cells[1].metadata == {}


def test_committed_notebook_counts_its_cells_from_one(committed):
    assert committed.cells[1].execution_count == 1


def test_committed_notebook_keeps_its_outputs(committed):
    assert committed.cells[1].outputs[0].text == "1\n"


def test_committed_notebook_knows_the_code_of_its_outputs(committed):
    from tools.course.notebook_hash import code_hash, stored_hash

    assert stored_hash(committed) == code_hash(committed)


# -- figures in words -----------------------------------------------------------------------------


def with_figure(**metadata):
    """Return a notebook with one figure, drawn by the cell ``00-07``."""
    figure = nbformat.v4.new_output(
        "display_data", data={"image/png": "AAAA"}, metadata={"image/png": metadata}
    )
    cell = nbformat.v4.new_code_cell("plot()", id="00-07", outputs=[stream("a"), figure])
    return nbformat.v4.new_notebook(cells=[cell])


def about_figure(notebook):
    return notebook.cells[0].outputs[1].metadata


def test_figure_of_a_committed_notebook_is_described():
    notebook = with_figure(width=3)

    describe_figures(notebook, {"00-07": "A line rises."})

    assert about_figure(notebook) == {"image/png": {"width": 3, "alt": "A line rises."}}


def test_figure_without_a_description_has_no_metadata_left():
    notebook = with_figure(alt="what it showed before")

    describe_figures(notebook, {})

    assert about_figure(notebook) == {}


def test_exported_page_has_the_description_of_a_figure():
    from nbconvert import HTMLExporter

    notebook = with_figure()
    describe_figures(notebook, {"00-07": 'A "line" rises.'})

    page, _ = HTMLExporter(template_name="classic").from_notebook_node(notebook)

    assert 'alt="A &quot;line&quot; rises."' in page or "alt='A \"line\" rises.'" in page


def test_committed_notebooks_have_the_descriptions_of_their_figures(tmp_path):
    for file in (ROOT / "notebooks").glob("*.ipynb"):
        shutil.copy(file, tmp_path)

    changed = write_descriptions(tmp_path)

    assert not changed, "run python -m tools.course.committed_notebooks"
