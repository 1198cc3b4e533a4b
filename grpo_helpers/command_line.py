"""How every command of the course ends: one error line and three exit codes.

In: a function that does a command's work. Out: its exit code. Bad input is one line on standard
error, ``error: what is wrong, where, and how to fix it``, instead of a traceback; a traceback
therefore always means a fault in the code.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from grpo_helpers.files import InputError

SUCCESS = 0
FAILURE = 1  # the command worked, and its result is negative: a check failed, a file was skipped
BAD_INPUT = 2  # the command could not work; argparse uses the same code for wrong arguments


COURSE = "grpo-course"  # the command that pip installs


def program_name(module: str, command: str = "") -> str:
    """Return how a command of this package was started, for the first line of its ``--help``.

    Args:
        module: The module of the command.
        command: Its name after ``grpo-course``; the module's if not given.

    >>> program_name("health")
    'python -m grpo_helpers.health'
    """
    if Path(sys.argv[0]).stem == COURSE:  # on Windows, its file ends in .exe
        return f"{COURSE} {command or module}"
    return f"python -m grpo_helpers.{module}"


def print_error(message: object) -> None:
    """Print ``error: message`` to standard error."""
    print(f"error: {message}", file=sys.stderr)


def run_command(body: Callable[[], int]) -> int:
    """Run the body of a command and report bad input in one line.

    Args:
        body: Does the work and returns the exit code; takes no arguments (use a closure or
            ``functools.partial``).

    Returns:
        The exit code of ``body``, or :data:`BAD_INPUT` if it raised InputError. Other exceptions
        are passed on.

    >>> run_command(lambda: SUCCESS)
    0
    """
    try:
        return body()
    except InputError as error:
        print_error(error)
        return BAD_INPUT
