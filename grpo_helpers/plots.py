"""The figures of the course: one style, one colour per quantity, a font that has Korean.

In: rows of ``log.jsonl`` and score tables. Out: matplotlib figures. Colours are Okabe and Ito's, which colour-blind
readers can tell apart; each quantity keeps its colour in every notebook.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grpo_helpers.health import RULES, examine
from grpo_helpers.run_folder import series

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_QUANTITIES = {  # name: colour, label
    "em": ("#0072B2", "exact match"),
    "rouge1": ("#E69F00", "ROUGE-1"),
    "bertscore": ("#009E73", "BERTScore"),
    "format": ("#CC79A7", "format"),
    "choice": ("#56B4E9", "choice accuracy"),
    "reward": ("#000000", "reward (weighted sum)"),
    "final_mean": ("#D55E00", "Final Mean"),
}
COLORS = {name: color for name, (color, _) in _QUANTITIES.items()} | {"other": "#999999"}
LABELS = {name: label for name, (_, label) in _QUANTITIES.items()}


def use_course_style() -> None:
    """Set the course's matplotlib style, with NanumGothic for Hangul where koreanize-matplotlib is installed."""
    import matplotlib.pyplot as plt
    from matplotlib import font_manager

    families = ["DejaVu Sans"]  # has the signs NanumGothic lacks
    spec = importlib.util.find_spec("koreanize_matplotlib")
    if spec is not None and spec.submodule_search_locations:
        # by path: importing the package needs distutils, gone since Python 3.12, and changes settings
        font = Path(spec.submodule_search_locations[0]) / "fonts" / "NanumGothic.ttf"
        font_manager.fontManager.addfont(str(font))
        families.insert(0, "NanumGothic")
    plt.rc("font", family=families)
    plt.rc("axes", unicode_minus=False, grid=True, titlesize="medium")
    plt.rc("axes.spines", top=False, right=False)
    plt.rc("grid", alpha=0.3)
    plt.rc("figure", dpi=80)
    plt.rc("savefig", dpi=110, bbox="tight")


def smoothed(values: Sequence[float], window: int = 5) -> list[float]:
    """Return the moving average over the last ``window`` values.

    >>> smoothed([1.0, 3.0, 5.0], 2)
    [1.0, 2.0, 4.0]
    """
    windows = (values[max(0, i - window) : i] for i in range(1, len(values) + 1))
    return [sum(part) / len(part) for part in windows]


def draw(ax: Axes, rows: Sequence[Mapping[str, Any]], key: str, name: str) -> None:
    """Draw one logged quantity: each step thin, its moving average thick."""
    steps, values = series(rows, key)
    color = COLORS.get(name, COLORS["other"])
    ax.plot(steps, values, color=color, alpha=0.3, linewidth=1)
    ax.plot(steps, smoothed(values), color=color, linewidth=2, label=LABELS.get(name, name))


def plot_rewards(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Return the reward and its four parts over the optimizer steps."""
    import matplotlib.pyplot as plt

    fig, (left, right) = plt.subplots(1, 2, figsize=(11, 3.6))
    draw(left, rows, "reward", "reward")
    title = (
        f"Reward: {rows[0]['reward']:.2f} at the first step, {rows[-1]['reward']:.2f} at the last"
    )
    left.set(title=title, xlabel="optimizer step", ylabel="mean reward of a step")
    for name in ("em", "rouge1", "bertscore", "format"):
        draw(right, rows, f"rewards/{name}_reward/mean", name)
    right.lines[-1].set_linestyle("--")  # the format often lies on the others
    right.set(title="Its parts, before weighting", xlabel="optimizer step", ylim=(0, 1.02))
    right.legend(fontsize="small", ncols=2)
    return fig


def plot_rollouts(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Return completion length and the share of groups without a signal over the optimizer steps."""
    import matplotlib.pyplot as plt

    fig, (left, right) = plt.subplots(1, 2, figsize=(11, 3.2))
    draw(left, rows, "completions/mean_length", "mean length")
    left.set(title="Completion length", xlabel="optimizer step", ylabel="tokens", ylim=(0, None))
    draw(right, rows, "frac_reward_zero_std", "groups whose rewards are all equal")
    draw(right, rows, "completions/clipped_ratio", "clipped completions")
    right.lines[-1].set_linestyle("--")
    right.set(
        title="Groups with nothing to learn from; answers cut off",
        xlabel="optimizer step",
        ylim=(0, 1.02),
    )
    right.set_ylabel("share")
    right.legend(fontsize="small")
    return fig


def plot_health(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Return what :mod:`grpo_helpers.health` looks at, a panel for each rule; the title of an alarm is red."""
    import matplotlib.pyplot as plt

    alarms = {finding.rule: finding.alarm for finding in examine(rows)}
    shown = [rule for rule in RULES if rule.name in alarms]
    fig, axes = plt.subplots(
        -(-len(shown) // 4), 4, figsize=(12, 2.3 * -(-len(shown) // 4)), layout="constrained"
    )
    for ax, rule in zip(axes.flat, shown, strict=False):
        for key in rule.keys:
            draw(ax, rows, key, key.removeprefix("rewards/").split("_reward/")[0])
        if len(rule.keys) > 1:
            ax.legend(fontsize="x-small")
        alarm = alarms[rule.name]
        ax.set_title(
            f"ALARM: {rule.name}" if alarm else rule.name,
            color="#c00000" if alarm else "black",
            fontsize=9,
        )
    for ax in axes.flat[len(shown) :]:
        ax.axis("off")
    fig.supxlabel("optimizer step", fontsize=9)
    return fig


def plot_checkpoints(table: pd.DataFrame, report: Mapping[str, Any]) -> Figure:
    """Return the dev scores of every checkpoint, the Final Mean with its interval; chosen and tied ones are marked."""
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(8, 3.8))
    names, best = list(table["checkpoint"]), report["best_checkpoint"]
    for name, marker in (
        ("em", "o"),
        ("choice", "v"),
        ("rouge1", "s"),
        ("bertscore", "^"),
        ("final_mean", "D"),
    ):
        ax.plot(names, table[name], marker=marker, color=COLORS[name], label=LABELS[name])
    ends = [[report["checkpoints"][name][end] for name in names] for end in ("low", "high")]
    ax.fill_between(names, *ends, color=COLORS["final_mean"], alpha=0.15, label="its 95 % interval")
    for name in report["tied"]:
        ax.axvline(
            name, color=COLORS["final_mean"], alpha=0.25 if name == best else 0.08, linewidth=12
        )
    tied = (
        f"{n} checkpoints cannot be told apart"
        if (n := len(report["tied"])) > 1
        else "all others are lower"
    )
    ax.set_title(f"Chosen on dev: {best} (Final Mean {report['final_mean']:.3f}); {tied}")
    ax.set(ylabel="score", ylim=(0, 1.02))
    ax.legend(fontsize="small", ncols=3, loc="lower right")
    return fig


def plot_differences(report: Mapping[str, Any]) -> Figure:
    """Return the paired differences of every checkpoint from the base and from the highest, with their intervals."""
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(
        1, 2, figsize=(11, 0.4 * len(report["checkpoints"]) + 1.6), sharey=True
    )
    for ax, key, to in zip(
        axes, ("versus_base", "versus_best"), ("the base", report["highest"]), strict=True
    ):
        for place, row in enumerate(report["checkpoints"].values()):
            found = row[key] or {"difference": 0.0, "low": 0.0, "high": 0.0, "p_holm": 1.0}
            color = COLORS["other"] if found["p_holm"] > 0.05 else COLORS["final_mean"]
            ax.plot(
                [100 * found["low"], 100 * found["high"]],
                [place, place],
                color=color,
                linewidth=3,
                alpha=0.5,
            )
            ax.plot(100 * found["difference"], place, "D", color=color)
        ax.axvline(0, color="black", linewidth=1)
        ax.set(xlabel="points of Final Mean", title=f"Against {to} (grey: cannot be told apart)")
    axes[0].set_yticks(range(len(report["checkpoints"])), list(report["checkpoints"]))
    return fig


def save_figure(fig: Figure, path: str | Path) -> None:
    """Write ``fig`` as PNG."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path)
