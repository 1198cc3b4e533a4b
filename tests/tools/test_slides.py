"""The slides show what the notebooks show, and nothing else has a number."""

import re
from dataclasses import replace

import nbformat
import pytest
from helpers import ROOT

from grpo_helpers.files import InputError
from grpo_helpers.headless import NOTEBOOKS
from tools.course.slides import Notebooks, Shown, main, page, read_deck

COMMITTED = Notebooks(ROOT / "notebooks")
SESSIONS = read_deck()
SLIDES = [slide for session in SESSIONS for slide in session.slides]


@pytest.fixture(scope="module")
def deck():
    """The page made of the committed notebooks."""
    return page(SESSIONS, COMMITTED)


def with_output(tmp_path, **output):
    """Return a folder's notebooks: only ``one``, with the output in its cell ``it``."""
    cell = nbformat.v4.new_code_cell("1", id="it", outputs=[nbformat.v4.new_output(**output)])
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "one.ipynb")
    return Notebooks(tmp_path)


def test_deck_has_six_sessions():
    assert len(SESSIONS) == 6


def test_deck_shows_every_notebook():
    named = {name for session in SESSIONS for name in session.notebooks}

    assert named == set(NOTEBOOKS)


@pytest.mark.parametrize("slide", SLIDES, ids=lambda slide: slide.title)
def test_text_of_a_slide_has_no_number_typed_by_hand(slide):
    assert not re.search(r"\d", " ".join([slide.title, *slide.points]))


@pytest.mark.parametrize("slide", SLIDES, ids=lambda slide: slide.title)
def test_committed_notebook_has_what_a_slide_shows(slide):
    assert COMMITTED.output(slide.shows)


def test_every_session_ends_with_questions(deck):
    assert deck.count("<h2>Discuss</h2>") == len(SESSIONS)


@pytest.mark.parametrize("session", SESSIONS, ids=lambda session: session.title)
def test_session_discusses_a_prediction_or_a_diagnosis(session):
    asked = []
    for name, numbers in session.discuss.items():
        asked += [COMMITTED.questions(name)[number - 1] for number in numbers]

    assert any(question.startswith(("Predict", "Diagnose")) for question in asked)


def test_page_needs_no_network(deck):
    loaded = re.findall(r"""(?:src|href)=["']([^"']+)""", deck)

    assert all(source.startswith("data:") for source in loaded)
    assert "@import" not in deck and "url(" not in deck


def test_figure_of_a_slide_is_that_of_the_notebook(tmp_path):
    image = {"image/png": "AAAA"}
    notebooks = with_output(tmp_path, output_type="display_data", data=image)

    assert "base64,AAAA" in notebooks.output(Shown("one", "it", "figure"))


def test_printed_lines_cannot_break_the_page(tmp_path):
    notebooks = with_output(tmp_path, output_type="stream", name="stdout", text="a < b")

    assert notebooks.output(Shown("one", "it", "printed")) == "<pre>a &lt; b</pre>"


def test_long_output_is_cut_visibly(tmp_path):
    notebooks = with_output(tmp_path, output_type="stream", name="stdout", text="a\nb\nc\n")

    assert notebooks.output(Shown("one", "it", "printed", lines=2)) == "<pre>a\nb\n...</pre>"


def test_table_loses_the_style_of_its_notebook(tmp_path):
    data = {"text/html": "<div><style>x</style><table border=1><tr></tr></table></div>"}
    notebooks = with_output(tmp_path, output_type="execute_result", execution_count=1, data=data)

    shown = notebooks.output(Shown("one", "it", "table"))

    assert shown == "<table border=1><tr></tr></table>"


def test_cell_without_the_output_is_told_by_its_id(tmp_path):
    notebooks = with_output(tmp_path, output_type="stream", name="stdout", text="no figure")

    with pytest.raises(InputError, match="one, cell it has no figure"):
        notebooks.output(Shown("one", "it", "figure"))


def test_unknown_cell_is_told_by_its_id():
    shown = replace(SLIDES[0].shows, cell="none")

    with pytest.raises(InputError, match="cell none: no such cell"):
        COMMITTED.output(shown)


def test_folder_without_notebooks_is_refused_in_one_line(tmp_path, capsys):
    code = main(["--notebooks", str(tmp_path), "--out", str(tmp_path / "slides.html")])

    assert code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_command_writes_about_thirty_slides(tmp_path):
    file = tmp_path / "slides.html"

    assert main(["--out", str(file)]) == 0
    assert 27 <= file.read_text(encoding="utf-8").count("<section") <= 35
