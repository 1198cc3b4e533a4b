"""③ Train with TRL's ``GRPOTrainer``: settings -> prompts, model, rewards, callbacks -> a run.

In: :class:`TrainSettings`. Out: a run folder. Everything the article sets is a parameter; nothing
here depends on the size of the model. What differs from the article: the base model goes to TRL
with ``peft_config`` (TRL refuses a quantised base alone), few-shot examples are frozen per item,
the rewards stay four functions with weights, the settings, versions and hashes of a run are written
beside its results, and an interrupted run resumes from its last complete checkpoint. From the
shell:

    python -m grpo_helpers.training --params params/smoke/04_train.yaml
    torchrun --nproc_per_node 2 -m grpo_helpers.training --params params/smoke/04_train.yaml
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grpo_helpers import library_fixes
from grpo_helpers.answers import opens_thought
from grpo_helpers.chat_template import freeze_clock
from grpo_helpers.command_line import program_name, run_command
from grpo_helpers.dev_answers import DevAnswers
from grpo_helpers.device_memory import explain_out_of_memory, free_memory
from grpo_helpers.devices import Machine, check_device, device_notes, this_machine
from grpo_helpers.files import InputError, first_line, read_yaml, show_path
from grpo_helpers.launch import (
    check_processes,
    check_trackers,
    end_with_launcher,
    explain_start_errors,
    explain_tracker_errors,
    explain_write_errors,
    launch,
    launched_processes,
    launched_rank,
    soft_interrupts,
    tracker_names,
    will_launch,
)
from grpo_helpers.metrics import bert_scorer, check_encoder
from grpo_helpers.model_checks import (
    Room,
    check_lora_targets,
    check_model,
    check_model_kwargs,
    check_quantization,
    check_room,
)
from grpo_helpers.models import load_model, load_tokenizer, local_device, lora_config
from grpo_helpers.parameters import read_value
from grpo_helpers.preflight import check_engine, check_kernels, check_sharding
from grpo_helpers.preview import preview_run
from grpo_helpers.prompts import (
    Message,
    PromptSource,
    build_dataset,
    drop_long,
    load_prompted,
    prompt_texts,
    suit_template,
)
from grpo_helpers.questions import Item
from grpo_helpers.rewards import reward_functions
from grpo_helpers.rollout_server import RolloutServer, check_rollout_server
from grpo_helpers.run_folder import RunFolder, RunWriter, is_finished, step_of
from grpo_helpers.settings import TrainSettings
from grpo_helpers.thoughts import RoundThoughts

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    from grpo_helpers.callbacks import StopCallback
    from grpo_helpers.server_trainer import ServerRollouts

DEFAULT_EVAL_BATCH = 8  # transformers' per_device_eval_batch_size


# -- stage 1: data and prompts ---------------------------------------------------------------------


@dataclass(frozen=True)
class Prepared:
    """The items of a run and their prompts, checked and frozen before any weight is read.

    Attributes:
        train_items: The train items that are used.
        train_prompts: The prompt of each.
        eval_items: The dev items.
        eval_prompts: The prompt of each.
        dropped: Ids of train items whose prompt is longer than ``max_prompt_tokens``.
    """

    train_items: list[Item]
    train_prompts: list[list[Message]]
    eval_items: list[Item]
    eval_prompts: list[list[Message]]
    dropped: list[str | int]

    @property
    def items(self) -> list[Item]:
        """All items, those of train first."""
        return self.train_items + self.eval_items

    @property
    def prompts(self) -> list[list[Message]]:
        """The prompt of each of :attr:`items`."""
        return self.train_prompts + self.eval_prompts


def prepare(settings: TrainSettings) -> Prepared:
    """Read and check everything that can be checked without weights; nothing is written.

    Raises:
        InputError: Anything that would make the run fail later: the device, a tracker, an engine,
            sharded weights, the data, the model's files, layers or positions, BERTScore's encoder,
            more prompts per round than there are items, a server that cannot sample for the run, or
            a GPU that nothing can be compiled for.
    """
    machine = _check_device(settings)
    check_trackers(tracker_names(settings.report_to))
    check_engine(settings)
    check_sharding(settings)

    source = PromptSource.from_settings(settings)
    train_items, train_prompts = load_prompted(settings.train_data_path, source)
    eval_items, eval_prompts = load_prompted(settings.eval_data_path, source)

    check_model(settings.model_name)
    check_quantization(settings.quant_type if settings.use_quant else None)
    check_model_kwargs(settings.model_name, settings.model_kwargs)
    check_lora_targets(settings.lora_target_modules, settings.model_name)
    check_encoder(settings.bertscore_model, settings.bertscore_layers)
    tokenizer = load_tokenizer(settings.model_name, settings.chat_template_path)
    template = settings.chat_template_kwargs
    file = settings.chat_template_path
    train_prompts = suit_template(tokenizer, train_prompts, template, file)
    eval_prompts = suit_template(tokenizer, eval_prompts, template, file)

    limit = settings.max_prompt_tokens
    retained = drop_long(
        train_items, train_prompts, tokenizer, limit, chat_template_kwargs=template
    )
    _check_round(settings, len(retained.items))

    room = Room(settings.model_name, settings.max_completion_length)
    eval_texts = prompt_texts(eval_prompts, tokenizer, template)
    check_room(tokenizer, eval_items, eval_texts, room)
    train_room = replace(room, fix="set max_prompt_tokens={left} to leave such prompts out")
    train_texts = prompt_texts(retained.prompts, tokenizer, template)
    check_room(tokenizer, retained.items, train_texts, train_room)

    sampled_texts = train_texts if settings.eval_strategy == "no" else train_texts + eval_texts
    check_rollout_server(settings, tokenizer, sampled_texts)
    if machine.has_gpu and not will_launch(settings):  # else the processes do it, on their own GPUs
        check_kernels(local_device(), settings.use_quant)

    return Prepared(
        train_items=retained.items,
        train_prompts=retained.prompts,
        eval_items=eval_items,
        eval_prompts=eval_prompts,
        dropped=retained.dropped_ids,
    )


def _check_device(settings: TrainSettings) -> Machine:
    """Return what the machine has, once it is known to be enough; say what is unusual about it."""
    machine = this_machine()
    check_device(machine, settings)

    if launched_rank() == 0:
        for note in device_notes(machine, max(settings.num_processes, launched_processes())):
            print(note, flush=True)
    return machine


def _check_round(settings: TrainSettings, items: int) -> None:
    """Make sure that the train items fill at least one generation round."""
    plan = settings.batch_plan
    if plan.steps_per_epoch(items) < 1:
        raise InputError(
            f"{settings.train_data_path} has {items} items, "
            f"one generation round takes {plan.prompts_per_round:g} prompts: "
            "lower per_device_train_batch_size or steps_per_generation"
        )


# -- stage 2: TRL's configuration ------------------------------------------------------------------


def grpo_config(settings: TrainSettings) -> GRPOConfig:
    """Return TRL's configuration for ``settings``.

    Raises:
        InputError: TRL refuses it, or ``extra_grpo_args`` names no field of it.
    """
    from trl import GRPOConfig

    library_fixes.quiet_libraries()

    fields = _sampling_fields(settings) | _optimizer_fields(settings) | _run_fields(settings)
    given = settings.extra_grpo_args | {"chat_template_kwargs": settings.chat_template_kwargs}
    try:
        config = GRPOConfig(**(fields | given))
    except (TypeError, ValueError) as error:
        message = f"TRL refuses these settings: {first_line(error)}"
        if "eval batch size" in message:
            message += f" Set {_eval_batch_size(settings)}."
        raise InputError(message) from None

    library_fixes.use_one_gpu(config)
    return config


def _eval_batch_size(settings: TrainSettings) -> str:
    """Return the parameter that gives an evaluation whole groups."""
    groups = math.ceil(DEFAULT_EVAL_BATCH / settings.num_generations)
    size = groups * settings.num_generations
    return f"extra_grpo_args: {{per_device_eval_batch_size: {size}}}"


def _sampling_fields(settings: TrainSettings) -> dict[str, Any]:
    """Return what decides how completions are sampled and rewarded."""
    _, weights = reward_functions(settings.reward_weights)

    return {
        "num_generations": settings.num_generations,
        "steps_per_generation": settings.steps_per_generation or None,
        "num_iterations": settings.num_iterations,
        "max_completion_length": settings.max_completion_length,
        "temperature": settings.temperature,
        "reward_weights": weights,
    }


def _optimizer_fields(settings: TrainSettings) -> dict[str, Any]:
    """Return what decides how the policy learns from them."""
    return {
        "per_device_train_batch_size": settings.per_device_train_batch_size,
        "gradient_accumulation_steps": settings.gradient_accumulation_steps,
        "num_train_epochs": settings.num_train_epochs,
        "max_steps": settings.max_steps,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": settings.lr_scheduler_type,
        "warmup_steps": settings.warmup_steps,
        "adam_epsilon": settings.adam_epsilon,
        "max_grad_norm": settings.max_grad_norm,
        "beta": settings.beta,
        "loss_type": settings.loss_type,
        "scale_rewards": settings.scale_rewards,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "bf16": settings.dtype == "bfloat16",
        "fp16": settings.dtype == "float16",
        "seed": settings.seed,
    }


def _run_fields(settings: TrainSettings) -> dict[str, Any]:
    """Return what decides where the run takes place, and what it saves and logs."""
    import torch

    has_gpu = torch.cuda.is_available()
    return {
        "output_dir": str(settings.run_dir),
        "use_cpu": not has_gpu,
        "dataloader_pin_memory": has_gpu,
        "save_strategy": settings.save_strategy,
        "save_steps": settings.save_steps,
        "save_total_limit": settings.save_total_limit,
        "eval_strategy": settings.eval_strategy,
        "load_best_model_at_end": False,  # GRPO's eval loss says nothing; notebook 05 chooses
        "logging_steps": settings.logging_steps,
        "log_completions": True,
        "num_completions_to_print": 0,  # they are on disk, in completions/
        "report_to": settings.trackers or settings.report_to,
        "disable_tqdm": True,
    }


# -- stage 3: the trainer --------------------------------------------------------------------------


@dataclass(frozen=True)
class RunTrainer:
    """TRL's trainer of a run, and the callback that ends the run when it is asked to."""

    trainer: GRPOTrainer
    stop: StopCallback


def build_trainer(
    settings: TrainSettings,
    prepared: Prepared,
    config: GRPOConfig,
    writer: RunWriter | None = None,
) -> RunTrainer:
    """Return the trainer, with LoRA on the model and the course's callbacks.

    The run folder is neither made nor touched before the training begins.

    Args:
        settings: The run's parameters.
        prepared: What :func:`prepare` returned for them.
        config: What :func:`grpo_config` returned for them.
        writer: Opens the run folder; None stands for one that starts a new run.

    Raises:
        InputError: No parameter is trainable.
    """
    from transformers import PrinterCallback

    from grpo_helpers.callbacks import StopCallback, training_callbacks

    tokenizer = load_tokenizer(settings.model_name, settings.chat_template_path)
    freeze_clock(tokenizer, settings.chat_template_kwargs)  # TRL renders the prompts of rollouts
    thought_is_open = _is_thought_open(settings, prepared, tokenizer)
    functions, _ = reward_functions(
        settings.reward_weights,
        settings.bertscore_model,
        settings.bertscore_layers,
        thought_is_open=thought_is_open,
    )
    reward_funcs: list[Any] = list(functions)
    stop = StopCallback(settings.run_dir)
    callbacks = training_callbacks(
        settings, prepared.eval_items, prepared.eval_prompts, stop, writer=writer
    )

    rollouts = _server_rollouts(settings, callbacks)

    trainer_class = _trainer_class(settings)
    with library_fixes.no_folders_yet(config):
        trainer = trainer_class(
            model=_base_model(settings),
            args=config,
            processing_class=tokenizer,
            train_dataset=build_dataset(prepared.train_items, prepared.train_prompts),
            eval_dataset=build_dataset(prepared.eval_items, prepared.eval_prompts),
            reward_funcs=reward_funcs,
            peft_config=lora_config(settings),
            callbacks=callbacks,
            rollout_func=rollouts,
        )
    trainer.remove_callback(PrinterCallback)  # LogCallback prints one line per step instead
    explain_tracker_errors(trainer)
    library_fixes.apply_to(trainer)
    library_fixes.measure_rounds(trainer, RoundThoughts(tokenizer, thought_is_open))

    _check_trainable(trainer.model)
    return RunTrainer(trainer, stop)


def _base_model(settings: TrainSettings) -> PreTrainedModel:
    """Return the base model of a run."""
    return load_model(
        settings.model_name,
        settings.quant_type if settings.use_quant else None,
        settings.dtype,
        model_kwargs=settings.model_kwargs,
        to_gpu=True,
    )


def _is_thought_open(
    settings: TrainSettings, prepared: Prepared, tokenizer: PreTrainedTokenizerBase
) -> bool:
    """Return whether the chat template leaves every prompt inside a thought that it has opened.

    Where a tokenizer says how to parse what its model writes, TRL knows that already.
    """
    if getattr(tokenizer, "response_template", None) is not None:
        return False

    prompts = prepared.train_prompts[:1]
    (text,) = prompt_texts(prompts, tokenizer, settings.chat_template_kwargs)
    return opens_thought(text)


def _server_rollouts(
    settings: TrainSettings, callbacks: list[TrainerCallback]
) -> ServerRollouts | None:
    """Return what samples on a server, if a server samples; it is released by one more callback."""
    if not settings.rollout_server:
        return None

    from grpo_helpers.server_trainer import ReleaseCallback, ServerRollouts

    rollouts = ServerRollouts(RolloutServer(settings.rollout_server), settings.run_name)
    callbacks.append(ReleaseCallback(rollouts))
    return rollouts


def _trainer_class(settings: TrainSettings) -> type[GRPOTrainer]:
    """Return TRL's trainer, or ours: each prompt computed once, rollouts from a server, or both."""
    if settings.rollout_server:
        from grpo_helpers.server_trainer import ServerTrainer, SharedPrefixServerTrainer

        return SharedPrefixServerTrainer if settings.shared_prefix else ServerTrainer

    if settings.shared_prefix:
        from grpo_helpers.shared_prefix import SharedPrefixTrainer

        return SharedPrefixTrainer

    from trl import GRPOTrainer

    return GRPOTrainer


def _check_trainable(model: Any) -> None:
    """Make sure that the adapter found layers to sit on."""
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise InputError(
            "no parameter is trainable: check lora_target_modules against the model's layer names"
        )


# -- all stages ------------------------------------------------------------------------------------


def train(
    settings: TrainSettings,
    prepared: Prepared | None = None,
    *,
    callbacks: Sequence[TrainerCallback] = (),
) -> None:
    """Run a whole training into its run folder, in as many processes as the settings say.

    Args:
        settings: The run's parameters.
        prepared: What :func:`prepare` returned, if it was called already.
        callbacks: Callbacks of your own, called after the course's; this process has to train.

    Raises:
        InputError: The data, the model or the settings cannot be used, fewer processes were
            launched than the settings say, another process trains into the run folder, the run
            cannot be resumed with these settings, or the run folder cannot be written.
    """
    prepared = prepared or prepare(settings)

    if will_launch(settings):
        if callbacks:
            raise InputError("callbacks of your own need num_processes=1")
        launch(settings)
        return

    check_processes(settings)
    config = grpo_config(settings)  # TRL's own verdict, before the run folder is touched
    try:
        with library_fixes.keep_launch_variables():
            _train_here(settings, prepared, config, callbacks)
    finally:
        free_memory()  # a notebook's kernel keeps nothing of the model


def _train_here(
    settings: TrainSettings,
    prepared: Prepared,
    config: GRPOConfig,
    callbacks: Sequence[TrainerCallback],
) -> None:
    """Run a whole training in this process."""
    import torch
    from transformers import set_seed

    if settings.num_threads:
        torch.set_num_threads(settings.num_threads)

    writer = RunWriter(settings, is_main=config.process_index == 0)
    with (
        explain_write_errors(settings.run_dir),
        writer,
        explain_out_of_memory(lambda: _how_to_go_on(writer)),
    ):
        checkpoint = writer.checkpoint
        if checkpoint:
            DevAnswers(prepared.eval_items, prepared.eval_prompts, settings).make_up(checkpoint)
        if checkpoint and is_finished(checkpoint):
            print(f"nothing to resume: {show_path(settings.run_dir)} is complete", flush=True)
            return

        # Everything that can fail is built before the run folder is opened, as training begins.
        with explain_start_errors(writer):
            if launched_processes() > 1 and launched_rank() == 0:
                print(f"loading {settings.model_name} in every process", flush=True)
            bert_scorer(settings.bertscore_model, settings.bertscore_layers)
            set_seed(settings.seed)
            # No name for the trainer here: this function still runs when an error is explained,
            # and what it names would stay in memory with the error.
            _train_from(checkpoint, build_trainer(settings, prepared, config, writer), callbacks)


def _train_from(
    checkpoint: Path | None, run_trainer: RunTrainer, callbacks: Sequence[TrainerCallback]
) -> None:
    """Train to the end, from the start or from one of TRL's checkpoints."""
    trainer = run_trainer.trainer
    for callback in callbacks:
        trainer.add_callback(callback)

    if checkpoint:
        library_fixes.apply_on_resume(trainer, step_of(checkpoint))

    with soft_interrupts(run_trainer.stop.request):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)


def _how_to_go_on(writer: RunWriter) -> str:
    """Return what a run that ran out of memory has saved, and what may change when it resumes."""
    checkpoint = writer.checkpoint
    if writer.is_open:  # before that, what is in the folder may be of another run
        checkpoint = RunFolder(writer.settings.run_dir).last_complete()
    if checkpoint is None:
        return "nothing was saved yet"

    return (
        f"{checkpoint.name} is complete: resume=auto goes on from it, also with another "
        "gradient_checkpointing, inference_batch_size or torch_empty_cache_steps (in "
        "extra_grpo_args); other batch sizes need another run_name"
    )


# -- from the shell --------------------------------------------------------------------------------


def read_params(path: str, changes: Sequence[Sequence[str]] = ()) -> TrainSettings:
    """Return the settings of a YAML file.

    Args:
        path: A profile with parameters of notebook 04.
        changes: Parameters to replace: pairs of a name and a value in YAML; what is no YAML is
            text.

    Raises:
        InputError: The file cannot be read, or a parameter is unknown or cannot work.
    """
    parameters = read_yaml(path)
    for name, value in changes:
        parameters[name] = _value_of(name, value)

    return TrainSettings.from_namespace(parameters)


def _value_of(name: str, text: str) -> Any:
    """Return the value that a command line gives to a parameter."""
    is_text = any(field.name == name and field.type == "str" for field in fields(TrainSettings))
    return read_value(text, is_text)


def main(argv: Sequence[str] | None = None) -> int:
    """Train from the shell; return 0, or 2 on bad input."""
    parser = argparse.ArgumentParser(
        prog=program_name("training"), description="Train as notebook 04 does."
    )
    parser.add_argument("--params", required=True, help="YAML file with parameters of notebook 04")
    parser.add_argument(
        "-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="replace one"
    )
    parser.add_argument(
        "--end-with-launcher", action="store_true", help="end once the standard input is closed"
    )
    args = parser.parse_args(argv)

    def body() -> int:
        if args.end_with_launcher:
            end_with_launcher()
        settings = read_params(args.params, args.p)
        prepared = prepare(settings)
        if launched_rank() == 0:
            print(preview_run(settings, prepared.items, prepared.prompts).text(), flush=True)
        train(settings, prepared)
        return 0

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
