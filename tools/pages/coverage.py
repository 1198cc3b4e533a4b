"""The section of ``docs/experiments.md`` on pass@k: what training makes likely, and what it loses.

In: the tables of ``data/reference_runs/coverage``. Out: one table, and the figures that the text
quotes.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from grpo_helpers.coverage import (
    COVERAGE_FOLDER,
    checkpoints_of,
    covered,
    load_coverage,
    pass_at,
    questions_of,
    silent_groups,
)
from grpo_helpers.settings import TrainSettings
from grpo_helpers.splits import DEV, TEST_UNSEEN_WORDS
from grpo_helpers.statistics import paired_bootstrap
from tools.experiments.recorded_runs import FOLDER
from tools.pages.markdown import table

SAMPLES = (1, 4, 16, 64)  # k
MANY = SAMPLES[-1]
DEFAULT_RUN = "seed_0"  # every checkpoint of it is shown, of other runs the last


def coverage_table() -> str:
    """Return pass@k of the base, of every epoch of the default run, and of other runs' ends."""
    recorded = load_coverage(FOLDER / COVERAGE_FOLDER)
    if DEFAULT_RUN not in recorded:
        return "Nothing is recorded yet."

    default_run = recorded.pop(DEFAULT_RUN)
    base, *epochs = checkpoints_of(default_run)
    rows = [_row("base", default_run, base)]
    for epoch in epochs:
        rows.append(_row(f"`{DEFAULT_RUN}`, {epoch}", default_run, epoch))
    for name, measured in recorded.items():
        last = checkpoints_of(measured)[-1]
        rows.append(_row(f"`{name}`, {last}", measured, last))
    return table(rows)


def _row(label: str, measured: pd.DataFrame, checkpoint: str) -> dict[str, Any]:
    """Return the row of one checkpoint.

    Args:
        label: What the row is called.
        measured: The table of its run.
        checkpoint: The checkpoint.
    """
    dev = questions_of(measured, DEV)
    words = questions_of(measured, TEST_UNSEEN_WORDS)

    row: dict[str, Any] = {"checkpoint": label}
    for k in SAMPLES:
        row[f"pass@{k}, dev"] = f"{pass_at(k, dev[checkpoint]):.3f}"
    row[f"pass@{MANY} over the base, points"] = _over_the_base(dev, checkpoint)

    group_size = TrainSettings.num_generations
    all_right, all_wrong = silent_groups(group_size, dev[checkpoint])
    row[f"all {group_size} right"] = f"{all_right:.3f}"
    row[f"all {group_size} wrong"] = f"{all_wrong:.3f}"

    for k in (1, MANY):
        row[f"pass@{k}, unseen words"] = f"{pass_at(k, words[checkpoint]):.3f}"
    return row


def _over_the_base(questions: pd.DataFrame, checkpoint: str) -> str:
    """Return what training added to pass@k for the largest k, with its 95 % interval."""
    base = checkpoints_of(questions)[0]
    if checkpoint == base:
        return "-"

    after = covered(MANY, questions[checkpoint])
    before = covered(MANY, questions[base])
    low, high = paired_bootstrap(after.tolist(), before.tolist())
    difference = after.mean() - before.mean()
    return f"{100 * difference:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
