"""One command for the whole course: ``grpo-course COMMAND``, which pip installs.

In: the name of a command and its arguments. Out: the exit code of the module that does the work:
``grpo-course health RUN`` is ``python -m grpo_helpers.health RUN``. Nothing is decided here.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import grpo_helpers
from grpo_helpers.command_line import BAD_INPUT, COURSE, SUCCESS, print_error, run_command
from grpo_helpers.files import project_root

FIRST_PAGE = "notebooks/00_first_run.ipynb"


@dataclass(frozen=True)
class Command:
    """A command: the module whose ``main`` does its work, and what it does."""

    module: str
    about: str


COMMANDS = {
    "init": Command("course_folder", "lay out a folder to work in (after pip install)"),
    "lab": Command("course", "open the notebooks in JupyterLab"),
    "run": Command("headless", "run the notebooks, or some of them, headless"),
    "report": Command("course_summary", "print the result of a run"),
    "training": Command("training", "train as notebook 04 does"),
    "inference": Command("inference", "answer a file of questions with a checkpoint or a model"),
    "evaluate_json": Command("evaluate_json", "score files of answers and choose a checkpoint"),
    "health": Command("health", "look for trouble in the log of a run"),
    "rewards": Command("rewards", "check that gold answers earn the full reward"),
    "memory": Command("memory", "predict the GPU memory of a run"),
    "hours": Command("hours", "predict the hours of a run on a GPU"),
}


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of what comes before a command."""
    names = max(map(len, COMMANDS))
    lines = [f"  {name:<{names}}  {command.about}" for name, command in COMMANDS.items()]
    parser = argparse.ArgumentParser(
        prog=COURSE,
        usage=f"{COURSE} COMMAND ...",
        description="A course on GRPO: notebooks, training, evaluation.\n\ncommands:\n"
        + "\n".join(lines),
        epilog=f"`{COURSE} COMMAND --help` explains a command.\n"
        "Exit codes: 0 success, 1 a negative result, 2 bad input (docs/install.md).",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=grpo_helpers.__version__)
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help=argparse.SUPPRESS)
    return parser


def open_lab(arguments: Sequence[str]) -> int:
    """Start JupyterLab in the course folder, on notebook 00, and wait for its end.

    Args:
        arguments: They go to JupyterLab, ``--no-browser`` for one.
    """
    os.chdir(project_root())  # JupyterLab shows this folder: notebooks/, docs/, runs/

    from jupyterlab.labapp import LabApp

    start = f"--LabApp.default_url=/lab/tree/{FIRST_PAGE}"
    LabApp.launch_instance([start, *arguments])
    return SUCCESS


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command of the course; return its exit code, or 2 if there is no such command."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = build_parser()
    if not words:
        parser.print_help(sys.stderr)
        return BAD_INPUT

    name = words[0]
    if name not in COMMANDS:
        parser.parse_args(words)  # --help, --version or an error: it ends the process
        return BAD_INPUT

    if sys.platform == "win32":  # the lock of a run folder is a Unix one
        print_error("the course needs Linux or macOS: on Windows, use WSL 2 (docs/install.md)")
        return BAD_INPUT

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # or a kernel warns at every fork
    if name == "lab":
        return run_command(lambda: open_lab(words[1:]))

    module = importlib.import_module(f"grpo_helpers.{COMMANDS[name].module}")
    return int(module.main(words[1:]))


if __name__ == "__main__":
    sys.exit(main())
