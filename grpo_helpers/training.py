"""Train with TRL's ``GRPOTrainer``: settings -> prompts, model, rewards, callbacks -> a run folder.

Everything the article sets is a parameter; nothing here depends on the size of the model. What differs from the
article: the base model goes to TRL with ``peft_config`` (a quantised base alone is refused), few-shot examples are
frozen per item, the rewards stay four functions with weights, and the settings, versions and hashes of a run are
written beside its results.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from grpo_helpers.data import InputError, Item, resolve_path, sha256, show_path, write_json
from grpo_helpers.models import check_model, load_model, load_tokenizer, lora_config, quiet_libraries
from grpo_helpers.prompts import Message, build_dataset, drop_long, load_prompted
from grpo_helpers.rewards import reward_functions
from grpo_helpers.settings import TrainSettings

if TYPE_CHECKING:
    from trl import GRPOConfig, GRPOTrainer

PACKAGES = ("torch", "transformers", "trl", "peft", "datasets", "bert-score", "rouge-score", "python-mecab-ko")
# What training writes into a run folder; an earlier run's is set aside before a new one starts.
TRAINED = ("settings.json", "log.jsonl", "scores.csv", "item_scores.csv", "best_checkpoint.json", "completions")
TRAINED_PATTERNS = ("checkpoint-*", "epoch_*", "step_*", "infer_results", "test_results")


@dataclass(frozen=True)
class Prepared:
    """The items of a run and their prompts, checked and frozen before any weight is read."""

    train_items: list[Item]
    train_prompts: list[list[Message]]
    eval_items: list[Item]
    eval_prompts: list[list[Message]]
    dropped: list[str | int]  # ids of train items whose prompt is over max_prompt_tokens


def prepare(settings: TrainSettings) -> Prepared:
    """Read and check the data, the model's configuration and the batch sizes; nothing is written, no weight is read.

    Raises:
        InputError: Anything that would make the run fail later.
    """
    shots = (settings.few_shot_data_path, settings.instruct_path, settings.num_few_shot)
    items, prompts = load_prompted(settings.train_data_path, *shots)
    evaluation = load_prompted(settings.eval_data_path, *shots)
    check_model(settings.model_name)
    tokenizer = load_tokenizer(settings.model_name)
    items, prompts, dropped = drop_long(items, prompts, tokenizer, settings.max_prompt_tokens)
    plan = settings.batch_plan
    if plan.steps_per_epoch(len(items)) < 1:
        raise InputError(
            f"{settings.train_data_path} has {len(items)} items, one generation round takes "
            f"{plan.prompts_per_round:g} prompts: lower per_device_train_batch_size or steps_per_generation"
        )
    return Prepared(items, prompts, *evaluation, dropped)


def grpo_config(settings: TrainSettings) -> GRPOConfig:
    """Return TRL's configuration for ``settings``."""
    import torch
    from trl import GRPOConfig

    quiet_libraries()
    _, weights = reward_functions(settings.reward_weights)
    same = (
        "per_device_train_batch_size", "num_generations", "gradient_accumulation_steps", "num_iterations",
        "max_completion_length", "temperature", "num_train_epochs", "max_steps", "learning_rate",
        "lr_scheduler_type", "warmup_steps", "adam_epsilon", "max_grad_norm", "beta", "loss_type", "scale_rewards",
        "gradient_checkpointing", "bf16", "logging_steps", "save_strategy", "save_steps", "save_total_limit",
        "eval_strategy", "report_to", "seed",
    )  # fmt: skip
    fields: dict[str, Any] = {name: getattr(settings, name) for name in same}
    fields |= {
        "output_dir": str(settings.run_dir),
        "steps_per_generation": settings.steps_per_generation or None,
        "reward_weights": weights,
        "use_cpu": not torch.cuda.is_available(),
        "load_best_model_at_end": False,  # GRPO's eval loss says nothing; notebook 05 chooses
        "log_completions": True,
        "disable_tqdm": True,
        "dataloader_pin_memory": torch.cuda.is_available(),
    }
    try:
        return GRPOConfig(**(fields | settings.extra_grpo_args))
    except (TypeError, ValueError) as error:
        raise InputError(f"TRL refuses these settings: {str(error).splitlines()[0]}") from None


def build_trainer(settings: TrainSettings, prepared: Prepared, config: GRPOConfig) -> GRPOTrainer:
    """Return the trainer, with LoRA on the model and the course's callbacks.

    Raises:
        InputError: No parameter is trainable.
    """
    from transformers import PrinterCallback
    from trl import GRPOTrainer

    from grpo_helpers.callbacks import InferenceCallback, LogCallback, LoraSaveCallback

    functions, _ = reward_functions(settings.reward_weights, settings.bertscore_model, settings.bertscore_layers)
    run_dir = settings.run_dir
    inference = InferenceCallback(
        prepared.eval_items,
        prepared.eval_prompts,
        run_dir,
        settings.inference_batch_size,
        settings.max_completion_length,
    )
    trainer = GRPOTrainer(
        model=load_model(settings.model_name, settings.quant_type if settings.use_quant else None, settings.bf16),
        args=config,
        processing_class=load_tokenizer(settings.model_name),
        train_dataset=build_dataset(prepared.train_items, prepared.train_prompts),
        eval_dataset=build_dataset(prepared.eval_items, prepared.eval_prompts),
        reward_funcs=functions,
        peft_config=lora_config(settings),
        callbacks=[LoraSaveCallback(run_dir), inference, LogCallback(run_dir)],
    )
    trainer.remove_callback(PrinterCallback)  # LogCallback prints one line a step instead
    if not any(p.requires_grad for p in trainer.model.parameters()):
        raise InputError("no parameter is trainable: check lora_target_modules against the model's layer names")
    return trainer


def train(settings: TrainSettings, prepared: Prepared | None = None) -> GRPOTrainer:
    """Run the whole training of ``settings`` into its run folder and return the trainer.

    Args:
        settings: Checked parameters.
        prepared: What :func:`prepare` returned, if it was called already.
    """
    import torch
    from transformers import set_seed

    prepared = prepared or prepare(settings)
    config = grpo_config(settings)  # TRL's own verdict, before the run folder is touched
    if settings.num_threads:
        torch.set_num_threads(settings.num_threads)
    set_seed(settings.seed)
    start_run_folder(settings)
    trainer = build_trainer(settings, prepared, config)
    with no_sample_tables():
        trainer.train()
    return trainer


@contextmanager
def no_sample_tables() -> Iterator[None]:
    """Keep TRL from printing a table of completions at each log; they are on disk in ``completions/``."""
    with mock.patch("trl.trainer.grpo_trainer.print_prompt_completions_sample", lambda *_, **__: None):
        yield


def start_run_folder(settings: TrainSettings) -> Path:
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
    return run_dir


def describe_run(settings: TrainSettings) -> dict[str, Any]:
    """Return what it takes to repeat a run: parameters, versions, hashes of data and model, machine."""
    import torch

    data = ("train_data_path", "eval_data_path", "few_shot_data_path", "instruct_path")
    model = resolve_path(settings.model_name)
    return {
        "parameters": settings.as_dict(),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "sha256": {
            **{name: sha256([getattr(settings, name)]) for name in data},
            "model": sha256([model]) if model.is_dir() else None,
        },
        "run_dir": show_path(settings.run_dir),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "cores": os.cpu_count(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except ImportError:
        return None
