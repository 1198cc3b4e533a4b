"""A fingerprint of a notebook's code, so that its outputs cannot lag behind it.

``make outputs`` stores the fingerprint of the code that it ran in the notebook's metadata. A test
compares it with the code that is there: it fails once somebody changes a code cell and keeps the
old outputs.

In: a notebook as nbformat reads it. Out: a SHA-256, computed or stored.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbformat import NotebookNode


def code_hash(notebook: NotebookNode) -> str:
    """Return the SHA-256 of the sources of all code cells, in order.

    White space at the end of a line or a cell does not count, and neither do outputs, tags or
    prose.
    """
    sources = [
        _without_trailing_space(cell.source) for cell in notebook.cells if cell.cell_type == "code"
    ]
    # JSON keeps the borders of cells: two cells differ from one cell with both their sources.
    return hashlib.sha256(json.dumps(sources).encode("ascii")).hexdigest()


def stored_hash(notebook: NotebookNode) -> str | None:
    """Return the fingerprint of the code that the outputs were made with; None if there is none."""
    course = notebook.metadata.get("course", {})
    return course.get("code_sha256")


def store_hash(notebook: NotebookNode) -> None:
    """Record that the outputs of ``notebook`` belong to its code as it is now."""
    notebook.metadata["course"] = {"code_sha256": code_hash(notebook)}


def _without_trailing_space(source: str) -> str:
    """Return ``source`` without white space at the end of its lines and of itself."""
    lines = [line.rstrip() for line in source.splitlines()]
    return "\n".join(lines).rstrip()
