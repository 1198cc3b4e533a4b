"""Watch every word turn: ``python -m tools.experiments.coins [RUN ...] [--every STEPS]``.

Trains a planned run of ``tools/experiments/recorded_runs.py`` once more, with one callback more: it
measures, before the first step and after every step, how probable the right form of each word is
(``form_probability.py``) in questions that are not trained on (``probes.py``). Nothing else is
different: where the run is recorded, the rewards of its steps are compared with those of the
record. Without a name, the default run is watched; ``quoted`` is the run whose reward is gamed.

Out: ``data/reference_runs/coins/<run>.csv.gz`` (:mod:`grpo_helpers.coins` reads it) and
``<run>.json``, how it was made, what the measuring cost, and the mean mass of both forms step by
step. Coins that exist are not made again.
"""

from __future__ import annotations

import argparse
import datetime
import os
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from grpo_helpers.coins import BLOCKS, Coins, coins_file, to_table
from grpo_helpers.command_line import run_command
from grpo_helpers.files import InputError, write_json
from grpo_helpers.models import load_tokenizer
from grpo_helpers.run_folder import RunFolder, is_finished
from grpo_helpers.settings import TrainSettings
from grpo_helpers.training import train
from tools.experiments.form_probability import Measurement, measure
from tools.experiments.probes import (
    EncodedProbe,
    Probe,
    encode_probes,
    load_probes,
    words_table,
)
from tools.experiments.quoted import knowing_quoted
from tools.experiments.record import matching_runs
from tools.experiments.recorded_runs import FOLDER, RUNS, is_recorded, recorded_folder

DEFAULT_RUN = "seed_0"


class CoinsCallback(TrainerCallback):
    """Measures the probes before the first step and after every few steps, and at the end.

    Attributes:
        measured: What was measured, by the number of optimizer steps.
        seconds: How long the measuring took in all.
    """

    def __init__(self, probes: Sequence[EncodedProbe], pad: int, every: int = 1) -> None:
        """Take what is asked.

        Args:
            probes: What the model is asked.
            pad: Its token for padding.
            every: Steps from one measurement to the next.
        """
        self.probes = probes
        self.pad = pad
        self.every = every
        self.measured: dict[int, Measurement] = {}
        self.seconds = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        """Measure the model that nothing was taught yet."""
        self._measure(more["model"], state.global_step)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        """Measure the model after the update of its weights."""
        is_last = state.global_step >= state.max_steps
        if state.global_step % self.every == 0 or is_last:
            self._measure(more["model"], state.global_step)

    def _measure(self, model: Any, step: int) -> None:
        started = time.perf_counter()
        self.measured[step] = measure(model, self.probes, self.pad)
        self.seconds += time.perf_counter() - started


def watch(settings: TrainSettings, probes: Sequence[Probe], every: int = 1) -> CoinsCallback:
    """Train a run and watch its words; return what was measured.

    Args:
        settings: The run's parameters.
        probes: What is asked.
        every: Steps from one measurement to the next.

    Raises:
        InputError: The run was stopped before its end.
    """
    tokenizer = load_tokenizer(settings.model_name, settings.chat_template_path)
    encoded = encode_probes(probes, tokenizer, settings)
    callback = CoinsCallback(encoded, tokenizer.pad_token_id, every)
    train(settings, callbacks=[callback])

    checkpoint = RunFolder(settings.run_dir).last_complete()
    if checkpoint is None or not is_finished(checkpoint):
        raise InputError(f"run {settings.run_name} was stopped before its end: no coins recorded")
    return callback


def coins_of(probes: Sequence[Probe], callback: CoinsCallback) -> Coins:
    """Return what a callback has measured, with what each word is."""
    steps = sorted(callback.measured)
    shares = np.stack([callback.measured[step].shares for step in steps], axis=1)
    return Coins(words_table(probes), steps, shares)


# -- recording -------------------------------------------------------------------------------------


def record_coins(name: str, every: int = 1, threads: int = 2) -> Path:
    """Train a planned run, watch its words and record them; return the table's path.

    Args:
        name: One of :data:`RUNS`; a GRPO run.
        every: Steps from one measurement to the next.
        threads: CPU threads; another number rounds differently, and so samples other answers.

    Raises:
        InputError: The run is a supervised one, or was stopped.
    """
    target = coins_file(FOLDER, name)
    if target.is_file():
        return target

    plan = RUNS[name]
    if plan.labels:
        raise InputError(f"{name} is trained on {plan.labels} answers: coins are of GRPO runs")

    with knowing_quoted() if plan.has_own_weights else nullcontext():
        settings = TrainSettings(run_name=f"coins-{name}", num_threads=threads, **plan.changed)
        probes = load_probes(settings)
        callback = watch(settings, probes, every)

    write_coins(target, coins_of(probes, callback))
    run = RunFolder(settings.run_dir)
    write_json(target.with_name(f"{name}.json"), about_coins(name, run, probes, callback))
    return target


def write_coins(target: Path, coins: Coins) -> None:
    """Write the table of coins, all or nothing; the same coins make the same bytes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    to_table(coins).to_csv(partial, index=False, compression={"method": "gzip", "mtime": 0})
    os.replace(partial, target)


def about_coins(
    name: str, run: RunFolder, probes: Sequence[Probe], callback: CoinsCallback
) -> dict[str, Any]:
    """Return how coins were made, what the measuring cost, and the mass of both forms."""
    rows = run.log.step_rows()
    options = f"--every {callback.every} --threads {run.settings['num_threads']}"
    asked = {block: sum(probe.block == block for probe in probes) for block in BLOCKS}
    masses = {
        str(step): round(float(callback.measured[step].masses.mean()), 3)
        for step in sorted(callback.measured)
    }
    return {
        "command": f"python -m tools.experiments.coins {name} {options}",
        "date": datetime.date.today().isoformat(),
        "minutes": round(rows[-1]["seconds"] / 60, 1),
        "seconds_per_step": round(sum(row["step_time"] for row in rows) / len(rows), 2),
        "seconds_per_measurement": round(callback.seconds / len(callback.measured), 2),
        "words": asked,
        "steps": len(rows),
        "steps_as_recorded": steps_as_recorded(name, rows),
        "mean_mass": masses,
    }


def steps_as_recorded(name: str, rows: Sequence[dict[str, Any]]) -> int | None:
    """Return how many steps earned the recorded run's reward; None if the run is not recorded.

    Args:
        name: The name of the run.
        rows: The log of the run that was watched.
    """
    if not is_recorded(name):
        return None

    recorded = [row["reward"] for row in recorded_folder(name).log.step_rows()]  # 5 digits
    earned = [round(row["reward"], 5) for row in rows]
    return sum(new == old for new, old in zip(earned, recorded, strict=False))


def main(argv: Sequence[str] | None = None) -> int:
    """Record the coins of the runs whose names match; return 0, or 2 on bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.experiments.coins", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "names", nargs="*", default=[DEFAULT_RUN], help="planned runs; * stands for any letters"
    )
    parser.add_argument("--every", type=int, default=1, help="steps between two measurements")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of each training")
    args = parser.parse_args(argv)

    def body() -> int:
        if args.every < 1:
            raise InputError(f"--every is {args.every}; it must be 1 or more")
        for name in matching_runs(args.names):
            print(record_coins(name, args.every, args.threads), flush=True)
        return 0

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
