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
import errno
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from grpo_helpers.data import InputError, Item, read_yaml, show_path
from grpo_helpers.models import check_model, load_model, load_tokenizer, lora_config, quiet_libraries, suit_template
from grpo_helpers.prompts import NO_THINK, Message, build_dataset, drop_long, load_prompted
from grpo_helpers.rewards import reward_functions
from grpo_helpers.settings import TrainSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

_NAMES = ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EPERM", "ENOTDIR", "EEXIST", "EIO")
WRITE_ERRORS = {getattr(errno, name) for name in _NAMES}
WRITE_SIGNS = re.compile(r"inline_container|os error (5|13|27|28|30|122)\)")  # torch.save, safetensors


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
        raise InputError("device is cuda, but PyTorch sees no GPU here: run on a GPU machine, or set device=auto")
    if settings.bf16 and torch.cuda.is_available() and torch.cuda.get_device_capability() < (8, 0):
        card = torch.cuda.get_device_name()
        raise InputError(f"bf16 needs an Ampere card (8.0) or newer, {card} is older: set bf16=false, use_quant=false")
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

    from grpo_helpers import callbacks

    functions, _ = reward_functions(settings.reward_weights, settings.bertscore_model, settings.bertscore_layers)
    run_dir = settings.run_dir
    hooks = [callbacks.LoraSaveCallback(run_dir), callbacks.LogCallback(run_dir), callbacks.CompleteCallback(run_dir)]
    hooks += [callbacks.HealthCallback(run_dir, settings.stop_on_alarm), callbacks.StopCallback()]
    if os.environ.get("ACCELERATE_USE_FSDP") != "true":  # sharded weights answer after the run, by run_inference
        hooks.insert(1, callbacks.InferenceCallback(prepared.eval_items, prepared.eval_prompts, settings))
    trainer = GRPOTrainer(
        model=load_model(settings.model_name, settings.quant_type if settings.use_quant else None, settings.bf16),
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
        raise InputError("no parameter is trainable: check lora_target_modules against the model's layer names")
    return trainer


def count_equal_groups(trainer: GRPOTrainer) -> None:
    """Mend TRL's ``frac_reward_zero_std``: in float32 sums, equal rewards differ by rounding and count as spread."""
    score, weights = trainer._generate_and_score_completions, trainer.reward_weights.tolist()

    def scored(inputs: Any) -> Any:
        output = score(inputs)
        if trainer.model.training:  # an evaluation may have groups of another size
            parts = [trainer._logs["rewards"][name] for name in trainer.reward_func_names]  # this round, all processes
            groups = np.dot(weights, parts).reshape(-1, trainer.num_generations)
            trainer._metrics["train"]["frac_reward_zero_std"][-1] = float((np.ptp(groups, axis=1) < 1e-6).mean())
        return output

    trainer._generate_and_score_completions = scored


def require_grads_once(model: PreTrainedModel) -> None:
    """Mend transformers 5.23: each round, when checkpointing is on again, one more hook stays at the embeddings."""
    enable = model.enable_input_require_grads
    model.enable_input_require_grads = lambda: (model.disable_input_require_grads(), enable())


def train(settings: TrainSettings, prepared: Prepared | None = None) -> None:
    """Run the whole training of ``settings`` into its run folder, in as many processes as they ask for.

    ``prepared`` is what :func:`prepare` returned, if it was called already. InputError where fewer processes were
    launched than asked for, several GPUs are visible to one process, or the run cannot be resumed with these settings.
    """
    import torch
    from transformers import set_seed

    from grpo_helpers import callbacks

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
            checkpoint = callbacks.last_complete(settings.run_dir) if settings.resume == "auto" else None
            if config.process_index == 0:
                callbacks.open_run_folder(settings, checkpoint)
        if checkpoint and callbacks.is_finished(checkpoint):
            return print(f"{show_path(settings.run_dir)} is complete: nothing to go on with", flush=True)
        trainer = build_trainer(settings, prepared, config)
        if checkpoint:
            callbacks.restore_position(trainer, checkpoint)
        stop = next(hook for hook in trainer.callback_handler.callbacks if isinstance(hook, callbacks.StopCallback))
        with soft_interrupts(stop):
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)


def check_processes(settings: TrainSettings) -> None:
    """Make sure that as many processes run as were asked for, each with one GPU at most, or raise InputError."""
    import torch

    asked, started, gpus = settings.num_processes, int(os.environ.get("WORLD_SIZE", "1")), torch.cuda.device_count()
    if started < asked:
        command = f"torchrun --nproc_per_node {asked} -m grpo_helpers.training --params FILE"
        raise InputError(f"num_processes is {asked}, but {started} was started; use: {command}")
    if started == 1 and gpus > 1:
        raise InputError(f"{gpus} GPUs are visible to one process: set num_processes={gpus} or CUDA_VISIBLE_DEVICES=0")


def launch(settings: TrainSettings) -> None:
    """Train in ``settings.num_processes`` new processes, by torchrun; pass on their output; InputError if they fail."""
    import yaml

    with tempfile.TemporaryDirectory(prefix="grpo-launch-") as folder:
        file = Path(folder) / "params.yaml"
        file.write_text(yaml.safe_dump(settings.as_dict(), allow_unicode=True), encoding="utf-8")
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
        command += [str(settings.num_processes), "-m", "grpo_helpers.training", "--params", str(file)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
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
        errors = [line for line in lines if re.match(r"error: |\S*Error: ", line)] or lines[-1:] or ["no output"]
        raise InputError(f"{settings.num_processes} processes failed: {errors[0].removeprefix('error: ')}")


@contextmanager
def soft_interrupts(callback: TrainerCallback) -> Iterator[None]:
    """Let Ctrl-C (the notebook's stop button) end the run after the current step, with a save; a second one at once.

    Not with several processes, which could stop at different steps, nor outside a program's main thread.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 or threading.current_thread() is not threading.main_thread():
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


def read_params(path: str, changes: Sequence[Sequence[str]] = ()) -> TrainSettings:
    """Return the settings of a YAML file, with single ones replaced (pairs of name and YAML value)."""
    import yaml

    return TrainSettings.from_namespace(read_yaml(path) | {name: yaml.safe_load(value) for name, value in changes})


def main(argv: Sequence[str] | None = None) -> int:
    """Train from the shell; return 0, or 2 on bad input."""
    parser = argparse.ArgumentParser(prog="python -m grpo_helpers.training", description="Train as notebook 04 does.")
    parser.add_argument("--params", required=True, help="YAML file with parameters of notebook 04")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="replace one")
    args = parser.parse_args(argv)
    try:
        train(read_params(args.params, args.p))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
