"""The figures of the course: one style, one colour per quantity, a font that has Korean.

In: rows of ``log.jsonl``, score tables, and the choice of a checkpoint. Out: matplotlib figures.
Each quantity keeps its colour in every notebook. The colours are Okabe and Ito's, which
colour-blind readers can distinguish; a reward has the colour and the label of its entry in
:mod:`grpo_helpers.rewards`, so your own rewards are drawn without a change here. What is not a
quantity (the arm of an experiment, the value of a setting, a type of question, a split) takes its
colours from palettes of its own.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grpo_helpers import carry_over
from grpo_helpers.coins import (
    BLOCKS,
    KINDS,
    REWARDED,
    Coins,
    Group,
    by_family,
    examples,
    family_name,
    groups,
)
from grpo_helpers.coverage import checkpoints_of, pass_at, questions_of
from grpo_helpers.health import CLIPPED, GRADIENT_NORM, LENGTH, examine, rules_for
from grpo_helpers.health import Rule as HealthRule
from grpo_helpers.library_fixes import ALL_RIGHT, ALL_WRONG
from grpo_helpers.questions import CORRECTION, SELECTION
from grpo_helpers.rewards import extra_rewards, registered
from grpo_helpers.run_folder import series
from grpo_helpers.selection import Choice, Versus
from grpo_helpers.splits import (
    DEV,
    TEST,
    TEST_NONCE,
    TEST_UNSEEN_NORMS,
    TEST_UNSEEN_WORDS,
    Split,
)
from grpo_helpers.thoughts import THOUGHT_LENGTH, THOUGHT_RATIO, UNFINISHED_RATIO

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, Any]]

COLORS = {name: reward.color for name, reward in registered().items()} | {
    "choice": "#56B4E9",
    "reward": "#000000",
    "final_mean": "#D55E00",
    "thinks": "#6018C0",
    "other": "#999999",
}
LABELS = {name: reward.label for name, reward in registered().items()} | {
    "choice": "choice accuracy",
    "reward": "reward (weighted sum)",
    "final_mean": "Final Mean",
    "thinks": "share that thinks",
}

# Palettes of what is not a quantity. A test keeps the colours of each palette apart from each
# other and from those of the quantities, for readers with any of the three kinds of colour
# blindness too.
ARMS = {  # an experiment's arm, by the name of its recorded runs; "seed" is GRPO as it is
    "seed": "#222255",
    "format_only": "#B15928",
    "gold": "#01665E",
    "rejection": "#DFC27D",
}
WAY_COLORS = {  # by the name of a way of training in carry_over.WAYS
    "grpo": ARMS["seed"],
    "gold": ARMS["gold"],
    "rejection": ARMS["rejection"],
}
GUESSERS_COLOR = "#DDDDDD"  # behind the lines: the range of guessers
SETTINGS = ("#AA3377", "#225522", "#A6DBA0", "#C2A5CF")  # the values of a setting, in order
QUESTION_TYPES = {SELECTION: "#762A83", CORRECTION: "#1B7837"}
SPLIT_COLORS = {  # by the split's title
    DEV.title: "#666633",
    TEST.title: "#543005",
    TEST_UNSEEN_WORDS.title: "#DDCC77",
    TEST_NONCE.title: "#A818F0",
    TEST_UNSEEN_NORMS.title: "#A6DBA0",
}

# The share of the right form, from sure of the wrong one through undecided (.5) to sure of the
# right one: orange and blue, which every reader can tell apart, and dark at both ends.
SHARE_COLORS = ("#8F3B00", "#DD7A1E", "#F5CF9F", "#F4F2EC", "#A9CCEA", "#3D86C6", "#0B3C74")
KIND_COLORS = dict(zip(KINDS, ("#5A5A5A", "#9A9A9A", "#CFCFCF"), strict=True))

ALARM_COLOR = "#c00000"
LINE_STYLES = ("-", "--", ":", "-.")  # of the ways that share a colour, in order
HEALTH_COLUMNS = 5  # panels side by side
SHARES = {CLIPPED, UNFINISHED_RATIO, "frac_reward_zero_std"}  # logged; none is below 0
MARKERS = {"em": "o", "choice": "v", "rouge1": "s", "bertscore": "^", "final_mean": "D"}
EXTRA_MARKERS = ("P", "X", "*", "p", "h")  # for rewards of your own


# -- style ---------------------------------------------------------------------------------------


def use_course_style() -> None:
    """Set the course's matplotlib style, with a font for Hangul if koreanize-matplotlib is there.

    Its NanumGothic is loaded by path: importing the package needs ``distutils``, gone since Python
    3.12, and changes settings.
    """
    import matplotlib.pyplot as plt
    from matplotlib import font_manager

    families = ["DejaVu Sans"]  # has the signs that NanumGothic lacks
    package = importlib.util.find_spec("koreanize_matplotlib")
    if package is not None and package.submodule_search_locations:
        font = Path(package.submodule_search_locations[0]) / "fonts" / "NanumGothic.ttf"
        font_manager.fontManager.addfont(str(font))
        families.insert(0, "NanumGothic")

    plt.rc("font", family=families)
    plt.rc("axes", unicode_minus=False, grid=True, titlesize="medium")
    plt.rc("axes.spines", top=False, right=False)
    plt.rc("grid", alpha=0.3)
    plt.rc("figure", dpi=80)
    plt.rc("savefig", dpi=110, bbox="tight")


def color_of(name: str) -> str:
    """Return the colour of a quantity: a metric, a reward (your own too), or any other.

    >>> color_of("em"), color_of("seconds")
    ('#0072B2', '#999999')
    """
    rewards = registered()
    if name in rewards:
        return rewards[name].color
    return COLORS.get(name, COLORS["other"])


def label_of(name: str) -> str:
    """Return what figures call a quantity; its name, if it has no label.

    >>> label_of("em"), label_of("seconds")
    ('exact match', 'seconds')
    """
    rewards = registered()
    if name in rewards:
        return rewards[name].label
    return LABELS.get(name, name)


def save_figure(fig: Figure, path: str | Path) -> None:
    """Write a figure as PNG; its folder is made if need be."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path)


# -- a run's log ---------------------------------------------------------------------------------


def smoothed(values: Sequence[float], window: int = 5) -> list[float]:
    """Return the moving average over the last ``window`` values.

    >>> smoothed([1.0, 3.0, 5.0], 2)
    [1.0, 2.0, 4.0]
    """
    averages = []

    for end in range(1, len(values) + 1):
        recent = values[max(0, end - window) : end]
        averages.append(sum(recent) / len(recent))

    return averages


def draw(ax: Axes, rows: Rows, key: str, name: str) -> None:
    """Draw one logged quantity: each step thin, its moving average thick.

    Args:
        ax: Where to draw.
        rows: The rows of a log.
        key: The quantity's name in the log.
        name: The quantity's name in figures, which gives it colour and label.
    """
    steps, values = series(rows, key)
    color = color_of(name)
    ax.plot(steps, values, color=color, alpha=0.3, linewidth=1)
    ax.plot(steps, smoothed(values), color=color, linewidth=2, label=label_of(name))


def plot_rewards(rows: Rows) -> Figure:
    """Return the reward and its parts over the optimizer steps."""
    import matplotlib.pyplot as plt

    fig, (left, right) = plt.subplots(1, 2, figsize=(11, 3.6))

    draw(left, rows, "reward", "reward")
    first = rows[0]["reward"]
    last = rows[-1]["reward"]
    left.set_title(f"Reward: {first:.2f} at the first step, {last:.2f} at the last")
    left.set(xlabel="optimizer step", ylabel="mean reward of a step")

    _draw_parts(right, rows)
    right.set(title="Its parts, before weighting", xlabel="optimizer step", ylim=(0, 1.02))
    right.legend(fontsize="small", ncols=2)
    return fig


def _draw_parts(ax: Axes, rows: Rows) -> None:
    """Draw the parts of the reward, those that a reader has registered among them."""
    for name in ("em", "rouge1", "bertscore", "format"):
        draw(ax, rows, f"rewards/{name}_reward/mean", name)
    ax.lines[-1].set_linestyle("--")  # the format often hides the others

    for reward in extra_rewards():
        key = f"rewards/{reward.trl_name}/mean"
        if key in rows[-1]:
            draw(ax, rows, key, reward.name)


def plot_rollouts(rows: Rows) -> Figure:
    """Return completion length and the share of groups without a signal, step by step.

    Args:
        rows: The rows of a log. Where it says which of these groups were all right and which all
            wrong, they are drawn apart, too.
    """
    import matplotlib.pyplot as plt

    fig, (left, right) = plt.subplots(1, 2, figsize=(11, 3.2))

    draw(left, rows, LENGTH, "mean length")
    left.set(title="Completion length", xlabel="optimizer step", ylabel="tokens", ylim=(0, None))

    _draw_wasted(right, rows)
    right.set_title("Groups with nothing to learn from; answers cut off")
    right.set(xlabel="optimizer step", ylabel="share", ylim=(0, 1.02))
    right.legend(fontsize="small")
    return fig


def _draw_wasted(ax: Axes, rows: Rows) -> None:
    """Draw the share of groups without a signal and, dashed, of completions that are cut off."""
    draw(ax, rows, "frac_reward_zero_std", "groups whose rewards are all equal")
    _draw_parts_of_equal_groups(ax, rows)
    draw(ax, rows, CLIPPED, "clipped completions")
    ax.lines[-1].set_linestyle("--")


def _draw_parts_of_equal_groups(ax: Axes, rows: Rows) -> None:
    """Draw the groups without a signal that are all right, and those that are all wrong, if logged.

    Both are told by exact match, and have its colour.
    """
    if ALL_RIGHT not in rows[-1]:
        return

    draw(ax, rows, ALL_RIGHT, "em")
    ax.lines[-1].set_label("of them, all right")
    draw(ax, rows, ALL_WRONG, "em")
    ax.lines[-1].set(label="of them, all wrong", linestyle=":")


def plot_symptoms(rows: Rows) -> Figure:
    """Return what a diagnosis needs of a log, in six small panels, and no verdict.

    They show what :func:`plot_rewards`, :func:`plot_rollouts` and :func:`plot_health` show, in the
    space of one figure.

    Args:
        rows: The rows of a log, at least one.
    """
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(2, 3, figsize=(11, 4.2), sharex=True, layout="constrained")
    reward, parts, length, shares, entropy, norm = axes.flat

    draw(reward, rows, "reward", "reward")
    reward.set(title="reward (weighted sum)")
    _draw_parts(parts, rows)
    parts.set(title="its parts, before weighting", ylim=(0, 1.02))
    draw(length, rows, LENGTH, "mean length")
    length.set(title="completion length (tokens)", ylim=(0, None))
    _draw_wasted(shares, rows)
    shares.set(title="shares", ylim=(0, 1.02))
    draw(entropy, rows, "entropy", "entropy")
    entropy.set(title="entropy", ylim=(0, None))
    draw(norm, rows, GRADIENT_NORM, "gradient norm")
    norm.set(title="gradient norm", ylim=(0, None))

    for ax in (parts, shares):
        ax.legend(fontsize="x-small")
    fig.supxlabel("optimizer step", fontsize=9)
    return fig


def plot_thoughts(rows: Rows) -> Figure:
    """Return reward, share of completions that think, and lengths, above one another by step.

    Args:
        rows: The rows of a log. Where no completion holds a thought, reward and length are drawn
            alone.
    """
    import matplotlib.pyplot as plt

    size = (8, 5)
    fig, (top, bottom) = plt.subplots(2, 1, figsize=size, sharex=True, layout="constrained")

    draw(top, rows, "reward", "reward")
    if series(rows, THOUGHT_RATIO)[1]:
        draw(top, rows, THOUGHT_RATIO, "thinks")
        draw(top, rows, UNFINISHED_RATIO, "share that ends inside its thought")
        top.lines[-1].set_linestyle("--")
    top.set(title="Reward and thoughts", ylabel="mean of a step", ylim=(0, None))
    top.legend(fontsize="small")

    draw(bottom, rows, LENGTH, "whole completion")
    if series(rows, THOUGHT_LENGTH)[1]:
        draw(bottom, rows, THOUGHT_LENGTH, "thinks")
        bottom.lines[-1].set_label("thought, of those that think")
    bottom.set(title="Length", xlabel="optimizer step", ylabel="tokens", ylim=(0, None))
    bottom.legend(fontsize="small")
    return fig


def plot_ways_to_think(
    logs: Mapping[str, Mapping[int, pd.DataFrame]], compared: pd.DataFrame
) -> Figure:
    """Return who thinks, by step, and who is right in the end.

    Args:
        logs: By the name of a way of training and its seed, what the log says of each step
            (:func:`grpo_helpers.thinking_runs.load_logs`); the first way's lines are solid.
        compared: How often each way is right
            (:func:`grpo_helpers.thinking_runs.compare_ways`).
    """
    import matplotlib.pyplot as plt

    size = (11, 3.6)
    fig, (left, right) = plt.subplots(1, 2, figsize=size, layout="constrained")

    for (name, of_seeds), style in zip(logs.items(), LINE_STYLES, strict=False):
        for number, log in enumerate(of_seeds.values()):
            shares = smoothed(list(log[THOUGHT_RATIO]))
            label = name if number == 0 else None
            left.plot(log["step"], shares, style, color=color_of("thinks"), label=label)
    left.set(title="Share of samples that think", xlabel="optimizer step", ylim=(0, 1.02))
    left.legend(fontsize="small")

    names = list(compared.index)
    below = (compared["right"] - compared["lowest"]).clip(lower=0)  # a mean may be off by 1e-16
    above = (compared["highest"] - compared["right"]).clip(lower=0)
    right.barh(names, compared["right"], xerr=[below, above], color=color_of("em"), capsize=3)
    right.axvline(0.5, linestyle="--", color=color_of("other"))
    right.invert_yaxis()
    right.set(title="Exact match on unseen words; dashed: a guess", xlim=(0, 1))
    return fig


def plot_words_per_norm(panels: Mapping[str, tuple[pd.DataFrame, str]]) -> Figure:
    """Return what was learned from few and from many words of each norm, one panel beside another.

    A line for each way of training is the mean over its seeds, its band their range. The grey band
    is where 95 % of guessers would be.

    Args:
        panels: By its title, what :func:`grpo_helpers.carry_over.memory_and_rule` returned, and
            which of its columns is drawn: ``memory`` or ``rule``.
    """
    import matplotlib.pyplot as plt

    size = (5.5 * len(panels), 3.8)
    fig, axes = plt.subplots(
        1, len(panels), figsize=size, sharex=True, sharey=True, layout="constrained"
    )
    for ax, (title, (shares, column)) in zip(axes, panels.items(), strict=True):
        _draw_guessers(ax, shares.groupby("words")[f"{column}_questions"].max())
        for place, (way, of_way) in enumerate(shares.groupby("way", sort=False)):
            by_words = of_way.groupby("words")[column].agg(["mean", "min", "max"])
            _draw_way(ax, by_words, str(way), place)

        ax.set_xscale("log", base=2)
        ax.set_xticks(carry_over.WORDS, carry_over.WORDS)
        ax.set(xlabel="train words of each norm", title=title, ylim=(0, 1.02))

    axes[0].set_ylabel("choice accuracy, form-balanced")
    axes[0].legend(fontsize="small", loc="lower right")
    return fig


def _draw_way(ax: Axes, by_words: pd.DataFrame, way: str, place: int) -> None:
    """Draw a way of training: a line with a band or, for one number of words, a point with a bar.

    Args:
        ax: Where to draw.
        by_words: Mean, lowest and highest share, by the number of words.
        way: A name of :data:`grpo_helpers.carry_over.WAYS`.
        place: The way's place among those in ``ax``; points of several ways lie side by side.
    """
    color, label = WAY_COLORS[way], carry_over.WAYS[way]
    mean, low, high = by_words["mean"], by_words["min"], by_words["max"]
    if len(by_words) == 1:
        beside = by_words.index * 0.93**place
        ax.errorbar(beside, mean, [mean - low, high - mean], fmt="o", color=color, label=label)
        return

    ax.plot(mean, marker="o", color=color, label=label)
    ax.fill_between(by_words.index, low, high, color=color, alpha=0.2)


def _draw_guessers(ax: Axes, questions: pd.Series) -> None:
    """Draw what guessers reach; ``questions`` says how many there are, by the number of words."""
    ranges = [carry_over.chance_range(count) for count in questions]
    low = [of_guessers.low for of_guessers in ranges]
    high = [of_guessers.high for of_guessers in ranges]

    if len(questions) == 1:
        ax.axhspan(low[0], high[0], color=GUESSERS_COLOR)
    else:
        ax.fill_between(questions.index, low, high, color=GUESSERS_COLOR)
    label = "a guess (grey: 95 % of guessers)"
    ax.axhline(carry_over.CHANCE, color="black", linestyle=":", label=label)


def plot_coverage(
    measured: Mapping[str, pd.DataFrame], run: str, splits: Sequence[Split]
) -> Figure:
    """Draw pass@k over k: the last checkpoint of every run, and base and first epoch of one.

    Args:
        measured: Recorded tables by the names of their runs (:func:`grpo_helpers.coverage`).
        run: The run whose base and first epoch are drawn, too, in black.
        splits: A panel for each.
    """
    import matplotlib.pyplot as plt

    ks = [2**power for power in range(8)]
    fig, axes = plt.subplots(1, len(splits), figsize=(9, 3.2), sharey=True, squeeze=False)
    for ax, split in zip(axes[0], splits, strict=True):
        for name, table in measured.items():
            asked = questions_of(table, split)
            last = checkpoints_of(asked)[-1]
            ax.plot(ks, [pass_at(k, asked[last]) for k in ks], label=name)

        asked = questions_of(measured[run], split)
        base, first, *_ = checkpoints_of(asked)
        for checkpoint, style in ((first, "--"), (base, ":")):
            reached = [pass_at(k, asked[checkpoint]) for k in ks]
            ax.plot(ks, reached, color="black", linestyle=style, label=f"{run}, {checkpoint}")

        ax.set(xscale="log", xlabel="k", title=f"pass@k, {split.title}")
        ax.minorticks_off()
        ax.set_xticks(ks, labels=[str(k) for k in ks])

    axes[0][-1].legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    return fig


def plot_health(rows: Rows) -> Figure:
    """Return what :mod:`grpo_helpers.health` checks, a panel per rule; alarms have a red title."""
    import matplotlib.pyplot as plt

    alarms = {finding.rule: finding.alarm for finding in examine(rows)}
    rules = [rule for rule in rules_for(rows) if rule.name in alarms]

    height = math.ceil(len(rules) / HEALTH_COLUMNS)
    size = (12, 2.3 * height)
    fig, axes = plt.subplots(height, HEALTH_COLUMNS, figsize=size, layout="constrained")

    for ax, rule in zip(axes.flat, rules, strict=False):
        _draw_rule(ax, rows, rule, is_alarm=bool(alarms[rule.name]))

    for empty in axes.flat[len(rules) :]:
        empty.axis("off")

    fig.supxlabel("optimizer step", fontsize=9)
    return fig


def _draw_rule(ax: Axes, rows: Rows, rule: HealthRule, *, is_alarm: bool) -> None:
    """Draw the quantities of one health rule."""
    for key in rule.keys:
        draw(ax, rows, key, key.removeprefix("rewards/").split("_reward/")[0])

    if len(rule.keys) > 1:
        ax.legend(fontsize="x-small")
    if SHARES.issuperset(rule.keys):
        ax.set_ylim(bottom=0)

    if is_alarm:
        ax.set_title(f"ALARM: {rule.name}", color=ALARM_COLOR, fontsize=9)
    else:
        ax.set_title(rule.name, color="black", fontsize=9)


# -- the choice of a checkpoint ------------------------------------------------------------------


def plot_checkpoints(table: pd.DataFrame, choice: Choice) -> Figure:
    """Return the dev scores of every checkpoint; the chosen one and the tied ones are marked.

    Args:
        table: What :func:`grpo_helpers.scoring.scores_table` returned.
        choice: The choice that was made from the same scores.
    """
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(8, 3.8))
    names = list(table["checkpoint"])

    for metric, marker in _markers(table).items():
        color = color_of(metric)
        ax.plot(names, table[metric], marker=marker, color=color, label=label_of(metric))

    color = color_of("final_mean")
    lows = [choice.checkpoints[name].low for name in names]
    highs = [choice.checkpoints[name].high for name in names]
    ax.fill_between(names, lows, highs, color=color, alpha=0.15, label="its 95 % interval")

    for name in choice.tied:
        is_chosen = name == choice.best_checkpoint
        alpha = 0.25 if is_chosen else 0.08
        ax.axvline(names.index(name), color=color, alpha=alpha, linewidth=12)

    ax.set_title(_choice_title(choice))
    ax.set(ylabel="score", ylim=(0, 1.02))
    ax.legend(fontsize="small", ncols=3, loc="lower right")
    return fig


def _markers(table: pd.DataFrame) -> dict[str, str]:
    """Return the metrics that are drawn, each with its marker."""
    markers = dict(MARKERS)
    own = [reward.name for reward in extra_rewards() if reward.name in table]

    for place, name in enumerate(own):
        markers[name] = EXTRA_MARKERS[place % len(EXTRA_MARKERS)]

    return markers


def _choice_title(choice: Choice) -> str:
    rivals = "all others significantly lower"
    if len(choice.tied) > 1:
        rivals = f"{len(choice.tied)} checkpoints statistically tied"

    chosen = f"{choice.best_checkpoint} (Final Mean {choice.final_mean:.3f})"
    return f"Chosen on dev: {chosen}; {rivals}"


def plot_differences(choice: Choice) -> Figure:
    """Return the paired differences of every checkpoint from the base and from the highest."""
    import matplotlib.pyplot as plt

    names = list(choice.checkpoints)
    reports = list(choice.checkpoints.values())
    size = (11, 0.4 * len(names) + 1.6)
    fig, (left, right) = plt.subplots(1, 2, figsize=size, sharey=True)

    _draw_differences(left, "the base", [report.versus_base for report in reports])
    _draw_differences(right, choice.highest, [report.versus_best for report in reports])
    left.set_yticks(range(len(names)), names)
    return fig


def _draw_differences(ax: Axes, reference: str, rows: Sequence[Versus | None]) -> None:
    """Draw one difference per row with its interval; grey, if it is not significant."""
    for place, versus in enumerate(rows):
        if versus is None:  # the reference itself
            ax.plot([0, 0], [place, place], color=COLORS["other"], linewidth=3, alpha=0.5)
            ax.plot(0, place, "D", color=COLORS["other"])
            continue

        color = COLORS["final_mean"] if versus.is_significant else COLORS["other"]
        ends = [100 * versus.low, 100 * versus.high]
        ax.plot(ends, [place, place], color=color, linewidth=3, alpha=0.5)
        ax.plot(100 * versus.difference, place, "D", color=color)

    ax.axvline(0, color="black", linewidth=1)
    ax.set(xlabel="points of Final Mean", title=f"Against {reference} (grey: not significant)")


# -- coins: which word turns when ----------------------------------------------------------------


def share_colors() -> Colormap:
    """Return the colour map of a share of the right form: 0 is orange, 0.5 pale, 1 blue."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("share of the right form", SHARE_COLORS)


def plot_coins(runs: Mapping[str, Coins]) -> Figure:
    """Return heat maps of one or more runs: a row for each word, a column for each step.

    The upper map of a run has the rewarded words, asked to choose, family by family. The lower one
    has the same words, asked to correct, and those that were never rewarded. A word has the same
    row in every run; the first run decides the order.

    Args:
        runs: The coins of runs about the same words, by the titles of their maps.
    """
    import matplotlib.pyplot as plt

    first = next(iter(runs.values()))
    rewarded = by_family(first.of_blocks(REWARDED))
    others = by_family(first.of_blocks(*[block for block in BLOCKS if block != REWARDED]))
    size = (4.2 + 3.6 * len(runs), 12)
    fig, grid = plt.subplots(
        2, len(runs), figsize=size, height_ratios=[3, 2], layout="constrained", squeeze=False
    )

    for column, (title, coins) in enumerate(runs.items()):
        upper, lower = grid[:, column]
        image = _draw_shares(upper, coins.in_order_of(rewarded))
        _draw_shares(lower, coins.in_order_of(others))
        upper.set_title(f"{title}\n{turned_line(coins.of_blocks(REWARDED))}")
        upper.tick_params(labelbottom=False)
        lower.set_xlabel("optimizer step")

    grid[0, 0].set_ylabel(BLOCKS[REWARDED], fontsize=9)
    _label_families(grid[0, 0], rewarded)
    _label_blocks(grid[1, 0], others)
    bar = fig.colorbar(image, ax=grid, location="bottom", shrink=0.45, aspect=45, pad=0.01)
    bar.outline.set_visible(False)
    bar.set_ticks([0, 0.5, 1], labels=["sure of the wrong form", "undecided", "sure of the right"])
    _explain_kinds(fig)
    return fig


def turned_line(coins: Coins, column: int = -1) -> str:
    """Return in words how many coins have turned.

    Args:
        coins: The coins of one block.
        column: The place of the step that counts.
    """
    return f"{coins.turned(column)} of {len(coins.words)} words above .9"


def _draw_shares(ax: Axes, coins: Coins) -> Any:
    """Draw the heat map of some words, with a white line between families; return its image."""
    words = len(coins.words)
    image = ax.imshow(
        coins.shares,
        cmap=share_colors(),
        vmin=0,
        vmax=1,
        aspect="auto",
        interpolation="nearest",
        extent=(coins.steps[0], coins.steps[-1], words, 0),
    )
    for group in groups(coins):
        ax.axhline(group.end, color="white", linewidth=0.8)

    ax.set_yticks([])
    ax.grid(False)
    ax.spines[:].set_visible(False)
    return image


def _label_families(ax: Axes, coins: Coins) -> None:
    """Write the families beside a heat map, each with an example, and draw the strip of kinds."""
    words = examples(coins)
    families = groups(coins)
    labels = [f"{family_name(group.family)}  {words[group.family]}" for group in families]
    centres = [(group.start + group.end) / 2 for group in families]
    ax.set_yticks(centres, labels, fontsize=8)
    ax.tick_params(axis="y", length=0, pad=14)
    _draw_kinds(ax, families)


def _label_blocks(ax: Axes, coins: Coins) -> None:
    """Write beside a heat map what kinds of words it has, and draw the strip of kinds."""
    families = groups(coins)
    centres = []
    labels = []
    for block, name in BLOCKS.items():
        of_block = [group for group in families if group.block == block]
        if of_block:
            centres.append((of_block[0].start + of_block[-1].end) / 2)
            labels.append(name.replace(", ", ",\n"))
            ax.axhline(of_block[-1].end, color="white", linewidth=4)

    ax.set_yticks(centres, labels, fontsize=9)
    ax.tick_params(axis="y", length=0, pad=14)
    _draw_kinds(ax, families)


def _draw_kinds(ax: Axes, families: Sequence[Group]) -> None:
    """Draw a strip left of a heat map: which families are two-way, one-way, or single words."""
    from matplotlib.patches import Rectangle

    for group in families:
        strip = Rectangle(
            (-0.03, group.start),
            width=0.018,
            height=group.end - group.start,
            transform=ax.get_yaxis_transform(),  # x in shares of the axes' width, y in rows
            color=KIND_COLORS.get(group.kind, COLORS["other"]),
            linewidth=0,
            clip_on=False,
        )
        ax.add_patch(strip)


def _explain_kinds(fig: Figure) -> None:
    """Write what the colours of the strip mean, in the lower left corner."""
    from matplotlib.patches import Patch

    patches = [Patch(color=color, label=kind) for kind, color in KIND_COLORS.items()]
    fig.legend(handles=patches, title="norm", loc="lower left", frameon=False, fontsize="small")
