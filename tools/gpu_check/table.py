"""The results of a check as a table to read, and as tables to keep.

In: results. Out: text; ``gpu_check.csv`` with one row per figure; ``memory_<device>.csv`` in the
form of ``data/reference_runs``, with one row per setting of ``make gpu-probe``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from grpo_helpers.files import write_atomically
from grpo_helpers.memory import GIB
from tools.benchmarks.memory_probe import row_of, with_predictions
from tools.gpu_check.parts import Part
from tools.gpu_check.results import Figure, Result

CSV = "gpu_check.csv"
COLUMNS = (
    "part",
    "card",
    "outcome",
    "figure",
    "value",
    "unit",
    "predicted",
    "residual",
    "setting",
)
LARGE = 0.05  # a residual above it is marked
MARK = " <- over 5 %"


# -- to read ----------------------------------------------------------------------------------


def text_of(results: Sequence[Result]) -> str:
    """Return the results in lines: one for each part, and one for each of its figures.

    Args:
        results: The results, in the order of the parts.
    """
    lines = [f"{'':<32}{'measured':>18}{'predicted':>14}{'off by':>9}"]

    for result in results:
        lines.append(f"{result.part}: {result.outcome}, {result.seconds:.0f} s")
        for name, value in result.facts.items():
            lines.append(f"  {name:<30}{value:>18}")
        for figure in result.figures:
            lines.append(_line_of(figure))
    return "\n".join(lines)


def _line_of(figure: Figure) -> str:
    """Return a figure as a line of the table."""
    name = figure.name.replace("_", " ")
    line = f"  {name:<30}{_in_unit(figure.value, figure.unit):>18}"
    if figure.predicted is None or figure.residual is None:
        return line

    line += f"{_in_unit(figure.predicted, figure.unit):>14}{100 * figure.residual:>+7.1f} %"
    is_marked = figure.name.startswith("allocated") and abs(figure.residual) > LARGE
    return line + MARK if is_marked else line


def _in_unit(value: float, unit: str) -> str:
    """Return a number with its unit; bytes as GiB.

    >>> _in_unit(3 * GIB, "bytes")
    '3.000 GiB'
    """
    if unit == "bytes":
        return f"{value / GIB:.3f} GiB"
    return f"{value:g} {unit}".rstrip()


# -- to keep ----------------------------------------------------------------------------------


def write_tables(
    parts: Sequence[Part], results: Sequence[Result], folder: Path, device: str
) -> list[Path]:
    """Write all tables; return their paths.

    Args:
        parts: All parts of the check.
        results: The results that there are.
        folder: Where the tables go.
        device: ``cpu`` or ``cuda``.
    """
    import pandas as pd

    figures = pd.DataFrame(_rows_of_figures(results), columns=list(COLUMNS))
    written = [write_atomically(folder / CSV, partial(figures.to_csv, index=False))]

    probed = _rows_of_memory(parts, results, device)
    if probed:
        memory = pd.DataFrame(probed)
        file = folder / f"memory_{device}.csv"
        written.append(write_atomically(file, partial(memory.to_csv, index=False)))
    return written


def _rows_of_figures(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return one row for each fact and figure; a part without any has one row, too."""
    rows = []
    for result in results:
        about = {
            "part": result.part,
            "card": result.card,
            "outcome": result.outcome,
            "setting": result.setting,
        }
        rows.append({**about, "figure": "part_seconds", "value": result.seconds, "unit": "s"})
        for name, value in result.facts.items():
            rows.append({**about, "figure": name, "value": value})
        for figure in result.figures:
            rows.append({**about, **_row_of_figure(figure)})
    return rows


def _row_of_figure(figure: Figure) -> dict[str, Any]:
    return {
        "figure": figure.name,
        "value": figure.value,
        "unit": figure.unit,
        "predicted": figure.predicted,
        "residual": figure.residual,
    }


def _rows_of_memory(
    parts: Sequence[Part], results: Sequence[Result], device: str
) -> list[dict[str, Any]]:
    """Return the rows of ``memory_<device>.csv``; an error is no row: it says nothing of memory."""
    by_name = {result.part: result for result in results}
    rows = []

    for part in parts:
        result = by_name.get(part.name)
        if part.probe is None or result is None or not result.has_ended:
            continue
        figures = {figure.name: figure.value for figure in result.figures}
        outcome = result.outcome.partition(",")[
            0
        ]  # what was cut off has fewer seconds, no less memory
        row = row_of(part.probe, outcome, figures)
        rows.append(with_predictions(row, part.probe, device))
    return rows
