"""Run the notebooks headless: ``python -m tools.course.run`` (``make run``).

Papermill executes each notebook with the parameters of ``params/<profile>/<notebook>.yaml`` and
writes it to ``runs/<run_name>/notebooks/``. With ``--write-outputs`` the executed copies also
replace the notebooks in ``notebooks/``, and the READMEs get the results of the run (``make
outputs``).
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from grpo_helpers.command_line import FAILURE, SUCCESS, run_command
from grpo_helpers.files import InputError, project_root, read_yaml, show_path
from tools.course.committed_notebooks import commit_notebook
from tools.course.publish import publish
from tools.course.summary import summary

NOTEBOOKS = (
    "00_first_run",
    "01_data_and_few_shot",
    "02_reward_exploration",
    "03_memory_budget",
    "04_train",
    "05_evaluate_and_select",
    "06_what_grpo_did",
    "07_thinking",
    "08_write_grpo_yourself",
)

TRAINING = ("00_first_run", "04_train", "07_thinking")
HEADLESS = {"sliders": False}  # nobody is there to move one
SHOWN = ("step ", "note: ", "downloading: ")  # how lines begin that are worth seeing at once


class StepLines(io.TextIOBase):
    """Shows the training steps among the lines that a notebook prints, and little else."""

    def write(self, text: str) -> int:
        """Print the lines of ``text`` that report progress; return the length of ``text``."""
        for line in text.splitlines():
            if line.startswith(SHOWN):
                print(f"\n  {line}", end="", flush=True)
        return len(text)


def notebook_path(notebook: str) -> Path:
    """Return the committed notebook of this name."""
    return project_root() / "notebooks" / f"{notebook}.ipynb"


def profile_parameters(profile: str, notebook: str) -> dict[str, Any]:
    """Return the parameters of one notebook in a profile; the profile ``default`` changes nothing.

    Raises:
        InputError: There is no such profile.
    """
    folder = project_root() / "params" / profile
    if profile != "default" and not folder.is_dir():
        known = sorted(path.name for path in folder.parent.iterdir() if path.is_dir())
        raise InputError(f"unknown profile {profile!r}; known are default, {', '.join(known)}")

    file = folder / f"{notebook}.yaml"
    return read_yaml(file) if file.is_file() else {}


def run_notebook(notebook: str, parameters: dict[str, Any], output: Path) -> float:
    """Execute one notebook into ``output`` and return the seconds it took.

    The copy goes to a temporary folder first: a run that is refused leaves nothing in the run
    folder.
    """
    import papermill

    source = notebook_path(notebook)
    started = time.time()
    with tempfile.TemporaryDirectory(prefix="grpo-course-") as folder:
        executed = Path(folder) / source.name
        papermill.execute_notebook(
            str(source),
            str(executed),
            parameters=parameters,
            cwd=str(source.parent),
            progress_bar=False,
            log_output=False,
            stdout_file=StepLines(),
            # Jupyter's warning about local TCP would appear among our lines.
            extra_arguments=["--IPKernelApp.log_level=40"],
        )
        output.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(executed, output)
    return time.time() - started


def run_course(
    profile: str,
    run_name: str | None,
    notebooks: Sequence[str] = NOTEBOOKS,
    extra: dict[str, Any] | None = None,
) -> Path:
    """Run ``notebooks`` in order with a profile and return the run folder.

    Args:
        profile: A folder of ``params/``, or ``default``.
        run_name: Name of the run folder; default: the profile's own ``run_name``, else the
            profile's name.
        notebooks: Which notebooks.
        extra: Further parameters by name, for the notebooks that have them.
    """
    own_name = profile_parameters(profile, "04_train").get("run_name")
    run_name = run_name or own_name or profile
    run_dir = project_root() / "runs" / run_name

    for notebook in notebooks:
        parameters = profile_parameters(profile, notebook) | {"run_name": run_name}
        parameters |= _accepted(notebook, HEADLESS | (extra or {}))

        print(f"{notebook} ... ", end="", flush=True)
        seconds = run_notebook(notebook, parameters, run_dir / "notebooks" / f"{notebook}.ipynb")
        if notebook in TRAINING:  # step lines have come between
            print(f"\n{notebook}: ", end="")
        print(f"{seconds:.0f} s", flush=True)
    return run_dir


def _accepted(notebook: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Return those of ``parameters`` that a notebook has."""
    import papermill

    known = papermill.inspect_notebook(str(notebook_path(notebook)))
    return {name: value for name, value in parameters.items() if name in known}


def write_outputs(run_dir: Path) -> None:
    """Replace the committed notebooks by the executed ones, and publish the results of the run."""
    for notebook in NOTEBOOKS:
        commit_notebook(run_dir / "notebooks" / f"{notebook}.ipynb", notebook_path(notebook))
    publish(run_dir)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0; 1 if a notebook failed; 2 for a profile that does not exist.
    """
    parser = argparse.ArgumentParser(
        prog="python -m tools.course.run", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--profile", default="default", help="a folder of params/")
    parser.add_argument("--run_name", help="the folder in runs/; default: the profile's")
    parser.add_argument(
        "--write-outputs",
        action="store_true",
        help="replace the outputs in notebooks/ and the results in the READMEs",
    )
    args = parser.parse_args(argv)

    def body() -> int:
        try:
            run_dir = run_course(args.profile, args.run_name)
        except InputError:
            raise
        except Exception as error:
            # Papermill's error holds the notebook's traceback; its last line says what is wrong.
            print(f"\n{error}", file=sys.stderr)
            return FAILURE

        if args.write_outputs:
            write_outputs(run_dir)

        print(f"\n{summary(run_dir)}\n")
        print(f"Everything is in {show_path(run_dir)}/; open report.html there, then notebooks/")
        return SUCCESS

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
