"""The run folder: names, paths, log, resume and provenance."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grpo_helpers.files import (
    InputError,
    read_json,
    resolve_path,
    sha256,
    show_path,
    write_atomically,
    write_json,
)
from grpo_helpers.settings import TrainSettings

if TYPE_CHECKING:
    from transformers import TrainerState, TrainingArguments
    from trl import GRPOTrainer


PACKAGES = (
    "torch",
    "transformers",
    "trl",
    "peft",
    "datasets",
    "bert-score",
    "rouge-score",
    "python-mecab-ko",
)
# What training writes into a run folder; an earlier run's is set aside before a new one starts.
TRAINED = (
    "settings.json",
    "log.jsonl",
    "scores.csv",
    "item_scores.csv",
    "best_checkpoint.json",
    "completions",
)
TRAINED_PATTERNS = ("checkpoint-*", "epoch_*", "step_*", "infer_results", "test_results")
# Parameters that decide nothing of what is learned.
MAY_CHANGE = (
    "resume",
    "device",
    "output_dir",
    "run_name",
    "report_to",
    "save_total_limit",
    "stop_on_alarm",
)
COMPLETE = "complete.json"  # the last file of a save


def open_run_folder(settings: TrainSettings, checkpoint: Path | None) -> None:
    """Make the run folder ready: to go on from ``checkpoint``, or for a new run where there is none."""
    # What a killed run was about to write goes first: files and folders whose rename never came.
    for path in [*settings.run_dir.rglob(".*.tmp"), *settings.run_dir.glob(".*.partial")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    rewind_run_folder(settings, checkpoint) if checkpoint else start_run_folder(settings)


def is_finished(checkpoint: Path) -> bool:
    """Return whether a checkpoint is the last of its run."""
    state = read_json(checkpoint / "trainer_state.json", "trainer state")
    return state["global_step"] >= state["max_steps"]


def start_run_folder(settings: TrainSettings) -> None:
    """Make the run folder and write ``settings.json``; an earlier run's files go to ``previous-N/``, none is lost."""
    run_dir = settings.run_dir
    old = [run_dir / name for name in TRAINED if (run_dir / name).exists()]
    old += [path for pattern in TRAINED_PATTERNS for path in sorted(run_dir.glob(pattern))]
    if old:
        number = 1 + len(list(run_dir.glob("previous-*")))
        (run_dir / f"previous-{number}").mkdir(parents=True)
        for path in old:
            shutil.move(path, run_dir / f"previous-{number}" / path.name)
    write_json(run_dir / "settings.json", describe_run(settings))


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))


def last_complete(run_dir: Path) -> Path | None:
    """Return the newest of TRL's checkpoints whose save was finished (adapter and answers too), or None."""
    found = [file.parent for file in run_dir.glob(f"checkpoint-*/{COMPLETE}")]
    return max(found, key=_step_of, default=None)


def rewind_run_folder(settings: TrainSettings, checkpoint: Path) -> None:
    """Make the run folder ready to go on from ``checkpoint``: later log lines and unfinished checkpoints go.

    Adapters and answers that came later stay until the run writes them again, the same. InputError where the run was
    started with other parameters, data, model or package versions.
    """
    run_dir = settings.run_dir
    before, now = read_json(run_dir / "settings.json", "run settings"), describe_run(settings)
    for part in ("parameters", "versions", "sha256"):
        for name, value in json.loads(json.dumps(now[part])).items():
            if name not in MAY_CHANGE and before[part].get(name) != value:
                change = f"{part} {name} was {before[part].get(name)!r}, is {value!r}"
                raise InputError(
                    f"cannot resume {show_path(run_dir)}: {change}; take another run_name, or resume=no"
                )
    step = _step_of(checkpoint)
    for folder in run_dir.glob("checkpoint-*"):
        if _step_of(folder) > step:
            shutil.rmtree(folder)
    log = run_dir / "log.jsonl"
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
    write_atomically(log, lambda file: file.write("".join(f"{line}\n" for line in kept)))
    print(f"going on from {checkpoint.name} of {show_path(run_dir)}", flush=True)


def restore_position(trainer: GRPOTrainer, checkpoint: Path) -> None:
    """Put the trainer where it was: in a new process TRL starts its shuffles and its count of micro-batches anew.

    A save inside a round of sampling (only where completions are used for more than one optimizer step) cannot be
    taken up exactly: the rest of that round is sampled again, from the newer weights.
    """
    import torch

    batches = len(trainer.get_train_dataloader())  # micro-batches of an epoch
    per_step = trainer.args.gradient_accumulation_steps
    epochs, rest = divmod(_step_of(checkpoint), -(-batches // per_step))
    trainer._step = epochs * batches + rest * per_step
    if trainer._step % (trainer.args.steps_per_generation * trainer.num_iterations):
        print(
            "the save was inside a round of sampling: the rest of this round is sampled anew",
            flush=True,
        )
    fresh, load = trainer._get_train_sampler, trainer._load_from_checkpoint
    dtypes = {name: p.dtype for name, p in trainer.model.named_parameters() if p.requires_grad}

    def sampler(dataset: Any = None):
        found = fresh(dataset)
        for _ in range(epochs if found.shuffle else 0):
            torch.randperm(found.num_samples, generator=found.generator)
        return found

    def load_as_it_was(*args: Any, **kwargs: Any) -> None:
        load(*args, **kwargs)
        for (
            name,
            parameter,
        ) in trainer.model.named_parameters():  # peft reads a bfloat16 adapter as float32
            parameter.data = parameter.data.to(dtypes.get(name, parameter.dtype))

    trainer._get_train_sampler, trainer._load_from_checkpoint = sampler, load_as_it_was


def describe_run(settings: TrainSettings) -> dict[str, Any]:
    """Return what it takes to repeat a run: parameters, versions, hashes of data and model, machine."""
    import torch

    data = ("train_data_path", "eval_data_path", "few_shot_data_path", "instruct_path")
    hashes = {name: sha256([getattr(settings, name)]) for name in data}
    model = resolve_path(settings.model_name)  # a folder or a GGUF file
    return {
        "parameters": settings.as_dict() | {"num_processes": settings.batch_plan.D},
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in PACKAGES},
        },
        "sha256": hashes | {"model": sha256([model]) if model.exists() else None},
        "run_dir": show_path(settings.run_dir),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "cores": os.cpu_count(),
    }


def checkpoint_name(args: TrainingArguments, state: TrainerState) -> str:
    """Return ``epoch_{E}`` for a save at the end of epoch E, else ``step_{N}``; no two saves share a name.

    ``int(state.epoch)``, the article's way, gives several saves of one epoch the same name.
    """
    epoch = state.epoch or 0.0
    at_end = state.global_step == 0 or (
        args.save_strategy == "epoch" and abs(epoch - round(epoch)) < 1e-6
    )
    return f"epoch_{round(epoch)}" if at_end else f"step_{state.global_step}"


def inference_file(run_dir: Path, checkpoint: str) -> Path:
    """Return the answer file of a checkpoint: ``infer_results/inference_epoch3.json`` for ``epoch_3``."""
    return run_dir / "infer_results" / f"inference_{checkpoint.replace('_', '')}.json"


def checkpoint_of(file: Path) -> str:
    """Return the checkpoint an answer file belongs to.

    >>> checkpoint_of(Path("inference_epoch3.json"))
    'epoch_3'
    """
    stem = file.stem.removeprefix("inference_")
    letters = stem.rstrip("0123456789")
    return f"{letters.rstrip('_')}_{stem[len(letters) :]}" if letters != stem else stem


def _file_name(checkpoint: str) -> str:
    return f"inference_{checkpoint.replace('_', '')}.json"


BASE = "epoch_0"


def checkpoint_order(name: str) -> tuple[int, str]:
    """Return a sort key: by the number in a checkpoint's or file's name, base first.

    >>> sorted(["epoch_10", "epoch_2", "epoch_0"], key=checkpoint_order)
    ['epoch_0', 'epoch_2', 'epoch_10']
    """
    digits = "".join(char if char.isdigit() else " " for char in name).split()
    return (int(digits[-1]) if digits else -1, name)


Rows = Sequence[Mapping[str, Any]]


def read_log(path: str | Path) -> list[dict[str, Any]]:
    """Return the rows of a ``log.jsonl`` that hold rewards; a half-written last line is left out."""
    rows = []
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break  # the run was killed while it wrote this line
    return [row for row in rows if "reward" in row]


def series(rows: Rows, key: str) -> tuple[list[int], list[float]]:
    """Return (steps, values) of one logged quantity."""
    fit = [row for row in rows if row.get(key) is not None]
    return [row["step"] for row in fit], [row[key] for row in fit]
