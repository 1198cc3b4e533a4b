"""A figure and the limit that it must keep: the last lines of ``make bar`` and of ``make bench``.

In: what was measured. Out: one line per target, ``reached`` or ``MISSED``, and an exit code; on
request also the benchmark's part of ``data/reference_runs/bench.json``.
"""

from __future__ import annotations

import argparse
import datetime
import operator
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grpo_helpers.files import project_root, read_json, show_path, write_json

BENCH_FILE = project_root() / "data" / "reference_runs" / "bench.json"
RELATIONS = {">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt}


@dataclass(frozen=True)
class Target:
    """One measured figure and the limit it is compared with.

    Attributes:
        name: What was measured.
        value: The measured figure.
        relation: How the figure must relate to the limit: one of :data:`RELATIONS`.
        limit: The limit, in the unit of ``value``.
        unit: The unit, for the reader; empty for a share or a ratio.

    Example:
        >>> target = Target("exact match gain on test, mean", 42.5, ">=", 25, "points")
        >>> target.text
        'exact match gain on test, mean >= 25 points'
        >>> target.is_reached
        True
    """

    name: str
    value: float
    relation: str
    limit: float
    unit: str = ""

    @property
    def is_reached(self) -> bool:
        """Whether the figure keeps its limit; a figure that is not a number does not."""
        compare = RELATIONS[self.relation]
        return bool(compare(self.value, self.limit))

    @property
    def text(self) -> str:
        """The target in words, without its figure."""
        return f"{self.name} {self.relation} {self.limit:g} {self.unit}".rstrip()


def report(targets: Iterable[Target], precision: str = ".3g") -> int:
    """Print one line per target.

    Args:
        targets: The targets, in the order in which they are printed.
        precision: The format specification of the figures.

    Returns:
        The exit code: 0 if every target is reached, 1 otherwise.
    """
    missed = 0
    for target in targets:
        verdict = "reached" if target.is_reached else "MISSED "
        print(f"{verdict}  {target.text}: {target.value:{precision}}")
        missed += not target.is_reached

    return 1 if missed else 0


def add_record_option(parser: argparse.ArgumentParser) -> None:
    """Give a benchmark's command the option ``--record``, on which it calls :func:`record`."""
    parser.add_argument(
        "--record",
        action="store_true",
        help=f"write the figures to {show_path(BENCH_FILE)}",
    )


def record(
    part: str,
    targets: Iterable[Target],
    facts: Mapping[str, Any] | None = None,
    file: Path = BENCH_FILE,
    *,
    is_whole: bool = True,
) -> None:
    """Write the figures of a benchmark to a JSON file; its other parts stay as they are.

    Args:
        part: The name of the benchmark, and its key in the file.
        targets: Its targets; their figures are rounded to three digits.
        facts: Further figures.
        file: The file.
        is_whole: Whether these are all figures of the benchmark; otherwise the others of an earlier
            record stay.
    """
    recorded = read_json(file) if file.is_file() else {}
    earlier = {} if is_whole else recorded.get(part, {})
    rows = {row["target"]: row for row in earlier.get("targets", [])}
    for target in targets:
        figure = float(f"{target.value:.3g}")
        row = {"target": target.text, "figure": figure, "reached": target.is_reached}
        rows[target.text] = row

    recorded[part] = {
        **earlier,
        "date": datetime.date.today().isoformat(),
        "cores": os.cpu_count(),
        **(facts or {}),
        "targets": list(rows.values()),
    }
    write_json(file, recorded)
