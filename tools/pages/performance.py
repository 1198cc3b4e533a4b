"""Write ``docs/performance.md``, where the time goes: ``python -m tools.pages.performance``.

In: ``step_profile.json``, ``bench.json``, ``course_seconds.json``, ``memory_cpu.csv`` and the log
of ``seed_0`` in ``data/reference_runs``, and ``templates/performance.md``. Out: the page. A test
compares the page with what this module writes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import pandas as pd

from grpo_helpers.files import project_root, read_json
from grpo_helpers.run_folder import RunFolder
from grpo_helpers.settings import TrainSettings
from tools.benchmarks import (
    alternatives,
    growth,
    packed_row,
    sharing,
    step_profile,
    training,
)
from tools.benchmarks.pairs import TimesFaster
from tools.benchmarks.targets import BENCH_FILE
from tools.course import seconds as course_seconds
from tools.experiments.recorded_runs import FOLDER
from tools.pages.command import page_command
from tools.pages.markdown import fill_template, table

PAGE = project_root() / "docs" / "performance.md"
MIB = 1024**2
MEASURED = FOLDER / "memory_cpu.csv"  # of tools/benchmarks/memory_probe.py
SETTING = (
    "model",
    "B",
    "S",
    "A",
    "D",
    "prompt_tokens",
    "completion_tokens",
    "gradient_checkpointing",
)
GROWING = {  # what grows -> its column
    "completions of a micro-batch, B": "B",
    "micro-batches of a round, S": "S",
    "prompt tokens": "prompt_tokens",
    "completion tokens": "completion_tokens",
    "processes, D": "D",
}


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
        rows.append(
            {
                "case": name,
                "bare TRL, s": f"{seconds['bare TRL']:.2f}",
                "shared, s": f"{seconds['shared']:.2f}",
                "times faster": ratio_text(case),
                "peak, MiB": f"{peaks['bare TRL']} -> {peaks['shared']}",
            }
        )
    return table(rows)


def ways_table(recorded: dict[str, Any]) -> str:
    """Return the seconds of a step in each way, and how many times faster ours is."""
    rows = []
    for way, figures in recorded["steps"].items():
        ratio = "" if way == training.OURS else ratio_text(figures)
        seconds = f"{figures['seconds']:.2f}"
        rows.append({"way": way, "a step, s": seconds, "ours is times faster": ratio})
    return table(rows)


def ratio_text(figures: dict[str, Any]) -> str:
    """Return a recorded ratio with its interval."""
    low, high = figures["interval"]
    return TimesFaster(figures["times_faster"], low, high).text


def growth_table(curves: dict[str, Any]) -> str:
    """Return seconds and growth exponent of each way, by what grows."""
    rows = []
    for size, curve in curves.items():
        row = {"what grows": size, "from, over, to": ", ".join(map(str, curve["sizes"]))}
        for way in growth.WAYS:
            seconds = ", ".join(f"{value:.2f}" for value in curve["seconds"][way])
            row[f"{way}, s"] = seconds
            row[f"{way}, exponent"] = f"{curve['exponent'][way]:.2f}"
        rows.append(row)
    return table(rows)


def measured_series(measured: pd.DataFrame, knob: str) -> pd.DataFrame:
    """Return the measured settings in which one knob alone varies, in its order.

    Args:
        measured: A row per setting; the first one is where every series starts, but for S.
        knob: A column.
    """
    start = measured.iloc[0]
    if knob == "S":  # needs passes to fill; elsewhere a step has one or two
        start = measured[measured["A"] == measured["A"].max()].iloc[0]

    fixed = [name for name in SETTING if name != knob]
    is_alike = (measured[fixed] == start[fixed]).all(axis=1)
    return measured[is_alike].sort_values(knob)


def bytes_table(measured: pd.DataFrame) -> str:
    """Return the measured bytes of sampling and of the backward pass, by what grows."""
    rows = []
    for name, knob in GROWING.items():
        series = measured_series(measured, knob)
        generate = series["allocated_generate"] / MIB
        backward = series["allocated_backward"] / MIB
        rows.append(
            {
                "what grows": name,
                "from, over, to": ", ".join(map(str, series[knob])),
                "generate, MiB": ", ".join(f"{mib:.0f}" for mib in generate),
                "backward, MiB": ", ".join(f"{mib:.0f}" for mib in backward),
                "a step, s": ", ".join(f"{seconds:.2f}" for seconds in series["seconds"]),
            }
        )
    return table(rows)


def seconds_table(recorded: dict[str, float], what: str) -> str:
    """Return seconds by notebook or by part, with their sum."""
    rows = []
    for name, value in recorded.items():
        rows.append({what: name.replace("_", " "), "seconds": f"{value:.1f}"})
    rows.append({what: "**together**", "seconds": f"**{sum(recorded.values()):.1f}**"})
    return table(rows)


def finished_share(log: Sequence[dict[str, Any]]) -> float:
    """Return which share of the sampled row-steps belongs to rows that have finished.

    A round takes as many steps as its longest completion has tokens, for every row.

    Args:
        log: The step rows of a run's log; lengths are means over the rounds of a step.
    """
    written = sum(row["completions/mean_length"] for row in log)
    taken = sum(row["completions/max_length"] for row in log)
    return 1 - written / taken


def what_is_left(profile: dict[str, Any], bench: dict[str, Any]) -> dict[str, str]:
    """Return the texts about what could still be saved."""
    log = RunFolder(FOLDER / "seed_0").log.step_rows()
    finished = finished_share(log)
    shared = {row["part"]: row["shared"] for row in profile["rows"]}
    writing = shared["write completions"] / sum(shared.values())
    tried = bench["alternatives"]

    return {
        "finished": f"{finished:.1%}",
        "finished_of_step": f"{finished * writing:.1%}",
        "two_rounds": ratio_text(tried[alternatives.TWO_ROUNDS]),
        "merged": ratio_text(tried[alternatives.MERGED]),
        "tried_pairs": str(tried["pairs"]),
        "packed": ratio_text(bench["packed row"]),
        "packed_seconds": f"{bench['packed row']['seconds'][packed_row.PACKED]:.3f}",
        "cache_seconds": f"{bench['packed row']['seconds'][packed_row.CACHE]:.3f}",
        "packed_tokens": str(packed_row.WORK.prompt_tokens),
    }


def course_texts() -> dict[str, Any]:
    """Return the texts about the minutes of the course."""
    recorded = read_json(course_seconds.FILE)
    parts = recorded["parts of notebook 05"]
    longest_first = dict(sorted(parts.items(), key=lambda part: -part[1]))

    return {
        "course_date": recorded["date"],
        "notebooks": seconds_table(recorded["notebooks"], "notebook"),
        "parts": seconds_table(longest_first, "part of notebook 05"),
        "dev_again": f"{parts['answering dev']:.1f}",
        "asked": recorded["pairs asked"],
        "encoded": recorded["pairs encoded"],
        "bertscore": f"{parts[course_seconds.BERTSCORE]:.1f}",
    }


def page() -> str:
    """Return the whole page."""
    recorded = read_json(step_profile.FILE)
    bench = read_json(BENCH_FILE)
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
        half_of_them=completions // 2,
        prompts=completions // default.num_generations,
        completions_each=sharing.MICRO_BATCH * sharing.MICRO_BATCHES,
        tokens_each=sharing.COMPLETION_TOKENS,
        group=sharing.GROUP,
        pairs=sharing.PAIRS,
        ways=ways_table(bench["training"]),
        way_pairs=bench["training"]["pairs"],
        growth=growth_table(bench["growth"]["curves"]),
        bytes=bytes_table(pd.read_csv(MEASURED)),
        **what_is_left(recorded, bench),
        **course_texts(),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    return page_command("tools.pages.performance", page, PAGE, argv=argv)


if __name__ == "__main__":
    sys.exit(main())
