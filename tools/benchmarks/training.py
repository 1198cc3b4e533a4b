"""What the course's code costs in training: ``python -m tools.benchmarks.training``.

In: the default settings and data. Out: seconds and peak memory of two comparisons, and the targets;
exit 1 if one is missed. Part of ``make bench``.

Answering. Ours: the model in training answers dev questions in batches. The article's way: at every
save the base model is loaded again beside the one in training, the adapter is added, and each
question is answered alone. Each way runs in a process of its own, which also gives its peak memory.

A training step, in four ways that take turns. Ours: :func:`grpo_helpers.training.train`. Ours with
``shared_prefix=False``. A bare TRL script with the same settings and rewards. The article's way:
that bare script with the author's micro-batches, one completion each (B = 1), and as many of them
as make up a step of ours; as in the article's code, ``steps_per_generation`` is left to TRL, which
makes one round of a step. Ratios are taken between steps of the same number in the same turn: such
a pair has the same prompts.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from grpo_helpers.command_line import run_command
from grpo_helpers.files import project_root
from grpo_helpers.model_checks import lora_targets
from grpo_helpers.settings import TrainSettings
from tools.benchmarks.pairs import TimesFaster
from tools.benchmarks.targets import Target, add_record_option, record, report

QUESTIONS = 64
STEPS = 2  # steps timed in a turn, after a first one that is not
TURNS = 3  # of each kind of training
IN_PLACE = "in place"
ARTICLE = "the article's way"
OURS = "ours"
UNSHARED = "ours, prompts not shared"
BARE = "bare TRL"
STEP_WAYS = (OURS, UNSHARED, BARE, ARTICLE)


@dataclass(frozen=True)
class Measured:
    """The targets of a comparison, and the facts behind them."""

    targets: list[Target]
    facts: dict[str, Any]


# -- answering --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answering:
    """One way of answering.

    Attributes:
        seconds: How long it took.
        peak: The peak memory of the process, in MiB.
        answers: What was answered.
    """

    seconds: float
    peak: float
    answers: list[str]


def answer(way: str, adapter: str, settings: TrainSettings, questions: int) -> Answering:
    """Answer dev questions in this process, beside a model that stands for the one in training.

    Args:
        way: :data:`IN_PLACE` or :data:`ARTICLE`.
        adapter: The folder of an adapter.
        settings: Which model, questions and prompts.
        questions: How many questions.
    """
    from grpo_helpers.inference import generate_answers
    from grpo_helpers.models import load_tokenizer, load_with_adapter
    from grpo_helpers.prompts import PromptSource, load_prompted

    source = PromptSource.from_settings(settings)
    _, prompts = load_prompted(settings.eval_data_path, source)
    prompts = prompts[:questions]

    in_training = load_with_adapter(settings.model_name, adapter)
    tokenizer = load_tokenizer(settings.model_name)
    generate_answers(in_training, tokenizer, prompts[:2], batch_size=2)  # the first batch is slow

    started = time.perf_counter()
    answers: list[str] = []
    if way == IN_PLACE:
        batch_size = settings.inference_batch_size
        answers += generate_answers(in_training, tokenizer, prompts, batch_size=batch_size)
    else:
        second = load_with_adapter(settings.model_name, adapter)
        for prompt in prompts:
            answers += generate_answers(second, tokenizer, [prompt], batch_size=1)
    seconds = time.perf_counter() - started

    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Answering(seconds, peak_kib / 1024, answers)


def answer_elsewhere(way: str, adapter: Path) -> Answering:
    """Answer in a process of its own; print and return what it measured."""
    command = [sys.executable, "-W", "ignore", "-m", "tools.benchmarks.training"]
    command += ["--way", way, "--adapter", str(adapter)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=project_root(), check=True)

    answering = Answering(**json.loads(done.stdout.splitlines()[-1]))
    print(f"{QUESTIONS} questions, {way}: {answering.seconds:.1f} s, peak {answering.peak:.0f} MiB")
    return answering


def new_adapter(folder: Path, settings: TrainSettings) -> Path:
    """Save an untrained adapter of the settings' shape; return its folder."""
    from peft import get_peft_model

    from grpo_helpers.models import load_model, lora_config

    model = load_model(settings.model_name)
    get_peft_model(model, lora_config(settings)).save_pretrained(str(folder))
    return folder


def bench_answering(folder: Path) -> Measured:
    """Answer in both ways and print their figures."""
    adapter = new_adapter(folder / "adapter", TrainSettings())
    ours = answer_elsewhere(IN_PLACE, adapter)
    theirs = answer_elsewhere(ARTICLE, adapter)

    same = 0
    for in_batch, alone in zip(ours.answers, theirs.answers, strict=True):
        same += in_batch == alone
    print(f"answers that are the same in batches and alone: {same / len(ours.answers):.0%}")

    facts = {
        "questions": QUESTIONS,
        "in_place_seconds": round(ours.seconds, 1),
        "in_place_mib": round(ours.peak),
        "reload_seconds": round(theirs.seconds, 1),
        "reload_mib": round(theirs.peak),
    }
    speed_up = theirs.seconds / ours.seconds
    return Measured([Target("answering in place, times faster", speed_up, ">=", 5)], facts)


# -- a training step --------------------------------------------------------------------------


def settings_of(folder: Path, way: str, turn: int) -> TrainSettings:
    """Return the default run's settings in one way, for a few steps without a save."""
    settings = TrainSettings(
        run_name=f"{STEP_WAYS.index(way)}-{turn}",
        output_dir=str(folder),
        max_steps=STEPS + 1,
        save_strategy="no",
        shared_prefix=way == OURS,
    )
    if way != ARTICLE:
        return settings

    completions = settings.per_device_train_batch_size * settings.gradient_accumulation_steps
    return replace(
        settings,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=completions,
        steps_per_generation=0,
    )


def step_seconds(train: Callable[[], None], trainer_class: Any) -> list[float]:
    """Return the seconds of each step but the first of a function that trains."""
    with _step_times(trainer_class) as times:
        train()

    seconds = [end - start for start, end in zip(times.starts, times.ends, strict=True)]
    return seconds[1:]


@dataclass(frozen=True)
class StepTimes:
    """When the optimizer steps of a trainer begin, and when each has been logged."""

    starts: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)


@contextmanager
def _step_times(trainer_class: Any) -> Iterator[StepTimes]:
    """Collect the times of a trainer's steps."""
    times = StepTimes()
    begin = trainer_class.training_step
    end = trainer_class._maybe_log_save_evaluate

    def training_step(self: Any, *args: Any, **kwargs: Any) -> Any:
        # It is called once per micro-batch; the first one of a step counts.
        if len(times.starts) == len(times.ends):
            times.starts.append(time.perf_counter())
        return begin(self, *args, **kwargs)

    def log_step(self: Any, *args: Any, **kwargs: Any) -> None:
        end(self, *args, **kwargs)
        # It is called at the end of an epoch, too, when no step is running.
        if len(times.ends) < len(times.starts):
            times.ends.append(time.perf_counter())

    with (
        patch.object(trainer_class, "training_step", training_step),
        patch.object(trainer_class, "_maybe_log_save_evaluate", log_step),
    ):
        yield times


def train_bare(settings: TrainSettings) -> None:
    """Train as a one-page script would: of ours only prompts, settings and rewards."""
    import torch
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, set_seed
    from trl import GRPOTrainer

    from grpo_helpers.prompts import build_dataset
    from grpo_helpers.rewards import reward_functions
    from grpo_helpers.training import grpo_config, prepare

    prepared = prepare(settings)
    model = str(project_root() / settings.model_name)
    torch.set_num_threads(settings.num_threads)
    set_seed(settings.seed)
    functions: Any
    functions, _ = reward_functions(
        settings.reward_weights, settings.bertscore_model, settings.bertscore_layers
    )

    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
        args=grpo_config(settings),
        processing_class=AutoTokenizer.from_pretrained(model, padding_side="left"),
        train_dataset=build_dataset(prepared.train_items, prepared.train_prompts),
        reward_funcs=functions,
        peft_config=LoraConfig(
            r=settings.lora_r,
            lora_alpha=settings.lora_alpha,
            target_modules=lora_targets(settings.lora_target_modules),
            task_type="CAUSAL_LM",
        ),
    )
    trainer.remove_callback(PrinterCallback)  # the output of a benchmark is its figures
    trainer.train()


def bench_steps(folder: Path) -> Measured:
    """Train in every way, in turns, and print the seconds of a step."""
    from trl import GRPOTrainer

    from grpo_helpers.training import train

    seconds: dict[str, list[float]] = {way: [] for way in STEP_WAYS}
    for turn in range(TURNS):
        for way in STEP_WAYS:
            is_ours = way in (OURS, UNSHARED)
            settings = settings_of(folder, way, turn)
            train_so = partial(train if is_ours else train_bare, settings)
            seconds[way] += step_seconds(train_so, GRPOTrainer)

    return compare_steps(seconds)


def compare_steps(seconds: Mapping[str, Sequence[float]]) -> Measured:
    """Print the seconds of a step in each way, and how many times faster ours is than each.

    Args:
        seconds: Of each step, by way, in the order in which they were measured.
    """
    steps: dict[str, dict[str, Any]] = {}
    ratios = {}
    for way in STEP_WAYS:
        median = float(np.median(seconds[way]))
        ratios[way] = TimesFaster.of(seconds[way], seconds[OURS])
        steps[way] = {"seconds": round(median, 2), **ratios[way].facts}
        print(f"a step, {way}: {median:.2f} s, in steps of ours {ratios[way].text}")

    facts = {
        "step_seconds_ours": steps[OURS]["seconds"],
        "step_seconds_bare": steps[BARE]["seconds"],
        "pairs": len(seconds[OURS]),
        "steps": steps,
    }
    own_cost = TimesFaster.of(seconds[UNSHARED], seconds[BARE]).median
    targets = [
        Target("a step, times faster than a bare TRL script", ratios[BARE].median, ">=", 2),
        Target("a step, times faster than the article's way", ratios[ARTICLE].median, ">=", 2),
        Target("a step without sharing, in steps of a bare TRL script", own_cost, "<=", 1.1),
    ]
    return Measured(targets, facts)


def bench_training(*, is_recorded: bool) -> int:
    """Run both comparisons; return 1 if a target is missed.

    Args:
        is_recorded: Whether the figures are written to ``data/reference_runs/bench.json``.
    """
    with tempfile.TemporaryDirectory(prefix="grpo-bench-") as name:
        answered = bench_answering(Path(name))
        stepped = bench_steps(Path(name))

    targets = answered.targets + stepped.targets
    if is_recorded:
        record("training", targets, answered.facts | stepped.facts)
    return report(targets)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 if a target is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmarks.training", description=__doc__.splitlines()[0]
    )
    add_record_option(parser)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--adapter", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)

    def body() -> int:
        if args.way:
            answering = answer(args.way, args.adapter, TrainSettings(), QUESTIONS)
            print(json.dumps(asdict(answering)))
            return 0
        return bench_training(is_recorded=args.record)

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
