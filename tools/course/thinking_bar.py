"""Does a reward for the answer teach to think? ``python -m tools.course.thinking_bar``.

The second part of ``make bar``. Trains the thinking model in three ways under three seeds, as
``tools/experiments/thinking.py`` does, and compares their answers to unseen words. Prints a table
and the targets; exit code 1 if one of them is missed. Three of the targets are the *gate*, which
makes the comparison worth something: without a thought the game cannot be won, with one it can, and
the gold answers do not help.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from grpo_helpers import thinking_runs
from grpo_helpers.command_line import run_command
from grpo_helpers.files import project_root
from grpo_helpers.splits import TEST_UNSEEN_WORDS
from grpo_helpers.thinking_runs import BASE, GREEDY, SAMPLED
from tools.benchmarks.targets import Target, report
from tools.experiments import thinking
from tools.experiments.ways import GOLD, GRPO

WAYS = (GRPO, GOLD, thinking.TAUGHT)
FOLDER = Path("runs") / "bar-thinking"
UNSEEN = TEST_UNSEEN_WORDS.key


@dataclass(frozen=True)
class SeedResult:
    """What one seed reached on unseen words; gains in points of 100, shares from 0 to 1.

    Attributes:
        seed: The seed of training.
        thinks: Share of GRPO's sampled answers with a thought.
        right: Exact match of GRPO's greedy answers.
        gold: Exact match of greedy answers after training on gold answers.
        taught: Exact match of greedy answers after training on true thoughts.
        over_base: GRPO's gain over the base.
        over_base_low: Lower end of its 95 % interval.
        over_gold: GRPO's gain over training on gold answers.
        over_gold_low: Lower end of its 95 % interval.
    """

    seed: int
    thinks: float
    right: float
    gold: float
    taught: float
    over_base: float
    over_base_low: float
    over_gold: float
    over_gold_low: float


def measure(ways: pd.DataFrame, seed: int) -> SeedResult:
    """Return what one seed reached.

    Args:
        ways: The table of :func:`grpo_helpers.thinking_runs.load_ways`.
        seed: The seed.
    """
    own = ways[ways["seed"].isin((seed, thinking_runs.BASE_SEED))]
    right = {way: _share(own, way, GREEDY, "right") for way in (*WAYS, BASE)}
    over_base = thinking_runs.paired_gains(own, GRPO, BASE, UNSEEN, kind=GREEDY)[seed]
    over_gold = thinking_runs.paired_gains(own, GRPO, GOLD, UNSEEN, kind=GREEDY)[seed]
    return SeedResult(
        seed=seed,
        thinks=_share(own, GRPO, SAMPLED, "thinks"),
        right=right[GRPO],
        gold=right[GOLD],
        taught=right[thinking.TAUGHT],
        over_base=100 * (right[GRPO] - right[BASE]),
        over_base_low=100 * over_base.low,
        over_gold=100 * (right[GRPO] - right[GOLD]),
        over_gold_low=100 * over_gold.low,
    )


def _share(ways: pd.DataFrame, way: str, kind: str, name: str) -> float:
    """Return a share of the answers to unseen words of the one training in ``ways``."""
    (share,) = thinking_runs.shares_by_seed(ways, way, UNSEEN, kind)[name]
    return float(share)


def targets(results: Sequence[SeedResult], base: Mapping[str, float]) -> list[Target]:
    """Return the targets.

    Args:
        results: What each seed reached.
        base: The shares of the base's sampled answers to unseen words.
    """
    table = pd.DataFrame(results)
    lows = table[["over_base_low", "over_gold_low"]]
    return [
        Target("gate: right after gold answers, highest", table.gold.max(), "<=", 0.6),
        Target("gate: right after true thoughts, lowest", table.taught.min(), ">=", 0.95),
        Target("gate: base, right without a thought", base["right without"], "<=", 0.6),
        Target("base: share that thinks, sampled", base["thinks"], ">=", 0.4),
        Target("base: share that thinks, sampled", base["thinks"], "<=", 0.6),
        Target("GRPO: share that thinks, lowest", table.thinks.min(), ">=", 0.9),
        Target("GRPO over its base, mean", table.over_base.mean(), ">=", 20, unit="points"),
        Target("GRPO over gold answers, mean", table.over_gold.mean(), ">=", 20, unit="points"),
        Target("95 % intervals, lowest bound", lows.min().min(), ">", 0, unit="points"),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Train, print the table and the targets; return 1 if a target is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.course.thinking_bar", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--recorded", action="store_true", help="measure the recorded runs, train nothing"
    )
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of each training")
    args = parser.parse_args(argv)

    def body() -> int:
        folder = thinking.OUT if args.recorded else project_root() / FOLDER
        if not args.recorded:
            _train(folder, args.threads)

        ways = thinking_runs.load_ways(folder)
        results = [measure(ways, seed) for seed in thinking.SEEDS]
        base = {name: _share(ways, BASE, SAMPLED, name) for name in ("thinks", "right without")}

        print(pd.DataFrame(results).round(3).to_string(index=False), "\n")
        return report(targets(results, base), precision=".3f")

    return run_command(body)


def _train(folder: Path, threads: int) -> None:
    """Train in all ways under all seeds, anew, into a folder."""
    for table in folder.glob("*.csv"):
        table.unlink()

    thinking.make_base(folder)
    for seed in thinking.SEEDS:
        for way in WAYS:
            print(thinking.make(way, seed, threads, folder), flush=True)


if __name__ == "__main__":
    sys.exit(main())
