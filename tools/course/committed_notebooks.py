"""Executed notebooks as they are committed: with outputs, without what changes from run to run.

In: a notebook that papermill executed. Out: the notebook in ``notebooks/``, without timings,
paths of this machine and papermill's marks, and with small figures.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from grpo_helpers.files import project_root
from tools.course.notebook_hash import store_hash

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
    store_hash(notebook)

    text = nbformat.writes(notebook).replace(str(project_root()), ".")
    target.write_text(text + "\n", encoding="utf-8")


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
