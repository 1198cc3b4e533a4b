"""Write ``docs/guess.md``: two runs, one of them gamed. ``python -m tools.pages.guess``.

In: the recorded runs *quoted* and *seed_0*, and ``templates/guess.md``. Out: the page and its two
figures. The page first shows of both runs what everybody looks at, the reward, and hides the rest
behind a fold, so that a reader can decide before looking.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from grpo_helpers.data import load_items
from grpo_helpers.files import project_root, read_json
from grpo_helpers.health import Change, change_of
from grpo_helpers.plots import SETTINGS, save_figure, smoothed, use_course_style
from grpo_helpers.questions import CORRECTION
from grpo_helpers.run_folder import series
from tools.experiments.recorded_runs import recorded_folder
from tools.pages.command import page_command
from tools.pages.markdown import fill_template, table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DOCS = project_root() / "docs"
PAGE = DOCS / "guess.md"
REWARD_FIGURE = DOCS / "guess-reward.png"
MATCH_FIGURE = DOCS / "guess-exact-match.png"

GAMED, HONEST = "quoted", "seed_0"
RUNS = {"A": GAMED, "B": HONEST}
SHOWN = {  # what a log says without an answer having been read, and what the table calls it
    "reward": "reward",
    "rewards/format_reward/mean": "format",
    "rewards/rouge1_reward/mean": "ROUGE-1",
    "rewards/bertscore_reward/mean": "BERTScore",
    "completions/mean_length": "tokens per answer",
    "frac_reward_zero_std": "groups without a signal",
}
EXAMPLES = 2  # questions whose answers are shown


def log_table() -> str:
    """Return what both logs say of their first and of their last steps."""
    rows = []
    for key, name in SHOWN.items():
        row = {"": name}
        for letter, run in RUNS.items():
            change = change_in(run, key)
            row[f"run {letter}, first steps"] = f"{change.first:.2f}"
            row[f"run {letter}, last steps"] = f"{change.last:.2f}"
        rows.append(row)
    return table(rows)


def change_in(run: str, key: str) -> Change:
    """Return how a quantity changed in the log of a recorded run."""
    _, values = series(recorded_folder(run).log.step_rows(), key)
    return change_of(values)


def match_on_dev(run: str) -> tuple[float, float]:
    """Return exact match on dev of the base, and of the last checkpoint of a recorded run."""
    means = recorded_folder(run).dev_means["em"]
    return float(means.iloc[0]), float(means.iloc[-1])


def completions_table() -> str:
    """Return answers of run A to the last sampled 교정형 questions, beside what is right."""
    run = recorded_folder(GAMED)
    answers = pd.DataFrame(read_json(run.path / "completions.json"))
    items = {item.question: item for item in load_items(run.settings["train_data_path"])}
    last = answers[answers["step"] == answers["step"].max()].drop_duplicates("question")

    rows: list[dict[str, str]] = []
    for _, answer in last.iterrows():
        item = items[answer["question"]]
        if item.question_type == CORRECTION and len(rows) < EXAMPLES:
            rows.append(
                {
                    "the question's sentence": _last_line(item.question),
                    "in English": item.extra.get("gloss", ""),
                    "run A answers": _last_line(answer["completion"]),
                    "right": item.extra["word"],
                    "advantage": f"{answer['advantage']:+.2f}",
                }
            )
    return table(rows)


def _last_line(text: str) -> str:
    return text.strip().split("\n")[-1]


def page() -> str:
    """Return the whole page."""
    gamed_before, gamed_after = match_on_dev(GAMED)
    honest_before, honest_after = match_on_dev(HONEST)
    return fill_template(
        "guess.md",
        log=log_table(),
        completions=completions_table(),
        gamed_before=f"{gamed_before:.2f}",
        gamed_after=f"{gamed_after:.2f}",
        honest_before=f"{honest_before:.2f}",
        honest_after=f"{honest_after:.2f}",
    )


def draw() -> None:
    """Draw both figures."""
    import matplotlib.pyplot as plt

    use_course_style()
    fig, ax = plt.subplots(figsize=(8, 3), layout="constrained")
    for (letter, run), color in zip(RUNS.items(), SETTINGS, strict=False):
        steps, rewards = series(recorded_folder(run).log.step_rows(), "reward")
        ax.plot(steps, smoothed(rewards), color=color, label=f"run {letter}")
    _finish(ax, "optimizer step", "reward, mean of five steps")
    save_figure(fig, REWARD_FIGURE)

    fig, ax = plt.subplots(figsize=(8, 3), layout="constrained")
    for (letter, run), color in zip(RUNS.items(), SETTINGS, strict=False):
        means = recorded_folder(run).dev_means["em"]
        ax.plot(means, marker="o", color=color, label=f"run {letter}")
    ax.set_ylim(0, 1.02)
    _finish(ax, "checkpoint", "exact match on dev")
    save_figure(fig, MATCH_FIGURE)


def _finish(ax: Axes, xlabel: str, ylabel: str) -> None:
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.legend(fontsize="small")


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the figures and write the page; return 0."""

    def build() -> str:
        draw()
        return page()

    return page_command("tools.pages.guess", build, PAGE, argv)


if __name__ == "__main__":
    sys.exit(main())
