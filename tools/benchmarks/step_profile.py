"""Where the seconds of a training step go: ``python -m tools.benchmarks.step_profile``.

In: the default run's settings, with shared prompts and without. Out: seconds of a step by part, and
the least that the arithmetic of each part takes on this machine: its floating-point operations over
the rate of a large matrix product measured here. ``--record`` writes them to
``data/reference_runs/step_profile.json``, from which docs/performance.md is made.

The parts: reading the prompts and writing the completions (``generate``), the rewards, the forward
and the backward pass of the loss, the optimizer, and everything else (Python, data, callbacks).
"""

from __future__ import annotations

import argparse
import datetime
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grpo_helpers.command_line import run_command
from grpo_helpers.files import project_root, write_json
from grpo_helpers.settings import TrainSettings

FILE = project_root() / "data" / "reference_runs" / "step_profile.json"
STEPS = 4  # that are timed, after a first one that is not
PARTS = (
    "read prompts",
    "write completions",
    "rewards",
    "loss forward",
    "loss backward",
    "optimizer",
    "the rest",
)
WAYS = {"TRL": False, "shared": True}  # the value of shared_prefix
GIGA = 1e9
MATRIX = 1024  # rows and columns of the product that measures the machine


# -- seconds ----------------------------------------------------------------------------------


@dataclass
class Stopwatch:
    """Seconds by part. A part that runs inside another one is taken out of it.

    Attributes:
        seconds: By part.
        wait: Called before the time is read: a GPU must have done what it was told so far.
    """

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    wait: Callable[[], None] = lambda: None
    _running: list[str] = field(default_factory=list)
    _since: float = 0.0

    @property
    def current(self) -> str:
        """The part that is running; empty if none is."""
        return self._running[-1] if self._running else ""

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what happens inside as ``name``."""
        self._switch()
        self._running.append(name)
        try:
            yield
        finally:
            self._switch()
            self._running.pop()

    def lap(self) -> dict[str, float]:
        """Return the seconds by part since the last lap, and begin another one."""
        self._switch()
        seconds = dict(self.seconds)
        self.seconds.clear()
        return seconds

    def _switch(self) -> None:
        self.wait()
        now = time.perf_counter()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now

    def timed(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        """Return ``function``, counted as ``name``."""

        def inside(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return function(*args, **kwargs)

        return inside


def watch(trainer: Any, stopwatch: Stopwatch) -> None:
    """Let a stopwatch see each part of a trainer's step."""
    model = trainer.accelerator.unwrap_model(trainer.model).get_base_model()
    forward = model.forward

    def forward_by_length(*args: Any, **kwargs: Any) -> Any:
        # Inside generate, a pass over several tokens reads prompts.
        if stopwatch.current == "write completions" and kwargs["input_ids"].shape[1] > 1:
            with stopwatch.part("read prompts"):
                return forward(*args, **kwargs)
        return forward(*args, **kwargs)

    model.forward = forward_by_length
    optimizer = trainer.create_optimizer()
    timed = stopwatch.timed
    trainer._generate_single_turn = timed(trainer._generate_single_turn, "write completions")
    trainer._calculate_rewards = timed(trainer._calculate_rewards, "rewards")
    trainer.compute_loss = timed(trainer.compute_loss, "loss forward")
    trainer.accelerator.backward = timed(trainer.accelerator.backward, "loss backward")
    optimizer.step = timed(optimizer.step, "optimizer")


@dataclass(frozen=True)
class Profile:
    """What a step takes.

    Attributes:
        seconds: By part, mean of the timed steps.
        operations: Floating-point operations by part: see :func:`operations`.
    """

    seconds: dict[str, float]
    operations: dict[str, float]


def profile(shared: bool, folder: Path) -> Profile:
    """Train a few steps and return where their seconds went.

    Args:
        shared: Whether prompts are shared.
        folder: Where the run may write.
    """
    import torch

    from grpo_helpers.training import build_trainer, grpo_config, prepare

    settings = TrainSettings(
        run_name=f"shared-{shared}",
        output_dir=str(folder),
        shared_prefix=shared,
        max_steps=1 + STEPS,
        save_strategy="no",
    )
    torch.set_num_threads(settings.num_threads)
    torch.manual_seed(settings.seed)
    trainer = build_trainer(settings, prepare(settings), grpo_config(settings)).trainer
    trainer.callback_handler.callbacks = trainer.callback_handler.callbacks[:1]

    stopwatch = Stopwatch()
    watch(trainer, stopwatch)
    starts = _watch_steps(trainer, stopwatch)
    with stopwatch.part("the rest"):
        trainer.train()

    count = len(starts) - 1
    seconds = {name: stopwatch.seconds[name] / count for name in PARTS}
    return Profile(seconds, operations(trainer, settings))


def _watch_steps(trainer: Any, stopwatch: Stopwatch) -> list[float]:
    """Return the list of the times at which steps end; the first step is not counted."""
    from transformers import TrainerCallback

    ends: list[float] = []

    class Watch(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.perf_counter())
            if len(ends) == 1:
                stopwatch.seconds.clear()

    trainer.add_callback(Watch())
    return ends


# -- the least that it takes ------------------------------------------------------------------


def operations(trainer: Any, settings: TrainSettings) -> dict[str, float]:
    """Return the floating-point operations of a step, by part.

    A token costs two for each weight of the layers and, where it is scored, of the head, and four
    for each number of the tokens that it attends to. Going back through frozen weights costs as
    much as going forward; the adapter's own gradients are left out.

    Args:
        trainer: A trainer that has logged at least one step.
        settings: Its run's parameters.
    """
    from transformers import PreTrainedModel

    model: PreTrainedModel = trainer.accelerator.unwrap_model(trainer.model)
    config = model.config.get_text_config()
    row = [row for row in trainer.state.log_history if "completions/mean_length" in row][-1]
    written = row["completions/mean_length"]
    prompt = _mean_prompt_tokens(trainer)

    completions = settings.per_device_train_batch_size * settings.gradient_accumulation_steps
    prompts = completions / (settings.num_generations if settings.shared_prefix else 1)
    per_token = 2.0 * _layer_weights(model)
    head = 2.0 * config.hidden_size * config.vocab_size
    attended = 4.0 * config.num_hidden_layers * config.hidden_size

    reading = prompts * prompt * (per_token + attended * prompt / 2)
    context = prompt + written / 2
    writing = completions * written * (per_token + head + attended * context)
    forward = reading + writing
    return {
        "read prompts": reading,
        "write completions": writing,
        "loss forward": forward,
        "loss backward": forward,
    }


def _layer_weights(model: Any) -> int:
    """Return the number of weights of the layers, the adapter's among them."""
    count = 0
    for name, weights in model.named_parameters():
        if weights.ndim == 2 and ".layers." in name:
            count += weights.numel()
    return count


def _mean_prompt_tokens(trainer: Any) -> float:
    """Return the mean number of tokens of a prompt."""
    prompts = [row["prompt"] for row in trainer.train_dataset]
    ids = trainer.processing_class.apply_chat_template(
        prompts, add_generation_prompt=True, return_dict=False
    )
    return sum(map(len, ids)) / len(ids)


def matrix_rate() -> float:
    """Return the floating-point operations per second of a large matrix product, float32."""
    import torch

    left, right = torch.randn(2, MATRIX, MATRIX)
    best = float("inf")
    for _ in range(10):
        started = time.perf_counter()
        left @ right
        best = min(best, time.perf_counter() - started)
    return 2 * MATRIX**3 / best


# -- the report -------------------------------------------------------------------------------


def rows_of(profiles: dict[str, Profile], rate: float) -> list[dict[str, Any]]:
    """Return the table: seconds of each part, by way, and the floor of the shared way."""
    rows = []

    for part in PARTS:
        row: dict[str, Any] = {"part": part}
        for way, measured in profiles.items():
            row[way] = round(measured.seconds[part], 3)
        floor = profiles["shared"].operations.get(part, 0.0) / rate
        row["floor"] = round(floor, 3)
        rows.append(row)

    return rows


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """Print the table and its sums."""
    columns = list(rows[0])
    print(f"{columns[0]:20}" + "".join(f"{column:>10}" for column in columns[1:]))
    for row in rows:
        print(f"{row['part']:20}" + "".join(f"{row[column]:10.2f}" for column in columns[1:]))

    sums = [sum(row[column] for row in rows) for column in columns[1:]]
    print(f"{'a step':20}" + "".join(f"{total:10.2f}" for total in sums))


def run(is_recorded: bool) -> int:
    """Profile both ways, print the table, and write it down if asked to."""
    from grpo_helpers.library_fixes import quiet_libraries

    quiet_libraries()
    with tempfile.TemporaryDirectory(prefix="grpo-profile-") as folder:
        profiles = {way: profile(shared, Path(folder)) for way, shared in WAYS.items()}

    rate = matrix_rate()
    rows = rows_of(profiles, rate)
    print(f"matrix product: {rate / GIGA:.0f} GFLOP/s")
    print_table(rows)

    if is_recorded:
        facts = {
            "date": datetime.date.today().isoformat(),
            "cores": os.cpu_count(),
            "gflop_per_second": round(rate / GIGA),
            "gflop": {way: round(sum(p.operations.values()) / GIGA) for way, p in profiles.items()},
            "rows": rows,
        }
        write_json(FILE, facts)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Profile a step of the default run; return 0, or 2 on bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmarks.step_profile", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--record", action="store_true", help=f"write {FILE.name}")
    args = parser.parse_args(argv)
    return run_command(lambda: run(args.record))


if __name__ == "__main__":
    sys.exit(main())
