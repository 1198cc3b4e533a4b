"""What a part of the check has found, as a file that grows while the part runs.

In: figures, as they are measured. Out: ``results/<part>.json``, whole at any moment. A part that is
cut off leaves what it had by then, and a part that has ended need not run again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from grpo_helpers.files import read_json, write_json

ERROR = "error"  # how the outcome of a part begins that could not be measured
FOLDER = "results"


@dataclass(frozen=True)
class Figure:
    """One measured number.

    Attributes:
        name: What was measured: ``allocated_backward``.
        value: The number.
        unit: ``bytes``, ``s`` and so on; empty for a share or a count.
        predicted: What :func:`grpo_helpers.memory.predict` says; None if it says nothing.
    """

    name: str
    value: float
    unit: str = ""
    predicted: float | None = None

    @property
    def residual(self) -> float | None:
        """By what share the prediction is too high, or too low; None without a prediction.

        >>> Figure("allocated_backward", 10.0, "bytes", predicted=9.0).residual
        -0.1
        """
        if self.predicted is None or not self.value:
            return None
        return round(self.predicted / self.value - 1, 4)


@dataclass(frozen=True)
class Result:
    """What is known of a part.

    Attributes:
        part: Its name.
        setting: What was measured, in words; a result of another setting is not taken.
        card: The card that it was measured on; empty if the part ended before it knew, or on a CPU.
        outcome: Empty while the part runs; then ``FIT``, ``OOM`` and so on, or ``error: ...``.
        seconds: How long the part took, imports and the building of models included.
        facts: What is no number: the card, versions.
        figures: What is one.
    """

    part: str
    setting: str
    card: str = ""
    outcome: str = ""
    seconds: float = 0.0
    facts: Mapping[str, str] = field(default_factory=dict)
    figures: Sequence[Figure] = ()

    @property
    def has_ended(self) -> bool:
        """Whether the part came to an end that counts: an error is tried again."""
        return bool(self.outcome) and not self.is_error

    @property
    def is_error(self) -> bool:
        """Whether the part could not be measured."""
        return self.outcome.startswith(ERROR)

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Result:
        """Return the result that a JSON object holds."""
        figures = [Figure(**figure) for figure in row["figures"]]
        return cls(**{**row, "figures": figures})


class ResultFile:
    """The file of one part's result."""

    def __init__(self, folder: Path, part: str) -> None:
        """Take the folder of the check, and the name of the part."""
        self.path = folder / FOLDER / f"{part}.json"

    def read(self) -> Result | None:
        """Return what is known of the part; None if nothing is."""
        if not self.path.is_file():
            return None
        return Result.of(read_json(self.path, "result"))

    def write(self, result: Result) -> None:
        """Replace the file, atomically."""
        write_json(self.path, asdict(result))

    def remove(self) -> None:
        """Forget what is known."""
        self.path.unlink(missing_ok=True)


class Report:
    """Where a running part puts what it has measured so far.

    Attributes:
        folder: The folder of the check, for files of the part's own.
        device: ``cpu`` or ``cuda``.
    """

    def __init__(self, folder: Path, device: str, start: Result) -> None:
        """Take where the result is kept, and the result without figures."""
        self.folder = folder
        self.device = device
        self._file = ResultFile(folder, start.part)
        self._result = start

    def put(self, figures: Sequence[Figure] = (), facts: Mapping[str, str] | None = None) -> None:
        """Write figures and facts to the part's file; figures of the same name are replaced."""
        by_name = {figure.name: figure for figure in (*self._result.figures, *figures)}
        self._result = replace(
            self._result,
            facts={**self._result.facts, **(facts or {})},
            figures=list(by_name.values()),
        )
        self._file.write(self._result)
