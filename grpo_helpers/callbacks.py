"""⑤ The run folder, and what happens while TRL trains: adapters saved, the dev set answered, metrics written.

At every save the LoRA adapter goes to ``epoch_{E}/`` and the dev set is answered to
``infer_results/inference_epoch{E}.json``, as in the article. Differences: the live model answers (the article loads
a second base model onto the same GPU), the untrained model is answered as checkpoint 0 by the same code, saves that
do not fall on an epoch are named ``step_{N}``, every file appears whole or not at all, and a TRL checkpoint is
marked when all that belongs to its save is on disk: a killed run goes on from the last one that is.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from grpo_helpers.data import InputError, Item, read_json, resolve_path, sha256, show_path, write_atomically, write_json
from grpo_helpers.health import examine, panel_text, read_log
from grpo_helpers.inference import generate_answers, write_answers
from grpo_helpers.prompts import Message
from grpo_helpers.settings import TrainSettings

if TYPE_CHECKING:
    from trl import GRPOTrainer

PACKAGES = ("torch", "transformers", "trl", "peft", "datasets", "bert-score", "rouge-score", "python-mecab-ko")
# What training writes into a run folder; an earlier run's is set aside before a new one starts.
TRAINED = ("settings.json", "log.jsonl", "scores.csv", "item_scores.csv", "best_checkpoint.json", "completions")
TRAINED_PATTERNS = ("checkpoint-*", "epoch_*", "step_*", "infer_results", "test_results")
# Parameters that decide nothing of what is learned.
MAY_CHANGE = ("resume", "device", "output_dir", "run_name", "report_to", "save_total_limit", "stop_on_alarm")
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
                raise InputError(f"cannot resume {show_path(run_dir)}: {change}; take another run_name, or resume=no")
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
        print("the save was inside a round of sampling: the rest of this round is sampled anew", flush=True)
    fresh, load = trainer._get_train_sampler, trainer._load_from_checkpoint
    dtypes = {name: p.dtype for name, p in trainer.model.named_parameters() if p.requires_grad}

    def sampler(dataset: Any = None):
        found = fresh(dataset)
        for _ in range(epochs if found.shuffle else 0):
            torch.randperm(found.num_samples, generator=found.generator)
        return found

    def load_as_it_was(*args: Any, **kwargs: Any) -> None:
        load(*args, **kwargs)
        for name, parameter in trainer.model.named_parameters():  # peft reads a bfloat16 adapter as float32
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
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
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
    at_end = state.global_step == 0 or (args.save_strategy == "epoch" and abs(epoch - round(epoch)) < 1e-6)
    return f"epoch_{round(epoch)}" if at_end else f"step_{state.global_step}"


def inference_file(run_dir: Path, checkpoint: str) -> Path:
    """Return the answer file of a checkpoint: ``infer_results/inference_epoch3.json`` for ``epoch_3``."""
    return run_dir / "infer_results" / f"inference_{checkpoint.replace('_', '')}.json"


class LoraSaveCallback(TrainerCallback):
    """Saves the LoRA adapter to ``run_dir/epoch_{E}`` (or ``step_{N}``) at every save."""

    def __init__(self, run_dir: Path):
        self.run_dir = run_dir

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Copy the adapter out of TRL's checkpoint to a hidden folder, and rename that when it is complete."""
        if not state.is_world_process_zero:
            return
        target = self.run_dir / checkpoint_name(args, state)
        partial = target.with_name(f".{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            shutil.copyfile(self.run_dir / f"checkpoint-{state.global_step}" / name, partial / name)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(partial, target)


class InferenceCallback(TrainerCallback):
    """Answers the dev set with the live model: once before training (checkpoint 0) and at every save.

    The prompts of the dev items are the same at every checkpoint, few-shot examples frozen. Answers go to
    ``run_dir/infer_results``, in batches of ``inference_batch_size``.
    """

    def __init__(self, items: Sequence[Item], prompts: Sequence[list[Message]], settings: TrainSettings):
        self.items, self.prompts, self.run_dir = items, prompts, settings.run_dir
        self.how = (settings.inference_batch_size, settings.max_completion_length)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kw: Any) -> None:
        """Answer with the base model: a fresh adapter changes nothing, so this is checkpoint 0."""
        if state.global_step == 0:
            self.on_save(args, state, control, **kw)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any) -> None:
        """Answer the dev set, every process its share, and write ``inference_epoch{E}.json`` once."""
        answers = generate_answers(more["model"], more["processing_class"], self.prompts, *self.how)
        if state.is_world_process_zero:
            write_answers(inference_file(self.run_dir, checkpoint_name(args, state)), self.items, answers)


class LogCallback(TrainerCallback):
    """Appends every logged metric to ``run_dir/log.jsonl`` and prints one progress line a logging step."""

    def __init__(self, run_dir: Path):
        self.path = run_dir / "log.jsonl"
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []
        # Seconds count on where an earlier part of this run stopped.
        self.started = time.time() - max((json.loads(line)["seconds"] for line in lines), default=0.0)
        self.first: tuple[float, int] | None = None  # when the first logged step began, and the steps before it

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any) -> None:
        """Write one JSON line; a line is written at once, so a killed run loses at most the last one."""
        logs = more.get("logs")
        if not state.is_world_process_zero or not logs:
            return
        row = {"step": state.global_step, "seconds": round(time.time() - self.started, 3)}
        row |= logs | {"peak_memory_gib": round(peak_memory() / 2**30, 3)}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        if "reward" in logs:
            em, pace = logs.get("rewards/em_reward/mean", float("nan")), logs.get("step_time", 0)
            self.first = self.first or (time.time() - pace, state.global_step - 1)
            began, before = self.first
            left = (time.time() - began) / (state.global_step - before) * (state.max_steps - state.global_step)
            scores = f"step {state.global_step:3d}/{state.max_steps}  reward {logs['reward']:.3f}  EM {em:.3f}"
            print(f"{scores}  {pace:.1f} s/step  about {left / 60:.1f} min left", flush=True)


def peak_memory() -> int:
    """Return the most bytes that this process has held so far: of GPU memory, or of main memory without a GPU."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB


class CompleteCallback(TrainerCallback):
    """The last callback of a save: marks TRL's checkpoint as complete, so that a run can go on from it."""

    def __init__(self, run_dir: Path):
        self.run_dir = run_dir

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Write the marker; the adapter and the answers of this save are there by now, from every process."""
        folder = self.run_dir / f"checkpoint-{state.global_step}"
        if state.is_world_process_zero and folder.is_dir():  # checkpoint 0 has no folder
            write_json(folder / COMPLETE, {"step": state.global_step, "checkpoint": checkpoint_name(args, state)})


def end_with_save(args: TrainingArguments, control: TrainerControl) -> None:
    """Let the run end after this step, with a save."""
    # Where epochs are saved, the end of the run ends one, which saves by itself.
    control.should_save |= args.save_strategy != "epoch"
    control.should_training_stop = True


class StopCallback(TrainerCallback):
    """Ends the run with a save after the current step, once ``asked`` is set."""

    asked = False

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Save and stop, if that was asked for."""
        if self.asked:
            end_with_save(args, control)


class HealthCallback(TrainerCallback):
    """Tells alarms of :mod:`grpo_helpers.health` as they come up, each once; ends the run on one if ``stop`` is set."""

    def __init__(self, run_dir: Path, stop: bool):
        log = run_dir / "log.jsonl"
        self.rows, self.stop, self.told = read_log(log) if log.is_file() else [], stop, set()

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any) -> None:
        """Examine the log so far; every process has the same, the first one prints."""
        if "reward" not in (more.get("logs") or {}):
            return
        self.rows.append({"step": state.global_step, **more["logs"]})
        alarms = [finding for finding in examine(self.rows) if finding.alarm]
        new = [finding for finding in alarms if finding.rule not in self.told]
        if new and state.is_world_process_zero:
            print(panel_text(new), flush=True)
        self.told |= {finding.rule for finding in alarms}
        if self.stop and any(finding.rule != "seconds per step" for finding in alarms):  # each process has its own
            end_with_save(args, control)
