"""③ Train with TRL's ``GRPOTrainer``: settings -> prompts, model, rewards, callbacks -> a run folder.

Everything the article sets is a parameter; nothing here depends on the size of the model. What differs from the
article: the base model goes to TRL with ``peft_config`` (a quantised base alone is refused), few-shot examples are
frozen per item, the rewards stay four functions with weights, the settings, versions and hashes of a run are written
beside its results, and a run that was cut off goes on from its last complete checkpoint. From the shell:

    python -m grpo_helpers.training --params params/smoke/04_train.yaml
    torchrun --nproc_per_node 2 -m grpo_helpers.training --params params/smoke/04_train.yaml
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grpo_helpers.files import InputError, read_yaml, show_path
from grpo_helpers.launch import check_processes, launch, soft_interrupts, told_write_errors
from grpo_helpers.library_fixes import count_equal_groups, quiet_libraries, require_grads_once
from grpo_helpers.models import check_model, load_model, load_tokenizer, lora_config
from grpo_helpers.prompts import (
    NO_THINK,
    Message,
    build_dataset,
    drop_long,
    load_prompted,
    suit_template,
)
from grpo_helpers.questions import Item
from grpo_helpers.rewards import reward_functions
from grpo_helpers.settings import TrainSettings

if TYPE_CHECKING:
    from trl import GRPOConfig, GRPOTrainer


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

    InputError for anything that would make the run fail later.
    """
    import torch

    if settings.device == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "device is cuda, but PyTorch sees no GPU here: run on a GPU machine, or set device=auto"
        )
    if settings.bf16 and torch.cuda.is_available() and torch.cuda.get_device_capability() < (8, 0):
        card = torch.cuda.get_device_name()
        raise InputError(
            f"bf16 needs an Ampere card (8.0) or newer, {card} is older: set bf16=false, use_quant=false"
        )
    shots = (settings.few_shot_data_path, settings.instruct_path, settings.num_few_shot)
    items, prompts = load_prompted(settings.train_data_path, *shots)
    eval_items, eval_prompts = load_prompted(settings.eval_data_path, *shots)
    check_model(settings.model_name)
    tokenizer = load_tokenizer(settings.model_name)
    prompts, eval_prompts = (suit_template(tokenizer, found) for found in (prompts, eval_prompts))
    items, prompts, dropped = drop_long(items, prompts, tokenizer, settings.max_prompt_tokens)
    plan = settings.batch_plan
    if plan.steps_per_epoch(len(items)) < 1:
        needed = f"one generation round takes {plan.prompts_per_round:g} prompts"
        mend = "lower per_device_train_batch_size or steps_per_generation"
        raise InputError(f"{settings.train_data_path} has {len(items)} items, {needed}: {mend}")
    return Prepared(items, prompts, eval_items, eval_prompts, dropped)


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
    fields = {name: getattr(settings, name) for name in same} | {
        "output_dir": str(settings.run_dir),
        "steps_per_generation": settings.steps_per_generation or None,
        "reward_weights": weights,
        "chat_template_kwargs": NO_THINK,
        "use_cpu": not torch.cuda.is_available(),
        "load_best_model_at_end": False,  # GRPO's eval loss says nothing; notebook 05 chooses
        "log_completions": True,
        "num_completions_to_print": 0,  # they are on disk, in completions/
        "disable_tqdm": True,
        "dataloader_pin_memory": torch.cuda.is_available(),
    }
    try:
        return GRPOConfig(**(fields | settings.extra_grpo_args))
    except (TypeError, ValueError) as error:
        raise InputError(f"TRL refuses these settings: {str(error).splitlines()[0]}") from None


def build_trainer(settings: TrainSettings, prepared: Prepared, config: GRPOConfig) -> GRPOTrainer:
    """Return the trainer: LoRA on the model, the course's callbacks; InputError if no parameter is trainable."""
    from transformers import PrinterCallback
    from trl import GRPOTrainer

    from grpo_helpers import callbacks, run_folder

    functions, _ = reward_functions(
        settings.reward_weights, settings.bertscore_model, settings.bertscore_layers
    )
    run_dir = settings.run_dir
    hooks = [
        callbacks.LoraSaveCallback(run_dir),
        callbacks.LogCallback(run_dir),
        callbacks.CompleteCallback(run_dir),
    ]
    hooks += [callbacks.HealthCallback(run_dir, settings.stop_on_alarm), callbacks.StopCallback()]
    if (
        os.environ.get("ACCELERATE_USE_FSDP") != "true"
    ):  # sharded weights answer after the run, by run_inference
        hooks.insert(
            1, callbacks.InferenceCallback(prepared.eval_items, prepared.eval_prompts, settings)
        )
    trainer = GRPOTrainer(
        model=load_model(
            settings.model_name, settings.quant_type if settings.use_quant else None, settings.bf16
        ),
        args=config,
        processing_class=load_tokenizer(settings.model_name),
        train_dataset=build_dataset(prepared.train_items, prepared.train_prompts),
        eval_dataset=build_dataset(prepared.eval_items, prepared.eval_prompts),
        reward_funcs=functions,
        peft_config=lora_config(settings),
        callbacks=hooks,
    )
    trainer.create_model_card = lambda *_, **__: None  # a README that knows nothing of this run
    trainer.remove_callback(PrinterCallback)  # LogCallback prints one line a step instead
    count_equal_groups(trainer)
    require_grads_once(trainer.model.get_base_model())
    if not any(p.requires_grad for p in trainer.model.parameters()):
        raise InputError(
            "no parameter is trainable: check lora_target_modules against the model's layer names"
        )
    return trainer


def train(settings: TrainSettings, prepared: Prepared | None = None) -> None:
    """Run the whole training of ``settings`` into its run folder, in as many processes as they ask for.

    ``prepared`` is what :func:`prepare` returned, if it was called already. InputError where fewer processes were
    launched than asked for, several GPUs are visible to one process, or the run cannot be resumed with these settings.
    """
    import torch
    from transformers import set_seed

    from grpo_helpers import callbacks, run_folder

    prepared = prepared or prepare(settings)
    if settings.num_processes > 1 and "WORLD_SIZE" not in os.environ:
        return launch(settings)
    check_processes(settings)
    config = grpo_config(settings)  # TRL's own verdict, before the run folder is touched
    if settings.num_threads:
        torch.set_num_threads(settings.num_threads)
    set_seed(settings.seed)
    with told_write_errors(settings.run_dir):
        with config.main_process_first(local=False, desc="run folder"):
            checkpoint = (
                run_folder.last_complete(settings.run_dir) if settings.resume == "auto" else None
            )
            if config.process_index == 0:
                run_folder.open_run_folder(settings, checkpoint)
        if checkpoint and run_folder.is_finished(checkpoint):
            return print(
                f"{show_path(settings.run_dir)} is complete: nothing to go on with", flush=True
            )
        trainer = build_trainer(settings, prepared, config)
        if checkpoint:
            run_folder.restore_position(trainer, checkpoint)
        stop = next(
            hook
            for hook in trainer.callback_handler.callbacks
            if isinstance(hook, callbacks.StopCallback)
        )
        with soft_interrupts(stop):
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)


def read_params(path: str, changes: Sequence[Sequence[str]] = ()) -> TrainSettings:
    """Return the settings of a YAML file, with single ones replaced (pairs of name and YAML value)."""
    import yaml

    return TrainSettings.from_namespace(
        read_yaml(path) | {name: yaml.safe_load(value) for name, value in changes}
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Train from the shell; return 0, or 2 on bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m grpo_helpers.training", description="Train as notebook 04 does."
    )
    parser.add_argument("--params", required=True, help="YAML file with parameters of notebook 04")
    parser.add_argument(
        "-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="replace one"
    )
    args = parser.parse_args(argv)
    try:
        train(read_params(args.params, args.p))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
