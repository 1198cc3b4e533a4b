"""Executed notebooks as they are committed: with outputs, without what changes from run to run.

In: a notebook that papermill executed. Out: the notebook in ``notebooks/``, without timings,
paths of this machine and papermill's marks, and with small figures that are described in words
(``tools/site/figures.yml``).

``python -m tools.course.committed_notebooks`` writes changed descriptions into the committed
notebooks; nothing else in them changes, and nothing is run. A description is where nbconvert's
template ``classic`` looks for it: ``jupyter nbconvert --to html --template classic``. Its default
template, ``lab``, has no alternative text for figures of code cells (nbconvert 7.17).
"""

from __future__ import annotations

import argparse
import base64
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from grpo_helpers.command_line import SUCCESS, run_command
from grpo_helpers.files import project_root, show_path
from tools.course.notebook_hash import store_hash
from tools.site.notebook_pages import figure_texts

if TYPE_CHECKING:
    from nbformat import NotebookNode

COLORS = 128  # of a figure; a third of the bytes, and figures have few


def commit_notebook(source: Path, target: Path) -> None:
    """Write an executed notebook as it is committed.

    Args:
        source: The executed notebook.
        target: The notebook of the same name in ``notebooks/``; it is overwritten.
    """
    import nbformat

    notebook = nbformat.read(source, as_version=4)
    committed = nbformat.read(target, as_version=4)
    known_ids = {cell.id for cell in committed.cells}

    notebook.metadata = nbformat.NotebookNode(
        kernelspec={"display_name": "Python 3", "language": "python", "name": "python3"},
        language_info={"name": "python"},
    )
    notebook.cells = [cell for cell in notebook.cells if not _is_injected(cell)]

    count = 0
    for cell in notebook.cells:
        assert cell.id in known_ids, (
            f"{source.name}: cell {cell.id} is not in the committed notebook"
        )
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.NotebookNode(tags=tags) if tags else nbformat.NotebookNode()
        if cell.cell_type == "code":
            count += 1
            _clean_outputs(cell, count)
    describe_figures(notebook, figure_texts().get(target.stem, {}))
    store_hash(notebook)

    text = nbformat.writes(notebook).replace(str(project_root()), ".")
    target.write_text(text + "\n", encoding="utf-8")


def describe_figures(notebook: NotebookNode, texts: Mapping[str, str]) -> None:
    """Give every figure of a notebook its alternative text, or take away one that it has no more.

    Args:
        notebook: An executed notebook; the metadata of its outputs change.
        texts: What each figure shows, by the id of the cell that draws it.
    """
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "image/png" not in output.get("data", {}):
                continue

            about = dict(output.metadata.pop("image/png", {}))
            about.pop("alt", None)
            if cell.id in texts:
                about["alt"] = texts[cell.id]
            if about:
                output.metadata["image/png"] = about


def write_descriptions(folder: Path) -> list[Path]:
    """Describe the figures of all notebooks of a folder; return the files that have changed."""
    import nbformat

    changed = []
    for file in sorted(folder.glob("*.ipynb")):
        before = file.read_text(encoding="utf-8")
        notebook = nbformat.reads(before, as_version=4)
        describe_figures(notebook, figure_texts().get(file.stem, {}))

        text = nbformat.writes(notebook) + "\n"
        if text != before:
            file.write_text(text, encoding="utf-8")
            changed.append(file)
    return changed


def _is_injected(cell: NotebookNode) -> bool:
    """Return whether papermill added this cell, with the parameters of the run."""
    return "injected-parameters" in cell.metadata.get("tags", [])


def _clean_outputs(cell: NotebookNode, count: int) -> None:
    """Number a code cell as if the notebook had run from top to bottom, and shrink its outputs."""
    cell.execution_count = count
    cell.outputs = joined_streams(cell.outputs)
    for output in cell.outputs:
        if "execution_count" in output:
            output.execution_count = count
        if "image/png" in output.get("data", {}):
            output.data["image/png"] = small_png(output.data["image/png"])


def joined_streams(outputs: Sequence[NotebookNode]) -> list[NotebookNode]:
    """Return a cell's outputs with consecutive pieces of one stream joined.

    Jupyter may split what a cell prints at any place; the pieces say nothing and differ from run
    to run.
    """
    joined: list[NotebookNode] = []
    for output in outputs:
        if joined and _continues(joined[-1], output):
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def _continues(last: NotebookNode, output: NotebookNode) -> bool:
    """Return whether ``output`` is printed to the same stream as ``last``."""
    both_streams = last.output_type == output.output_type == "stream"
    return both_streams and last.name == output.name


def small_png(encoded: str) -> str:
    """Return a base64-encoded PNG with a palette of :data:`COLORS` colours."""
    from PIL import Image

    image = Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB")
    small = io.BytesIO()
    image.quantize(COLORS, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return base64.b64encode(small.getvalue()).decode("ascii")


def main(argv: Sequence[str] | None = None) -> int:
    """Write the descriptions of figures into the committed notebooks; return 0."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.course.committed_notebooks",
        description="Write the descriptions of figures into the committed notebooks.",
    )
    parser.parse_args(argv)

    def body() -> int:
        for file in write_descriptions(project_root() / "notebooks"):
            print(f"described: {show_path(file)}")
        return SUCCESS

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
