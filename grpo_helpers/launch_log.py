"""What launched processes print: kept in a file, shown in part, and searched for the first error.

In: the lines of torchrun and its processes, one after another. Out: ``launch.log`` in the run
folder, which holds all of them; the lines of progress, for the notebook; and, if the processes
fail, the one line that says why. In a process of several, every line of a traceback begins with
``[rank0]: `` or the like, the others fail as a consequence, and torchrun adds a traceback of its
own. The article trains in one process.
"""

from __future__ import annotations

import os
import re
import signal
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from grpo_helpers.run_folder import LAUNCH_LOG, LOG_FILE, SETTINGS_FILE

# Lines of the processes that are shown: what happens at a start or a stop, steps, alarms.
PASSED_ON = (
    "step ",
    "loading ",
    "downloading: ",
    "resuming ",
    "stopping ",
    "stopped ",
    "the save ",
    "answering dev",
    "no complete checkpoint",
    "out of memory with",
    "nothing to resume",
    "ALARM",
    "       what to do: ",
)

RANK = re.compile(r"\[rank(\d+)\]: ?")
TRACEBACK = "Traceback (most recent call last):"
OF_TORCHRUN = "torch.distributed.elastic."  # its own error, whatever happened
ENDED_BY_SIGNAL = re.compile(r"failed \(exitcode: -(\d+)\) local_rank: (\d+)")


# -- the file --------------------------------------------------------------------------------------


class LaunchLog:
    """Keeps every line: in a temporary file until the run folder is open, then in the folder.

    A start that fails leaves the run folder as it was; the temporary file is kept.

    Attributes:
        path: The file that holds the lines now.
    """

    def __init__(self, run_dir: Path) -> None:
        """Take the run folder, which need not exist yet."""
        self._target = run_dir / LAUNCH_LOG
        self._marks = [run_dir / SETTINGS_FILE, run_dir / LOG_FILE]
        self._before = self._state()

        descriptor, name = tempfile.mkstemp(prefix=f"grpo-{run_dir.name}-", suffix=".log")
        self._file = os.fdopen(descriptor, "w", encoding="utf-8")
        self.path = Path(name)

    def write(self, line: str) -> None:
        """Add a line; it is on disk at once."""
        self._file.write(line + "\n")
        self._file.flush()
        self._move_if_open()

    def close(self) -> None:
        """Close the file, which is in the run folder by now if the run has begun."""
        self._move_if_open()
        self._file.close()

    def discard_unless_open(self) -> None:
        """Remove the temporary file of a launch that had nothing to do."""
        if self.path != self._target:
            self.path.unlink()

    def _state(self) -> list[int]:
        """Return what changes once the processes have opened the run folder.

        A run that starts writes its settings, and a run that resumes writes its log, as new files.
        """
        return [mark.stat().st_ino if mark.is_file() else 0 for mark in self._marks]

    def _move_if_open(self) -> None:
        """Go on in the run folder, after what an earlier part of the run has left there."""
        if self.path == self._target or self._state() == self._before:
            return

        self._file.close()
        self._file = self._target.open("a", encoding="utf-8")
        self._file.write(self.path.read_text(encoding="utf-8"))
        self._file.flush()
        self.path.unlink()
        self.path = self._target


# -- the first error -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Raised:
    """The last line of a traceback.

    Attributes:
        rank: The number of the process, as text; "" before the processes are connected.
        error: ``torch.OutOfMemoryError: CUDA out of memory.``
    """

    rank: str
    error: str


def first_error(lines: Sequence[str]) -> str:
    """Return why processes failed: their first error, as the process that raised it worded it.

    Args:
        lines: What they and torchrun printed.

    >>> first_error(["[rank1]: Traceback (most recent call last):", "[rank1]: MemoryError: full"])
    'MemoryError: full'
    """
    for line in lines:
        if line.startswith("error: "):  # ours: one line, without a traceback
            return line.removeprefix("error: ")

    raised = raised_errors(lines)
    of_processes = [each for each in raised if each.rank] or raised
    if of_processes:
        rank = of_processes[0].rank  # the others may have failed because this one did
        return [each.error for each in of_processes if each.rank == rank][-1]

    return _signal_of(lines) or (lines[-1] if lines else "no output")


def raised_errors(lines: Sequence[str]) -> list[Raised]:
    """Return the error at the end of each traceback, in the order in which they were printed."""
    errors = []
    in_traceback = set()  # numbers of processes

    for line in lines:
        match = RANK.match(line)
        rank = match[1] if match else ""
        text = line[match.end() :] if match else line

        if text.startswith(TRACEBACK):
            in_traceback.add(rank)
        elif rank in in_traceback and text and not text[0].isspace():
            in_traceback.discard(rank)
            if not text.startswith(OF_TORCHRUN):
                errors.append(Raised(rank, text))

    return errors


def _signal_of(lines: Sequence[str]) -> str:
    """Return which signal ended a process that could say nothing itself, or an empty text."""
    for line in lines:
        match = ENDED_BY_SIGNAL.search(line)
        if match is None:
            continue

        number = int(match[1])
        known = {each.value: each.name for each in signal.Signals}
        message = f"process {match[2]} was ended by {known.get(number, f'signal {number}')}"
        if number == signal.SIGKILL:
            message += ", as the system does when the machine's memory is full"
        return message

    return ""
