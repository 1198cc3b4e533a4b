"""Write the table of predicted hours in ``docs/gpu.md``: ``python -m tools.pages.gpu``.

In: the profiles of ``params/`` and the cards that each of them is for. Out: the table between the
marks of the page. A test compares the page with what this module writes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from grpo_helpers.architecture import template_characters
from grpo_helpers.files import project_root, read_json, read_yaml
from grpo_helpers.hours import (
    BEST,
    WORST,
    Work,
    find_card,
    predict_hours,
    spread,
    work_of_profile,
)
from grpo_helpers.memory import GIB, OVERHEAD, longest_prompt, predict_params
from tools.benchmarks.host_time import RECORD
from tools.pages.command import page_command
from tools.pages.markdown import fill_template, table

PAGE = project_root() / "docs" / "gpu.md"
BEGIN = "<!-- hours:begin -->"
END = "<!-- hours:end -->"


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        profile: A folder of ``params/``.
        card: A card of :data:`grpo_helpers.hours.CARDS`.
        short_template: Whether the model's chat template is replaced by one without text of its
            own.
    """

    profile: str
    card: str
    short_template: bool = False


ROWS = (
    Row("small_real", "RTX 3070"),
    Row("t4", "T4"),
    Row("gpu_24gb_mini", "RTX 4090"),
    Row("gpu_24gb", "RTX 4090"),
    Row("gpu_24gb", "RTX 4090", short_template=True),
    Row("gpu_24gb", "RTX 3090"),
    Row("gpu_24gb", "A10G"),
    Row("multi_gpu", "RTX 4090"),
    Row("multi_gpu", "A10G"),
    Row("gpu_80gb", "L40S"),
    Row("gpu_80gb", "A100"),
    Row("gpu_80gb", "H100"),
)


def row_of(row: Row) -> dict[str, str]:
    """Return a row of the table by its columns."""
    work = _work(row.profile, row.short_template)
    card = find_card(row.card)
    ours = predict_hours(work, card)
    engine = predict_hours(work, card, engine=True)

    cards = f"{work.plan.D} x {row.card}" if work.plan.D > 1 else row.card
    note = ", short chat template" if row.short_template else ""
    return {
        "profile": f"`{row.profile}`{note}",
        "card": cards,
        "prompt, tokens": str(work.prompt_tokens),
        "steps": str(work.steps),
        "memory, GiB": f"{_most_memory(row.profile, row.short_template):.0f}",
        "a step, s": spread(ours.best.step_seconds, ours.worst.step_seconds),
        "training, h": spread(ours.best.training, ours.worst.training),
        "dev answers, h": spread(ours.best.dev_answers, ours.worst.dev_answers),
        "notebook 05, h": spread(ours.best.test_answers, ours.worst.test_answers),
        "all, h": f"**{spread(ours.best.total, ours.worst.total)}**",
        "all with an engine, h": spread(engine.best.total, engine.worst.total),
    }


@cache
def _work(profile: str, short_template: bool) -> Work:
    """Return what a run with a profile computes."""
    return work_of_profile(_file(profile), added_characters=0 if short_template else None)


@cache
def _most_memory(profile: str, short_template: bool) -> float:
    """Return the predicted peak of a profile in GiB, with the whole of the overhead."""
    params = read_yaml(_file(profile))
    longest = longest_prompt(params)
    if short_template:
        longest -= template_characters(params["model_name"])

    return (predict_params(_file(profile), longest).peak + OVERHEAD[1]) / GIB


def _file(profile: str) -> Path:
    return project_root() / "params" / profile / "04_train.yaml"


def block() -> str:
    """Return the table and what it rests on, with their marks."""
    text = fill_template(
        "gpu_hours.md",
        rows=table([row_of(row) for row in ROWS]),
        compute_best=f"{100 * BEST.compute:.0f}",
        compute_worst=f"{100 * WORST.compute:.0f}",
        memory_best=f"{100 * BEST.memory:.0f}",
        memory_worst=f"{100 * WORST.memory:.0f}",
        layer_best=f"{1000 * BEST.layer_seconds:.1f}",
        layer_worst=f"{1000 * WORST.layer_seconds:.1f}",
        layer_measured=f"{1000 * read_json(RECORD)['layer_seconds']:.1f}",
    )
    return f"{BEGIN}\n{text}{END}"


def page() -> str:
    """Return the whole page, with its table made anew."""
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    return before + block() + after


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    return page_command("tools.pages.gpu", page, PAGE, argv=argv)


if __name__ == "__main__":
    sys.exit(main())
