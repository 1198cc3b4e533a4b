"""Gold against proxy, for the page on rewards: the table, the figure, an answer that fools.

In: what ``tools.experiments.reward_model`` computes. Out: Markdown, and ``docs/goodhart.png``.
``python -m tools.pages.rewards`` writes both.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from grpo_helpers.files import project_root
from grpo_helpers.plots import SETTINGS, save_figure, use_course_style
from grpo_helpers.statistics import paired_bootstrap
from tools.experiments import reward_model
from tools.experiments.reward_model import CHOICES, PAIRS, Fooled
from tools.pages.markdown import table

FIGURE = project_root() / "docs" / "goodhart.png"
FEW, MANY = 4, CHOICES[-1]  # n at which the gold scores are compared
SHOWN = 100  # pairs behind the answer that is shown


def curves_table() -> str:
    """Return the mean scores over the seeds, one row for each n."""
    means = reward_model.curves().groupby(["n", "pairs"])[["proxy", "gold"]].mean()
    rows = []
    for n in CHOICES:
        row: dict[str, str] = {"n": str(n)}
        for count in PAIRS:
            proxy = float(means["proxy"][n, count])
            gold = float(means["gold"][n, count])
            row[f"{count} pairs: proxy"] = f"{round(proxy, 2) + 0.0:+.2f}"  # no -0.00
            row[f"{count} pairs: gold"] = f"{gold:.2f}"
        row["gold, chosen by itself"] = f"{reward_model.pass_at(n):.2f}"
        rows.append(row)
    return table(rows)


@dataclass(frozen=True)
class Change:
    """How the gold score changes from few choices to many, with its 95 % interval, in points."""

    points: float
    low: float
    high: float


def change_of_gold(count: int) -> Change:
    """Return the change of the gold score for models that learned from ``count`` pairs."""
    few = reward_model.gold_of(count, FEW)
    many = reward_model.gold_of(count, MANY)
    ends = paired_bootstrap(list(many), list(few))
    return Change(100 * float((many - few).mean()), 100 * ends.low, 100 * ends.high)


def changes_table() -> str:
    """Return the changes of the gold score as a table."""
    rows = []
    for count in PAIRS:
        change = change_of_gold(count)
        points = f"{change.points:+.0f} [{change.low:+.0f}, {change.high:+.0f}]"
        rows.append({"pairs": str(count), f"gold, from n = {FEW} to n = {MANY}, points": points})
    return table(rows)


def most_fooling() -> Fooled:
    """Return the wrong answer with the highest proxy, among those that are chosen."""
    return reward_model.fooled_by(SHOWN, seed=0)[0]


def draw(path: Path = FIGURE) -> None:
    """Draw proxy and gold score over n, one line for each number of pairs."""
    import matplotlib.pyplot as plt

    use_course_style()
    fig, axes = plt.subplots(1, 2, figsize=(9.5, 3.4))
    scores = reward_model.curves()
    for ax, column in zip(axes, ("proxy", "gold"), strict=True):
        for count, color in zip(PAIRS, SETTINGS, strict=False):
            of_count = scores[scores["pairs"] == count]
            by_n = of_count.groupby("n")[column].agg(["mean", "min", "max"])
            ax.plot(by_n["mean"], marker="o", color=color, label=f"{count} pairs")
            ax.fill_between(by_n.index, by_n["min"], by_n["max"], color=color, alpha=0.2)
        ax.set_xscale("log", base=2)
        ax.set_xticks(CHOICES, CHOICES)
        ax.set_xlabel("n, answers to choose from")

    axes[0].set(title="What the reward model thinks of its choice", ylabel="proxy")
    axes[1].set(title="Whether its choice is right", ylabel="gold: exact match", ylim=(0, 1.02))
    by_itself = [reward_model.pass_at(n) for n in CHOICES]
    axes[1].plot(CHOICES, by_itself, ":", color="black", label="chosen by exact match itself")
    axes[1].legend(fontsize="small", loc="lower left")
    fig.tight_layout()
    save_figure(fig, path)
    plt.close(fig)
