"""Collect exercises: ``python -m tools.course.marks SUBMISSIONS --out marks.csv``.

In: a folder with one folder for each student, in which there are notebooks as they were handed in,
any of the ten. Out: a CSV file with a mark for each student and exercise, and a printed table that
says of each exercise how many have it right. Nothing is run: all is read from the files.

==============  ====================================================================================
right           the check printed *right*
pasted          it did, and the code is the course's own solution
not yet         there is code, but the check printed *not yet*, or nothing
not tried       the cell of the exercise is as it was given out, and its name is set nowhere else
check changed   the code of the check is not the course's, or the check was deleted
missing         no notebook with this exercise
==============  ====================================================================================

A printed line is text in a file. Whoever can edit a notebook can forge it: this is a help for
reading, not a proof. *Pasted* finds a copy of the page in ``solutions/``, and of ``by_hand.py``,
whatever became of its comments, docstrings and line breaks; with other names it is not found. And
where a solution is one short line, an honest student may have written the same. Ask.
"""

from __future__ import annotations

import argparse
import csv
import inspect
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from grpo_helpers import by_hand
from grpo_helpers.command_line import FAILURE, SUCCESS, run_command
from grpo_helpers.files import (
    InputError,
    check_output_file,
    first_line,
    nfc,
    project_root,
    resolve_path,
    show_path,
    write_atomically,
)
from grpo_helpers.headless import NOTEBOOKS
from tools.course.exercises import CHECK, EXERCISE, solutions, tagged
from tools.course.same_code import evidence, names_set, normal_form, statements, takes_from
from tools.pages.markdown import table

RIGHT = "right"
PASTED = "pasted"
NOT_YET = "not yet"
NOT_TRIED = "not tried"
CHECK_CHANGED = "check changed"
MISSING = "missing"
MARKS = (RIGHT, PASTED, NOT_YET, NOT_TRIED, CHECK_CHANGED, MISSING)
# Of an exercise that a student handed in twice, the mark that stands first here counts.
BEST_FIRST = (RIGHT, PASTED, NOT_YET, CHECK_CHANGED, NOT_TRIED, MISSING)

WARNING = (
    "The marks are read from what notebooks say that they printed. Whoever can edit a notebook can "
    "forge a printed line: this is a help for reading, not a proof."
)

Marks = dict[str, str]  # by the number of the exercise


# -- what a notebook says --------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """A code cell of a notebook.

    Attributes:
        names: Its tags and its id: by these it is found again.
        source: Its code.
        printed: What its outputs say that it printed.
    """

    names: frozenset[str]
    source: str
    printed: str = ""

    @cached_property
    def normal(self) -> str:
        """Its code in the normal form of :mod:`tools.course.same_code`."""
        return normal_form(self.source)


def read_cells(file: Path) -> list[Cell]:
    """Return the code cells of a notebook.

    Raises:
        InputError: The file cannot be read, or is no notebook.
    """
    try:
        notebook = json.loads(file.read_text(encoding="utf-8-sig"))
        cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        return [_cell(cell) for cell in cells]
    except OSError as error:
        raise InputError(f"{file.name} cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON
        raise InputError(f"{file.name} is no notebook ({first_line(error)})") from None
    except (AttributeError, KeyError, TypeError):  # JSON of another kind
        raise InputError(f"{file.name} is no notebook (it has no list of cells)") from None


def _cell(raw: Mapping[str, Any]) -> Cell:
    metadata = raw.get("metadata", {})
    # Colab keeps the id of a cell in its metadata.
    ids = [raw.get("id"), metadata.get("id")]
    names = [*metadata.get("tags", []), *filter(None, ids)]
    outputs = raw.get("outputs", [])
    printed = [_text(out["text"]) for out in outputs if out.get("output_type") == "stream"]
    return Cell(frozenset(map(str, names)), _text(raw["source"]), "".join(printed))


def _text(lines: str | Sequence[str]) -> str:
    """Return text that a notebook keeps whole or in lines."""
    return lines if isinstance(lines, str) else "".join(lines)


# -- the course ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Exercise:
    """An exercise as it was given out.

    Attributes:
        number: ``"4.1"``.
        stub: The cell to write in.
        check: The cell that checks it.
        names: What an answer defines: the functions of the stub, or the last name that it sets.
        copies: What a copied solution is known by: the statements of each text that may be copied.
    """

    number: str
    stub: Cell
    check: Cell
    names: frozenset[str]
    copies: tuple[frozenset[str], ...]


@dataclass(frozen=True)
class Course:
    """All exercises, and the code that every notebook has from the beginning, in normal form."""

    exercises: tuple[Exercise, ...]
    given: frozenset[str] = field(repr=False)


def read_course(folder: Path | None = None) -> Course:
    """Return the exercises of all notebooks, in their order.

    Args:
        folder: The notebooks as they were given out; those of this checkout if not given.
    """
    exercises: list[Exercise] = []
    given: set[str] = set()

    for name in NOTEBOOKS:
        file = (folder or project_root() / "notebooks") / f"{name}.ipynb"
        if not file.is_file():
            raise InputError(f"no notebook {file.name} in {show_path(file.parent)}")

        given |= {cell.normal for cell in read_cells(file)}
        notebook = json.loads(file.read_text(encoding="utf-8"))
        solved = solutions(name)
        checks = tagged(notebook, CHECK)
        for number, stub in tagged(notebook, EXERCISE).items():
            exercises.append(_exercise(number, _cell(stub), _cell(checks[number]), solved[number]))

    return Course(tuple(exercises), frozenset(given))


def _exercise(number: str, stub: Cell, check: Cell, solution: str) -> Exercise:
    functions = re.findall(r"^def (\w+)", stub.source, re.M)
    names = frozenset(functions or names_set(stub.source)[-1:])
    copies = [evidence(solution)]
    for name in names & _functions_of_reference():
        copies.append(evidence(inspect.getsource(getattr(by_hand, name))))
    found = tuple(filter(None, copies))
    return Exercise(number, stub, check, names=names, copies=found)


def _functions_of_reference() -> frozenset[str]:
    """Return the names of the functions that notebook 08 asks for, and that the package has."""
    functions = inspect.getmembers(by_hand, inspect.isfunction)
    return frozenset(
        name for name, function in functions if function.__module__ == by_hand.__name__
    )


# -- marks -----------------------------------------------------------------------------------------


def mark(exercise: Exercise, cells: Sequence[Cell], given: Iterable[str]) -> str:
    """Return the mark of one exercise in one notebook, one of :data:`MARKS`.

    Args:
        exercise: The exercise.
        cells: The notebook that was handed in.
        given: The code that is not the student's, in normal form.
    """
    tries = [cell for cell in cells if cell.names & exercise.stub.names]
    checks = [cell for cell in cells if _is_check(cell, exercise)]
    if not tries and not checks:
        return MISSING

    checks = [cell for cell in checks if cell.normal == exercise.check.normal]
    if not checks:
        return CHECK_CHANGED

    own = [cell for cell in cells if cell.normal and cell.normal not in given]
    is_tried = any(cell in own for cell in tries)
    if not is_tried and not any(exercise.names & set(names_set(cell.source)) for cell in own):
        return NOT_TRIED

    if _last_verdict(exercise.number, checks) != RIGHT:
        return NOT_YET
    return PASTED if _is_copied(exercise, own) else RIGHT


def _is_check(cell: Cell, exercise: Exercise) -> bool:
    """Return whether a cell is the check of an exercise, also where its tag and its id got lost."""
    return bool(cell.names & exercise.check.names) or cell.normal == exercise.check.normal


def _last_verdict(number: str, checks: Iterable[Cell]) -> str:
    """Return the last verdict that the checks of an exercise printed; empty if there is none."""
    printed = "\n".join(cell.printed for cell in checks)
    verdicts = re.findall(rf"^{re.escape(number)}: ({RIGHT}|{NOT_YET})\b", printed, re.M)
    return verdicts[-1] if verdicts else ""


def _is_copied(exercise: Exercise, own: Sequence[Cell]) -> bool:
    """Return whether a student's code contains, or merely calls, a function of the course's."""
    written = {statement for cell in own for statement in statements(cell.source)}
    if any(copy <= written for copy in exercise.copies):
        return True

    of_reference = exercise.names & _functions_of_reference()
    return any(takes_from(cell.source, "by_hand", of_reference) for cell in own)


@dataclass(frozen=True)
class Student:
    """What one student handed in.

    Attributes:
        name: The name of the folder.
        marks: The mark of each exercise.
        notes: What a teacher should know of the files, one line each.
        faults: Why a file could not be read, one line each.
    """

    name: str
    marks: Marks
    notes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


def mark_student(folder: Path, course: Course) -> Student:
    """Return the marks of all notebooks in a student's folder, and in the folders in it."""
    name = nfc(folder.name)
    best = {exercise.number: MISSING for exercise in course.exercises}
    notes, faults = [], []

    files = _notebooks_in(folder)
    if not files:
        notes.append(f"{name}: no notebook")
    for file in files:
        try:
            cells = read_cells(file)
        except InputError as error:
            faults.append(f"{name}: {error}")
            continue

        found = _marks_of(cells, course)
        if not found:
            notes.append(f"{name}: {file.name} has no exercise of the course")
        if any(best[number] != MISSING for number in found):
            notes.append(f"{name}: {file.name} repeats exercises; the better mark counts")
        for number, there in found.items():
            best[number] = min(best[number], there, key=BEST_FIRST.index)
    return Student(name, best, tuple(notes), tuple(faults))


def _marks_of(cells: Sequence[Cell], course: Course) -> Marks:
    """Return the mark of each exercise that a notebook has."""
    marks = {each.number: mark(each, cells, course.given) for each in course.exercises}
    return {number: there for number, there in marks.items() if there != MISSING}


def _notebooks_in(folder: Path) -> list[Path]:
    """Return the notebooks below a folder, without those that Jupyter keeps for itself."""
    files = []
    for file in sorted(folder.rglob("*.ipynb")):
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        if file.is_file() and not hidden:
            files.append(file)
    return files


def student_folders(submissions: str) -> list[Path]:
    """Return the folder of each student, by name.

    Raises:
        InputError: There is no such folder, or there is no folder in it.
    """
    place = resolve_path(submissions)
    if not place.is_dir():
        raise InputError(f"no folder {submissions}: give one that has a folder for each student")

    folders = [path for path in place.iterdir() if path.is_dir() and path.name[0] not in "._"]
    if not folders:
        raise InputError(f"no folder in {submissions}: expected one for each student")
    return sorted(folders)


# -- what is written and printed -------------------------------------------------------------------


def write_marks(file: Path, students: Sequence[Student]) -> Path:
    """Write a row for each student: the mark of each exercise, then how many there are of each."""

    def write(opened: Any) -> None:
        writer = csv.writer(opened, lineterminator="\n")
        writer.writerow(["student", *students[0].marks, *MARKS])
        for student in students:
            given = list(student.marks.values())
            writer.writerow([student.name, *given, *map(given.count, MARKS)])

    return write_atomically(file, write)


def summary(students: Sequence[Student]) -> str:
    """Return a table with the number of students for each exercise and mark, as Markdown.

    Exercises that nobody has handed in are named below it.
    """
    rows, missing = [], []
    for number in students[0].marks:
        given = [student.marks[number] for student in students]
        if set(given) == {MISSING}:
            missing.append(number)
            continue
        rows.append({"exercise": number} | {each: given.count(each) for each in MARKS})

    lines = [table(rows)] if rows else []
    if missing:
        lines.append(f"handed in by nobody: {', '.join(missing)}")
    return "\n\n".join(lines)


def collect(submissions: str, out: str, notebooks: str = "") -> int:
    """Mark all students, write the file, print the table; return 1 if a file was left out."""
    check_output_file(out)
    folders = student_folders(submissions)
    course = read_course(resolve_path(notebooks) if notebooks else None)

    students = [mark_student(folder, course) for folder in folders]
    for student in students:
        for line in (*student.faults, *student.notes):
            print(line)

    written = write_marks(Path(out), students)
    print(f"\n{summary(students)}\n\n{WARNING}")
    print(f"{show_path(written)}: {len(students)} students, {len(course.exercises)} exercises")
    return FAILURE if any(student.faults for student in students) else SUCCESS


def main(argv: Sequence[str] | None = None) -> int:
    """Collect marks; return 0, 1 if a file could not be read, or 2 on bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.course.marks",
        description="Collect the exercises of handed-in notebooks, without running them.",
        epilog=WARNING,
    )
    add = parser.add_argument
    add("submissions", help="a folder that has one folder of notebooks for each student")
    add("--out", default="marks.csv", help="the file that is written (default: %(default)s)")
    add("--notebooks", default="", help="the notebooks that were given out, if not those here")
    args = parser.parse_args(argv)
    return run_command(lambda: collect(args.submissions, args.out, args.notebooks))


if __name__ == "__main__":
    sys.exit(main())
