"""Marks of handed-in notebooks: what each of them means, and what happens to bad files."""

import csv
import json
import shutil

import nbformat
import pytest
from exercises import read_notebook, solutions, tagged
from helpers import ROOT

from grpo_helpers.files import InputError
from grpo_helpers.headless import NOTEBOOKS
from tools.course.marks import (
    CHECK_CHANGED,
    MARKS,
    MISSING,
    NOT_TRIED,
    NOT_YET,
    PASTED,
    RIGHT,
    main,
    mark_student,
    read_course,
    student_folders,
    summary,
)

FIRST = "00_first_run"
OWN = "def direction(points):\n    return [1 if 2 * each > sum(points) else -1 for each in points]"
COURSE = read_course()


def printed(text):
    return nbformat.v4.new_output("stream", name="stdout", text=text)


def answered(name=FIRST, code=None, says="right"):
    """Return a notebook in which every exercise has an answer, and its check has printed a line.

    Args:
        name: The notebook.
        code: Number of an exercise -> the answer; the course's solution where it has none.
        says: What every check printed.
    """
    notebook = read_notebook(name)
    code = solutions(name) | (code or {})
    for number, cell in tagged(notebook, "exercise").items():
        cell.source = code[number]
    for number, cell in tagged(notebook, "check").items():
        cell.outputs = [printed(f"{number}: {says}, as it seems\n")]
    return notebook


def hand_in(folder, notebook, name=FIRST):
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, folder / f"{name}.ipynb")
    return folder


def marks_of(folder):
    return mark_student(folder, COURSE).marks


def check_of(notebook, number="0.2"):
    return tagged(notebook, "check")[number]


# -- what a mark means --------------------------------------------------------------------------


def test_every_exercise_of_the_course_has_a_mark():
    names = [number for name in NOTEBOOKS for number in tagged(read_notebook(name), "exercise")]

    assert [exercise.number for exercise in COURSE.exercises] == names


def test_committed_notebooks_are_not_tried(tmp_path):
    for name in NOTEBOOKS:
        shutil.copy(ROOT / f"notebooks/{name}.ipynb", tmp_path)

    assert set(marks_of(tmp_path).values()) == {NOT_TRIED}


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_solutions_of_the_course_are_pasted(tmp_path, name):
    marks = marks_of(hand_in(tmp_path, answered(name), name))

    # Nobody can write the name of a cause in another way.
    expected = RIGHT if name == "09_clinic" else PASTED
    assert {marks[number] for number in solutions(name)} == {expected}


def test_code_of_ones_own_is_right(tmp_path):
    marks = marks_of(hand_in(tmp_path, answered(code={"0.2": OWN})))

    assert marks["0.2"] == RIGHT


def test_solution_with_other_comments_and_line_breaks_is_pasted(tmp_path):
    copied = solutions(FIRST)["0.2"].replace('"""Return', '"""I return').replace("[(", "[  # !\n(")

    assert marks_of(hand_in(tmp_path, answered(code={"0.2": copied})))["0.2"] == PASTED


def test_solution_in_a_cell_of_its_own_is_pasted(tmp_path):
    notebook = answered()
    stub = tagged(read_notebook(FIRST), "exercise")["0.2"]
    cell = tagged(notebook, "exercise")["0.2"]
    notebook.cells.append(nbformat.v4.new_code_cell(cell.source))
    cell.source = stub.source

    assert marks_of(hand_in(tmp_path, notebook))["0.2"] == PASTED


@pytest.mark.parametrize("code", ["loss = by_hand.loss", "from grpo_helpers.by_hand import loss"])
def test_function_of_the_package_is_pasted(tmp_path, code):
    name = "08_write_grpo_yourself"

    assert marks_of(hand_in(tmp_path, answered(name, {"8.4": code}), name))["8.4"] == PASTED


def test_printed_not_yet_is_not_yet(tmp_path):
    assert marks_of(hand_in(tmp_path, answered(says="not yet")))["0.2"] == NOT_YET


def test_check_that_never_ran_is_not_yet(tmp_path):
    notebook = answered()
    check_of(notebook).outputs = []

    assert marks_of(hand_in(tmp_path, notebook))["0.2"] == NOT_YET


def test_last_printed_verdict_counts(tmp_path):
    notebook = answered(code={"0.2": OWN})
    check_of(notebook).outputs.append(printed("0.2: not yet, after all\n"))

    assert marks_of(hand_in(tmp_path, notebook))["0.2"] == NOT_YET


def test_line_of_another_exercise_counts_for_nothing(tmp_path):
    notebook = answered(code={"0.2": OWN})
    check_of(notebook).outputs = [printed("0.1: right\n")]

    assert marks_of(hand_in(tmp_path, notebook))["0.2"] == NOT_YET


def test_code_that_cannot_be_parsed_is_tried(tmp_path):
    assert marks_of(hand_in(tmp_path, answered(code={"0.2": "def d(:"}, says="not yet")))[
        "0.2"
    ] == (NOT_YET)


def test_right_below_an_untouched_stub_is_not_tried(tmp_path):
    notebook = read_notebook(FIRST)
    check_of(notebook).outputs = [printed("0.2: right\n")]

    assert marks_of(hand_in(tmp_path, notebook))["0.2"] == NOT_TRIED


def test_changed_check_is_told(tmp_path):
    notebook = answered()
    check_of(notebook).source = 'print("0.2: right")'

    assert marks_of(hand_in(tmp_path, notebook))["0.2"] == CHECK_CHANGED


def test_deleted_check_is_told(tmp_path):
    notebook = answered()
    notebook.cells.remove(check_of(notebook))

    assert marks_of(hand_in(tmp_path, notebook))["0.2"] == CHECK_CHANGED


def test_check_in_another_layout_is_the_same(tmp_path):
    notebook = answered(code={"0.2": OWN})
    check_of(notebook).source += "\n\n# run twice"

    assert marks_of(hand_in(tmp_path, notebook))["0.2"] == RIGHT


def test_cells_without_tags_are_found_by_their_ids(tmp_path):
    notebook = answered(code={"0.2": OWN})
    for cell in notebook.cells:
        cell.metadata = {}

    assert marks_of(hand_in(tmp_path, notebook))["0.2"] == RIGHT


def test_notebook_that_is_not_there_is_missing(tmp_path):
    assert marks_of(hand_in(tmp_path, answered()))["1.1"] == MISSING


def test_notebook_that_is_there_twice_gets_the_better_mark(tmp_path):
    hand_in(tmp_path, read_notebook(FIRST), "00_first_run (1)")
    student = mark_student(hand_in(tmp_path, answered(code={"0.2": OWN})), COURSE)

    assert student.marks["0.2"] == RIGHT
    assert "the better mark counts" in student.notes[0]


# -- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"no JSON", "kim: broken.ipynb is no notebook (Expecting value"),
        (b"\xff\xfe\xff", "kim: broken.ipynb is no notebook ('utf-8' codec"),
        (b"[1, 2]", "kim: broken.ipynb is no notebook (it has no list of cells)"),
        (b'{"cells": [{"cell_type": "code", "source": 3}]}', "kim: broken.ipynb is no notebook"),
        (b"[" * 100_000, "kim: broken.ipynb is no notebook"),
    ],
)
def test_file_that_is_no_notebook_gets_one_line(tmp_path, content, told):
    folder = hand_in(tmp_path / "kim", answered())
    (folder / "broken.ipynb").write_bytes(content)

    student = mark_student(folder, COURSE)

    (fault,) = student.faults
    assert fault.startswith(told) and "\n" not in fault
    assert student.marks["0.2"] == PASTED


def test_notebook_of_something_else_is_told(tmp_path):
    other = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")])

    student = mark_student(hand_in(tmp_path / "kim", other, "notes"), COURSE)

    assert student.notes == ("kim: notes.ipynb has no exercise of the course",)


def test_checkpoints_of_jupyter_are_no_submissions(tmp_path):
    hand_in(tmp_path / ".ipynb_checkpoints", answered())

    assert set(marks_of(tmp_path).values()) == {MISSING}


@pytest.mark.parametrize(("folder", "told"), [("none", "no folder none"), (".", "no folder in")])
def test_submissions_without_students_are_refused(tmp_path, monkeypatch, folder, told):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(InputError, match=told):
        student_folders(folder)


# -- the command --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    """Two students: one with own code and a broken file, one with solutions of two notebooks."""
    folder = tmp_path_factory.mktemp("submissions")
    hand_in(folder / "kim", answered(code={"0.2": OWN}, says="right"))
    (folder / "kim" / "01.ipynb").write_text("no notebook", encoding="utf-8")
    hand_in(folder / "lee", read_notebook(FIRST))
    hand_in(folder / "lee", answered("09_clinic", says="not yet"), "09_clinic")

    file = folder / "out" / "marks.csv"
    code = main([str(folder), "--out", str(file)])
    with file.open(encoding="utf-8") as opened:
        return code, list(csv.DictReader(opened))


def test_command_ends_with_one_if_a_file_was_left_out(collected):
    assert collected[0] == 1


def test_file_has_one_row_for_each_student(collected):
    assert [row["student"] for row in collected[1]] == ["kim", "lee"]


def test_file_has_one_column_for_each_exercise_and_mark(collected):
    numbers = [exercise.number for exercise in COURSE.exercises]

    assert list(collected[1][0]) == ["student", *numbers, *MARKS]


def test_marks_of_a_row_add_up(collected):
    for row in collected[1]:
        assert sum(int(row[each]) for each in MARKS) == len(COURSE.exercises)


def test_totals_are_those_of_the_columns(collected):
    kim, lee = collected[1]

    assert (kim[RIGHT], kim[PASTED], lee[NOT_TRIED], lee[NOT_YET]) == ("1", "2", "3", "8")


def test_summary_counts_students_by_exercise(tmp_path):
    folders = [
        hand_in(tmp_path / "kim", answered()),
        hand_in(tmp_path / "lee", read_notebook(FIRST)),
    ]

    told = summary([mark_student(folder, COURSE) for folder in folders])

    assert "| 0.2 | 0 | 1 | 0 | 1 | 0 | 0 |" in told
    assert "handed in by nobody: 1.1, " in told


def test_nothing_that_was_handed_in_is_run(tmp_path):
    trap = tmp_path / "trap"
    code = f"open({json.dumps(str(trap))}, 'w')"

    marks_of(hand_in(tmp_path / "kim", answered(code={"0.2": code})))

    assert not trap.exists()


def test_help_says_that_a_line_can_be_forged(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])

    assert "not a proof" in " ".join(capsys.readouterr().out.split())


def test_folder_that_is_not_there_ends_with_two(capsys):
    assert main(["no/such/folder"]) == 2
    assert capsys.readouterr().err.startswith("error: no folder no/such/folder")
