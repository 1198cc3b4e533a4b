"""The command line that the pages share: build the text, write the file, say where."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from grpo_helpers.command_line import run_command
from grpo_helpers.files import show_path, write_atomically


def write_page(build: Callable[[], str], path: Path) -> Path:
    """Write what ``build`` returns to ``path``, completely or not at all."""
    text = build()
    return write_atomically(path, lambda file: file.write(text))


def page_command(
    module: str,
    build: Callable[[], str],
    path: Path,
    argv: Sequence[str] | None = None,
) -> int:
    """Run the command line of a page; return its exit code.

    Args:
        module: The tool's name, as in ``python -m tools.pages.article``.
        build: Returns the page's text.
        path: The file that it goes to.
        argv: Arguments; None takes those of the process. There are none but ``--help``.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {module}", description=f"Write {show_path(path)}."
    )
    parser.parse_args(argv)

    def write() -> int:
        print(f"written: {show_path(write_page(build, path))}")
        return 0

    return run_command(write)
