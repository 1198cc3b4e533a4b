"""Recorded runs: what a reader needs of runs that take too long to repeat while reading.

In: the folder of recorded runs, ``data/reference_runs``, in which every run has a folder with its
settings, log and scores, but no weights. Out: :class:`RecordedRun` objects, which read it as a run
folder and as tables. Not every run need be there: :meth:`RecordedRuns.find` prints one line with
the command that makes what is missing, and returns the rest. The article records nothing: its
curves cannot be looked at again.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grpo_helpers.files import read_json, show_path
from grpo_helpers.run_folder import ITEM_SCORES_FILE, SCORES_FILE, RunFolder

if TYPE_CHECKING:
    import pandas as pd

ABOUT_FILE = "about.json"  # how a run was made; a run is recorded once it is there
TEST_SCORES_FILE = "test_item_scores.csv"  # of the runs that answered the test sets

# The commands that make recorded runs, by how the runs' names begin; "" is any other beginning.
COMMANDS = {
    "gemma_": "python -m tools.experiments.gemma",
    "": "python -m tools.experiments.record {names}",
}


class RecordedRun(RunFolder):
    """A recorded run: a run folder without weights, whose scores are in tables."""

    @property
    def name(self) -> str:
        """The name of its folder, such as ``seed_0``."""
        return self.path.name

    @property
    def about(self) -> dict[str, Any]:
        """How it was made: its command, date, minutes, and what it changed."""
        return read_json(self.path / ABOUT_FILE)

    @property
    def dev_means(self) -> pd.DataFrame:
        """The mean of every metric on dev, one row per checkpoint."""
        import pandas as pd

        return pd.read_csv(self.path / SCORES_FILE).set_index("checkpoint")

    @property
    def dev_items(self) -> pd.DataFrame:
        """The scores of every dev item, one row per checkpoint and item."""
        import pandas as pd

        return pd.read_csv(self.path / ITEM_SCORES_FILE)

    @property
    def has_tests(self) -> bool:
        """Whether it answered the test sets."""
        return (self.path / TEST_SCORES_FILE).is_file()

    @property
    def test_items(self) -> pd.DataFrame:
        """The scores of every test item, one row per split, checkpoint and item.

        The column ``split`` has the splits' keys. In each split the chosen checkpoint's rows come
        last; the base's come first.
        """
        import pandas as pd

        return pd.read_csv(self.path / TEST_SCORES_FILE)

    @property
    def base_on_tests(self) -> pd.DataFrame:
        """The rows of :attr:`test_items` that the untrained base answered."""
        tested = self.test_items
        return tested[tested["checkpoint"] == tested["checkpoint"].iloc[0]]

    @property
    def chosen_on_tests(self) -> pd.DataFrame:
        """The rows of :attr:`test_items` that the checkpoint chosen on dev answered."""
        tested = self.test_items
        return tested[tested["checkpoint"] == chosen_checkpoint(tested)]


def chosen_checkpoint(tested: pd.DataFrame) -> str:
    """Return the checkpoint chosen on dev, from a run's :attr:`RecordedRun.test_items`."""
    return str(tested["checkpoint"].iloc[-1])


@dataclass(frozen=True)
class RecordedRuns:
    """The recorded runs of a folder.

    Attributes:
        folder: The folder; it may lack any of the runs.
    """

    folder: Path

    def matching(self, pattern: str) -> list[RecordedRun]:
        """Return the recorded runs whose names match, in the order of the numbers in the names.

        Args:
            pattern: A name, or several with ``*``: ``seed_*``.
        """
        runs = []
        for about in self.folder.glob(f"{pattern}/{ABOUT_FILE}"):
            runs.append(RecordedRun(about.parent))
        return sorted(runs, key=lambda run: _numbers_of(run.name))

    def find(self, *patterns: str, tested: bool = False) -> list[RecordedRun]:
        """Return the runs that match the patterns; print how to make it where there is none.

        Args:
            patterns: Names, or several with ``*``, in the order of the result.
            tested: Whether only runs count that answered the test sets.
        """
        found: list[RecordedRun] = []
        missing = []
        for pattern in patterns:
            runs = self.matching(pattern)
            if tested:
                runs = [run for run in runs if run.has_tests]
            found += runs
            if not runs:
                missing.append(pattern)

        if missing:
            names = ", ".join(missing)
            print(f"not recorded in {show_path(self.folder)}: {names}", end="; ")
            print(f"to record: {_how_to_make(missing)}")
        return found


def _numbers_of(name: str) -> tuple[list[float], str]:
    """Return a sort key: by the numbers in a name, so that 16 comes after 2."""
    numbers = [float(number) for number in re.findall(r"\d+(?:\.\d+)?", name)]
    return numbers, name


def _how_to_make(patterns: Sequence[str]) -> str:
    """Return what to run for the runs that match the patterns.

    >>> _how_to_make(["seed_*", "gemma_*"])
    "python -m tools.experiments.record 'seed_*', python -m tools.experiments.gemma"
    """
    by_command: dict[str, list[str]] = {}
    for pattern in patterns:
        start = next(start for start in COMMANDS if pattern.startswith(start))
        by_command.setdefault(COMMANDS[start], []).append(pattern)

    lines = []
    for command, names in by_command.items():
        lines.append(command.format(names=shlex.join(names)))
    return ", ".join(lines)
