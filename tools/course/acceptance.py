"""The bar: does GRPO teach the embedded model, on sentences it has never seen? ``python -m tools.course.acceptance`` (``make bar``).

Runs notebooks 04 and 05 with the default parameters under three seeds, takes the checkpoint chosen on dev, and
compares it with the untrained base on **test**. Prints the table; exit 1 where a line of the bar is not reached.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from grpo_helpers.data import load_items
from grpo_helpers.files import project_root
from grpo_helpers.questions import SELECTION
from grpo_helpers.run_folder import BASE
from grpo_helpers.scoring import read_answers
from tools.course.run import run_course
from tools.tiny_model.copying import copy_share

SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Row:
    """One seed's figures on test; gains are in points of 100."""

    seed: int
    best: str
    em_base: float
    em_best: float
    em_gain: float
    em_low: float
    choice_gain: float
    format_base: float
    choice_base: float
    copy_base: float


def measure(run_dir: Path, seed: int) -> Row:
    """Return the figures of one finished run."""
    report = json.loads((run_dir / "best_checkpoint.json").read_text(encoding="utf-8"))
    labels = load_items("data/embedded/test.json")
    items = pd.read_csv(run_dir / "test_results" / "item_scores.csv")
    base = items[items.checkpoint == BASE]
    best = items[items.checkpoint == report["best_checkpoint"]]
    gains = {row["metric"]: row for row in report["test_versus_base"]}
    answers = read_answers(run_dir / "test_results" / "inference_epoch0.json", labels)
    return Row(
        seed,
        report["best_checkpoint"],
        base.em.mean(),
        best.em.mean(),
        100 * gains["em"]["difference"],
        100 * gains["em"]["low"],
        100 * gains["choice"]["difference"],
        base.format.mean(),
        base[base.question_type == SELECTION].choice.mean(),
        copy_share(answers, labels),
    )


def verdicts(rows: list[Row]) -> list[tuple[str, float, bool]]:
    """Return (line of the bar, figure, whether it is reached)."""
    em, choice = [r.em_gain for r in rows], [r.choice_gain for r in rows]
    return [
        ("exact match gain on test, mean >= 25 points", float(np.mean(em)), np.mean(em) >= 25),
        ("exact match gain, lowest seed >= 15 points", min(em), min(em) >= 15),
        ("its 95 % interval, lowest bound > 0", min(r.em_low for r in rows), min(r.em_low for r in rows) > 0),
        ("choice accuracy gain on test, mean >= 20 points", float(np.mean(choice)), np.mean(choice) >= 20),
        ("base: format rate >= .8", min(r.format_base for r in rows), min(r.format_base for r in rows) >= 0.8),
        ("base: choice accuracy on two options >= .4", min(r.choice_base for r in rows),
         min(r.choice_base for r in rows) >= 0.4),
        ("base: choice accuracy on two options <= .65", max(r.choice_base for r in rows),
         max(r.choice_base for r in rows) <= 0.65),
        ("base: unseen sentences copied >= .98", min(r.copy_base for r in rows),
         min(r.copy_base for r in rows) >= 0.98),
    ]  # fmt: skip


def main() -> int:
    """Run the seeds, print the table and the verdicts; return 1 where the bar is not reached."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--measure-only", action="store_true", help="measure the runs that are there already"
    )
    args = parser.parse_args()
    rows = []
    for seed in SEEDS:
        name = f"bar-seed-{seed}"
        if not args.measure_only:
            run_course("default", name, ("04_train", "05_evaluate_and_select"), {"seed": seed})
        rows.append(measure(project_root() / "runs" / name, seed))
    print(pd.DataFrame(rows).round(3).to_string(index=False), "\n")
    lines = verdicts(rows)
    for text, figure, reached in lines:
        print(f"{'reached' if reached else 'MISSED '}  {text}: {figure:.3f}")
    return 0 if all(reached for *_, reached in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
