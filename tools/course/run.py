"""Run the notebooks headless: ``python -m tools.course.run`` (``make run``).

``grpo_helpers.headless`` runs them. With ``--write-outputs`` the executed copies also replace the
notebooks in ``notebooks/``, and the READMEs get the results of the run (``make outputs``).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from grpo_helpers.command_line import run_command
from grpo_helpers.files import InputError
from grpo_helpers.headless import NOTEBOOKS, build_parser, notebook_path, run_and_tell
from tools.course.committed_notebooks import commit_notebook
from tools.course.publish import publish


def write_outputs(run_dir: Path) -> None:
    """Replace the committed notebooks by the executed ones, and publish the results of the run."""
    for notebook in NOTEBOOKS:
        commit_notebook(run_dir / "notebooks" / f"{notebook}.ipynb", notebook_path(notebook))
    publish(run_dir)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0; 1 if a notebook failed; 2 for a profile, a notebook or a parameter that does not exist.
    """
    parser = build_parser("python -m tools.course.run")
    parser.add_argument(
        "--write-outputs",
        action="store_true",
        help="replace the outputs in notebooks/ and the results in the READMEs",
    )
    args = parser.parse_args(argv)

    def body() -> int:
        if not args.write_outputs:
            return run_and_tell(args)

        if len(args.notebooks) < len(NOTEBOOKS) or args.p:
            raise InputError("--write-outputs publishes the whole course: leave the others out")
        return run_and_tell(args, finish=write_outputs)

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
