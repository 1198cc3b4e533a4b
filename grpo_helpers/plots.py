"""The figures of the course: one style, one colour per quantity, a font that has Korean.

In: rows of ``log.jsonl`` and score tables. Out: matplotlib figures. Colours are Okabe and Ito's, which colour-blind
readers can tell apart; each quantity keeps its colour in every notebook.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = {
    "em": "#0072B2",
    "rouge1": "#E69F00",
    "bertscore": "#009E73",
    "format": "#CC79A7",
    "choice": "#56B4E9",
    "reward": "#000000",
    "final_mean": "#D55E00",
    "other": "#999999",
}
LABELS = {
    "em": "exact match",
    "rouge1": "ROUGE-1",
    "bertscore": "BERTScore",
    "format": "format",
    "choice": "choice accuracy",
    "reward": "reward (weighted sum)",
    "final_mean": "Final Mean",
}


def use_course_style() -> None:
    """Set the course's matplotlib style, with NanumGothic for Hangul where it is installed.

    The font lies in the package koreanize-matplotlib, which is not imported: it needs ``distutils``, gone since
    Python 3.12, and changes settings at import.
    """
    import matplotlib.pyplot as plt
    from matplotlib import font_manager

    families = ["DejaVu Sans"]  # has the signs NanumGothic lacks
    spec = importlib.util.find_spec("koreanize_matplotlib")
    if spec is not None and spec.submodule_search_locations:
        font = Path(spec.submodule_search_locations[0]) / "fonts" / "NanumGothic.ttf"
        font_manager.fontManager.addfont(str(font))
        families.insert(0, "NanumGothic")
    plt.rcParams.update({
        "font.family": families,
        "axes.unicode_minus": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.3,
        "figure.dpi": 80,
        "savefig.dpi": 110,
        "savefig.bbox": "tight",
        "axes.titlesize": "medium",
    })  # fmt: skip


def read_log(path: str | Path) -> list[dict[str, Any]]:
    """Return the rows of a ``log.jsonl`` that hold rewards; a half-written last line is left out."""
    rows = []
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break  # the run was killed while it wrote this line
    return [row for row in rows if "reward" in row]


def series(rows: Sequence[Mapping[str, Any]], key: str) -> tuple[list[int], list[float]]:
    """Return (steps, values) of one logged quantity."""
    fit = [row for row in rows if row.get(key) is not None]
    return [row["step"] for row in fit], [row[key] for row in fit]


def smoothed(values: Sequence[float], window: int = 5) -> list[float]:
    """Return the moving average over the last ``window`` values.

    Example:
        >>> smoothed([1.0, 3.0, 5.0], 2)
        [1.0, 2.0, 4.0]
    """
    return [sum(values[max(0, i - window + 1) : i + 1]) / len(values[max(0, i - window + 1) : i + 1])
            for i in range(len(values))]  # fmt: skip


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
    first, last = rows[0]["reward"], rows[-1]["reward"]
    left.set(title=f"Reward: {first:.2f} at the first step, {last:.2f} at the last", xlabel="optimizer step")
    left.set_ylabel("mean reward of a step")
    for name in ("format", "em", "rouge1", "bertscore"):
        draw(right, rows, f"rewards/{name}_reward/mean", name)
    right.set(title="Its parts, before weighting", xlabel="optimizer step", ylim=(0, 1.02))
    right.legend(fontsize="small", ncols=2)
    return fig


def plot_rollouts(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Return completion length and the share of groups without a signal over the optimizer steps."""
    import matplotlib.pyplot as plt

    fig, (left, right) = plt.subplots(1, 2, figsize=(11, 3.2))
    draw(left, rows, "completions/mean_length", "mean length")
    left.set(title="Completion length", xlabel="optimizer step", ylabel="tokens")
    draw(right, rows, "frac_reward_zero_std", "groups whose rewards are all equal")
    draw(right, rows, "completions/clipped_ratio", "clipped completions")
    right.lines[-1].set_linestyle("--")
    right.set(title="Groups with nothing to learn from; answers cut off", xlabel="optimizer step", ylim=(0, 1.02))
    right.set_ylabel("share")
    right.legend(fontsize="small")
    return fig


def plot_checkpoints(table: pd.DataFrame, best: str) -> Figure:
    """Return the dev score of every checkpoint, the chosen one marked."""
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(8, 3.8))
    names = list(table["checkpoint"])
    for name, marker in (("em", "o"), ("choice", "v"), ("rouge1", "s"), ("bertscore", "^"), ("final_mean", "D")):
        ax.plot(names, table[name], marker=marker, color=COLORS[name], label=LABELS[name])
    row = table[table["checkpoint"] == best].iloc[0]
    ax.axvline(best, color=COLORS["final_mean"], alpha=0.25, linewidth=10)
    ax.set(title=f"Chosen on dev: {best} (Final Mean {row['final_mean']:.3f})", ylabel="score", ylim=(0, 1.02))
    ax.legend(fontsize="small", ncols=3, loc="lower right")
    return fig


def save_figure(fig: Figure, path: str | Path) -> Path:
    """Write ``fig`` as PNG and return the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path)
    return path
