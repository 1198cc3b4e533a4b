"""Lay out a folder to work in: ``grpo-course init DIR``.

In: what a wheel carries below ``grpo_helpers/course_files``: notebooks, solutions, data, profiles
and pages. Out: a folder with all of it, from which every notebook and command runs, and in which
``runs/`` grows. Who has a checkout needs none: the checkout is that folder.

``--without-solutions`` is for a class: the folder then has neither ``solutions/`` nor the page for
teachers. That is a courtesy, not a lock. The installed package still carries them, and
:mod:`grpo_helpers.by_hand` is the solution of notebook 08, with which the notebook itself works.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import grpo_helpers
from grpo_helpers.command_line import COURSE, SUCCESS, program_name, run_command
from grpo_helpers.files import (
    CARRIED,
    MARKER,
    InputError,
    check_output_folder,
    is_installed,
    project_root,
    write_json,
)

SOLUTIONS = ("solutions", "docs/teaching.md")  # what a class need not see


def lay_out(folder: str | Path, with_solutions: bool = True) -> Path:
    """Copy what the package carries into a new or an empty folder, and return the folder.

    Args:
        folder: Where the course goes.
        with_solutions: Whether :data:`SOLUTIONS` go there, too.

    Raises:
        InputError: The folder holds something, nothing can be written there, or this package is
            part of a checkout.
    """
    target = Path(folder).expanduser()

    if not is_installed():
        raise InputError(
            f"this package is part of the checkout {project_root()}: work there; "
            f"`{COURSE} init` is for a package that pip installed from a wheel"
        )
    check_output_folder(target)
    if target.is_dir() and any(target.iterdir()):
        raise InputError(f"{folder} is not empty: name a new folder")

    shutil.copytree(
        CARRIED,
        target,
        ignore=None if with_solutions else _solutions_in,
        copy_function=shutil.copyfile,
        dirs_exist_ok=True,
    )
    if not with_solutions:
        _drop_row_of_solutions(target / "README.md")
    # Last, so that a folder that was copied by half is no course folder.
    write_json(target / MARKER, {"made_by": f"{COURSE} init", "version": grpo_helpers.__version__})
    return target


def _solutions_in(folder: str, names: Sequence[str]) -> set[str]:
    """Return the names in a folder of the package that are among :data:`SOLUTIONS`."""
    place = Path(folder).relative_to(CARRIED)
    return {name for name in names if (place / name).as_posix() in SOLUTIONS}


def _drop_row_of_solutions(page: Path) -> None:
    """Take the row on solutions out of the table that says what is in the folder."""
    lines = page.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith("| `solutions/`")]
    page.write_text("".join(kept), encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Lay out a course folder from the shell; return 0, or 2 on bad input."""
    parser = argparse.ArgumentParser(
        prog=program_name("course_folder", "init"),
        description="Copy notebooks, data, profiles and pages into a folder to work in.",
    )
    parser.add_argument("folder", help="a new or an empty folder; . for this one")
    parser.add_argument(
        "--without-solutions",
        action="store_true",
        help="for a class: neither solutions/ nor docs/teaching.md "
        "(the installed package still carries both)",
    )
    args = parser.parse_args(argv)

    def body() -> int:
        target = lay_out(args.folder, with_solutions=not args.without_solutions)
        print(f"The course is in {target}. Next: cd {target} && {COURSE} lab")
        return SUCCESS

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
