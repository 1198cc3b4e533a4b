"""pass@k from the probability of a right answer, and the groups that teach nothing.

In: tables of ``data/reference_runs/coverage``, which ``tools/experiments/coverage.py`` writes: how
probable a right sample is, for every question and checkpoint of a run. Out: shares. *pass@k* is the
share of questions of which at least one of k samples is right. Training can raise pass@1 and lower
pass@k, where it makes likely what was possible before and impossible what it did not meet. The
article reports greedy answers only.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from grpo_helpers.splits import Split

if TYPE_CHECKING:
    import pandas as pd

COVERAGE_FOLDER = "coverage"  # among the recorded runs
COMMAND = "python -m tools.experiments.coverage"
_CHECKPOINTS = ("epoch_", "step_")


def load_coverage(folder: Path) -> dict[str, pd.DataFrame]:
    """Return the recorded tables by the names of their runs; none where there is no folder.

    Args:
        folder: The folder with one CSV file for each run.

    Returns:
        Tables with the columns ``split``, ``id``, ``question_type``, ``kind`` and one for each
        checkpoint: the probability, from 0 to 1, that a sample states the gold sentence.
    """
    import pandas as pd

    return {path.stem: pd.read_csv(path) for path in sorted(folder.glob("*.csv"))}


def checkpoints_of(table: pd.DataFrame) -> list[str]:
    """Return the checkpoints that a table has, the base first."""
    columns = map(str, table.columns)
    return [column for column in columns if column.startswith(_CHECKPOINTS)]


def questions_of(table: pd.DataFrame, split: Split) -> pd.DataFrame:
    """Return the rows of a table that ask the questions of a split."""
    return table[table["split"] == split.key]


def pass_at(k: int, probabilities: Sequence[float] | pd.Series) -> float:
    """Return the share of questions of which at least one of k samples is right.

    Args:
        k: The number of samples of each question.
        probabilities: For each question, how probable it is that one sample is right.

    >>> pass_at(2, [0.5, 1.0])
    0.875
    """
    return float(np.mean(covered(k, probabilities)))


def covered(k: int, probabilities: Sequence[float] | pd.Series) -> np.ndarray:
    """Return for each question how probable it is that one of k samples is right.

    >>> covered(2, [0.5, 1.0]).tolist()
    [0.75, 1.0]
    """
    wrong = 1 - np.asarray(probabilities, dtype=float)
    return np.asarray(1 - wrong**k)


def silent_groups(size: int, probabilities: Sequence[float] | pd.Series) -> tuple[float, float]:
    """Return the expected shares of groups that are all right, and all wrong.

    Args:
        size: The number of completions in a group (G).
        probabilities: For each question, how probable it is that one sample is right.

    >>> silent_groups(2, [0.5, 1.0])
    (0.625, 0.125)
    """
    right = np.asarray(probabilities, dtype=float)
    return float(np.mean(right**size)), float(np.mean((1 - right) ** size))
