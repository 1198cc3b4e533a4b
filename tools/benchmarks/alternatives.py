"""Ways of training that were tried beside ours: ``python -m tools.benchmarks.alternatives``.

In: the default run's settings. Out: seconds of a step as it is, of one with two rounds (half as
many rows in each call of ``generate``), and of one that merges the adapter into the weights
while it samples; the three take turns. ``--record`` writes the figures to
``data/reference_runs/bench.json``. An alternative is worth its code from five per cent of a step.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from grpo_helpers.command_line import run_command
from grpo_helpers.settings import TrainSettings
from tools.benchmarks.pairs import TimesFaster
from tools.benchmarks.sharing import seconds_in_turns
from tools.benchmarks.targets import add_record_option, record

STEPS = 6  # timed steps of each way
AS_IT_IS = "as it is"
TWO_ROUNDS = "two rounds a step"
MERGED = "merged adapter"
WAYS = (AS_IT_IS, TWO_ROUNDS, MERGED)


def settings_of(way: str, folder: Path) -> TrainSettings:
    """Return the default run's settings for one step in a way."""
    default = TrainSettings()
    passes_of_a_round = default.steps_per_generation
    if way == TWO_ROUNDS:
        passes_of_a_round = default.gradient_accumulation_steps // 2

    return TrainSettings(
        run_name=way.replace(" ", "-"),
        output_dir=str(folder),
        steps_per_generation=passes_of_a_round,
        max_steps=1,
        save_strategy="no",
    )


def trainer_of(way: str, folder: Path) -> Any:
    """Return the trainer of a way; its ``train`` is one step, which writes nothing."""
    from grpo_helpers.training import build_trainer, grpo_config, prepare

    settings = settings_of(way, folder)
    trainer = build_trainer(settings, prepare(settings), grpo_config(settings)).trainer
    trainer.callback_handler.callbacks = trainer.callback_handler.callbacks[:1]
    if way == MERGED:
        merge_while_sampling(trainer)
    return trainer


def merge_while_sampling(trainer: Any) -> None:
    """Let a trainer sample from merged weights: one product of matrices instead of three."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    sample = trainer._generate_single_turn

    def sample_merged(*args: Any, **kwargs: Any) -> Any:
        model.merge_adapter()
        try:
            return sample(*args, **kwargs)
        finally:
            model.unmerge_adapter()

    trainer._generate_single_turn = sample_merged


def bench_alternatives(is_recorded: bool) -> int:
    """Print the seconds of a step in each way; return 0: an alternative has no target.

    Args:
        is_recorded: Whether the figures are written to ``data/reference_runs/bench.json``.
    """
    import torch

    from grpo_helpers.library_fixes import quiet_libraries

    quiet_libraries()
    torch.set_num_threads(TrainSettings().num_threads)
    with tempfile.TemporaryDirectory(prefix="grpo-alternatives-") as folder:
        trainers = {way: trainer_of(way, Path(folder)) for way in WAYS}
        seconds = seconds_in_turns(trainers, STEPS)

    facts: dict[str, Any] = {"pairs": STEPS}
    for way in WAYS:
        median = float(np.median(seconds[way]))
        ratio = TimesFaster.of(seconds[AS_IT_IS], seconds[way])
        facts[way] = {"seconds": round(median, 2), **ratio.facts}
        print(f"a step, {way}: {median:.2f} s, {ratio.text} times faster")

    if is_recorded:
        record("alternatives", [], facts)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 0."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmarks.alternatives", description=__doc__.splitlines()[0]
    )
    add_record_option(parser)
    args = parser.parse_args(argv)
    return run_command(lambda: bench_alternatives(args.record))


if __name__ == "__main__":
    sys.exit(main())
