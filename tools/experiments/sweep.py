"""Train at two temperatures and two learning rates: ``python -m tools.experiments.sweep``.

In: nothing; a run that exists is not made again, so an interrupted sweep can be resumed. Out:
``data/reward_lab/curves.json`` with what each run logged and its dev scores, for notebook 02.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from typing import Any

from grpo_helpers.command_line import run_command
from grpo_helpers.files import project_root, write_json
from grpo_helpers.run_folder import RunFolder
from tools.course.run import run_course
from tools.experiments.recorded_runs import RATES, TEMPERATURES, sweep_run_name
from tools.experiments.reward_lab import FOLDER, describe_making, mean_scores_on_dev

LAST_CHECKPOINT = "epoch_5"
LOGGED = (
    "reward",
    "rewards/em_reward/mean",
    "rewards/format_reward/mean",
    "entropy",
    "frac_reward_zero_std",
    "grad_norm",
)


def make_run(temperature: float, rate: float) -> RunFolder:
    """Train with one temperature and learning rate if not done yet; return the run folder."""
    name = sweep_run_name(temperature, rate)
    run = RunFolder(project_root() / "runs" / name)
    if LAST_CHECKPOINT not in run.checkpoints():
        changes = {"temperature": temperature, "learning_rate": rate}
        run_course("default", name, ("04_train",), changes)
    return run


def curves_of(run: RunFolder) -> dict[str, Any]:
    """Return what notebook 02 draws of one finished run: settings, log and dev scores."""
    parameters = run.settings
    log = run.log.step_rows()

    logged = {}
    for key in LOGGED:
        logged[key] = [round(row[key], 4) for row in log]

    return {
        "temperature": parameters["temperature"],
        "learning_rate": parameters["learning_rate"],
        "step": [row["step"] for row in log],
        "log": logged,
        "dev": mean_scores_on_dev(run),
    }


def sweep() -> dict[str, Any]:
    """Make every run of the sweep and return its curves."""
    pairs = itertools.product(TEMPERATURES, sorted(RATES, reverse=True))
    runs = [make_run(temperature, rate) for temperature, rate in pairs]
    curves = [curves_of(run) for run in runs]
    return describe_making("sweep", runs[-1].settings) | {"runs": curves}


def main(argv: Sequence[str] | None = None) -> int:
    """Write the file; return 0."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.experiments.sweep", description=__doc__.splitlines()[0]
    )
    parser.parse_args(argv)

    def body() -> int:
        print(write_json(FOLDER / "curves.json", sweep()))
        return 0

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
