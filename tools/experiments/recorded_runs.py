"""The runs of ``data/reference_runs``: which there are, what each changes, and how to read one.

In: ``data/reference_runs/<run>/`` (settings, log, scores of every dev item, some completions, the
command that made it; no weights). Out: tables and log rows, as :mod:`grpo_helpers.recorded` reads
them. This module imports no other tool: what makes runs, what publishes them and what writes pages
about them all import it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from grpo_helpers import recorded
from grpo_helpers.architecture import ATTENTION
from grpo_helpers.files import project_root
from grpo_helpers.recorded import ABOUT_FILE, RecordedRun
from grpo_helpers.splits import TEST_SPLITS

FOLDER = project_root() / "data" / "reference_runs"
TEST_SCORES_FILE = recorded.TEST_SCORES_FILE
CLOCK_FILE = "clock.json"  # of a supervised control: seconds of training at each save
SEEDS = range(3)  # of the default run, of its controls, and of `make bar`
TEST_SETS = TEST_SPLITS  # what recorded runs answer
GROUP_SIZES = (2, 4, 16)  # the default run has 8
TEMPERATURES = (0.5, 1.0)  # the default run has 0.7
RATES = (3e-4,)  # the default run has 1e-3
BETA = 0.1  # weight of the KL term; the default run has none
ITERATIONS = 4  # optimizer steps on the same samples; the default run makes one

# The steps of the default run, and of one of its epochs: other group sizes have other epochs.
SAME_STEPS: dict[str, Any] = {"max_steps": 72, "save_strategy": "steps", "save_steps": 24}

# Other weights than those of the two presets.
FORMAT_ONLY_WEIGHTS = {"format": 1.0}
EXACT_MATCH_WEIGHTS = {"em": 1.0}
QUOTED_WEIGHTS = {"format": 1 / 6, "quoted": 1 / 3, "rouge1": 1 / 2, "bertscore": 1 / 3}


@dataclass(frozen=True)
class PlannedRun:
    """What a recorded run changes in the default one.

    Attributes:
        changed: Parameters of notebook 04 that differ from the default run's.
        labels: ``gold`` for a supervised run on the gold answers; empty for GRPO.
        has_tests: Whether its chosen checkpoint also answers the test sets.
        run_name: Its folder in ``runs/``, where another tool makes the same run; empty for its own.
    """

    changed: dict[str, Any] = field(default_factory=dict)
    labels: str = ""
    has_tests: bool = False
    run_name: str = ""

    @property
    def has_own_weights(self) -> bool:
        """Whether it weighs the rewards itself, instead of naming a preset."""
        return isinstance(self.changed.get("reward_weights"), dict)


def acceptance_run_name(seed: int) -> str:
    """Return the folder in ``runs/`` of one seed of ``make bar`` (``tools.course.acceptance``)."""
    return f"bar-seed-{seed}"


def _default_and_controls() -> dict[str, PlannedRun]:
    runs = {}

    for seed in SEEDS:
        name = acceptance_run_name(seed)
        runs[f"seed_{seed}"] = PlannedRun({"seed": seed}, has_tests=True, run_name=name)

    for seed in SEEDS:
        runs[f"gold_{seed}"] = PlannedRun({"seed": seed}, "gold", has_tests=True)

    for seed in SEEDS:
        changed = {"reward_weights": FORMAT_ONLY_WEIGHTS, "seed": seed}
        runs[f"format_only_{seed}"] = PlannedRun(changed, has_tests=True)

    return runs


def _other_settings() -> dict[str, PlannedRun]:
    changed: dict[str, Any]
    runs = {}

    for temperature in TEMPERATURES:
        runs[f"temperature_{temperature}"] = PlannedRun({"temperature": temperature})

    for rate in RATES:
        runs[f"rate_{rate}"] = PlannedRun({"learning_rate": rate})

    runs[f"beta_{BETA}"] = PlannedRun({"beta": BETA})
    runs[f"quoted_beta_{BETA}"] = PlannedRun({"reward_weights": QUOTED_WEIGHTS, "beta": BETA})
    runs[f"iterations_{ITERATIONS}"] = PlannedRun({"num_iterations": ITERATIONS} | SAME_STEPS)

    runs["em_only"] = PlannedRun({"reward_weights": EXACT_MATCH_WEIGHTS}, has_tests=True)
    runs["weights_code"] = PlannedRun({"reward_weights": "code"})

    attention = ",".join(ATTENTION)
    runs["attention_only"] = PlannedRun({"lora_target_modules": attention}, has_tests=True)

    for group_size in GROUP_SIZES:
        changed = {"num_generations": group_size} | SAME_STEPS
        runs[f"generations_{group_size}"] = PlannedRun(changed)

    return runs


RUNS: dict[str, PlannedRun] = {
    "quoted": PlannedRun({"reward_weights": QUOTED_WEIGHTS}),
    **_default_and_controls(),
    **_other_settings(),
}

# The real pretrained model: what each run changes in the settings of tools/experiments/gemma.py.
REAL_MODEL_RUNS: dict[str, dict[str, Any]] = {
    "gemma_270m": {},
    "gemma_270m_rate_0.0003": {"learning_rate": 3e-4},
}


def is_recorded(name: str) -> bool:
    """Return whether a run is recorded already."""
    return (FOLDER / name / ABOUT_FILE).is_file()


def recorded_runs() -> list[str]:
    """Return the names of the recorded runs of the embedded model."""
    return [name for name in RUNS if is_recorded(name)]


def recorded_of_arm(arm: str) -> list[str]:
    """Return the recorded runs of an arm (``seed``, ``gold``, ``format_only``), seed by seed."""
    names = [f"{arm}_{seed}" for seed in SEEDS]
    return [name for name in names if is_recorded(name)]


def recorded_real_model_runs() -> list[str]:
    """Return the names of the recorded runs of the real pretrained model."""
    return [name for name in REAL_MODEL_RUNS if is_recorded(name)]


def recorded_folder(name: str) -> RecordedRun:
    """Return the folder of a recorded run: its settings and its log are those of the run."""
    return RecordedRun(FOLDER / name)


def about(name: str) -> dict[str, Any]:
    """Return how a run was made: its command, date, minutes, and what it changed."""
    return recorded_folder(name).about


def means_on_dev(name: str) -> pd.DataFrame:
    """Return the mean of every metric on dev, one row per checkpoint."""
    return recorded_folder(name).dev_means


def curves_on_dev() -> pd.DataFrame:
    """Return exact match on dev of the recorded default runs.

    Returns:
        One row per checkpoint and one column per run.
    """
    return pd.DataFrame({name: means_on_dev(name)["em"] for name in recorded_of_arm("seed")})


def items_on_dev(name: str) -> pd.DataFrame:
    """Return the scores of every dev item, one row per checkpoint and item."""
    return recorded_folder(name).dev_items


def items_on_test(name: str) -> pd.DataFrame:
    """Return the scores of every test item, one row per split, checkpoint and item.

    The chosen checkpoint's rows come last in each split; the base's come first.
    """
    return recorded_folder(name).test_items


def chosen_checkpoint(tested: pd.DataFrame) -> str:
    """Return the checkpoint chosen on dev, from a run's :func:`items_on_test`."""
    return recorded.chosen_checkpoint(tested)
