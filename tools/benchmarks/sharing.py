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
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from grpo_helpers.command_line import run_command
from tools.benchmarks.targets import Target, record, report

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
RESAMPLES = 2000
MIB = 2**20
WAYS = ("bare TRL", "shared")


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
    def ratios(self) -> np.ndarray:
        """How many times faster the shared step of each pair is, (pairs,)."""
        bare, shared = (np.array(self.seconds[way]) for way in WAYS)
        return bare / shared

    def interval(self) -> tuple[float, float]:
        """Return the 95 % interval of the median ratio, by resampling pairs."""
        rng = np.random.default_rng(0)
        picks = rng.integers(0, len(self.ratios), (RESAMPLES, len(self.ratios)))
        medians = np.median(self.ratios[picks], axis=1)
        low, high = np.percentile(medians, [2.5, 97.5])
        return float(low), float(high)


# -- the two trainers -------------------------------------------------------------------------


def trainer_of(way: str, case: Case, folder: str) -> GRPOTrainer:
    """Return a trainer of one way for a case, before its first step."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl import GRPOTrainer

    from grpo_helpers.models import load_model, load_tokenizer
    from grpo_helpers.shared_prefix import SharedPrefixTrainer

    model = load_model("data/tiny_model", case.quant_type)
    model.config.max_position_embeddings = POSITIONS
    trainer_class = SharedPrefixTrainer if way == "shared" else GRPOTrainer

    trainer = trainer_class(
        model=model,
        args=_config(folder),
        processing_class=load_tokenizer("data/tiny_model"),
        peft_config=LoraConfig(
            r=16,
            lora_alpha=32,
            target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
            task_type="CAUSAL_LM",
        ),
        train_dataset=Dataset.from_list(_prompts(case.prompt_tokens)),
        reward_funcs=_distinct_letters,
    )
    trainer.callback_handler.callbacks = trainer.callback_handler.callbacks[:1]
    return trainer


def _prompts(tokens: int) -> list[dict[str, str]]:
    """Return different prompts of one length: every syllable is a token."""
    rows = []
    for number in range(MICRO_BATCH * MICRO_BATCHES // GROUP):
        first = ord("가") + 28 * number
        rows.append({"prompt": "".join(chr(first + i % 20) for i in range(tokens))})
    return rows


def _distinct_letters(completions: list[str], **_: Any) -> list[float | None]:
    return [float(len(set(completion))) for completion in completions]


def _config(folder: str) -> GRPOConfig:
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
        per_device_train_batch_size=MICRO_BATCH,
        num_generations=GROUP,
        gradient_accumulation_steps=MICRO_BATCHES,
        steps_per_generation=MICRO_BATCHES,
        max_completion_length=COMPLETION_TOKENS,
        generation_kwargs={"min_new_tokens": COMPLETION_TOKENS},
    )


# -- measuring --------------------------------------------------------------------------------


def measure(case: Case) -> None:
    """Time the steps of both ways in turns, then measure the peak memory of one step of each."""
    with tempfile.TemporaryDirectory(prefix="grpo-sharing-") as folder:
        trainers = {way: trainer_of(way, case, str(Path(folder) / way)) for way in WAYS}
        for trainer in trainers.values():
            trainer.train()  # the first step is slow

        case.seconds = {way: [] for way in WAYS}
        for _ in range(PAIRS):
            for way, trainer in trainers.items():
                started = time.perf_counter()
                trainer.train()
                case.seconds[way].append(time.perf_counter() - started)

        for way, trainer in trainers.items():
            case.peaks[way] = _peak_of_a_step(trainer)


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
    low, high = case.interval()
    ratio = float(np.median(case.ratios))
    peaks = [case.peaks[way] / MIB for way in WAYS]
    print(
        f"{case.name}: {bare:.2f} s -> {shared:.2f} s, {ratio:.2f} times faster "
        f"[{low:.2f}, {high:.2f}]; peak {peaks[0]:.0f} -> {peaks[1]:.0f} MiB",
        flush=True,
    )


def targets_of(case: Case) -> list[Target]:
    """Return what a case must reach: its ratio, and less memory unless the prompt is short."""
    ratio = float(np.median(case.ratios))
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
            record(f"sharing, {precision}", targets, facts)

    return report(all_targets)


def _facts(case: Case) -> dict[str, Any]:
    """Return the figures of a case that are recorded."""
    low, high = case.interval()
    return {
        "seconds": {way: round(float(np.median(case.seconds[way])), 3) for way in WAYS},
        "times_faster": round(float(np.median(case.ratios)), 2),
        "interval": [round(low, 2), round(high, 2)],
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
    add("--record", action="store_true", help="write the figures to data/reference_runs/bench.json")
    args = parser.parse_args(argv)

    def body() -> int:
        return bench_sharing(args.lengths, args.precisions, args.record)

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
