"""What the course's code costs in training: ``python -m tools.benchmarks.training``.

In: the default settings and data. Out: seconds and peak memory of two comparisons, and the targets;
exit 1 if one is missed. Part of ``make bench``.

Answering. Ours: the model in training answers dev questions in batches. The article's way: at every
save the base model is loaded again beside the one in training, the adapter is added, and each
question is answered alone. Each way runs in a process of its own, which also gives its peak memory.

A training step. Ours: :func:`grpo_helpers.training.train`. The other: a bare TRL script with the
same settings and rewards. The two take turns.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from grpo_helpers.command_line import run_command
from grpo_helpers.files import project_root
from grpo_helpers.settings import TrainSettings
from tools.benchmarks.targets import Target, record, report

QUESTIONS = 64
STEPS = 4  # steps timed in a turn, after a first one that is not
TURNS = 3  # of each kind of training
IN_PLACE = "in place"
ARTICLE = "the article's way"


@dataclass(frozen=True)
class Measured:
    """The target of a comparison, and the facts behind it."""

    target: Target
    facts: dict[str, float]


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
    return Measured(Target("answering in place, times faster", speed_up, ">=", 5), facts)


# -- a training step --------------------------------------------------------------------------


def settings_of(folder: Path, name: str) -> TrainSettings:
    """Return the default run's settings, for a few steps without a save."""
    return TrainSettings(
        run_name=name, output_dir=str(folder), max_steps=STEPS + 2, save_strategy="no"
    )


def step_seconds(train: Callable[[], None], trainer_class: Any) -> list[float]:
    """Return the seconds of each step but the first of a function that trains."""
    with _step_starts(trainer_class) as starts:
        train()

    seconds = [end - start for start, end in pairwise(starts)]
    return seconds[1:]


@contextmanager
def _step_starts(trainer_class: Any) -> Iterator[list[float]]:
    """Collect the times at which the optimizer steps of a trainer begin."""
    starts: list[float] = []
    begin = trainer_class.training_step

    def training_step(self: Any, *args: Any, **kwargs: Any) -> Any:
        # It is called once per micro-batch; the first one of a step counts.
        if not starts or self.state.global_step == len(starts):
            starts.append(time.perf_counter())
        return begin(self, *args, **kwargs)

    trainer_class.training_step = training_step
    try:
        yield starts
    finally:
        trainer_class.training_step = begin


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
            target_modules=settings.lora_target_modules.split(","),
            task_type="CAUSAL_LM",
        ),
    )
    trainer.remove_callback(PrinterCallback)  # the output of a benchmark is its figures
    trainer.train()


def bench_steps(folder: Path) -> Measured:
    """Train in both ways, in turns, and print the seconds of a step."""
    from trl import GRPOTrainer

    from grpo_helpers.training import train

    our_seconds: list[float] = []
    bare_seconds: list[float] = []
    for turn in range(TURNS):
        ours = settings_of(folder, f"ours-{turn}")
        our_seconds += step_seconds(partial(train, ours), GRPOTrainer)

        bare = settings_of(folder, f"bare-{turn}")
        bare_seconds += step_seconds(partial(train_bare, bare), GRPOTrainer)

    ours_median = float(np.median(our_seconds))
    bare_median = float(np.median(bare_seconds))
    print(
        f"seconds a step, median of {len(our_seconds)}: "
        f"ours {ours_median:.2f}, bare {bare_median:.2f}"
    )

    facts = {"step_seconds_ours": round(ours_median, 2), "step_seconds_bare": round(bare_median, 2)}
    ratio = bare_median / ours_median
    return Measured(Target("a step, times faster than a bare TRL script", ratio, ">=", 2), facts)


def bench_training(*, is_recorded: bool) -> int:
    """Run both comparisons; return 1 if a target is missed.

    Args:
        is_recorded: Whether the figures are written to ``data/reference_runs/bench.json``.
    """
    with tempfile.TemporaryDirectory(prefix="grpo-bench-") as name:
        answered = bench_answering(Path(name))
        stepped = bench_steps(Path(name))

    targets = [answered.target, stepped.target]
    if is_recorded:
        record("training", targets, answered.facts | stepped.facts)
    return report(targets)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 if a target is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmarks.training", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--record",
        action="store_true",
        help="write the figures to data/reference_runs/bench.json",
    )
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
