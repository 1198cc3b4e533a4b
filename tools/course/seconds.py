"""Where the minutes of ``make run`` go: ``python -m tools.course.seconds --run runs/default``.

In: a finished run of the course. Out: the seconds of each notebook, as papermill wrote them into
its executed copy, and those of notebook 05 by part. ``--record`` writes them to
``data/reference_runs/course_seconds.json``, from which docs/performance.md is made.

For the parts, the cells of notebook 05 are executed once more in this process, on a copy of the run
without answers to the test sets, with a stopwatch around the functions that they call. Jupyter
itself (starting, showing figures) is therefore in the notebook's seconds, but in no part.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import io
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

from grpo_helpers.command_line import run_command
from grpo_helpers.files import InputError, project_root, show_path, write_json
from grpo_helpers.headless import NOTEBOOKS, notebook_path
from tools.benchmarks.step_profile import Stopwatch

FILE = project_root() / "data" / "reference_runs" / "course_seconds.json"
EVALUATION = "05_evaluate_and_select"
IMPORTS = "importing libraries"
LOADING = "loading models"
BERTSCORE = "BERTScore"
METRICS = "the other metrics"
STATISTICS = "statistics"
FIGURES = "figures"
REPORT = "the report page"
REST = "the rest"


@dataclass
class Pairs:
    """The pairs of reasons that BERTScore was asked about.

    Attributes:
        asked: All of them.
        encoded: Those that went through the encoder: the others were empty or known already.
    """

    asked: int = 0
    encoded: int = 0


# -- by notebook ------------------------------------------------------------------------------


def notebook_seconds(run_dir: Path) -> dict[str, float]:
    """Return the seconds of each executed notebook of a run.

    Raises:
        InputError: The run has no executed notebooks.
    """
    import nbformat

    seconds = {}
    for name in NOTEBOOKS:
        file = run_dir / "notebooks" / f"{name}.ipynb"
        if not file.is_file():
            raise InputError(f"{show_path(file)} is missing: run `make run` first")
        executed = nbformat.read(file, as_version=4)
        seconds[name] = round(executed.metadata["papermill"]["duration"], 1)
    return seconds


# -- notebook 05 by part ----------------------------------------------------------------------


@contextmanager
def watched(stopwatch: Stopwatch, pairs: Pairs) -> Iterator[None]:
    """Let a stopwatch see the parts of notebook 05, for a while."""
    from grpo_helpers import inference, kept_model, metrics, plots, report, scoring, selection

    def timed(module: Any, name: str, part: str) -> Any:
        return patch.object(module, name, stopwatch.timed(getattr(module, name), part))

    with contextlib.ExitStack() as patches:
        patches.enter_context(timed(kept_model, "load_with_adapter", LOADING))
        patches.enter_context(timed(metrics, "bert_scorer", LOADING))
        patches.enter_context(timed(scoring, "score_answers", METRICS))
        patches.enter_context(timed(report, "write_report", REPORT))
        for name in ("describe_choice", "compare_with_base", "compare"):
            patches.enter_context(timed(selection, name, STATISTICS))
        for name in _figure_functions(plots):
            patches.enter_context(timed(plots, name, FIGURES))

        answering = _by_file(inference.answer_file, stopwatch)
        patches.enter_context(patch.object(inference, "answer_file", answering))
        scoring_pairs = _counted(metrics.BertScore._score_new, stopwatch, pairs)
        patches.enter_context(patch.object(metrics.BertScore, "_score_new", scoring_pairs))
        yield


def _figure_functions(plots: ModuleType) -> list[str]:
    """Return the names of the functions that draw or save a figure."""
    return [name for name in vars(plots) if name.startswith("plot_") or name == "save_figure"]


def _by_file(answer_file: Callable[..., Any], stopwatch: Stopwatch) -> Callable[..., Any]:
    """Return ``answer_file``, timed under the name of the file that it answers."""

    def inside(input_path: str, *args: Any, **kwargs: Any) -> Any:
        with stopwatch.part(f"answering {Path(input_path).stem}"):
            return answer_file(input_path, *args, **kwargs)

    return inside


def _counted(
    score_new: Callable[..., Any], stopwatch: Stopwatch, counts: Pairs
) -> Callable[..., Any]:
    """Return BERTScore's scoring, timed, with the pairs counted."""

    def inside(scorer: Any, pairs: Sequence[tuple[str, str]]) -> None:
        known = len(scorer._cache)
        with stopwatch.part(BERTSCORE):
            score_new(scorer, pairs)
        counts.asked += len(pairs)
        counts.encoded += len(scorer._cache) - known

    return inside


def evaluation_cells() -> list[Any]:
    """Return the code cells of notebook 05."""
    import nbformat

    notebook = nbformat.read(notebook_path(EVALUATION), as_version=4)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def execute_evaluation(parameters: dict[str, Any], stopwatch: Stopwatch) -> None:
    """Execute the cells of notebook 05 in this process; what they print is swallowed.

    Args:
        parameters: What replaces the values of the parameters cell.
        stopwatch: Counts every cell, as importing or as the rest; what is watched is taken out.
    """
    namespace: dict[str, Any] = {}
    for cell in evaluation_cells():
        part = IMPORTS if cell.source.startswith("from ") else REST
        with stopwatch.part(part), contextlib.redirect_stdout(io.StringIO()):
            exec(compile(cell.source, EVALUATION, "exec"), namespace)
        if "parameters" in cell.metadata.get("tags", ()):
            namespace |= parameters


def evaluation_seconds(run_dir: Path) -> tuple[dict[str, float], Pairs]:
    """Return the seconds of notebook 05 by part, and the pairs that BERTScore was asked about.

    Args:
        run_dir: A finished run; it stays as it is.
    """
    import matplotlib

    matplotlib.use("agg")
    stopwatch = Stopwatch()
    pairs = Pairs()

    with tempfile.TemporaryDirectory(prefix="grpo-seconds-") as folder:
        left_out = shutil.ignore_patterns("test_results", "previous*", "checkpoint-*")
        shutil.copytree(run_dir, Path(folder) / run_dir.name, ignore=left_out)
        parameters = {"run_name": run_dir.name, "output_dir": folder}
        with stopwatch.part(IMPORTS), watched(stopwatch, pairs):
            execute_evaluation(parameters, stopwatch)

    return {part: round(value, 2) for part, value in stopwatch.seconds.items()}, pairs


# -- the report -------------------------------------------------------------------------------


def measure(run_dir: Path, is_recorded: bool) -> int:
    """Print both tables, and write them down if asked to; return 0."""
    from grpo_helpers.library_fixes import quiet_libraries

    notebooks = notebook_seconds(run_dir)
    started = time.perf_counter()
    quiet_libraries()
    parts, pairs = evaluation_seconds(run_dir)
    whole = round(time.perf_counter() - started, 1)

    for name, seconds in (notebooks | parts).items():
        print(f"{name:28} {seconds:8.1f} s")
    print(f"notebook 05 in one process: {whole} s")
    print(f"BERTScore: {pairs.asked} pairs asked about, {pairs.encoded} encoded")

    if is_recorded:
        facts = {
            "date": datetime.date.today().isoformat(),
            "cores": os.cpu_count(),
            "notebooks": notebooks,
            "parts of notebook 05": parts,
            "pairs asked": pairs.asked,
            "pairs encoded": pairs.encoded,
        }
        write_json(FILE, facts)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, or 2 without a run."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.course.seconds", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--run", default="runs/default", help="a finished run of the course")
    parser.add_argument("--record", action="store_true", help=f"write {FILE.name}")
    args = parser.parse_args(argv)
    return run_command(lambda: measure(Path(args.run), args.record))


if __name__ == "__main__":
    sys.exit(main())
