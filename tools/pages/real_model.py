"""The section of ``docs/experiments.md`` on the real pretrained model.

In: the recorded runs of ``tools/experiments/gemma.py``. Out: two tables, and the figures that the
text quotes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from grpo_helpers.health import EXACT_MATCH, change_of
from grpo_helpers.questions import CORRECTION, SELECTION
from grpo_helpers.scoring import scores_from_table
from grpo_helpers.selection import compare
from grpo_helpers.splits import TEST, Split
from grpo_helpers.statistics import Comparison, holm, paired_bootstrap
from tools.experiments.recorded_runs import (
    TEST_SETS,
    about,
    chosen_checkpoint,
    items_on_dev,
    items_on_test,
    means_on_dev,
    recorded_folder,
    recorded_real_model_runs,
)
from tools.pages.markdown import table

STEPS = 10  # at either end of a run, whose mean is quoted


def mean_and_interval(values: Sequence[float]) -> str:
    """Return the mean of ``values`` with its 95 % interval over the questions.

    >>> mean_and_interval([1.0, 1.0])
    '1.000 [1.000, 1.000]'
    """
    zeros = [0.0] * len(values)
    low, high = paired_bootstrap(values, zeros)
    return f"{np.mean(values):.3f} [{low:.3f}, {high:.3f}]"


def table_on_dev() -> str:
    """Return the table of all checkpoints on dev; base and warm start are the same in all runs."""
    rows = []
    for number, run in enumerate(recorded_real_model_runs()):
        is_first_run = number == 0
        for checkpoint in scores_from_table(items_on_dev(run)):
            is_own = checkpoint.startswith("step")
            if is_own or is_first_run:
                rows.append(_dev_row(run, checkpoint))
    return table(rows)


def _dev_row(run: str, checkpoint: str) -> dict[str, Any]:
    items = items_on_dev(run)
    items = items[items["checkpoint"] == checkpoint]
    by_type = items.groupby("question_type")["em"].mean()
    means = means_on_dev(run).loc[checkpoint]

    is_own = checkpoint.startswith("step")
    return {
        "learning rate": _learning_rate(run) if is_own else "-",
        "checkpoint": checkpoint,
        "dev exact match": mean_and_interval(items["em"].tolist()),
        SELECTION: f"{by_type[SELECTION]:.3f}",
        CORRECTION: f"{by_type[CORRECTION]:.3f}",
        "choice": f"{means['choice']:.3f}",
        "format": f"{means['format']:.3f}",
        "ROUGE-1": f"{means['rouge1']:.3f}",
        "training minutes": f"{means['train_seconds'] / 60:.1f}",
    }


def _learning_rate(run: str) -> float:
    return about(run)["changed"]["learning_rate"]


def table_on_tests() -> str:
    """Return the table of base, warm start and each run's chosen checkpoint on the test sets."""
    rows = []
    for run in recorded_real_model_runs():
        tested = items_on_test(run)
        answered = set(tested["split"])
        for split in TEST_SETS:
            if split.key not in answered:
                continue
            rows.append({"learning rate": _learning_rate(run), **_test_row(tested, split)})
    return table(rows)


def _test_row(tested: pd.DataFrame, split: Split) -> dict[str, Any]:
    chosen = chosen_checkpoint(tested)
    scores = scores_from_table(tested[tested["split"] == split.key])
    gain = compare(scores, chosen, "warm", "em")
    low, high = 100 * gain.low, 100 * gain.high
    em = {checkpoint: metrics["em"] for checkpoint, metrics in scores.items()}

    return {
        "split": split.title,
        "questions": gain.items,
        "base": mean_and_interval(em["base"]),
        "warm start": mean_and_interval(em["warm"]),
        "chosen": f"{mean_and_interval(em[chosen])} ({chosen})",
        "GRPO added, points": f"{100 * gain.difference:+.1f} [{low:+.1f}, {high:+.1f}]",
    }


def figures() -> dict[str, str]:
    """Return what the text quotes of the first run: its settings, its warm start, its gain."""
    run = recorded_real_model_runs()[0]
    means = means_on_dev(run)
    tested = items_on_test(run)
    chosen = chosen_checkpoint(tested)

    on_test = scores_from_table(tested[tested["split"] == TEST.key])
    points = 100 * compare(on_test, chosen, "warm", "em").difference
    seconds = means["train_seconds"]
    minutes = (seconds[chosen] - seconds["warm"]) / 60

    return {
        "real_questions": str(items_on_dev(run)["id"].nunique()),
        "real_base_format": f"{means['format']['base']:.3f}",
        "real_warm_points": f"{100 * means['em']['warm']:.1f}",
        "real_points": f"{points:.1f}",
        "real_minutes": f"{minutes:.0f}",
        "real_cost": f"{minutes / points:.1f}",
        "real_dev_points": f"{100 * (means['em'][chosen] - means['em']['warm']):.1f}",
        **_first_and_last("real_train", run, EXACT_MATCH),
        **_first_and_last("fast", recorded_real_model_runs()[1], "reward"),
        **_corrected_in_text(),
        **_settings_in_text(run),
    }


def _first_and_last(name: str, run: str, key: str) -> dict[str, str]:
    """Return the mean of a logged quantity over the first ten steps, and over the last ten."""
    values = [row[key] for row in recorded_folder(run).log.step_rows()]
    change = change_of(values, STEPS)
    return {f"{name}_first": f"{change.first:.3f}", f"{name}_last": f"{change.last:.3f}"}


def comparisons_with_warm_start() -> list[Comparison]:
    """Return what notebook 06 compares: each run's chosen checkpoint with its start, on each set.

    The first run's comes first, its test set before the others.
    """
    made = []
    for run in recorded_real_model_runs():
        tested = items_on_test(run)
        chosen = chosen_checkpoint(tested)
        sets = [tested[tested["split"] == split.key] for split in TEST_SETS]
        for items in [*sets, items_on_dev(run)]:
            if len(items):
                made.append(compare(scores_from_table(items), chosen, "warm", "em"))
    return made


def _corrected_in_text() -> dict[str, str]:
    made = comparisons_with_warm_start()
    on_test, *others = holm([comparison.p_value for comparison in made])
    return {
        "real_comparisons": str(len(made)),
        "real_others": str(len(others)),
        "real_wins": str(made[0].wins),
        "real_losses": str(made[0].losses),
        "real_holm": f"{on_test:.3f}",
        "real_other_holm": f"{min(others):.2f}",
    }


def _settings_in_text(run: str) -> dict[str, str]:
    warm_start = about(run)["warm_start"]
    parameters = recorded_folder(run).settings
    completions = (
        parameters["per_device_train_batch_size"] * parameters["gradient_accumulation_steps"]
    )
    return {
        "warm_epochs": str(warm_start["epochs"]),
        "warm_items": str(warm_start["items"]),
        "warm_minutes": str(warm_start["minutes"]),
        "real_steps": str(parameters["max_steps"]),
        "real_completions": str(completions),
        "real_group": str(parameters["num_generations"]),
        "real_temperature": str(parameters["temperature"]),
    }
