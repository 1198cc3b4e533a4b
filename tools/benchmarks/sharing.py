"""What sharing the prompt saves, by prompt length: ``python -m tools.benchmarks.sharing``.

In: the embedded model, in float32 or 4 bits, and prompts of a given number of tokens. Out: seconds
and peak memory of a GRPO step of bare TRL and of our trainer (:mod:`grpo_helpers.shared_prefix`),
and the targets; exit 1 if one is missed. Part of ``make bench``.

Both trainers are in one process and take turns, step by step, so that a slow minute of the machine
meets both. Completions have a fixed length. Peak memory is that of PyTorch's tensors, in a step of
its own, because the profiler that counts them is slow.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from grpo_helpers.command_line import run_command
from tools.benchmarks.pairs import TimesFaster
from tools.benchmarks.targets import Target, add_record_option, record, report

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from trl import GRPOConfig, GRPOTrainer

PAIRS = 6  # steps of each trainer, in turns, after a first one that is not timed
GROUP = 8
MICRO_BATCH = 16
MICRO_BATCHES = 4
COMPLETION_TOKENS = 64
LENGTHS = (32, 300, 1000)
PRECISIONS = ("float32", "4bit")
TARGETS = {32: 0.97, 300: 2.0, 1000: 3.0}  # times faster than bare TRL
POSITIONS = 2048  # more than the embedded model was trained with; its values do not matter here
MIB = 2**20
WAYS = ("bare TRL", "shared")


@dataclass(frozen=True)
class Work:
    """What a step consists of.

    Attributes:
        prompt_tokens: The length of every prompt.
        group: Completions of a prompt.
        micro_batch: Completions of a micro-batch.
        micro_batches: Micro-batches of a step; one round samples all of them.
        completion_tokens: The length of every completion.
    """

    prompt_tokens: int
    group: int = GROUP
    micro_batch: int = MICRO_BATCH
    micro_batches: int = MICRO_BATCHES
    completion_tokens: int = COMPLETION_TOKENS

    @property
    def prompts(self) -> int:
        """The different prompts of a step."""
        return self.micro_batch * self.micro_batches // self.group


@dataclass
class Case:
    """A prompt length and a precision, and what was measured.

    Attributes:
        prompt_tokens: The length of every prompt.
        quant_type: ``4bit``, or None for float32.
        seconds: Of each step, by way, in turns.
        peaks: Peak bytes of a step, by way.
    """

    prompt_tokens: int
    quant_type: str | None
    seconds: dict[str, list[float]] = field(default_factory=dict)
    peaks: dict[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The case in words."""
        return f"{self.prompt_tokens} prompt tokens, {self.quant_type or 'float32'}"

    @property
    def work(self) -> Work:
        """What its steps consist of."""
        return Work(self.prompt_tokens, completion_tokens=COMPLETION_TOKENS)

    @property
    def times_faster(self) -> TimesFaster:
        """How many times faster a shared step is."""
        bare, shared = (self.seconds[way] for way in WAYS)
        return TimesFaster.of(bare, shared)


# -- the two trainers -------------------------------------------------------------------------


def embedded_model(quant_type: str | None) -> PreTrainedModel:
    """Return the embedded model, with room for long prompts."""
    from grpo_helpers.models import load_model

    model = load_model("data/tiny_model", quant_type)
    model.config.max_position_embeddings = POSITIONS
    return model


def trainer_of(way: str, model: PreTrainedModel, work: Work, folder: str) -> GRPOTrainer:
    """Return a trainer of one way, before its first step.

    Args:
        way: One of :data:`WAYS`.
        model: The model, which gets an adapter.
        work: What a step consists of.
        folder: A folder for the trainer.
    """
    from datasets import Dataset
    from peft import LoraConfig
    from trl import GRPOTrainer

    from grpo_helpers.models import load_tokenizer
    from grpo_helpers.shared_prefix import SharedPrefixTrainer

    trainer_class = SharedPrefixTrainer if way == "shared" else GRPOTrainer

    trainer = trainer_class(
        model=model,
        args=_config(work, folder),
        processing_class=load_tokenizer("data/tiny_model"),
        peft_config=LoraConfig(
            r=16,
            lora_alpha=32,
            target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
            task_type="CAUSAL_LM",
        ),
        train_dataset=Dataset.from_list(_prompts(work)),
        reward_funcs=_distinct_letters,
    )
    trainer.callback_handler.callbacks = trainer.callback_handler.callbacks[:1]
    return trainer


def _prompts(work: Work) -> list[dict[str, str]]:
    """Return different prompts of one length: every syllable is a token."""
    rows = []
    for number in range(work.prompts):
        first = ord("가") + 28 * number
        rows.append({"prompt": "".join(chr(first + i % 20) for i in range(work.prompt_tokens))})
    return rows


def _distinct_letters(completions: list[str], **_: Any) -> list[float | None]:
    return [float(len(set(completion))) for completion in completions]


def _config(work: Work, folder: str) -> GRPOConfig:
    from trl import GRPOConfig

    return GRPOConfig(
        output_dir=folder,
        use_cpu=True,
        bf16=False,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        gradient_checkpointing=False,  # TRL's default recomputes activations, which shares nothing
        max_steps=1,
        disable_tqdm=True,
        dataloader_pin_memory=False,
        per_device_train_batch_size=work.micro_batch,
        num_generations=work.group,
        gradient_accumulation_steps=work.micro_batches,
        steps_per_generation=work.micro_batches,
        max_completion_length=work.completion_tokens,
        generation_kwargs={"min_new_tokens": work.completion_tokens},
    )


# -- measuring --------------------------------------------------------------------------------


def measure(case: Case) -> None:
    """Time the steps of both ways in turns, then measure the peak memory of one step of each."""
    with tempfile.TemporaryDirectory(prefix="grpo-sharing-") as folder:
        trainers = {}
        for way in WAYS:
            model = embedded_model(case.quant_type)
            trainers[way] = trainer_of(way, model, case.work, str(Path(folder) / way))

        case.seconds = seconds_in_turns(trainers, PAIRS)
        for way, trainer in trainers.items():
            case.peaks[way] = _peak_of_a_step(trainer)


def seconds_in_turns(trainers: Mapping[str, GRPOTrainer], steps: int) -> dict[str, list[float]]:
    """Return the seconds of each step, by way; the ways take turns after a step that is not timed.

    Args:
        trainers: The trainer of each way; its ``train`` is one step.
        steps: Timed steps of each way.
    """
    for trainer in trainers.values():
        trainer.train()  # the first step is slow

    seconds: dict[str, list[float]] = {way: [] for way in trainers}
    for _ in range(steps):
        for way, trainer in trainers.items():
            started = time.perf_counter()
            trainer.train()
            seconds[way].append(time.perf_counter() - started)
    return seconds


def _peak_of_a_step(trainer: GRPOTrainer) -> int:
    """Return the peak bytes of tensors during one more step, weights included."""
    from tools.benchmarks.memory_meters import CpuMeter

    meter = CpuMeter()
    meter.start(cast("PreTrainedModel", trainer.model))
    with meter.phase("step"):
        trainer.train()
    meter.stop()
    return meter.allocated["step"]


def print_case(case: Case) -> None:
    """Print one line: seconds, ratio with its interval, and memory."""
    bare, shared = (float(np.median(case.seconds[way])) for way in WAYS)
    peaks = [case.peaks[way] / MIB for way in WAYS]
    print(
        f"{case.name}: {bare:.2f} s -> {shared:.2f} s, {case.times_faster.text} times faster; "
        f"peak {peaks[0]:.0f} -> {peaks[1]:.0f} MiB",
        flush=True,
    )


def targets_of(case: Case) -> list[Target]:
    """Return what a case must reach: its ratio, and less memory unless the prompt is short."""
    ratio = case.times_faster.median
    limit = TARGETS[case.prompt_tokens]
    targets = [Target(f"a step at {case.name}, times faster", ratio, ">=", limit)]

    if limit > 1:
        share = case.peaks["shared"] / case.peaks["bare TRL"]
        targets.append(Target(f"peak memory at {case.name}, share of bare TRL", share, "<", 1))
    return targets


def bench_sharing(lengths: Sequence[int], precisions: Sequence[str], is_recorded: bool) -> int:
    """Measure every case; return 1 if a target is missed.

    Args:
        lengths: Prompt lengths, in tokens.
        precisions: ``float32``, ``4bit`` or both.
        is_recorded: Whether the figures are written to ``data/reference_runs/bench.json``.
    """
    import torch

    from grpo_helpers.library_fixes import quiet_libraries

    quiet_libraries()
    torch.set_num_threads(2)
    all_targets = []

    for precision in precisions:
        targets = []
        facts = {}
        for length in lengths:
            case = Case(length, None if precision == "float32" else precision)
            measure(case)
            print_case(case)
            targets += targets_of(case)
            facts[case.name] = _facts(case)

        all_targets += targets
        if is_recorded:
            is_whole = set(lengths) == set(LENGTHS)
            record(f"sharing, {precision}", targets, facts, is_whole=is_whole)

    return report(all_targets)


def _facts(case: Case) -> dict[str, Any]:
    """Return the figures of a case that are recorded."""
    return {
        "seconds": {way: round(float(np.median(case.seconds[way])), 3) for way in WAYS},
        **case.times_faster.facts,
        "peak_mib": {way: round(case.peaks[way] / MIB) for way in WAYS},
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 if a target is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmarks.sharing", description=__doc__.splitlines()[0]
    )
    add = parser.add_argument
    add("--lengths", type=int, nargs="+", default=list(LENGTHS), choices=LENGTHS, help="in tokens")
    add("--precisions", nargs="+", default=["float32"], choices=PRECISIONS, help="4bit is slow")
    add_record_option(parser)
    args = parser.parse_args(argv)

    def body() -> int:
        return bench_sharing(args.lengths, args.precisions, args.record)

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
