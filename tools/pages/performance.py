"""Write ``docs/performance.md``, where the time goes: ``python -m tools.pages.performance``.

In: ``step_profile.json`` and ``bench.json`` of ``data/reference_runs``, and
``templates/performance.md``. Out: the page. A test compares the page with what this module writes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from grpo_helpers.files import project_root, read_json
from grpo_helpers.settings import TrainSettings
from tools.benchmarks import sharing, step_profile
from tools.benchmarks.targets import BENCH_FILE
from tools.pages.command import page_command
from tools.pages.markdown import fill_template, table

PAGE = project_root() / "docs" / "performance.md"


def step_table(recorded: dict[str, Any]) -> str:
    """Return the seconds of a step by part, with their sums."""
    columns = ("TRL", "shared", "floor")
    rows = []
    for row in recorded["rows"]:
        rows.append({"part": row["part"], **{name: f"{row[name]:.2f}" for name in columns}})

    sums = {name: sum(row[name] for row in recorded["rows"]) for name in columns}
    rows.append({"part": "**a step**", **{name: f"**{sums[name]:.2f}**" for name in columns}})
    return table(rows)


def recorded_cases() -> dict[str, Any]:
    """Return the recorded cases of every precision, by name."""
    cases: dict[str, Any] = {}
    for precision in sharing.PRECISIONS:
        for name, case in read_json(BENCH_FILE)[f"sharing, {precision}"].items():
            if isinstance(case, dict):
                cases[name] = case
    return cases


def sharing_table(recorded: dict[str, Any]) -> str:
    """Return seconds, ratio and memory of a step, by prompt length and precision."""
    rows = []
    for name, case in recorded.items():
        seconds, peaks = case["seconds"], case["peak_mib"]
        low, high = case["interval"]
        rows.append(
            {
                "case": name,
                "bare TRL, s": f"{seconds['bare TRL']:.2f}",
                "shared, s": f"{seconds['shared']:.2f}",
                "times faster": f"{case['times_faster']:.2f} [{low:.2f}, {high:.2f}]",
                "peak, MiB": f"{peaks['bare TRL']} -> {peaks['shared']}",
            }
        )
    return table(rows)


def page() -> str:
    """Return the whole page."""
    recorded = read_json(step_profile.FILE)
    default = TrainSettings()
    completions = default.per_device_train_batch_size * default.gradient_accumulation_steps

    return fill_template(
        "performance.md",
        date=recorded["date"],
        gflop_per_second=recorded["gflop_per_second"],
        gflop_trl=recorded["gflop"]["TRL"],
        gflop_shared=recorded["gflop"]["shared"],
        step=step_table(recorded),
        sharing=sharing_table(recorded_cases()),
        completions=completions,
        prompts=completions // default.num_generations,
        completions_each=sharing.MICRO_BATCH * sharing.MICRO_BATCHES,
        tokens_each=sharing.COMPLETION_TOKENS,
        group=sharing.GROUP,
        pairs=sharing.PAIRS,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    return page_command("tools.pages.performance", page, PAGE, argv=argv)


if __name__ == "__main__":
    sys.exit(main())
