"""Runs the parts of the check, each in a process of its own with a time limit.

In: parts, and a folder. Out: the result of each part in ``results/``, what it printed in ``logs/``.
A part that runs out of memory, crashes or takes too long ends by itself: its result says so, and
the next part begins on an empty card. A part whose result is there is not run again.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from grpo_helpers.files import project_root
from tools.benchmarks.memory_probe import OOM, failure
from tools.gpu_check.parts import MACHINE, Part
from tools.gpu_check.results import ERROR, Result, ResultFile

LOGS = "logs"
GRACE = 30.0  # seconds between asking a part to end and ending it
SHOWN = 300  # characters of an error

# What keeps the libraries from asking the model hub.
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
ON_CPU = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}

CommandOf = Callable[[Part], Sequence[str]]


@dataclass(frozen=True)
class Ended:
    """How a process came to its end.

    Attributes:
        exit_code: 0 if all went well; below 0 if a signal ended it.
        was_cut_off: Whether it had taken too long.
        printed: Everything that it printed.
    """

    exit_code: int
    was_cut_off: bool
    printed: str


# -- all parts --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Check:
    """A check on one device.

    Attributes:
        folder: Where everything is written.
        device: ``cpu`` or ``cuda``.
        minutes: No part is started that could take longer than that, counted from the start of the
            first; None for no limit.
    """

    folder: Path
    device: str
    minutes: float | None = None

    def command(self, part: Part) -> list[str]:
        """Return the command that measures one part."""
        command = [sys.executable, "-W", "ignore", "-m", "tools.gpu_check"]
        command += ["--device", self.device, "--out", str(self.folder.resolve())]
        return [*command, "--child", part.name]

    def result(self, part: Part) -> Result | None:
        """Return the result of a part, if it has one of this setting."""
        result = ResultFile(self.folder, part.name).read()
        if result is None or result.setting != part.setting:
            return None
        return result

    def is_due(self, part: Part) -> bool:
        """Return whether a part is still to be run."""
        result = self.result(part)
        return result is None or not result.has_ended

    def run(self, parts: Sequence[Part], command: CommandOf | None = None) -> None:
        """Run every part that is due, until the time is over.

        Without the machine that the first part looks for, no other part is tried.

        Args:
            parts: The parts.
            command: Returns the command of a part; None stands for :meth:`command`.
        """
        command = command or self.command
        started = time.monotonic()

        for number, part in enumerate(parts, start=1):
            if not self.is_due(part):
                continue
            if self.minutes is not None:
                left = 60 * self.minutes - (time.monotonic() - started)
                if left < part.limit:
                    continue

            place = f"{number}/{len(parts)} {part.name}"
            print(f"{place}: {part.about} (at most {part.limit / 60:g} min)", flush=True)
            result = self.run_part(part, command(part))
            print(f"{place}: {result.outcome}, {result.seconds:.0f} s", flush=True)
            if part.name == MACHINE and result.is_error:
                return

    # -- one part --

    def run_part(self, part: Part, command: Sequence[str]) -> Result:
        """Run one part in a process of its own, and write down how it ended.

        Args:
            part: The part.
            command: The command that measures it and writes its figures.
        """
        file = ResultFile(self.folder, part.name)
        file.remove()
        log = self.folder / LOGS / f"{part.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)

        started = time.monotonic()
        with log.open("w", encoding="utf-8") as opened:
            ended = self._wait_for(command, opened, part.limit)
        seconds = time.monotonic() - started

        result = file.read() or Result(part.name, part.setting)
        outcome = outcome_of(part, ended, has_figures=bool(result.figures))
        result = replace(result, outcome=outcome, seconds=round(seconds, 1))
        file.write(result)
        return result

    def _wait_for(self, command: Sequence[str], log: IO[str], limit: float) -> Ended:
        """Run a command to its end, or until it has taken too long."""
        environment = os.environ | OFFLINE
        if self.device == "cpu":
            environment |= ON_CPU

        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,  # it closes when this process ends, and the part ends with it
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=project_root(),
            env=environment,
            start_new_session=True,  # Ctrl-C reaches this process alone
        )
        was_cut_off = False
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            was_cut_off = True
            process.terminate()  # a training ends after its step, with a save
            _wait_quietly(process, GRACE)
        finally:
            _kill(process)

        printed = Path(log.name).read_text(encoding="utf-8", errors="replace")
        return Ended(process.returncode, was_cut_off, printed)


def _wait_quietly(process: subprocess.Popen[bytes], seconds: float) -> None:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a process with everything that it has started, if it still runs."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def outcome_of(part: Part, ended: Ended, has_figures: bool) -> str:
    """Return how a part came to its end, in a few words.

    Args:
        part: The part.
        ended: How its process ended.
        has_figures: Whether it had measured anything by then.
    """
    if ended.was_cut_off:
        cut_off = f"cut off after {part.limit:g} s"
        return f"{part.success}, {cut_off}" if has_figures else f"{ERROR}: {cut_off}, no figure yet"
    if ended.exit_code == 0:
        return part.success

    reason = failure(ended.printed)
    if reason == OOM:
        return reason
    if ended.exit_code < 0:
        name = signal.Signals(-ended.exit_code).name
        return f"{ERROR}: ended by {name}, perhaps for want of main memory; {reason}"[:SHOWN]
    return f"{ERROR}: {reason.removeprefix('error: ')}"[:SHOWN]
