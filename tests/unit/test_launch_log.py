"""What launched processes print: where it is kept, and which of their errors comes first."""

from __future__ import annotations

import pytest

from grpo_helpers.files import write_json
from grpo_helpers.launch_log import LaunchLog, Raised, first_error, raised_errors
from grpo_helpers.run_folder import RunLog, open_run_folder
from grpo_helpers.settings import TrainSettings

# -- the file --------------------------------------------------------------------------------------


@pytest.fixture
def settings(tmp_path):
    """The settings of a run in a folder that is not there yet."""
    return TrainSettings(output_dir=str(tmp_path), run_name="run", num_processes=1)


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path, monkeypatch):
    """Temporary files of a test lie in its own folder."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def text_of(log):
    """Return what a closed log holds."""
    return log.path.read_text(encoding="utf-8")


def test_start_that_fails_makes_no_run_folder(settings):
    log = LaunchLog(settings.run_dir)
    log.write("error: no such model")
    log.close()

    assert not settings.run_dir.exists()
    assert text_of(log) == "error: no such model\n"


def test_start_that_fails_leaves_an_earlier_run_alone(settings):
    open_run_folder(settings, checkpoint=None)
    log = LaunchLog(settings.run_dir)
    log.write("error: no such model")
    log.close()

    assert not (settings.run_dir / "launch.log").exists()


def test_log_goes_to_the_run_folder_once_that_is_open(settings):
    log = LaunchLog(settings.run_dir)
    log.write("loading")
    open_run_folder(settings, checkpoint=None)
    log.write("step 1")
    log.close()

    assert log.path == settings.run_dir / "launch.log"
    assert text_of(log) == "loading\nstep 1\n"
    assert list(settings.run_dir.parent.iterdir()) == [settings.run_dir]  # no temporary file


def test_log_of_a_resumed_run_follows_its_earlier_part(settings):
    settings.run_dir.mkdir()
    (settings.run_dir / "launch.log").write_text("step 1\n", encoding="utf-8")
    write_json(settings.run_dir / "settings.json", {})
    run_log = RunLog(settings.run_dir / "log.jsonl")
    run_log.append({"step": 1})

    log = LaunchLog(settings.run_dir)
    run_log.rewind(1)  # what a run does that resumes
    log.write("step 2")
    log.close()

    assert text_of(log) == "step 1\nstep 2\n"


def test_log_of_an_earlier_run_is_set_aside_with_it(settings):
    for word in ("first", "second"):
        log = LaunchLog(settings.run_dir)
        open_run_folder(settings, checkpoint=None)
        log.write(word)
        log.close()

    assert text_of(log) == "second\n"
    assert (settings.run_dir / "previous-1" / "launch.log").read_text() == "first\n"


def test_logged_step_of_another_process_is_no_start(settings):
    open_run_folder(settings, checkpoint=None)
    run_log = RunLog(settings.run_dir / "log.jsonl")
    run_log.append({"step": 1})

    log = LaunchLog(settings.run_dir)
    run_log.append({"step": 2})
    log.write("error: in use")
    log.close()

    assert not (settings.run_dir / "launch.log").exists()


# -- the first error -------------------------------------------------------------------------------

# As torchrun printed them, here without most of their frames: two processes of torch 2.13.
OF_TORCHRUN = """\
E1127 21:35:28.240000 29251 torch/distributed/elastic/multiprocessing/api.py:1002] failed \
(exitcode: {exit_code}) local_rank: 1 (pid: 29256) of binary: /usr/bin/python
Traceback (most recent call last):
  File "torch/distributed/launcher/api.py", line 383, in launch_agent
    raise ChildFailedError(
torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \n\
============================================================
boom.py FAILED
============================================================"""
OUT_OF_MEMORY = """\
[rank0]: Traceback (most recent call last):
[rank0]:   File "boom.py", line 9, in <module>
[rank0]:     {}["x"]
[rank0]:     ~~^^^^^
[rank0]: KeyError: 'x'

[rank0]: During handling of the above exception, another exception occurred:

[rank0]: Traceback (most recent call last):
[rank0]:   File "boom.py", line 11, in <module>
[rank0]: torch.OutOfMemoryError: CUDA out of memory.
[rank0]: Tried to allocate 2 GiB"""
OTHER_RANK_FAILS_TOO = """\
[rank1]: Traceback (most recent call last):
[rank1]:   File "boom.py", line 16, in <module>
[rank1]: MemoryError
[rank0]: Traceback (most recent call last):
[rank0]:   File "boom.py", line 17, in <module>
[rank0]: RuntimeError: [gloo/transport/tcp/pair.cc:553] Connection closed by peer"""
BEFORE_THE_CONNECTION = """\
Traceback (most recent call last):
  File "boom.py", line 2, in <module>
ModuleNotFoundError: No module named 'trl'"""
HANDLED = """\
Traceback (most recent call last):
  File "somewhere.py", line 2, in <module>
ImportError: a library logs this and goes on"""


def lines_of(*outputs, exit_code=1):
    """Return the lines of processes and of torchrun after them."""
    return "\n".join([*outputs, OF_TORCHRUN.format(exit_code=exit_code)]).splitlines()


@pytest.mark.parametrize(
    ("outputs", "error"),
    [
        ([OUT_OF_MEMORY], "torch.OutOfMemoryError: CUDA out of memory."),
        ([OTHER_RANK_FAILS_TOO], "MemoryError"),
        ([BEFORE_THE_CONNECTION], "ModuleNotFoundError: No module named 'trl'"),
        ([HANDLED, OUT_OF_MEMORY], "torch.OutOfMemoryError: CUDA out of memory."),
        (["loading", "error: no file x", "error: later"], "no file x"),
        ([OUT_OF_MEMORY, "error: the card is full"], "the card is full"),
    ],
)
def test_first_error_is_the_one_that_ended_the_run(outputs, error):
    assert first_error(lines_of(*outputs)) == error


def test_process_that_the_system_ended_is_explained():
    error = first_error(lines_of("step 1", exit_code=-9))

    assert error == (
        "process 1 was ended by SIGKILL, as the system does when the machine's memory is full"
    )


def test_process_that_crashed_is_named_with_its_signal():
    assert first_error(lines_of(exit_code=-11)) == "process 1 was ended by SIGSEGV"


@pytest.mark.parametrize(
    ("lines", "error"), [(["loading", "the end"], "the end"), ([], "no output")]
)
def test_failure_without_an_error_shows_the_last_line(lines, error):
    assert first_error(lines) == error


def test_tracebacks_of_two_processes_may_be_mixed():
    lines = [
        "[rank0]: Traceback (most recent call last):",
        "[rank1]: Traceback (most recent call last):",
        "[rank1]:   File",
        "[rank0]:   File",
        "[rank1]: ValueError: one",
        "[rank0]: ValueError: nought",
    ]

    assert raised_errors(lines) == [
        Raised("1", "ValueError: one"),
        Raised("0", "ValueError: nought"),
    ]
