"""The run folder: its names, its log, where a run came from, and how an interrupted run resumes.

In: a path such as ``runs/default``. Out: :class:`RunFolder`, which knows where everything lies, and
:class:`RunLog`, the only reader and writer of ``log.jsonl``. Every name in a run folder is spelled
once, here (the folders of answers in :mod:`grpo_helpers.splits`). What differs from the article: no
two saves share a name, an earlier run's files are set aside instead of overwritten, settings,
versions and hashes lie beside the results, and a killed run resumes from its last complete save.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields
from importlib.metadata import version
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

from grpo_helpers.chat_template import DEFAULT_DATE, read_chat_template
from grpo_helpers.files import (
    InputError,
    check_output_folder,
    read_json,
    resolve_path,
    sha256,
    show_path,
    write_atomically,
    write_json,
)
from grpo_helpers.model_checks import is_model, model_hash, model_revision
from grpo_helpers.parameters import present_names
from grpo_helpers.settings import TrainSettings
from grpo_helpers.splits import DEV, Split
from grpo_helpers.thoughts import SHARES

if TYPE_CHECKING:
    from transformers import TrainerState, TrainingArguments

SETTINGS_FILE = "settings.json"
LOG_FILE = "log.jsonl"
SCORES_FILE = "scores.csv"
ITEM_SCORES_FILE = "item_scores.csv"
BEST_FILE = "best_checkpoint.json"
COMPLETIONS_FOLDER = "completions"
RECORDED_COMPLETIONS = "completions.json"  # some of them, in a recorded run
TEMPLATE_FILE = "chat_template.jinja"  # the template that took the place of the model's, if one did
COMPLETE = "complete.json"  # the last file of a save, in TRL's checkpoint folder
TRAINER_STATE = "trainer_state.json"  # TRL's own, beside it
LAUNCH_LOG = "launch.log"  # what several processes print, if a notebook launches them
LOCK_FILE = ".lock"  # held by the process that trains into the folder
STOP_FILE = "STOP"  # whoever makes it asks the run to end after its current step

# What a run writes into its folder; an earlier run's files are set aside before a new one starts.
RUN_FILES = (
    SETTINGS_FILE,
    LOG_FILE,
    SCORES_FILE,
    ITEM_SCORES_FILE,
    BEST_FILE,
    COMPLETIONS_FOLDER,
    TEMPLATE_FILE,
    LAUNCH_LOG,
)
RUN_PATTERNS = ("checkpoint-*", "epoch_*", "step_*", "infer_results", "test_results")

# Parameters that do not affect what is learned, or by rounding only: a resumed run may change them.
# Which server samples is among them, and whether one does: the policy is the same.
MAY_CHANGE = (
    "resume",
    "device",
    "output_dir",
    "run_name",
    "report_to",
    "save_total_limit",
    "stop_on_alarm",
    "checkpoint_steps",
    "inference_batch_size",
    "gradient_checkpointing",
    "rollout_server",
)
# The same, of extra_grpo_args: when memory is given back.
EXTRA_ARGS_MAY_CHANGE = ("torch_empty_cache_steps",)

# Packages whose versions are recorded with a run.
PACKAGES = (
    "torch",
    "transformers",
    "trl",
    "peft",
    "accelerate",
    "datasets",
    "bert-score",
    "rouge-score",
    "python-mecab-ko",
)

Row = dict[str, Any]
Rows = Sequence[Mapping[str, Any]]


# -- names of checkpoints --------------------------------------------------------------------------

BASE = "epoch_0"  # the model before training, answered as checkpoint 0
WHOLE_EPOCH = 1e-6  # an epoch is whole if it is as close as this to a whole number


def checkpoint_name(args: TrainingArguments, state: TrainerState) -> str:
    """Return ``epoch_{E}`` for a save at the end of epoch E, else ``step_{N}``.

    No two saves share a name; ``int(state.epoch)``, the article's way, gives several saves of one
    epoch the same name.
    """
    if state.global_step == 0 or (args.save_strategy == "epoch" and ends_epoch(state)):
        return f"epoch_{round(state.epoch or 0)}"

    return f"step_{state.global_step}"


def ends_epoch(state: TrainerState) -> bool:
    """Return whether a training has just come to the end of an epoch."""
    epoch = state.epoch or 0.0
    return abs(epoch - round(epoch)) < WHOLE_EPOCH


def answer_file_name(checkpoint: str) -> str:
    """Return the name of a checkpoint's answer file.

    >>> answer_file_name("epoch_3")
    'inference_epoch3.json'
    """
    return f"inference_{checkpoint.replace('_', '')}.json"


def inference_file(run_dir: Path, checkpoint: str) -> Path:
    """Return the file with a checkpoint's dev answers: ``infer_results/inference_epoch3.json``."""
    return DEV.answer_folder(run_dir) / answer_file_name(checkpoint)


def checkpoint_of(file: Path) -> str:
    """Return the checkpoint that an answer file belongs to: the inverse of its naming.

    >>> checkpoint_of(Path("inference_epoch3.json"))
    'epoch_3'
    """
    stem = file.stem.removeprefix("inference_")
    numbered = re.fullmatch(r"(.*?)_*([0-9]+)", stem)

    if numbered is None:
        return stem

    kind, number = numbered.groups()
    return f"{kind}_{number}"


def checkpoint_order(name: str) -> tuple[int, str]:
    """Return a sort key for checkpoints and answer files: by their number, the base first.

    >>> sorted(["epoch_10", "epoch_2", "epoch_0"], key=checkpoint_order)
    ['epoch_0', 'epoch_2', 'epoch_10']
    """
    numbers = re.findall(r"[0-9]+", name)
    number = int(numbers[-1]) if numbers else -1
    return number, name


# -- the log ---------------------------------------------------------------------------------------


class RunLog:
    """The log of a run: one JSON object per line, one line per logging step.

    A run that was killed may leave half a last line. Reading ends there, everywhere alike. A log
    that does not exist yet has no rows.
    """

    def __init__(self, path: str | Path) -> None:
        """Take the path of a ``log.jsonl``."""
        self.path = Path(path)

    def rows(self) -> list[Row]:
        """Return every complete row, in the order in which they were logged."""
        return [row for _, row in self._complete_lines()]

    def step_rows(self) -> list[Row]:
        """Return the rows of training steps: those that have a reward."""
        return [row for row in self.rows() if "reward" in row]

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a row; it is on disk at once, so that a killed run loses at most its last line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def rewind(self, step: int) -> None:
        """Drop the rows after ``step``, and half a last line."""
        lines = [line for line, row in self._complete_lines() if row["step"] <= step]
        text = "".join(f"{line}\n" for line in lines)
        write_atomically(self.path, lambda file: file.write(text))

    def _complete_lines(self) -> Iterator[tuple[str, Row]]:
        """Yield each line and the row it holds, up to the first that is not complete."""
        if not self.path.is_file():
            return

        # A kill can also cut a character in half; "replace" keeps such a line from raising here.
        text = self.path.read_text(encoding="utf-8", errors="replace")

        for line in text.splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                return  # the run was killed while it wrote this line
            yield line, row


def read_log(path: str | Path) -> list[Row]:
    """Return the rows of training steps in a ``log.jsonl``.

    Raises:
        InputError: There is no such file.
    """
    log = RunLog(path)
    if not log.path.is_file():
        raise InputError(f"no log {path}: expected the {LOG_FILE} of a run of notebook 04")

    return log.step_rows()


def series(rows: Rows, key: str) -> tuple[list[int], list[float]]:
    """Return the steps at which a quantity was logged, and its values.

    The shares of completions with a thought are logged from the first thought on; before that, they
    are 0.
    """
    logged = [row for row in rows if row.get(key) is not None]
    if logged and key in SHARES:
        logged = [{key: 0.0} | dict(row) for row in rows]

    steps = [row["step"] for row in logged]
    values = [row[key] for row in logged]
    return steps, values


# -- the folder ------------------------------------------------------------------------------------


class RunFolder:
    """Where everything of one run lies.

    Attributes:
        path: The folder itself. A relative path is taken from the working folder if it exists
            there, else from the project.
        log: Its :class:`RunLog`.

    >>> run = RunFolder("runs/midm")
    >>> run.answers("epoch_3").relative_to(run.path).as_posix()
    'infer_results/inference_epoch3.json'
    """

    def __init__(self, path: str | Path) -> None:
        """Take the path of a run folder, which need not exist yet."""
        folder = Path(path).expanduser()
        self.path = folder if folder.is_absolute() else resolve_path(folder)
        self.log = RunLog(self.path / LOG_FILE)

    @property
    def description(self) -> dict[str, Any]:
        """What :func:`describe_run` recorded when the run started.

        Raises:
            InputError: The folder has no readable ``settings.json``.
        """
        file = self.path / SETTINGS_FILE
        if not file.is_file():
            raise InputError(
                f"no {SETTINGS_FILE} in {show_path(self.path)}: "
                "give the folder of a run of notebook 04, runs/default for one"
            )

        return read_json(file, "run settings")

    @property
    def settings(self) -> dict[str, Any]:
        """The parameters that the run was started with, by the names that they have now.

        Raises:
            InputError: The folder has no readable ``settings.json``.
        """
        return present_names(self.description["parameters"])

    @property
    def chat_template_path(self) -> str:
        """The run's copy of the template that took the place of the model's; empty if none did.

        Raises:
            InputError: The folder has no readable ``settings.json``.
        """
        if not self.settings.get("chat_template_path"):
            return ""
        return str(self.path / TEMPLATE_FILE)

    def checkpoints(self) -> list[str]:
        """Return the names of the checkpoints that can answer: the base and every saved adapter."""
        names = []

        for config in self.path.glob("*/adapter_config.json"):
            name = config.parent.name
            if name.startswith(("epoch_", "step_")):
                names.append(name)

        return [BASE, *sorted(names, key=checkpoint_order)]

    def adapter_folder(self, checkpoint: str) -> Path:
        """Return the folder that a checkpoint's adapter is saved to, whether or not it exists."""
        return self.path / checkpoint

    def adapter(self, checkpoint: str) -> Path | None:
        """Return the adapter folder of a saved checkpoint, or None for the base.

        Raises:
            InputError: The run has no such checkpoint; the message lists those it has.
        """
        if checkpoint == BASE:
            return None

        known = self.checkpoints()
        if checkpoint not in known:
            run = show_path(self.path)
            raise InputError(f"{run} has no checkpoint {checkpoint!r}; it has {', '.join(known)}")

        return self.adapter_folder(checkpoint)

    def answers(self, checkpoint: str, split: Split = DEV) -> Path:
        """Return the file with a checkpoint's answers to a split."""
        return split.answer_folder(self.path) / answer_file_name(checkpoint)

    def trl_checkpoint(self, step: int) -> Path:
        """Return TRL's own checkpoint folder of a step: weights, optimizer, random states."""
        return self.path / f"checkpoint-{step}"

    def last_complete(self) -> Path | None:
        """Return the newest of TRL's checkpoints whose save was finished, or None.

        A save is finished when all that training needs to go on is on disk, and the adapter, where
        the save has one; the answers come later.
        """
        complete = [marker.parent for marker in self.path.glob(f"checkpoint-*/{COMPLETE}")]
        return max(complete, key=step_of, default=None)

    def unanswered(self, trl_checkpoint: Path) -> list[str]:
        """Return the saves up to one of TRL's checkpoints that have no dev answers, in order."""
        state = read_json(trl_checkpoint / TRAINER_STATE, "trainer state")
        reached = [name for name in self.checkpoints() if _is_reached(name, state)]
        return [name for name in reached if not self.answers(name).is_file()]

    @property
    def stop_file(self) -> Path:
        """The file that asks the run to end after its current step."""
        return self.path / STOP_FILE


def _is_reached(checkpoint: str, state: Mapping[str, Any]) -> bool:
    """Return whether a training in ``state`` has come to a save; a later one is to be made anew."""
    number, _ = checkpoint_order(checkpoint)
    if checkpoint.startswith("epoch_"):
        return number <= state["epoch"] + WHOLE_EPOCH
    return number <= state["global_step"]


def step_of(checkpoint: Path) -> int:
    """Return the step of one of TRL's checkpoint folders.

    >>> step_of(Path("runs/default/checkpoint-12"))
    12
    """
    return int(checkpoint.name.removeprefix("checkpoint-"))


def is_finished(checkpoint: Path) -> bool:
    """Return whether one of TRL's checkpoints is the last of its run."""
    state = read_json(checkpoint / TRAINER_STATE, "trainer state")
    return bool(state["global_step"] >= state["max_steps"])


# -- one writer ------------------------------------------------------------------------------------


class RunWriter:
    """The process that trains into a run folder: there is one at a time.

    Used as a context. A folder that exists is locked at once, and the checkpoint to resume from is
    chosen. Nothing else happens to the folder until :meth:`open`, which comes when everything that
    can fail at a start has been built. The operating system frees the lock of a process that dies.

    Attributes:
        settings: The run's parameters.
        checkpoint: TRL's checkpoint to resume from; None starts a new run.
        is_open: Whether the folder has been prepared for this run.
    """

    def __init__(self, settings: TrainSettings, is_main: bool = True) -> None:
        """Take the run's parameters, and whether this is the process that writes."""
        self.settings = settings
        self.is_main = is_main
        self.checkpoint: Path | None = None
        self.is_open = False
        self._file: IO[str] | None = None
        self._old_stop: int | None = None

    def __enter__(self) -> Self:
        """Lock the folder if it is there, and choose the checkpoint to resume from.

        Raises:
            InputError: Another process trains into the folder, nothing can be written there, or
                the run cannot be resumed with these settings.
        """
        check_output_folder(self.settings.run_dir)
        if self.is_main and self.settings.run_dir.is_dir():
            self._lock()

        try:
            run = RunFolder(self.settings.run_dir)
            self._old_stop = _written_at(run.stop_file)
            if self.settings.resume == "auto":
                self.checkpoint = run.last_complete()
                if self.checkpoint and not is_finished(self.checkpoint):
                    check_unchanged(run, self.settings)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Free the folder."""
        self.close()

    def open(self) -> None:
        """Prepare the folder for this run: only now may files of an earlier run be moved.

        Raises:
            InputError: Another process has begun to train into the folder in the meantime.
        """
        if self.is_main:
            self.settings.run_dir.mkdir(parents=True, exist_ok=True)
            self._lock()
            self._remove_old_stop()
            open_run_folder(self.settings, self.checkpoint)
        self.is_open = True

    def close(self) -> None:
        """Free the folder and remove the lock file."""
        if self._file is None:
            return

        (self.settings.run_dir / LOCK_FILE).unlink(missing_ok=True)  # while it is still held
        self._file.close()
        self._file = None

    def _remove_old_stop(self) -> None:
        """Remove a STOP file from before this start; one that has come since then is obeyed."""
        file = RunFolder(self.settings.run_dir).stop_file
        if self._old_stop is not None and _written_at(file) == self._old_stop:
            file.unlink(missing_ok=True)
            print(f"{show_path(file)} was there before this start: removed", flush=True)

    def _lock(self) -> None:
        path = self.settings.run_dir / LOCK_FILE

        while self._file is None:
            file = path.open("a+", encoding="utf-8")
            if not _try_lock(file):
                file.seek(0)
                owner = file.read().strip() or "unknown"
                file.close()
                raise InputError(
                    f"{show_path(self.settings.run_dir)} is in use: process {owner} trains into "
                    "it; wait for its end or stop it, or choose another run_name"
                )

            if _is_same_file(file, path):
                file.truncate(0)
                file.write(f"{os.getpid()}\n")
                file.flush()
                self._file = file
            else:  # its last owner has just removed it
                file.close()


def _try_lock(file: IO[str]) -> bool:
    """Lock an open file, unless another process has; the system frees it when this one ends."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: train all the same
        return True
    return True


def _written_at(path: Path) -> int | None:
    """Return when a file was last written, in nanoseconds, or None if there is none."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def _is_same_file(file: IO[str], path: Path) -> bool:
    """Return whether ``path`` still names an open file."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


# -- starting and resuming -------------------------------------------------------------------------


def open_run_folder(settings: TrainSettings, checkpoint: Path | None) -> None:
    """Prepare the run folder of ``settings``.

    Args:
        settings: The run's parameters.
        checkpoint: TRL's checkpoint to resume from; None starts a new run.

    Raises:
        InputError: The run cannot be resumed with these settings.
    """
    remove_unfinished_files(settings.run_dir)

    if checkpoint:
        rewind_run_folder(settings, checkpoint)
    elif settings.resume == "auto":
        restart_run_folder(settings)
    else:
        start_run_folder(settings)


def remove_unfinished_files(run_dir: Path) -> None:
    """Remove what a killed run was about to write: files and folders never renamed into place."""
    for file in run_dir.rglob(".*.tmp"):
        file.unlink()

    for folder in run_dir.glob(".*.partial"):
        shutil.rmtree(folder)


def restart_run_folder(settings: TrainSettings) -> None:
    """Prepare the run folder of ``settings`` for a run that was cut off before it saved anything.

    It begins at step 0 again. If it is the same run, the base has the same answers: they stay.
    """
    run = RunFolder(settings.run_dir)
    is_same_run = _is_unchanged(run, settings)

    previous = start_run_folder(settings)
    if previous is None:
        return

    print(
        f"no complete checkpoint in {show_path(run.path)}: starting from step 0; what was there "
        f"is in {previous.name}",
        flush=True,
    )
    if is_same_run:
        _copy_answers(BASE, RunFolder(previous), run)


def _is_unchanged(run: RunFolder, settings: TrainSettings) -> bool:
    """Return whether ``settings`` continue the same run; False if there is none."""
    try:
        check_unchanged(run, settings)
    except InputError:
        return False
    return True


def _copy_answers(checkpoint: str, source: RunFolder, target: RunFolder) -> None:
    """Copy a checkpoint's dev answers from one run to another, also if some of them are missing."""
    target_folder = target.answers(checkpoint).parent
    target_folder.mkdir(exist_ok=True)
    answers = source.answers(checkpoint)

    for file in answers.parent.glob(f"{answers.name}*"):
        shutil.copyfile(file, target_folder / file.name)


def start_run_folder(settings: TrainSettings) -> Path | None:
    """Create the run folder of ``settings`` and write its ``settings.json``.

    An earlier run's files go to ``previous-N/``; none is lost.

    Returns:
        That folder; None if there was no earlier run.
    """
    run_dir = settings.run_dir
    earlier = [run_dir / name for name in RUN_FILES if (run_dir / name).exists()]
    for pattern in RUN_PATTERNS:
        earlier += sorted(run_dir.glob(pattern))

    previous = None
    if earlier:
        number = 1 + len(list(run_dir.glob("previous-*")))
        previous = run_dir / f"previous-{number}"
        previous.mkdir(parents=True)
        for path in earlier:
            shutil.move(path, previous / path.name)

    if settings.chat_template_path:
        template = read_chat_template(settings.chat_template_path)
        write_atomically(run_dir / TEMPLATE_FILE, lambda file: file.write(template))
    write_json(run_dir / SETTINGS_FILE, describe_run(settings))
    return previous


def rewind_run_folder(settings: TrainSettings, checkpoint: Path) -> None:
    """Prepare the run folder of ``settings`` to resume from ``checkpoint``.

    Later log lines and unfinished checkpoints are removed. Adapters and answers of later saves stay
    until the run writes the same ones again.

    Raises:
        InputError: The run was started with other parameters, data, model or package versions.
    """
    run = RunFolder(settings.run_dir)
    check_unchanged(run, settings)
    warn_of_new_revision(run, settings)

    step = step_of(checkpoint)
    for folder in run.path.glob("checkpoint-*"):
        if step_of(folder) > step:
            shutil.rmtree(folder)

    run.log.rewind(step)
    print(f"resuming from {checkpoint.name} of {show_path(run.path)}", flush=True)


def check_unchanged(run: RunFolder, settings: TrainSettings) -> None:
    """Make sure that ``settings`` continue the same run, in the same environment.

    Raises:
        InputError: A parameter, a package version or the contents of a file differ; the message
            names the first difference.
    """
    before = run.description | {"parameters": run.settings}
    now = json.loads(json.dumps(describe_run(settings)))  # as it reads once it has been a file

    for part in ("parameters", "versions", "sha256"):
        # What a run does not record is newer than the run: a parameter then had its default, and
        # nobody knows the version.
        unrecorded = _parameter_defaults() if part == "parameters" else now[part]
        for name, value in now[part].items():
            earlier = before[part].get(name, unrecorded.get(name))
            if name not in MAY_CHANGE and not _is_same(name, earlier, value, settings):
                raise InputError(
                    f"cannot resume {show_path(run.path)}: {part} {name} was {earlier!r}, "
                    f"is {value!r}; choose another run_name, or set resume=no"
                )


def warn_of_new_revision(run: RunFolder, settings: TrainSettings) -> None:
    """Say that a model from the hub has another commit than when the run started.

    That is no error: most commits change a model card, and nobody can undo another's commit.
    """
    before = run.description.get("model_revision")
    now = model_revision(settings.model_name)

    if before and now and before != now:
        print(
            f"warning: {settings.model_name} has a new commit on the hub, {now}; this run started "
            f"from {before}: make sure that its weights and its tokenizer are still the same",
            file=sys.stderr,
            flush=True,
        )


def _parameter_defaults() -> dict[str, Any]:
    """Return the default of every parameter of notebook 04."""
    defaults = {}
    for declared in fields(TrainSettings):
        if declared.default is not MISSING:
            defaults[declared.name] = declared.default
        elif declared.default_factory is not MISSING:
            defaults[declared.name] = declared.default_factory()
    return defaults | {"date_string": DEFAULT_DATE}


def _is_same(name: str, earlier: Any, value: Any, settings: TrainSettings) -> bool:
    """Return whether what a run recorded is what there is now."""
    if name == "extra_grpo_args" and isinstance(earlier, dict):
        earlier, value = _without_changeable(earlier), _without_changeable(value)
    if earlier == value:
        return True

    # Earlier runs hashed every file of a model's folder, its README, too.
    model = resolve_path(settings.model_name)
    return name == "model" and earlier is not None and model.exists() and is_model(model, earlier)


def _without_changeable(extra_args: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``extra_grpo_args`` without those that a resumed run may change."""
    return {name: arg for name, arg in extra_args.items() if name not in EXTRA_ARGS_MAY_CHANGE}


# -- where a run came from -------------------------------------------------------------------------


def describe_run(settings: TrainSettings) -> dict[str, Any]:
    """Return what it takes to repeat a run: parameters, versions, hashes, machine.

    This is the content of ``settings.json``. Hashes are SHA-256, of the data files, of a local
    model and of a chat template; a model from the hub has its commit there instead.
    """
    import torch

    has_gpu = torch.cuda.is_available()
    return {
        "parameters": settings.as_dict() | {"num_processes": settings.batch_plan.D},
        "versions": _versions(settings),
        "sha256": _hashes(settings),
        "model_revision": model_revision(settings.model_name),
        "run_dir": show_path(settings.run_dir),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if has_gpu else "cpu",
        "driver": gpu_driver() if has_gpu else None,
        "cores": os.cpu_count(),
    }


def _versions(settings: TrainSettings) -> dict[str, str | None]:
    """Return the versions of everything that decides what a run computes."""
    import torch

    versions: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        versions[package] = version(package)
    if settings.use_quant:
        versions["bitsandbytes"] = version("bitsandbytes")

    versions["cuda"] = torch.version.cuda  # what torch was built for; None on a CPU
    return versions


def gpu_driver() -> str | None:
    """Return the version of the NVIDIA driver; None where nvidia-smi cannot tell it."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None

    lines = done.stdout.split()
    return lines[0] if done.returncode == 0 and lines else None


def _hashes(settings: TrainSettings) -> dict[str, str | None]:
    hashes: dict[str, str | None] = {}
    for name in ("train_data_path", "eval_data_path", "few_shot_data_path", "instruct_path"):
        hashes[name] = sha256([getattr(settings, name)])

    model = resolve_path(settings.model_name)  # a folder, a GGUF file, or the name of a hub model
    hashes["model"] = model_hash(model) if model.exists() else None

    for name in ("reward_module", "chat_template_path"):
        if path := getattr(settings, name):
            hashes[name] = sha256([path])
    return hashes
