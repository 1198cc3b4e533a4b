"""Write ``docs/experiments.md`` from the recorded runs: ``python -m tools.pages.experiments``.

In: ``data/reference_runs`` and ``templates/experiments.md``. Out: the page, every figure of which
is computed here; a test compares the page with what this module writes.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from grpo_helpers.carry_over import FOLDER as WORDS_FOLDER
from grpo_helpers.carry_over import (
    HIDDEN_FOLDER,
    WAYS,
    load_points,
    memory_and_rule,
    without_shortcuts,
)
from grpo_helpers.files import project_root, read_json
from grpo_helpers.splits import TEST_NONCE
from grpo_helpers.statistics import seed_spread
from grpo_helpers.thinking_runs import load_ways
from tools.experiments.recorded_runs import (
    FOLDER,
    RUNS,
    TEST_SETS,
    about,
    chosen_checkpoint,
    curves_on_dev,
    items_on_dev,
    items_on_test,
    means_on_dev,
    recorded_folder,
    recorded_of_arm,
    recorded_real_model_runs,
    recorded_runs,
)
from tools.experiments.thinking import OUT, QUESTIONS, SUPERVISED_STEPS
from tools.pages import coverage, real_model, thinking
from tools.pages.command import page_command
from tools.pages.markdown import fill_template, mean_and_range, table

PAGE = project_root() / "docs" / "experiments.md"
ARMS = {
    "GRPO, the four rewards": "seed",
    "GRPO, the format reward only": "format_only",
    "supervised on the gold answers": "gold",
}
LAST_STEPS = 5  # of each log, for the share of groups without a signal


def run_table() -> str:
    """Return the table of all runs: when, what it cost, what it gained on dev."""
    names = [*recorded_runs(), *recorded_real_model_runs()]
    return table([_run_row(name) for name in names])


def _run_row(name: str) -> dict[str, Any]:
    facts = about(name)
    log = pd.DataFrame(recorded_folder(name).log.rows())
    means = means_on_dev(name)

    em = means["em"]
    points = 100 * (em.max() - em.iloc[0])
    minutes = means["train_seconds"].iloc[-1] / 60

    tokens = log["num_tokens"].max()
    has_peak = "peak_memory_gib" in log

    return {
        "run": f"`{name}`",
        "date": facts["date"],
        "total minutes": facts["minutes"],
        "training minutes": f"{minutes:.1f}",
        "thousand tokens": f"{tokens / 1000:.0f}",
        "peak GiB": f"{log['peak_memory_gib'].max():.1f}" if has_peak else "not logged",
        "dev exact match": f"{em.iloc[0]:.3f} -> {em.max():.3f} ({em.idxmax()})",
        "training minutes per point": f"{minutes / points:.2f}" if points > 0 else "no gain",
    }


def missing_runs() -> str:
    """Return the names of the planned runs that are not recorded."""
    recorded = recorded_runs()
    return ", ".join(f"`{name}`" for name in RUNS if name not in recorded)


def control_table() -> str:
    """Return the table of the default run and its controls, as far as they are recorded."""
    rows = []
    for label, arm in ARMS.items():
        if recorded_of_arm(arm):
            rows.append(_control_row(label, arm))
    return table(rows)


def _control_row(label: str, arm: str) -> dict[str, Any]:
    figures: dict[str, list[float]] = defaultdict(list)  # one value per seed

    names = recorded_of_arm(arm)
    for name in names:
        em = means_on_dev(name)["em"]
        figures["dev exact match, best"].append(em.max())
        figures["dev, last"].append(em.iloc[-1])

        tested = _chosen_on_tests(name)
        em = tested.groupby("split")["em"].mean()
        for split in TEST_SETS:
            figures[split.title].append(em[split.key])

        invented = tested[tested["split"] == TEST_NONCE.key]
        choice = without_shortcuts(invented)["choice"]
        figures["choice of two, invented words"].append(choice.mean())

    row: dict[str, Any] = {"same base, same minutes": label, "seeds": len(names)}
    for heading, values in figures.items():
        row[heading] = mean_and_range(values)
    return row


def _chosen_on_tests(name: str) -> pd.DataFrame:
    """Return the item scores of a run's chosen checkpoint on the test sets.

    Where nothing was better, the chosen checkpoint is the base.
    """
    tested = items_on_test(name)
    return tested[tested["checkpoint"] == chosen_checkpoint(tested)]


def control_figures() -> dict[str, str]:
    """Return what the text on the default run and its controls quotes."""
    best_rows = []
    last_rows = []
    for name in recorded_of_arm("seed"):
        grpo = means_on_dev(name)
        best_rows.append(grpo.loc[str(grpo["em"].idxmax())])
        last_rows.append(grpo.iloc[-1])

    grpo_best = pd.DataFrame(best_rows)
    grpo_last = pd.DataFrame(last_rows)

    return {
        "grpo_best": mean_and_range(grpo_best["em"]),
        "grpo_best_seconds": f"{grpo_best['train_seconds'].mean():.0f}",
        "no_signal": f"{100 * _share_without_signal():.0f}",
        "control_minutes": f"{grpo_last['train_seconds'].mean() / 60:.1f}",
        "gold": gold_in_words(),
    }


def gold_in_words() -> str:
    """Return a sentence on how soon supervised training is where GRPO ends; empty without a run."""
    first_rows = []
    for name in recorded_of_arm("gold"):
        first_rows.append(means_on_dev(name).iloc[1])  # after as many prompts as GRPO saw

    if not first_rows:
        return ""

    first = pd.DataFrame(first_rows)
    seconds = first["train_seconds"].mean()
    return (
        f"After as many prompts as GRPO saw in total, which took {seconds:.0f} s, supervised "
        f"training on the gold answers reaches {mean_and_range(first['em'])} on dev."
    )


def _share_without_signal() -> float:
    """Return the share of groups with equal rewards in the last steps of the default runs."""
    means = []
    for name in recorded_of_arm("seed"):
        log = pd.DataFrame(recorded_folder(name).log.step_rows())
        means.append(log["frac_reward_zero_std"].tail(LAST_STEPS).mean())

    return float(np.mean(means))


def words_table(folder: str = WORDS_FOLDER) -> str:
    """Return the table of the trainings on few or many words of each family.

    Args:
        folder: Their folder, among the recorded runs.
    """
    shares = memory_and_rule(load_points(FOLDER / folder))

    if shares.empty:
        return "No training is recorded yet."

    rows = []
    for (way, words), seeds in shares.groupby(["way", "words"], sort=False):
        row = {
            "way": WAYS[str(way)],
            "train words of each family": words,
            "seeds": len(seeds),
            "memory": mean_and_range(seeds["memory"]),
            "rule": mean_and_range(seeds["rule"]),
        }
        rows.append(row)
    return table(rows)


def seed_figures() -> dict[str, str]:
    """Return, in points of exact match on dev, what makes the recorded seeds differ."""
    curves = curves_on_dev()
    without_base = curves.iloc[1:].to_numpy().T  # (seeds, checkpoints)

    questions = items_on_dev("seed_0")["id"].nunique()
    spread = seed_spread(without_base, questions)

    return {
        "seeds": str(curves.shape[1]),
        "by_epoch": f"{spread.by_epoch:.1f}",
        "by_seed": f"{spread.by_seed:.1f}",
        "luck": f"{spread.luck:.1f}",
        "lead": f"{spread.lead:.1f}",
        "of_questions": f"{spread.of_questions:.1f}",
        "winners": ", ".join(map(str, curves.idxmax())),
    }


def bench_table() -> str:
    """Return the table of ``make bench``."""
    rows = []
    for part in read_json(FOLDER / "bench.json").values():
        for target in part["targets"]:
            row = {
                "target": target["target"],
                "figure": target["figure"],
                "reached": "yes" if target["reached"] else "no",
                "date": part["date"],
            }
            rows.append(row)
    return table(rows)


def page() -> str:
    """Return the whole page."""
    ways_to_think = load_ways(OUT)
    return fill_template(
        "experiments.md",
        runs=run_table(),
        missing=missing_runs(),
        words=words_table(),
        hidden_words=words_table(HIDDEN_FOLDER),
        thinking=thinking.ways_table(ways_to_think),
        situations=thinking.situations_table(ways_to_think),
        thinking_questions=QUESTIONS,
        thinking_steps=SUPERVISED_STEPS,
        controls=control_table(),
        coverage=coverage.coverage_table(),
        bench=bench_table(),
        real_dev=real_model.table_on_dev(),
        real_test=real_model.table_on_tests(),
        **control_figures(),
        **seed_figures(),
        **real_model.figures(),
        **read_json(FOLDER / "bench.json")["training"],
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    return page_command("tools.pages.experiments", page, PAGE, argv=argv)


if __name__ == "__main__":
    sys.exit(main())
