"""Several processes, Ctrl-C, and a disk that is full."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grpo_helpers.files import InputError
from grpo_helpers.settings import TrainSettings

if TYPE_CHECKING:
    from transformers import TrainerCallback


_NAMES = ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EPERM", "ENOTDIR", "EEXIST", "EIO")
WRITE_ERRORS = {getattr(errno, name) for name in _NAMES}
WRITE_SIGNS = re.compile(
    r"inline_container|os error (5|13|27|28|30|122)\)"
)  # torch.save, safetensors


def check_processes(settings: TrainSettings) -> None:
    """Make sure that as many processes run as were asked for, each with one GPU at most, or raise InputError."""
    import torch

    asked, started, gpus = (
        settings.num_processes,
        int(os.environ.get("WORLD_SIZE", "1")),
        torch.cuda.device_count(),
    )
    if started < asked:
        command = f"torchrun --nproc_per_node {asked} -m grpo_helpers.training --params FILE"
        raise InputError(f"num_processes is {asked}, but {started} was started; use: {command}")
    if started == 1 and gpus > 1:
        raise InputError(
            f"{gpus} GPUs are visible to one process: set num_processes={gpus} or CUDA_VISIBLE_DEVICES=0"
        )


def launch(settings: TrainSettings) -> None:
    """Train in ``settings.num_processes`` new processes, by torchrun; pass on their output; InputError if they fail."""
    import yaml

    with tempfile.TemporaryDirectory(prefix="grpo-launch-") as folder:
        file = Path(folder) / "params.yaml"
        file.write_text(yaml.safe_dump(settings.as_dict(), allow_unicode=True), encoding="utf-8")
        command = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
        ]
        command += [
            str(settings.num_processes),
            "-m",
            "grpo_helpers.training",
            "--params",
            str(file),
        ]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        lines: list[str] = []
        try:
            for line in process.stdout or ():
                lines.append(line.rstrip())
                if line.startswith(("step ", "going on ", "the save ")):
                    print(line, end="", flush=True)
        except BaseException:
            process.terminate()  # torchrun ends its processes; what was saved stays
            raise
        finally:
            failed = process.wait()
    if failed:
        errors = (
            [line for line in lines if re.match(r"error: |\S*Error: ", line)]
            or lines[-1:]
            or ["no output"]
        )
        raise InputError(
            f"{settings.num_processes} processes failed: {errors[0].removeprefix('error: ')}"
        )


@contextmanager
def soft_interrupts(callback: TrainerCallback) -> Iterator[None]:
    """Let Ctrl-C (the notebook's stop button) end the run after the current step, with a save; a second one at once.

    Not with several processes, which could stop at different steps, nor outside a program's main thread.
    """
    if (
        int(os.environ.get("WORLD_SIZE", "1")) > 1
        or threading.current_thread() is not threading.main_thread()
    ):
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def ask(*_: Any) -> None:
        callback.asked = True
        signal.signal(signal.SIGINT, before)
        print("stopping after this step, with a save; once more to stop at once", flush=True)

    signal.signal(signal.SIGINT, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def told_write_errors(run_dir: Path) -> Iterator[None]:
    """Tell a full disk or an unwritable folder in one line; torch and safetensors have errors of their own for it."""
    try:
        yield
    except Exception as error:
        told = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if getattr(error, "errno", None) in WRITE_ERRORS or WRITE_SIGNS.search(told):
            mend = "make room and go on with resume=auto, or take another output_dir"
            raise InputError(f"cannot write to {run_dir}: {told}; {mend}") from error
        raise
