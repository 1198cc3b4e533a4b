"""What surrounds a training: trackers, launched processes, Ctrl-C, and disks that are full."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers import ROOT, environment

from grpo_helpers.files import InputError
from grpo_helpers.launch import (
    _run_passing_on,
    ask_to_stop,
    check_trackers,
    explain_start_errors,
    explain_tracker_errors,
    explain_write_errors,
    soft_interrupts,
    tracker_names,
)
from grpo_helpers.launch_log import LaunchLog
from grpo_helpers.run_folder import RunFolder

# -- trackers --------------------------------------------------------------------------------------


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """Somebody whom wandb does not know."""
    pytest.importorskip("wandb")
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_DISABLED", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    import wandb

    wandb.teardown()
    yield monkeypatch
    wandb.teardown()


def test_no_tracker_needs_no_check():
    check_trackers([])


def test_tracker_that_is_not_installed_is_refused_with_the_fix(monkeypatch):
    where = "transformers.integrations.integration_utils.is_tensorboard_available"
    monkeypatch.setattr(where, lambda: False)

    with pytest.raises(InputError, match=r"pip install tensorboard\), or set report_to=none"):
        check_trackers(["tensorboard"])


def test_wandb_without_a_login_is_refused_with_the_fix(stranger):
    with pytest.raises(InputError, match="run `wandb login` once"):
        check_trackers(["wandb"])


def test_all_trackers_are_those_that_are_installed(monkeypatch):
    where = "transformers.integrations.integration_utils.is_tensorboard_available"
    monkeypatch.setattr(where, lambda: True)
    assert "tensorboard" in tracker_names("all")

    monkeypatch.setattr(where, lambda: False)
    assert "tensorboard" not in tracker_names("all")


def test_all_trackers_include_one_without_a_login(stranger):
    with pytest.raises(InputError, match="report_to is wandb, and nobody is logged in"):
        check_trackers(tracker_names("all"))


def test_wandb_offline_needs_no_login(stranger):
    stranger.setenv("WANDB_MODE", "offline")

    check_trackers(["wandb"])


def test_tracker_that_cannot_start_says_so_in_one_line():
    from transformers.integrations.integration_utils import TensorBoardCallback

    tracker = TensorBoardCallback.__new__(TensorBoardCallback)  # without what it needs
    trainer = SimpleNamespace(callback_handler=SimpleNamespace(callbacks=[tracker]))
    explain_tracker_errors(trainer)

    state = SimpleNamespace(is_world_process_zero=True, is_hyper_param_search=False)
    with pytest.raises(InputError, match="report_to is tensorboard, which cannot start"):
        tracker.on_train_begin(None, state, None)


# -- starts ----------------------------------------------------------------------------------------


def test_setting_that_is_refused_at_the_start_is_one_line():
    refused = pytest.raises(InputError, match="the training cannot start: no such thing")
    with refused, explain_start_errors(SimpleNamespace(is_open=False)):
        raise ImportError("no such thing\nmore")


def test_error_of_a_run_that_has_started_is_passed_on():
    with pytest.raises(ImportError), explain_start_errors(SimpleNamespace(is_open=True)):
        raise ImportError("no such thing")


# -- processes -------------------------------------------------------------------------------------

ALARM = "ALARM  reward_collapse: the reward falls"
ACTION = "       what to do: lower learning_rate"


@pytest.fixture
def log(tmp_path):
    """What keeps the lines of processes whose run folder is not open yet."""
    log = LaunchLog(tmp_path / "run")
    yield log
    log.path.unlink(missing_ok=True)


def printing(*lines, exit_code=0):
    """Return a command that prints some lines."""
    code = f"print({chr(10).join(lines)!r}); raise SystemExit({exit_code})"
    return [sys.executable, "-c", code]


@pytest.mark.parametrize("line", ["step 1", ALARM, ACTION, "loading a model", "downloading: 1 GB"])
def test_line_of_progress_is_passed_on(line, log, capsys):
    _run_passing_on(printing(line, "something else"), log)

    assert capsys.readouterr().out == f"{line}\n"


def test_line_that_every_process_prints_is_passed_on_once(log, capsys):
    _run_passing_on(printing("the save", "the save was", "the save was", "step 1"), log)

    assert capsys.readouterr().out == "the save was\nstep 1\n"


def test_exit_code_and_every_line_are_returned(log):
    command = printing("step 1", "something else", exit_code=3)

    assert _run_passing_on(command, log) == (3, ["step 1", "something else"])


def test_every_line_is_kept_in_the_log(log):
    _run_passing_on(printing("step 1", "something else"), log)

    assert log.path.read_text(encoding="utf-8") == "step 1\nsomething else\n"


def test_bytes_that_are_no_text_do_not_end_a_launch(log):
    command = [sys.executable, "-c", r"import os; os.write(1, b'a\xff\n')"]

    assert _run_passing_on(command, log) == (0, ["a\ufffd"])


# Prints its own process id and waits for a minute, unless its launcher ends before.
WORKER = """
import os, time
from grpo_helpers.launch import end_with_launcher
end_with_launcher()
print("step", os.getpid(), flush=True)
time.sleep(60)
"""
# Starts two of them as a notebook starts a training: by torchrun.
LAUNCHER = """
import sys
from pathlib import Path
from grpo_helpers.launch import _run_passing_on
from grpo_helpers.launch_log import LaunchLog
torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
_run_passing_on([*torchrun, sys.argv[1]], LaunchLog(Path(sys.argv[2])))
"""


@pytest.fixture
def launched(tmp_path):
    """A launcher, and the process ids of what it has launched."""
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER, encoding="utf-8")
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, worker, tmp_path / "run"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(PYTHONPATH=str(ROOT), TMPDIR=str(tmp_path)),
    )
    with launcher:
        workers = [int(launcher.stdout.readline().split()[1]) for _ in range(2)]
        yield launcher, workers
        launcher.kill()


def is_running(process_id):
    """Return whether a process runs; one that has ended and that nobody asks for does not."""
    try:
        status = Path(f"/proc/{process_id}/stat").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


@pytest.mark.heavy
def test_processes_end_when_their_launcher_is_killed(launched):
    launcher, workers = launched
    assert all(map(is_running, workers))

    launcher.kill()

    deadline = time.monotonic() + 20
    while any(map(is_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(is_running, workers))


# -- signals ---------------------------------------------------------------------------------------


class Stop:
    """What stands for the callback that stops a run."""

    requested = False

    def request(self):
        self.requested = True


@pytest.fixture
def stop():
    """What stops a run, where Ctrl-C does what it does in a shell."""
    # A parallel worker of pytest ignores Ctrl-C.
    original_handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield Stop()
    signal.signal(signal.SIGINT, original_handler)


def send(number):
    """Send this process a signal: SIGINT is what Ctrl-C sends, SIGTERM what kill sends."""
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_requests_a_stop(stop, number, capsys):
    with soft_interrupts(stop.request):
        send(number)

    assert stop.requested
    assert "stopping after this step" in capsys.readouterr().out


def test_second_interrupt_stops_at_once(stop):
    with pytest.raises(KeyboardInterrupt), soft_interrupts(stop.request):
        send(signal.SIGINT)
        send(signal.SIGINT)


def test_interrupt_leaves_the_next_sigterm_soft(stop):
    """Whoever shuts a kernel down sends both, one soon after the other."""
    with soft_interrupts(stop.request):
        send(signal.SIGINT)
        stop.requested = False
        send(signal.SIGTERM)

    assert stop.requested


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_as_before_once_the_run_is_over(stop, number):
    before = signal.getsignal(number)
    with soft_interrupts(stop.request):
        send(number)

    assert signal.getsignal(number) is before


def test_one_of_several_processes_says_that_the_run_stops(stop, monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    with soft_interrupts(stop.request):
        send(signal.SIGINT)

    assert stop.requested
    assert capsys.readouterr().out == ""


def test_other_threads_leave_signals_alone(stop):
    entered = []

    def body():
        with soft_interrupts(stop.request):
            entered.append(True)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()

    assert entered == [True]


def test_processes_are_asked_to_stop_by_a_file(tmp_path):
    ask_to_stop(tmp_path)

    assert RunFolder(tmp_path).stop_file.is_file()


def test_processes_that_have_not_begun_are_not_asked(tmp_path):
    ask_to_stop(tmp_path / "none")

    assert not (tmp_path / "none").exists()


def test_command_hears_no_ctrl_c_of_its_own(log, capsys):
    """A terminal sends it to a whole session; torchrun would end its processes."""
    code = "import os; print('step', os.getsid(0) == os.getpid())"
    _run_passing_on([sys.executable, "-c", code], log)

    assert capsys.readouterr().out == "step True\n"


def test_launcher_that_is_interrupted_waits_for_the_command(stop, log, capsys):
    code = "import os, time; os.kill(os.getppid(), 2); time.sleep(0.5); print('step 1')"
    with soft_interrupts(stop.request):
        exit_code, _ = _run_passing_on([sys.executable, "-c", code], log)

    assert exit_code == 0
    assert stop.requested
    assert capsys.readouterr().out.endswith("step 1\n")


# -- disks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        PermissionError(errno.EACCES, "Permission denied"),
        RuntimeError("[enforce fail at inline_container.cc:664] unexpected pos"),
        RuntimeError("Error while serializing: I/O error: File too large (os error 27)"),
    ],
)
def test_write_error_is_explained_in_one_line(tmp_path, error):
    with pytest.raises(InputError) as caught, explain_write_errors(tmp_path):
        raise error

    message = str(caught.value)
    assert message.startswith(f"cannot write to {tmp_path}: ")
    assert "resume=auto" in message
    assert "\n" not in message


@pytest.mark.parametrize("error", [ValueError("os error"), OSError(errno.ENOENT, "No such file")])
def test_other_errors_are_passed_on(tmp_path, error):
    with pytest.raises(type(error)) as caught, explain_write_errors(tmp_path):
        raise error

    assert caught.value is error
