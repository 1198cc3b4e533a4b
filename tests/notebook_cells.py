"""The code cells of a notebook, run in this process: what a notebook refuses, without a kernel.

Starting a kernel that imports everything takes seconds; a refusal comes from the first few cells.
"""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from exercises import read_notebook
from helpers import ROOT, SMOKE_PARAMS

from grpo_helpers.files import InputError, read_yaml


def refusal_of(name: str, values: dict[str, Any], profile: Path | None = None) -> str:
    """Run a notebook until a cell raises an InputError; return its message.

    Args:
        name: The notebook.
        values: Parameters, set after the notebook's own and the profile's.
        profile: A file with parameters; default: the smoke profile for notebook 04, else none.
    """
    if profile is None and name == "04_train":
        profile = ROOT / SMOKE_PARAMS
    injected = values
    if profile is not None:
        injected = read_yaml(profile) | values

    history: list[str] = [""]  # as IPython keeps the cells that ran
    namespace: dict[str, Any] = {"In": history}
    try:
        for cell in read_notebook(name).cells:
            if cell.cell_type == "code":
                run_cell(cell.source, namespace)
                if "parameters" in cell.metadata.get("tags", []):
                    run_cell(as_source(injected), namespace)
    except InputError as error:
        return str(error)
    pytest.fail(f"{name} refuses nothing")


def run_cell(source: str, namespace: dict[str, Any]) -> None:
    """Run one cell, and remember it as IPython does."""
    namespace["In"].append(source)
    exec(compile(source, "<cell>", "exec"), namespace)


def as_source(values: dict[str, Any]) -> str:
    """Return the cell that papermill injects for ``values``."""
    lines = ["# Parameters"]
    for name, value in values.items():
        lines.append(f"{name} = {value!r}")
    return "\n".join(lines)


def run_notebook(name: str, values: dict[str, Any]) -> str:
    """Run all code cells of a notebook with these parameters; return what they print."""
    import matplotlib as mpl

    mpl.use("Agg")
    namespace: dict[str, Any] = {"In": [""]}
    printed = io.StringIO()

    with redirect_stdout(printed):
        for cell in read_notebook(name).cells:
            if cell.cell_type == "code":
                run_cell(cell.source, namespace)
                if "parameters" in cell.metadata.get("tags", []):
                    run_cell(as_source(values), namespace)

    return printed.getvalue()
