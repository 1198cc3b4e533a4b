"""How the seconds of a step grow, size by size: ``python -m tools.benchmarks.growth``.

In: a model with random weights, of the embedded model's shape, and one size at a time: prompt
length, completions of a prompt (G), completions of a micro-batch (B), completion length, model
width. Out: the growth exponent of bare TRL and of our trainer over each size, and the targets; exit
1 if one is missed. Part of ``make bench``.

A growth exponent is the slope of log seconds over log size: 1 where doubling the size doubles the
seconds, 0 where it costs nothing. Each size takes three values and the other sizes stay as they
are; over G, too, the number of completions stays, so that a larger G means fewer prompts.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from grpo_helpers.architecture import Architecture
from grpo_helpers.command_line import run_command
from tools.benchmarks.sharing import WAYS, Work, seconds_in_turns, trainer_of
from tools.benchmarks.targets import Target, add_record_option, record, report

if TYPE_CHECKING:
    from transformers import PreTrainedModel

STEPS = 3  # timed steps of each way at each point
HEAD = 48  # numbers of an attention head, as in the embedded model
LAYERS = 4
VOCABULARY = 1207
BARE, SHARED = WAYS


@dataclass(frozen=True)
class Point:
    """What is trained at one point of a curve.

    Attributes:
        work: What a step consists of.
        width: The model's hidden size.
    """

    work: Work
    width: int = 192


@dataclass(frozen=True)
class Curve:
    """The points at which one size takes several values.

    Attributes:
        size: What grows, in words.
        points: The point of each value.
    """

    size: str
    points: Mapping[int, Point]


START = Work(prompt_tokens=256, group=8, micro_batch=16, micro_batches=2, completion_tokens=32)
CURVES = (
    Curve(
        "prompt tokens",
        {tokens: Point(replace(START, prompt_tokens=tokens)) for tokens in (128, 256, 512)},
    ),
    Curve(
        "completions of a prompt, G",
        {group: Point(replace(START, group=group)) for group in (4, 8, 16)},
    ),
    Curve(
        "completions of a micro-batch, B",
        {size: Point(replace(START, micro_batch=size)) for size in (8, 16, 32)},
    ),
    Curve(
        "completion tokens",
        {tokens: Point(replace(START, completion_tokens=tokens)) for tokens in (16, 32, 64)},
    ),
    Curve(
        "model width",
        {width: Point(START, width) for width in (96, 192, 384)},
    ),
)
# Sharing reads a prompt once: it must grow more slowly where prompts do.
SLOWER = ("prompt tokens", "completions of a prompt, G")


# -- measuring --------------------------------------------------------------------------------


def model_of(width: int) -> PreTrainedModel:
    """Return a model in float32 with random weights, of the embedded model's shape but its width.

    Args:
        width: The hidden size, a multiple of :data:`HEAD`.
    """
    from tools.benchmarks.random_model import random_model

    shape = Architecture(
        name=f"width-{width}",
        num_hidden_layers=LAYERS,
        hidden_size=width,
        intermediate_size=width * 8 // 3,
        num_attention_heads=width // HEAD,
        num_key_value_heads=width // HEAD,
        head_dim=HEAD,
        vocab_size=VOCABULARY,
        tie_word_embeddings=True,
    )
    return random_model(shape, None, "cpu").float()


def measure(point: Point) -> dict[str, float]:
    """Return the seconds of a step at a point, by way: the median of steps in turns."""
    with tempfile.TemporaryDirectory(prefix="grpo-growth-") as folder:
        trainers = {}
        for way in WAYS:
            model = model_of(point.width)
            trainers[way] = trainer_of(way, model, point.work, str(Path(folder) / way))
        seconds = seconds_in_turns(trainers, STEPS)

    return {way: float(np.median(seconds[way])) for way in WAYS}


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Return the growth exponent: the slope of log seconds over log size.

    >>> round(exponent([1, 2, 4], [3.0, 6.0, 12.0]), 6)
    1.0
    """
    slope, _ = np.polyfit(np.log(sizes), np.log(seconds), deg=1)
    return float(slope)


# -- the report -------------------------------------------------------------------------------


def facts_of(curve: Curve, measured: Mapping[Point, Mapping[str, float]]) -> dict[str, Any]:
    """Return the figures of a curve that are recorded: sizes, seconds and exponents."""
    sizes = list(curve.points)
    facts: dict[str, Any] = {"sizes": sizes, "seconds": {}, "exponent": {}}

    for way in WAYS:
        seconds = [measured[point][way] for point in curve.points.values()]
        facts["seconds"][way] = [round(value, 3) for value in seconds]
        facts["exponent"][way] = round(exponent(sizes, seconds), 2)

    return facts


def print_curve(size: str, facts: Mapping[str, Any]) -> None:
    """Print the seconds and the exponent of each way over one size."""
    print(f"{size} {', '.join(map(str, facts['sizes']))}")
    for way in WAYS:
        seconds = ", ".join(f"{value:.2f}" for value in facts["seconds"][way])
        print(f"  {way:10} {seconds} s; exponent {facts['exponent'][way]:.2f}", flush=True)


def targets_of(facts: Mapping[str, Mapping[str, Any]]) -> list[Target]:
    """Return what must hold: where prompts grow, the shared way grows more slowly than bare TRL."""
    targets = []
    for size in SLOWER:
        exponents = facts[size]["exponent"]
        name = f"growth exponent over {size}, shared less bare TRL"
        targets.append(Target(name, exponents[SHARED] - exponents[BARE], "<", 0))
    return targets


def bench_growth(is_recorded: bool) -> int:
    """Measure every curve; return 1 if a target is missed.

    Args:
        is_recorded: Whether the figures are written to ``data/reference_runs/bench.json``.
    """
    import torch

    from grpo_helpers.library_fixes import quiet_libraries

    quiet_libraries()
    torch.set_num_threads(2)
    torch.manual_seed(0)
    measured: dict[Point, dict[str, float]] = {}
    facts = {}

    for curve in CURVES:
        for point in curve.points.values():
            if point not in measured:  # the curves cross at the start
                measured[point] = measure(point)
        facts[curve.size] = facts_of(curve, measured)
        print_curve(curve.size, facts[curve.size])

    targets = targets_of(facts)
    if is_recorded:
        record("growth", targets, {"curves": facts})
    return report(targets)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 if a target is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmarks.growth", description=__doc__.splitlines()[0]
    )
    add_record_option(parser)
    args = parser.parse_args(argv)
    return run_command(lambda: bench_growth(args.record))


if __name__ == "__main__":
    sys.exit(main())
