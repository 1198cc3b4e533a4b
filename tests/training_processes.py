"""Trainings in processes of their own that start at once: forked from one that has imported TRL.

``python -m grpo_helpers.training`` spends more time on importing TRL than on the smallest run. The
tests that kill, interrupt and resume runs therefore start them from a fork server: one process
imports TRL, every training is a fork of it and calls the command's own ``main``. It has a process
id, signals, an exit code and output of its own, as the command has.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from helpers import OFFLINE, ROOT

PRELOADED = [
    "trl.trainer.grpo_trainer",
    "bert_score",
    "bitsandbytes",
    "grpo_helpers.callbacks",
    "grpo_helpers.inference",
    "grpo_helpers.training",
]
PATIENCE = 300  # seconds until a training that should be over is a failure


class TrainingProcess:
    """One training: ``arguments`` follow ``python -m grpo_helpers.training``.

    Args:
        arguments: The command's arguments.
        output: A folder for what it prints.
        file_limit: The largest file it may write, in bytes; None sets no limit.
    """

    def __init__(
        self, arguments: Sequence[str], output: Path, file_limit: int | None = None
    ) -> None:
        self.arguments = list(arguments)
        self.stdout = output / "stdout.txt"
        self.stderr = output / "stderr.txt"
        context = fork_server()
        self._process = context.Process(
            target=_train, args=(self.arguments, self.stdout, self.stderr, file_limit)
        )
        self._process.start()

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.is_alive()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def wait_for_step(self, log: Path, step: int) -> None:
        """Return once ``log`` holds a row of ``step``; fail where the training ends before."""
        sign = f'{{"step": {step},'
        self._wait_until(
            lambda: log.is_file() and sign in log.read_text(encoding="utf-8"),
            f"step {step} was logged",
        )

    def wait_for_file(self, file: Path) -> None:
        """Return once ``file`` is there; fail where the training ends before."""
        self._wait_until(file.is_file, f"{file.name} was written")

    def _wait_until(self, is_so: Callable[[], bool], what: str) -> None:
        """Return once something is so; fail where the training ends before."""
        deadline = time.monotonic() + PATIENCE
        while not is_so():
            assert self.is_running, f"it ended before {what}: {self.stderr.read_text()[-2000:]}"
            assert time.monotonic() < deadline, f"it does not come to this: {what}"
            time.sleep(0.05)

    def send(self, number: signal.Signals) -> None:
        """Send a signal: SIGINT is what Ctrl-C sends."""
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        """End it as a power cut does."""
        self._process.kill()
        self._process.join()

    def finish(self) -> subprocess.CompletedProcess[str]:
        """Wait for its end; return its exit code and what it printed."""
        self._process.join(PATIENCE)
        assert not self.is_running, "the training does not come to its end"
        return subprocess.CompletedProcess(
            self.arguments,
            self._process.exitcode,
            stdout=self.stdout.read_text(encoding="utf-8"),
            stderr=self.stderr.read_text(encoding="utf-8"),
        )


def fork_server() -> multiprocessing.context.ForkServerContext:
    """Return the context whose processes have imported TRL; the server itself starts once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    # The server reads the number of threads and the switch of the hub when it imports them.
    os.environ.update(OFFLINE)
    return context


def _train(arguments: list[str], stdout: Path, stderr: Path, file_limit: int | None) -> None:
    """Be the command: its output in two files, its exit code, its working folder."""
    _redirect(stdout, sys.stdout.fileno())
    _redirect(stderr, sys.stderr.fileno())
    os.chdir(ROOT)
    # As in a shell; a parallel worker of pytest, and so its fork server, ignores Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if file_limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))

    from grpo_helpers.training import main

    sys.exit(main(arguments))


def _redirect(file: Path, descriptor: int) -> None:
    """Let ``descriptor`` write to ``file`` from now on."""
    with file.open("wb") as opened:
        os.dup2(opened.fileno(), descriptor)
