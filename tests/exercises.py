"""The exercises of a notebook and their solutions: read, and put together into one notebook."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import nbformat
from helpers import ROOT
from nbformat import NotebookNode

from tools.course.exercises import CHECK, solutions, tagged

BY_HAND = ("advantages_of", "token_losses", "average", "kl_terms")  # functions of notebook 02


def read_notebook(name: str) -> NotebookNode:
    """Return a committed notebook."""
    return nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)


def loss_by_hand() -> dict[str, Any]:
    """Return the functions of notebook 02 that compute a loss by hand, by name."""
    statements = []
    for cell in read_notebook("02_reward_exploration").cells:
        if cell.cell_type == "code":
            statements += filter(_is_by_hand, ast.parse(cell.source).body)

    import numpy as np
    import torch

    names = {"np": np, "torch": torch}
    exec(ast.unparse(ast.Module(statements, [])), names)
    return names


def _is_by_hand(statement: ast.stmt) -> bool:
    """Return whether a statement is one of the functions, or the limits that they use."""
    if isinstance(statement, ast.FunctionDef):
        return statement.name in BY_HAND
    return isinstance(statement, ast.Assign) and "EPSILON" in ast.unparse(statement.targets[0])


def write_solved_notebook(name: str, target: Path) -> None:
    """Write a notebook in which each check comes twice: after the stub and after the solution."""
    notebook = read_notebook(name)
    solved = solutions(name)
    for number, check in tagged(notebook, CHECK).items():
        solution = nbformat.v4.new_code_cell(solved[number])
        again = nbformat.v4.new_code_cell(check.source)
        again.metadata["tags"] = [f"solved-{number}"]

        place = notebook.cells.index(check) + 1
        notebook.cells[place:place] = [solution, again]
    nbformat.write(notebook, target)
