"""Run the notebooks headless: ``grpo-course run``, ``python -m tools.course.run`` (``make run``).

Papermill executes each notebook with the parameters of ``params/<profile>/<notebook>.yaml`` and
writes it to ``runs/<run_name>/notebooks/``. The article has scripts instead of notebooks; here both
ways, by hand and headless, run the same cells.
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from grpo_helpers.command_line import FAILURE, SUCCESS, program_name, run_command
from grpo_helpers.course_summary import summary
from grpo_helpers.files import InputError, project_root, read_yaml, show_path
from grpo_helpers.parameters import read_value

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
    "09_clinic",
)

TRAINING = ("00_first_run", "04_train", "07_thinking")
SUMMARISED = "05_evaluate_and_select"  # leaves the files that the summary reads
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
    """Return the notebook of this name, as it is in the course."""
    return project_root() / "notebooks" / f"{notebook}.ipynb"


def chosen_notebooks(words: Sequence[str]) -> list[str]:
    """Return the notebooks that ``words`` name by number or by name, in the order of the course.

    Raises:
        InputError: A word names no notebook.

    >>> chosen_notebooks(["05", "04_train"])
    ['04_train', '05_evaluate_and_select']
    """
    for word in words:
        if not any(word in (name, name[:2]) for name in NOTEBOOKS):
            raise InputError(f"unknown notebook {word!r}; known are {', '.join(NOTEBOOKS)}")

    return [name for name in NOTEBOOKS if name in words or name[:2] in words]


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
    known = _declared(notebook)
    return {name: value for name, value in parameters.items() if name in known}


def _declared(notebook: str) -> dict[str, Any]:
    """Return the parameters of a notebook, as papermill reads them from its parameters cell."""
    import papermill

    return papermill.inspect_notebook(str(notebook_path(notebook)))


def changed_parameters(pairs: Sequence[Sequence[str]], notebooks: Sequence[str]) -> dict[str, Any]:
    """Return the parameters that a command line replaces, by name.

    Args:
        pairs: A name and a value in YAML, each.
        notebooks: Which notebooks are run; a parameter belongs to one of them at least.

    Raises:
        InputError: None of the notebooks has the parameter, or the run's name is among them.
    """
    declared: dict[str, Any] = {}
    if pairs:
        for notebook in notebooks:
            declared |= _declared(notebook)

    values = {}
    for name, text in pairs:
        if name == "run_name":
            raise InputError("-p run_name: write --run_name, which also names the run's folder")
        if name not in declared:
            raise InputError(f"unknown parameter {name} of notebooks {', '.join(notebooks)}")
        is_text = declared[name]["inferred_type_name"] == "str"
        values[name] = read_value(text, is_text)
    return values


# -- from the shell --------------------------------------------------------------------------------


def build_parser(program: str) -> argparse.ArgumentParser:
    """Return the parser of a command that runs the course."""
    parser = argparse.ArgumentParser(
        prog=program, description="Run the notebooks of the course, one after another, headless."
    )
    add = parser.add_argument
    add("--profile", default="default", help="a folder of params/ (default: the course's defaults)")
    add("--run_name", help="the folder in runs/ (default: the profile's)")
    add(
        "--notebooks",
        nargs="+",
        default=list(NOTEBOOKS),
        metavar="NUMBER",
        help="which ones, 04 05 for two (default: all)",
    )
    add(
        "-p",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="replace a parameter, in every notebook that has it; may be repeated",
    )
    return parser


def run_and_tell(args: argparse.Namespace, finish: Callable[[Path], None] | None = None) -> int:
    """Run the notebooks that a command line names and print the summary; return the exit code.

    Args:
        args: What the parser of :func:`build_parser` read.
        finish: What else is done with the run folder.
    """
    notebooks = chosen_notebooks(args.notebooks)
    extra = changed_parameters(args.p, notebooks)

    try:
        run_dir = run_course(args.profile, args.run_name, notebooks, extra)
    except InputError:
        raise
    except Exception as error:
        # Papermill's error holds the notebook's traceback; its last line says what is wrong.
        print(f"\n{error}", file=sys.stderr)
        return FAILURE

    if finish:
        finish(run_dir)

    if SUMMARISED in notebooks:
        print(f"\n{summary(run_dir)}\n")
        print(f"Everything is in {show_path(run_dir)}/; open report.html there, then notebooks/")
    else:
        print(f"\nThe executed notebooks are in {show_path(run_dir)}/notebooks/")
    return SUCCESS


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0; 1 if a notebook failed; 2 for a profile, a notebook or a parameter that does not exist.
    """
    args = build_parser(program_name("headless", "run")).parse_args(argv)
    return run_command(lambda: run_and_tell(args))


if __name__ == "__main__":
    sys.exit(main())
