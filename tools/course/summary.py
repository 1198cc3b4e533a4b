"""What ``make run`` prints at its end: the checkpoints, the choice, and the gain on the test sets.

In: the files that notebook 05 leaves in a run folder. Out: text.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from grpo_helpers.files import read_json
from grpo_helpers.run_folder import BEST_FILE, SCORES_FILE
from grpo_helpers.splits import TEST, UNSEEN_SPLITS


def summary(run_dir: Path) -> str:
    """Return the table of checkpoints, the chosen one, and its comparisons with the base."""
    import pandas as pd

    from grpo_helpers.report import choice_lines
    from grpo_helpers.selection import Choice

    table = pd.read_csv(run_dir / SCORES_FILE)
    report = read_json(run_dir / BEST_FILE)
    choice = Choice.from_dict(report)
    lines = [
        table.round(4).to_string(index=False),
        "(notebook 05, section 1, explains the columns)",
        "",
    ]

    if choice.base_is_best:
        lines.append("Best on dev: the base model itself; training did not help.")
        lines.append(choice_lines(choice))
        return "\n".join(lines)

    lines.append(f"On dev. {choice_lines(choice)}")
    for split, row in comparisons_on_tests(report):
        lines.append(_comparison_line(split, row))
    return "\n".join(lines)


def _comparison_line(split: str, row: dict[str, Any]) -> str:
    gain = 100 * row["difference"]
    low = 100 * row["low"]
    high = 100 * row["high"]
    return (
        f"On {split}, {row['metric']}: {row['reference_mean']:.3f} -> {row['mean']:.3f} "
        f"({gain:+.1f} points, 95 % interval {low:+.1f} to {high:+.1f})"
    )


def comparisons_on_tests(report: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return the comparisons with the base that are worth reporting.

    Args:
        report: The content of ``best_checkpoint.json``.

    Returns:
        Pairs of a split's title and one comparison: every metric on test, and choice accuracy on
        the splits with words that training never shows. Empty where notebook 05 has not answered
        the test sets.
    """
    comparisons = [(TEST.title, row) for row in report.get("test_versus_base", [])]

    by_split = report.get("by_split", {})
    for split in UNSEEN_SPLITS:
        for row in by_split.get(split.title, []):
            if row["metric"] == "choice":
                comparisons.append((split.title, row))
    return comparisons
