"""Colours and labels of figures, and what the figures of a choice show."""

from __future__ import annotations

import itertools

import matplotlib
import numpy as np
import pytest
from colour_vision import distance, lab
from helpers import ROOT, made_up_coins, scores_of

from grpo_helpers import carry_over, plots, rewards
from grpo_helpers.coins import FAMILIES
from grpo_helpers.health import CLIPPED
from grpo_helpers.library_fixes import ALL_RIGHT, ALL_WRONG
from grpo_helpers.run_folder import read_log
from grpo_helpers.scoring import scores_table
from grpo_helpers.selection import describe_choice
from grpo_helpers.thoughts import THOUGHT_LENGTH, THOUGHT_RATIO, UNFINISHED_RATIO

matplotlib.use("Agg")

PALETTES = {
    "arms": list(plots.ARMS.values()),
    "settings": list(plots.SETTINGS),
    "question types": list(plots.QUESTION_TYPES.values()),
    "splits": list(plots.SPLIT_COLORS.values()),
}


@pytest.mark.parametrize("palette", PALETTES)
def test_colours_of_a_palette_are_far_apart(palette):
    for first, second in itertools.combinations(PALETTES[palette], 2):
        assert distance(first, second) > 15, (first, second)


@pytest.mark.parametrize("palette", PALETTES)
def test_palette_is_distinct_from_the_quantities(palette):
    for color, quantity in itertools.product(PALETTES[palette], plots.COLORS):
        assert distance(color, plots.COLORS[quantity]) > 10, (color, quantity)


def test_colours_of_named_quantities_are_far_apart():
    named = [quantity for quantity in plots.COLORS if quantity != "other"]
    for first, second in itertools.combinations(named, 2):
        assert distance(plots.COLORS[first], plots.COLORS[second]) > 15, (first, second)


def test_colours_of_own_rewards_are_far_apart():
    for first, second in itertools.combinations(rewards.EXTRA_COLORS, 2):
        assert distance(first, second) > 15, (first, second)


@pytest.mark.parametrize("color", rewards.EXTRA_COLORS)
def test_colour_of_an_own_reward_is_distinct_from_the_quantities(color):
    for quantity, other in plots.COLORS.items():
        assert distance(color, other) > 15, quantity


def test_greys_of_the_kinds_of_norm_are_far_apart():
    for first, second in itertools.combinations(plots.KIND_COLORS.values(), 2):
        assert distance(first, second) > 15, (first, second)


@pytest.mark.parametrize("quantity", plots.COLORS)
def test_colour_of_a_quantity_is_that_of_the_table(quantity):
    assert plots.color_of(quantity) == plots.COLORS[quantity]


# -- rewards of one's own --------------------------------------------------------------------------


@pytest.fixture
def own_reward():
    """A reward of one's own, in the registry for one test."""
    return rewards.register("brevity", lambda completions, **_: [1.0] * len(completions))


def test_own_reward_has_the_colour_of_the_registry(own_reward):
    assert plots.color_of("brevity") == own_reward.color


def test_own_reward_has_the_label_of_the_registry(own_reward):
    assert plots.label_of("brevity") == own_reward.label


def labels_of(ax):
    return [line.get_label() for line in ax.lines if not line.get_label().startswith("_")]


@pytest.fixture(scope="module")
def log():
    return read_log(ROOT / "data/reference_runs/seed_0/log.jsonl")


def test_reward_figure_draws_the_four_parts(log):
    fig = plots.plot_rewards(log)

    assert labels_of(fig.axes[1]) == ["exact match", "ROUGE-1", "BERTScore", "format"]


def test_reward_figure_draws_an_own_reward_that_was_logged(log, own_reward):
    rows = [row | {"rewards/brevity_reward/mean": 0.5} for row in log]

    fig = plots.plot_rewards(rows)

    assert labels_of(fig.axes[1])[-1] == "brevity"


def test_reward_figure_leaves_out_an_own_reward_that_was_not_logged(log, own_reward):
    fig = plots.plot_rewards(log)

    assert "brevity" not in labels_of(fig.axes[1])


def test_rollout_figure_draws_groups_all_right_and_all_wrong_apart(log):
    rows = [row | {ALL_RIGHT: 0.2, ALL_WRONG: 0.1} for row in log]

    _, shares = plots.plot_rollouts(rows).axes

    equal = ["groups whose rewards are all equal", "of them, all right", "of them, all wrong"]
    assert labels_of(shares) == [*equal, "clipped completions"]


def test_rollout_figure_of_an_older_log_draws_equal_groups_together(log):
    _, shares = plots.plot_rollouts(log).axes

    assert labels_of(shares) == ["groups whose rewards are all equal", "clipped completions"]


def test_lines_of_the_rollout_figure_look_different(log):
    rows = [row | {ALL_RIGHT: 0.2, ALL_WRONG: 0.1} for row in log]
    _, shares = plots.plot_rollouts(rows).axes

    named = [line for line in shares.lines if not line.get_label().startswith("_")]
    looks = {(line.get_color(), line.get_linestyle()) for line in named}
    assert len(looks) == len(named)


def test_health_figure_hides_its_empty_panels(log):
    fig = plots.plot_health(log)

    for ax in fig.axes:
        assert ax.axison == bool(ax.get_title())


def test_panel_of_a_share_shows_no_negative_values(log):
    rows = [row | {CLIPPED: 0.0} for row in log]

    panels = {ax.get_title(): ax for ax in plots.plot_health(rows).axes}

    assert panels["clipped completions"].get_ylim()[0] == 0


THOUGHTS = {THOUGHT_RATIO: 0.5, UNFINISHED_RATIO: 0.1, THOUGHT_LENGTH: 40.0}


def test_thought_figure_has_one_axis_of_steps(log):
    top, bottom = plots.plot_thoughts([row | THOUGHTS for row in log]).axes

    assert top.get_shared_x_axes().joined(top, bottom)


def test_thought_figure_draws_reward_share_and_lengths(log):
    top, bottom = plots.plot_thoughts([row | THOUGHTS for row in log]).axes

    shares = ["share that thinks", "share that ends inside its thought"]
    assert labels_of(top) == ["reward (weighted sum)", *shares]
    assert labels_of(bottom) == ["whole completion", "thought, of those that think"]


def test_thought_figure_of_a_run_that_does_not_think_draws_no_thought(log):
    top, bottom = plots.plot_thoughts(log).axes

    assert labels_of(top) == ["reward (weighted sum)"]
    assert labels_of(bottom) == ["whole completion"]


def test_health_figure_of_a_run_that_thinks_has_the_same_panels(log):
    thinking = plots.plot_health([row | THOUGHTS for row in log])

    titles = [ax.get_title().removeprefix("ALARM: ") for ax in thinking.axes]
    expected = [ax.get_title().removeprefix("ALARM: ") for ax in plots.plot_health(log).axes]
    assert titles == expected


# -- the choice ------------------------------------------------------------------------------------

SCORES = scores_of(epoch_0=[0] * 40, epoch_1=[1] * 40, epoch_2=[1] * 39 + [0])


@pytest.fixture(scope="module")
def choice():
    return describe_choice(SCORES, samples=200)


def test_checkpoint_figure_names_the_chosen_one(choice):
    fig = plots.plot_checkpoints(scores_table(SCORES), choice)

    title = "Chosen on dev: epoch_1 (Final Mean 0.667); 2 checkpoints statistically tied"
    assert fig.axes[0].get_title() == title


def test_checkpoint_figure_draws_an_own_reward(choice, own_reward):
    table = scores_table(SCORES).assign(brevity=0.5)

    fig = plots.plot_checkpoints(table, choice)

    assert "brevity" in labels_of(fig.axes[0])


def test_difference_figure_compares_with_base_and_highest(choice):
    fig = plots.plot_differences(choice)

    left, right = fig.axes
    assert left.get_title() == "Against the base (grey: not significant)"
    assert right.get_title() == "Against epoch_1 (grey: not significant)"


# -- coins -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def heat_maps():
    """The heat maps of two runs about the same words."""
    coins = made_up_coins()
    backwards = coins.rows(range(len(coins.words))[::-1])
    return coins, plots.plot_coins({"one": coins, "the other": backwards})


def images(fig):
    """Return what is drawn as an image, map by map: the upper ones, then the lower ones."""
    return [ax.images[0].get_array() for ax in fig.axes[:4]]


def test_heat_maps_show_every_word_once_in_each_run(heat_maps):
    coins, fig = heat_maps
    words = len(coins.words)

    upper, upper_beside, lower, lower_beside = images(fig)

    assert len(upper) + len(lower) == words
    assert len(upper_beside) + len(lower_beside) == words


def test_word_has_the_same_row_in_every_run(heat_maps):
    _, fig = heat_maps
    upper, upper_beside, *_ = images(fig)

    assert np.array_equal(upper, upper_beside)


def test_title_of_a_heat_map_counts_what_has_turned(heat_maps):
    coins, fig = heat_maps
    rewarded = coins.of_blocks("rewarded")

    counted = f"{rewarded.turned()} of {len(rewarded.words)} words above .9"

    assert fig.axes[0].get_title() == f"one\n{counted}"


def test_families_are_named_with_an_example(heat_maps):
    _, fig = heat_maps
    labels = [label.get_text() for label in fig.axes[0].get_yticklabels()]

    assert len(labels) == len(FAMILIES)
    assert labels[0] == "not: an / anh  an-anh-0"


def test_colours_of_right_and_wrong_are_far_apart_for_every_reader():
    low, *_, high = plots.SHARE_COLORS
    middle = plots.SHARE_COLORS[len(plots.SHARE_COLORS) // 2]

    assert distance(low, high) > 30
    assert distance(low, middle) > 40
    assert distance(high, middle) > 40


def test_colours_of_a_share_grow_lighter_towards_the_middle():
    lightness = [lab(color, "full")[0] for color in plots.SHARE_COLORS]
    middle = len(lightness) // 2

    assert lightness[: middle + 1] == sorted(lightness[: middle + 1])
    assert lightness[middle:] == sorted(lightness[middle:], reverse=True)


# -- words of each norm ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def words_per_norm():
    """The figure of the recorded trainings, memory beside rule, and what it is drawn from."""
    points = carry_over.load_points(ROOT / "data/reference_runs" / carry_over.FOLDER)
    shares = carry_over.memory_and_rule(points)
    fig = plots.plot_words_per_norm({"Memory": (shares, "memory"), "Rule": (shares, "rule")})
    return fig, shares


def test_each_way_has_a_line_in_each_panel(words_per_norm):
    fig, _ = words_per_norm

    for ax in fig.axes:
        labels = [line.get_label() for line in ax.lines]
        assert set(carry_over.WAYS.values()) <= set(labels)


def test_line_of_a_way_is_the_mean_of_its_seeds(words_per_norm):
    fig, shares = words_per_norm
    of_way = shares[shares["way"] == "gold"].groupby("words")["rule"].mean()

    (line,) = [line for line in fig.axes[1].lines if line.get_label() == carry_over.WAYS["gold"]]

    assert line.get_ydata() == pytest.approx(of_way.to_numpy())
