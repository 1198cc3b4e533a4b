"""Lay out a folder to work in: ``grpo-course init DIR``.

In: what a wheel carries below ``grpo_helpers/course_files``: notebooks, solutions, data, profiles
and pages. Out: a folder with all of it, from which every notebook and command runs, and in which
``runs/`` grows. Who has a checkout needs none: the checkout is that folder.
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


def lay_out(folder: str | Path) -> Path:
    """Copy what the package carries into a new or an empty folder, and return the folder.

    Args:
        folder: Where the course goes.

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

    shutil.copytree(CARRIED, target, copy_function=shutil.copyfile, dirs_exist_ok=True)
    # Last, so that a folder that was copied by half is no course folder.
    write_json(target / MARKER, {"made_by": f"{COURSE} init", "version": grpo_helpers.__version__})
    return target


def main(argv: Sequence[str] | None = None) -> int:
    """Lay out a course folder from the shell; return 0, or 2 on bad input."""
    parser = argparse.ArgumentParser(
        prog=program_name("course_folder", "init"),
        description="Copy notebooks, data, profiles and pages into a folder to work in.",
    )
    parser.add_argument("folder", help="a new or an empty folder; . for this one")
    args = parser.parse_args(argv)

    def body() -> int:
        target = lay_out(args.folder)
        print(f"The course is in {target}. Next: cd {target} && {COURSE} lab")
        return SUCCESS

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
