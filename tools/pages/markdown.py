"""What the computed pages are made of: templates, tables, and figures with their range.

In: a template of ``tools/pages/templates`` with names in braces, and the text for each name. Out:
Markdown.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

TEMPLATES = Path(__file__).parent / "templates"


def fill_template(file: str, **texts: Any) -> str:
    """Return a template with each ``{name}`` replaced.

    Args:
        file: The name of the file in ``tools/pages/templates``.
        **texts: What stands for each name; it is formatted as in :meth:`str.format`.
    """
    template = (TEMPLATES / file).read_text(encoding="utf-8")
    return template.format(**texts)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return a Markdown table of ``rows``, which all have the same keys.

    >>> print(table([{"run": "seed_0", "minutes": 7}]))
    | run | minutes |
    | --- | --- |
    | seed_0 | 7 |
    """
    heads = list(rows[0])
    lines = [_line(heads), _line(["---"] * len(heads))]
    for row in rows:
        lines.append(_line(row.values()))
    return "\n".join(lines)


def _line(cells: Any) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def mean_and_range(values: Sequence[float] | pd.Series, digits: int = 3) -> str:
    """Return the mean of ``values`` with the lowest and the highest.

    >>> mean_and_range([0.5, 0.75])
    '0.625 (0.500 to 0.750)'
    """
    mean = np.mean(values)
    return f"{mean:.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"
