"""The exercises of a notebook and their solutions: read, and put together into one notebook."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import torch
from helpers import ROOT
from nbformat import NotebookNode

BY_HAND = ("advantages_of", "token_losses", "average", "kl_terms")  # functions of notebook 02
SOLUTION = re.compile(r"^## (\d\.\d) [^\n]*\n.*?```python\n(.*?)```", re.M | re.S)


def read_notebook(name: str) -> NotebookNode:
    """Return a committed notebook."""
    return nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)


def loss_by_hand() -> dict[str, Any]:
    """Return the functions of notebook 02 that compute a loss by hand, by name."""
    statements = []
    for cell in read_notebook("02_reward_exploration").cells:
        if cell.cell_type == "code":
            statements += filter(_is_by_hand, ast.parse(cell.source).body)

    names = {"np": np, "torch": torch}
    exec(ast.unparse(ast.Module(statements, [])), names)
    return names


def _is_by_hand(statement: ast.stmt) -> bool:
    """Return whether a statement is one of the functions, or the limits that they use."""
    if isinstance(statement, ast.FunctionDef):
        return statement.name in BY_HAND
    return isinstance(statement, ast.Assign) and "EPSILON" in ast.unparse(statement.targets[0])


def solutions(name: str) -> dict[str, str]:
    """Return the code of each exercise's solution, by number."""
    page = (ROOT / f"solutions/{name}.md").read_text(encoding="utf-8")
    return dict(SOLUTION.findall(page))


def tagged(notebook: NotebookNode, kind: str) -> dict[str, NotebookNode]:
    """Return the cells tagged ``kind-N.K``, by number, in their order."""
    cells = {}
    for cell in notebook.cells:
        for tag in cell.metadata.get("tags", []):
            if tag.startswith(f"{kind}-"):
                cells[tag.removeprefix(f"{kind}-")] = cell
    return cells


def write_solved_notebook(name: str, target: Path) -> None:
    """Write a notebook in which each check comes twice: after the stub and after the solution."""
    notebook = read_notebook(name)
    solved = solutions(name)
    for number, check in tagged(notebook, "check").items():
        solution = nbformat.v4.new_code_cell(solved[number])
        again = nbformat.v4.new_code_cell(check.source)
        again.metadata["tags"] = [f"solved-{number}"]

        place = notebook.cells.index(check) + 1
        notebook.cells[place:place] = [solution, again]
    nbformat.write(notebook, target)
