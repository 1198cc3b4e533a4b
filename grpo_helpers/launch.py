"""Several processes, trackers, signals, and a full disk: what surrounds the training itself.

In: the settings of a run, and what goes wrong outside our code. Out: processes started by torchrun,
which end when the one that started them ends, a run that ends with a save, and one-line errors. The
article trains in one process and has nothing of this.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grpo_helpers.command_line import FAILURE
from grpo_helpers.files import InputError, first_line, show_path
from grpo_helpers.launch_log import PASSED_ON, LaunchLog, first_error
from grpo_helpers.run_folder import LAUNCH_LOG, STOP_FILE
from grpo_helpers.settings import TrainSettings

if TYPE_CHECKING:
    from grpo_helpers.run_folder import RunWriter

# Codes of OSError that mean a full disk or a place that cannot be written. Not every system has
# all of them.
_CODE_NAMES = ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EPERM", "ENOTDIR", "EEXIST", "EIO")
WRITE_ERRORS = {getattr(errno, name) for name in _CODE_NAMES if hasattr(errno, name)}

# The same, in the words of torch.save and of safetensors, which raise errors of their own.
WRITE_ERROR_TEXT = re.compile(r"inline_container|os error (5|13|27|28|30|122)\)")

LAST_LINES = 5000  # of the processes, among which their first error is looked for


# -- processes -------------------------------------------------------------------------------------


def launched_processes() -> int:
    """Return the number of processes that this one was launched with, itself included."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def launched_rank() -> int:
    """Return the number of this process among those that were launched; 0 is the first."""
    return int(os.environ.get("RANK", "0"))


def will_launch(settings: TrainSettings) -> bool:
    """Return whether training starts processes of its own: as in a notebook, not under torchrun."""
    return settings.num_processes > 1 and "WORLD_SIZE" not in os.environ


def check_processes(settings: TrainSettings) -> None:
    """Make sure that as many processes run as the settings say.

    Raises:
        InputError: Fewer processes were launched.
    """
    expected = settings.num_processes
    launched = launched_processes()

    if launched < expected:
        command = f"torchrun --nproc_per_node {expected} -m grpo_helpers.training --params FILE"
        raise InputError(f"num_processes is {expected}, but {launched} was started; use: {command}")


def launch(settings: TrainSettings) -> None:
    """Train in ``settings.num_processes`` new processes, with torchrun, and pass on their progress.

    Everything that they print is kept in ``launch.log`` in the run folder.

    Raises:
        InputError: The processes failed; the message is their first error.
    """
    import yaml

    count = settings.num_processes
    folder = show_path(settings.run_dir)
    print(f"{count} processes: all that they print goes to {folder}/{LAUNCH_LOG}", flush=True)

    log = LaunchLog(settings.run_dir)
    with tempfile.TemporaryDirectory(prefix="grpo-launch-") as temporary:
        params = Path(temporary) / "params.yaml"
        text = yaml.safe_dump(settings.as_dict(), allow_unicode=True)
        params.write_text(text, encoding="utf-8")

        with soft_interrupts(lambda: ask_to_stop(settings.run_dir)):
            exit_code, lines = _run_passing_on(_torchrun_command(count, params), log)

    if exit_code == 0:
        log.discard_unless_open()
        return

    raise InputError(
        f"{count} processes failed: {first_error(lines)} "
        f"(all that they printed is in {show_path(log.path)})"
    )


def _torchrun_command(num_processes: int, params: Path) -> list[str]:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    count = ["--nproc-per-node", str(num_processes)]
    training = ["-m", "grpo_helpers.training", "--params", str(params), "--end-with-launcher"]
    return [*torchrun, *count, *training]


def _run_passing_on(command: Sequence[str], log: LaunchLog) -> tuple[int, list[str]]:
    """Run a command that ends when this process does, and print its lines of progress.

    Args:
        command: The command; its processes must call :func:`end_with_launcher`.
        log: Takes all its lines.

    Returns:
        Its exit code and its last lines.
    """
    # In a session of its own: Ctrl-C reaches this process alone, which asks the others to stop.
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,  # nothing is written to it; it closes when this process ends
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    lines: deque[str] = deque(maxlen=LAST_LINES)
    shown = ""

    try:
        for line in process.stdout or ():
            lines.append(line.rstrip())
            log.write(line.rstrip())
            if line.startswith(PASSED_ON) and line != shown:  # once, if every process says it
                print(line, end="", flush=True)
                shown = line
    except BaseException:
        process.terminate()  # torchrun ends its processes; what was saved stays
        raise
    finally:
        exit_code = process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                pipe.close()
        log.close()

    return exit_code, list(lines)


def end_with_launcher() -> None:
    """End this process, at once, when the one that launched it has ended, however that happened.

    The launcher holds the other end of the standard input, which torchrun hands on to its
    processes. The system closes it when the launcher ends, even if that was killed. Without this,
    the processes of a killed kernel would keep their GPUs.
    """
    standard_input = sys.stdin.fileno()

    def wait_for_the_end() -> None:
        while os.read(standard_input, 1):
            pass
        os._exit(FAILURE)  # no save, no message: nobody is left to read one

    threading.Thread(target=wait_for_the_end, daemon=True).start()


# -- trackers --------------------------------------------------------------------------------------


def tracker_names(report_to: str) -> list[str]:
    """Return the trackers that ``report_to`` stands for; ``all`` are those that are installed.

    >>> tracker_names("wandb, tensorboard"), tracker_names("none")
    (['wandb', 'tensorboard'], [])
    """
    if report_to == "none":
        return []
    if report_to != "all":
        return [name.strip() for name in report_to.split(",")]

    from transformers.integrations.integration_utils import get_available_reporting_integrations

    return get_available_reporting_integrations()


def check_trackers(names: Sequence[str]) -> None:
    """Make sure that each tracker is installed, and that wandb knows who is tracking.

    Args:
        names: Trackers by the names that transformers has for them.

    Raises:
        InputError: One of them cannot be used.
    """
    if not names:
        return

    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    for name in names:
        try:
            INTEGRATION_TO_CALLBACK[name]()
        except Exception as error:
            raise InputError(
                f"report_to is {name}, which cannot be used here: {first_line(error)}; "
                f"install it (pip install {name}), or set report_to=none"
            ) from None

        if name == "wandb" and launched_rank() == 0:
            _check_wandb_login()


def _check_wandb_login() -> None:
    import wandb

    if wandb.setup().settings.mode in ("offline", "disabled", "dryrun"):
        return

    try:
        is_known = wandb.login(prompt=False, verify=False)
    except wandb.Error as error:
        raise InputError(
            f"report_to is wandb, which refuses the login: {first_line(error)}"
        ) from None
    if not is_known:
        raise InputError(
            "report_to is wandb, and nobody is logged in there: run `wandb login` once, "
            "set WANDB_API_KEY or WANDB_MODE=offline, or set report_to=none"
        )


def explain_tracker_errors(trainer: Any) -> None:
    """Let a tracker that cannot start say so in one line."""
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    names = {kind: name for name, kind in INTEGRATION_TO_CALLBACK.items()}
    for callback in trainer.callback_handler.callbacks:
        name = names.get(type(callback))
        if name is not None:
            callback.on_train_begin = _explained(callback.on_train_begin, name)


def _explained(begin: Callable[..., Any], name: str) -> Callable[..., Any]:
    def begin_or_explain(*args: Any, **kwargs: Any) -> Any:
        try:
            return begin(*args, **kwargs)
        except Exception as error:
            raise InputError(
                f"report_to is {name}, which cannot start: {first_line(error)}; "
                "put that right, or set report_to=none"
            ) from error

    return begin_or_explain


# -- signals ---------------------------------------------------------------------------------------


STOP_SIGNALS = {
    signal.SIGINT: "interrupt again",  # Ctrl-C, or the notebook's stop button
    signal.SIGTERM: "send SIGTERM again",  # kill, or a machine that is taken away
}


@contextmanager
def soft_interrupts(request_stop: Callable[[], None]) -> Iterator[None]:
    """Let the first Ctrl-C or SIGTERM end the run softly, the second of its kind at once.

    Softly means after the current step, with a save. This has no effect outside a program's main
    thread. torchrun passes a signal on to its processes, and kills them 30 seconds later.

    Args:
        request_stop: Asks the run to end; called from a signal handler.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    original_handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}

    def request_once(number: int, _: Any) -> None:
        request_stop()
        signal.signal(number, original_handlers[signal.Signals(number)])
        if launched_rank() == 0:
            again = STOP_SIGNALS[signal.Signals(number)]
            print(f"stopping after this step, with a save; {again} to stop at once", flush=True)

    for number in STOP_SIGNALS:
        signal.signal(number, request_once)
    try:
        yield
    finally:
        for number, handler in original_handlers.items():
            signal.signal(number, handler)


def ask_to_stop(run_dir: Path) -> None:
    """Ask the processes that train into a folder to end after their current step."""
    if run_dir.is_dir():  # otherwise none of them has begun
        (run_dir / STOP_FILE).touch()


# -- errors of a start, and of a disk --------------------------------------------------------------


@contextmanager
def explain_start_errors(writer: RunWriter) -> Iterator[None]:
    """Report in one line what keeps a training from starting; nothing is lost by then.

    Args:
        writer: Knows whether the run folder is open, which is the last thing of a start.

    Raises:
        InputError: Instead of a setting that TRL, PEFT or an optimizer refuses. Errors of a run
            that has started are passed on.
    """
    try:
        yield
    except InputError:
        raise
    except (ImportError, NotImplementedError, ValueError) as error:
        if writer.is_open:
            raise
        raise InputError(f"the training cannot start: {first_line(error)}") from error


@contextmanager
def explain_write_errors(run_dir: Path) -> Iterator[None]:
    """Report a full disk or an unwritable folder in one line.

    Raises:
        InputError: Instead of an error that means this; other errors are passed on.
    """
    try:
        yield
    except Exception as error:
        message = first_line(error)
        is_write_error = getattr(error, "errno", None) in WRITE_ERRORS

        if is_write_error or WRITE_ERROR_TEXT.search(message):
            raise InputError(
                f"cannot write to {run_dir}: {message}; "
                "free some space and resume with resume=auto, or choose another output_dir"
            ) from error
        raise
