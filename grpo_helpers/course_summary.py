"""The result of a run in a few lines: ``grpo-course report RUN``, and the end of ``make run``.

In: the files that notebook 05 leaves in a run folder. Out: text: the checkpoints, the choice, and
the gain on the test sets.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from grpo_helpers.command_line import SUCCESS, program_name, run_command
from grpo_helpers.files import InputError, read_json, resolve_path, show_path
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
        Pairs of a split's title and one comparison: every metric on test, and exact match on
        unseen words, invented words and unseen norms. Empty where notebook 05 has not answered
        the test sets.
    """
    comparisons = [(TEST.title, row) for row in report.get("test_versus_base", [])]

    by_split = report.get("by_split", {})
    for split in UNSEEN_SPLITS:
        for row in by_split.get(split.title, []):
            if row["metric"] == "em":
                comparisons.append((split.title, row))
    return comparisons


# -- from the shell --------------------------------------------------------------------------------


def report_run(run: str) -> int:
    """Print the summary of a run and where its page is; return the exit code.

    Raises:
        InputError: There is no such run, or notebook 05 has not evaluated it.
    """
    run_dir = resolve_path(run)
    if not run_dir.is_dir():
        raise InputError(f"no run folder {run}: give the folder of a run, runs/default for one")

    for file in (SCORES_FILE, BEST_FILE):
        if not (run_dir / file).is_file():
            raise InputError(f"{run} has no {file}: run notebook 05 on it first")

    print(summary(run_dir))
    print(f"\nThe page with every answer: {show_path(run_dir / 'report.html')}")
    return SUCCESS


def main(argv: Sequence[str] | None = None) -> int:
    """Print the result of a run; return 0, or 2 on bad input."""
    parser = argparse.ArgumentParser(
        prog=program_name("course_summary", "report"),
        description="Print the result of a run that notebook 05 has evaluated.",
    )
    parser.add_argument(
        "run", nargs="?", default="runs/default", help="a run folder (default: runs/default)"
    )
    args = parser.parse_args(argv)
    return run_command(lambda: report_run(args.run))


if __name__ == "__main__":
    sys.exit(main())
