"""Run the notebooks headless: ``python -m tools.course.run`` (``make run``).

Each notebook is executed by papermill with the parameters of ``params/<profile>/<notebook>.yaml`` and written to
``runs/<run_name>/notebooks/``. With ``--write-outputs`` the executed copies also replace those in ``notebooks/``,
without timings, paths of this machine and papermill's marks, and the READMEs get the run's results.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from grpo_helpers.files import InputError, project_root, read_yaml, show_path

NOTEBOOKS = (
    "01_data_and_few_shot",
    "02_reward_exploration",
    "03_memory_budget",
    "04_train",
    "05_evaluate_and_select",
)

HEADLESS = {"sliders": False}  # nobody is there to move one


class StepLines(io.TextIOBase):
    """Shows, of what a notebook prints, the lines that say how far training is."""

    def write(self, text: str) -> int:
        """Show the lines of ``text`` that tell a step."""
        for line in text.splitlines():
            if line.startswith("step "):
                print(f"\n  {line}", end="", flush=True)
        return len(text)


def profile_parameters(profile: str, notebook: str) -> dict[str, Any]:
    """Return the parameters of one notebook in a profile; the profile ``default`` changes nothing.

    Raises:
        InputError: There is no such profile.
    """
    folder = project_root() / "params" / profile
    if profile != "default" and not folder.is_dir():
        known = sorted(p.name for p in folder.parent.iterdir() if p.is_dir())
        raise InputError(f"unknown profile {profile!r}: known are default, {', '.join(known)}")
    file = folder / f"{notebook}.yaml"
    return read_yaml(file) if file.is_file() else {}


def run_notebook(notebook: str, parameters: dict[str, Any], output: Path) -> float:
    """Execute one notebook into ``output`` and return the seconds it took.

    The copy is written to a temporary place first: a run that is refused leaves nothing in the run folder.
    """
    import papermill

    source = project_root() / "notebooks" / f"{notebook}.ipynb"
    started = time.time()
    with tempfile.TemporaryDirectory(prefix="grpo-course-") as folder:
        copy = Path(folder) / source.name
        papermill.execute_notebook(
            str(source), str(copy), parameters=parameters, cwd=str(source.parent), progress_bar=False, log_output=False,
            stdout_file=StepLines(),
            extra_arguments=["--IPKernelApp.log_level=40"],  # its warning about local TCP would stand among our lines
        )  # fmt: skip
        output.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(copy, output)
    return time.time() - started


def run_course(
    profile: str,
    run_name: str | None,
    notebooks: tuple[str, ...] = NOTEBOOKS,
    extra: dict[str, Any] | None = None,
) -> Path:
    """Run ``notebooks`` in order with a profile and return the run folder.

    Args:
        profile: A folder of ``params/``, or ``default``.
        run_name: Name of the run folder; default: the profile's own ``run_name``, else the profile's name.
        notebooks: Which notebooks.
        extra: Further parameters, by name, for the notebooks that know them.
    """
    import papermill

    run_name = run_name or profile_parameters(profile, "04_train").get("run_name") or profile
    run_dir = project_root() / "runs" / run_name
    for notebook in notebooks:
        known = papermill.inspect_notebook(str(project_root() / "notebooks" / f"{notebook}.ipynb"))
        parameters = profile_parameters(profile, notebook) | {"run_name": run_name}
        parameters |= {
            name: value for name, value in (HEADLESS | (extra or {})).items() if name in known
        }
        print(f"{notebook} ... ", end="", flush=True)
        seconds = run_notebook(notebook, parameters, run_dir / "notebooks" / f"{notebook}.ipynb")
        print(
            f"\n{notebook}: {seconds:.0f} s" if notebook == "04_train" else f"{seconds:.0f} s",
            flush=True,
        )
    return run_dir


def summary(run_dir: Path) -> str:
    """Return the table of checkpoints, the chosen one, by how much and how sure, as notebook 05 left them."""
    import pandas as pd

    from grpo_helpers.report import choice_lines

    table = pd.read_csv(run_dir / "scores.csv")
    report = json.loads((run_dir / "best_checkpoint.json").read_text(encoding="utf-8"))
    lines = [
        table.round(4).to_string(index=False),
        "(notebook 05, section 1, says what the columns are)",
        "",
    ]
    if report.get("base_is_best"):
        lines += [
            "Best on dev: the base model itself; training did not help.",
            choice_lines(report),
        ]
        return "\n".join(lines)
    lines.append(f"On dev. {choice_lines(report)}")
    named = [("test", row) for row in report.get("test_versus_base", [])]
    for split, row in named + unseen_choice(report):
        gain, low, high = (100 * row[key] for key in ("difference", "low", "high"))
        lines.append(
            f"On {split}, {row['metric']}: {row['reference_mean']:.3f} -> {row['mean']:.3f} "
            f"({gain:+.1f} points, 95 % interval {low:+.1f} to {high:+.1f})"
        )
    return "\n".join(lines)


def unseen_choice(report: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return (split, comparison with the base) of choice accuracy on each split of unseen words or norms."""
    splits = {
        name: rows for name, rows in report.get("by_split", {}).items() if name.startswith("unseen")
    }
    return [
        (name, row) for name, rows in splits.items() for row in rows if row["metric"] == "choice"
    ]


def joined_streams(outputs: list) -> list:
    """Return a cell's outputs with consecutive pieces of one stream joined: a line printed later is no new output."""
    joined: list = []
    for output in outputs:
        last = joined[-1] if joined else None
        if last and output.output_type == last.output_type == "stream" and output.name == last.name:
            last.text += output.text
        else:
            joined.append(output)
    return joined


def small_png(encoded: str) -> str:
    """Return a base64-encoded PNG with a palette of 128 colours, a third of the size: figures have few."""
    from PIL import Image

    image = Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB")
    small = io.BytesIO()
    image.quantize(128, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return base64.b64encode(small.getvalue()).decode("ascii")


def clean_notebook(source: Path, target: Path) -> None:
    """Write an executed notebook as it is committed: outputs kept, no timings, no papermill marks, no local paths."""
    import nbformat

    notebook = nbformat.read(source, as_version=4)
    notebook.metadata = nbformat.NotebookNode(
        kernelspec={"display_name": "Python 3", "language": "python", "name": "python3"},
        language_info={"name": "python"},
    )
    original = nbformat.read(target, as_version=4)
    names = {cell.id for cell in original.cells}
    notebook.cells = [
        cell
        for cell in notebook.cells
        if "injected-parameters" not in cell.metadata.get("tags", [])
    ]
    count = 0
    for cell in notebook.cells:
        assert cell.id in names, f"{source.name}: cell {cell.id} is not in the committed notebook"
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.NotebookNode(tags=tags) if tags else nbformat.NotebookNode()
        if cell.cell_type == "code":
            count += 1
            cell.execution_count = count
            cell.outputs = joined_streams(cell.outputs)
            for output in cell.outputs:
                if "execution_count" in output:
                    output.execution_count = count
                if "image/png" in output.get("data", {}):
                    output.data["image/png"] = small_png(output.data["image/png"])
    text = nbformat.writes(notebook).replace(str(project_root()), ".")
    target.write_text(text + "\n", encoding="utf-8")


def main() -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="default")
    parser.add_argument("--run_name")
    parser.add_argument(
        "--write-outputs", action="store_true", help="replace the outputs in notebooks/"
    )
    args = parser.parse_args()
    try:
        run_dir = run_course(args.profile, args.run_name)
    except InputError as error:
        print(f"run_course: {error}", file=sys.stderr)
        return 2
    except Exception as error:  # papermill's error holds the notebook's traceback; its last line says what is wrong
        print(f"\n{error}", file=sys.stderr)
        return 1
    if args.write_outputs:
        for notebook in NOTEBOOKS:
            clean_notebook(
                run_dir / "notebooks" / f"{notebook}.ipynb",
                project_root() / "notebooks" / f"{notebook}.ipynb",
            )
        from tools.course.publish import write_outputs

        write_outputs(run_dir)
    print(
        f"\n{summary(run_dir)}\n\nEverything is in {show_path(run_dir)}/; open report.html there, then notebooks/"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
