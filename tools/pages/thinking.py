"""What the pages say of the thinking model; ``python -m tools.pages.thinking`` draws its figure.

In: ``data/reference_runs/thinking``. Out: the tables of ``docs/experiments.md`` and, as a command,
``docs/thinking.png``, which the README shows.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import pandas as pd

from grpo_helpers import thinking_runs
from grpo_helpers.command_line import run_command
from grpo_helpers.files import project_root
from grpo_helpers.plots import plot_ways_to_think, save_figure, use_course_style
from grpo_helpers.splits import TEST, TEST_UNSEEN_WORDS
from grpo_helpers.thinking_runs import (
    BASE,
    FORBIDDEN,
    GREEDY,
    MISLED,
    SAMPLED,
    WAYS,
    shares_by_seed,
)
from tools.experiments import thinking
from tools.experiments.ways import GOLD, GRPO, REJECTION
from tools.pages.markdown import mean_and_range, table

FIGURE = project_root() / "docs" / "thinking.png"
IN_THE_FIGURE = (BASE, GOLD, REJECTION, GRPO)
SITUATIONS = {
    "as it likes": GREEDY,
    "thought forbidden": FORBIDDEN,
    "given the other chain": MISLED,
}


def ways_table(ways: pd.DataFrame) -> str:
    """Return the table of all ways: who thinks, and who is right, on both test sets.

    Args:
        ways: The table of :func:`grpo_helpers.thinking_runs.load_ways`.
    """
    rows = []
    for way, title in WAYS.items():
        sampled = shares_by_seed(ways, way, TEST_UNSEEN_WORDS.key, SAMPLED)
        if sampled.empty:
            continue

        row: dict[str, Any] = {"way": title, "seeds": len(sampled)}
        row["thinks (sampled)"] = _in_words(sampled["thinks"])
        for split in (TEST, TEST_UNSEEN_WORDS):
            greedy = shares_by_seed(ways, way, split.key, GREEDY)
            row[f"right, {split.title}"] = _in_words(greedy["right"])
        row["right, unseen words, sampled"] = _in_words(sampled["right"])
        rows.append(row)
    return table(rows)


def situations_table(ways: pd.DataFrame) -> str:
    """Return the table of what becomes of the answers without a thought, and after a wrong one.

    Args:
        ways: As for :func:`ways_table`.
    """
    rows = []
    for way in (BASE, GOLD, thinking.TAUGHT, GRPO):
        row: dict[str, Any] = {"way": WAYS[way]}
        for name, kind in SITUATIONS.items():
            shares = shares_by_seed(ways, way, TEST_UNSEEN_WORDS.key, kind)
            row[name] = _in_words(shares["right"])
        rows.append(row)
    return table(rows)


def _in_words(shares: pd.Series) -> str:
    """Return the mean of a share over the seeds, with the lowest and the highest of several."""
    if len(shares) == 1:
        return f"{shares.iloc[0]:.3f}"
    return mean_and_range(shares)


def draw() -> None:
    """Draw ``docs/thinking.png``."""
    use_course_style()
    ways = thinking_runs.load_ways(thinking.OUT)
    logs = {}
    for way in (GRPO, thinking.BREVITY):
        logs[WAYS[way]] = thinking_runs.load_logs(thinking.OUT, way)
    compared = thinking_runs.compare_ways(ways, IN_THE_FIGURE, TEST_UNSEEN_WORDS.key, GREEDY)
    save_figure(plot_ways_to_think(logs, compared), FIGURE)


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the figure; return 0."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.pages.thinking", description=__doc__.splitlines()[0]
    )
    parser.parse_args(argv)

    def body() -> int:
        draw()
        print(f"written: {FIGURE.relative_to(project_root())}")
        return 0

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
