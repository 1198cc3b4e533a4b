"""The statistics of choosing: against scipy and brute force, in simulations, and on the published counts."""

import itertools
import math
import time

import numpy as np
import pytest
from scipy import stats

from grpo_helpers.files import InputError
from grpo_helpers.scoring import item_finals
from grpo_helpers.selection import against, choose, describe_choice, tied_set
from grpo_helpers.statistics import (
    holm,
    mcnemar,
    paired_bootstrap,
    resampled_means,
    sign_flip_p,
    winners_curse,
)


def matrix(**right):
    """Return scores in which exact match alone differs."""
    return {
        name: {
            "em": list(em),
            "choice": list(em),
            "rouge1": [0.5] * len(em),
            "bertscore": [0.5] * len(em),
        }
        for name, em in right.items()
    }


# -- against independent computations ------------------------------------------------------------------------------


def test_the_interval_is_scipys_percentile_interval():
    dice = np.random.default_rng(1)
    ours, theirs = dice.random(60), dice.random(60)
    low, high = paired_bootstrap(ours, theirs, samples=20_000)
    other = stats.bootstrap(
        (ours - theirs,), np.mean, n_resamples=20_000, method="percentile", rng=2
    )
    assert (low, high) == pytest.approx(tuple(other.confidence_interval), abs=0.005)


def test_flipping_signs_gives_the_exact_p_of_all_flips_and_scipys():
    differences = np.random.default_rng(3).normal(0.4, 1, (3, 10))
    signs = np.array(list(itertools.product([-1, 1], repeat=10)))
    exact = [(np.abs(signs @ row) >= abs(row.sum()) - 1e-12).mean() for row in differences]
    assert sign_flip_p(differences, 50_000) == pytest.approx(exact, abs=0.01)
    for row, p in zip(differences, exact, strict=True):
        assert stats.permutation_test((row, 0 * row), lambda a, b: np.mean(a - b), permutation_type="samples",
                                      n_resamples=np.inf).pvalue == pytest.approx(p, abs=1e-9)  # fmt: skip


def test_mcnemars_p_is_the_binomial_sum_written_out():
    for wins, losses in itertools.product(range(8), range(8)):
        n, k = wins + losses, min(wins, losses)
        written = (
            min(1.0, 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n)
            if wins != losses
            else 1.0
        )
        assert mcnemar([1] * wins + [0] * losses, [0] * wins + [1] * losses)[2] == pytest.approx(
            written
        )


def test_holm_agrees_with_the_closed_test_it_is_a_shortcut_of():
    """A hypothesis is rejected where Bonferroni rejects every set of hypotheses that holds it."""
    dice = np.random.default_rng(4)
    for _ in range(50):
        p = dice.random(4) ** 2
        closed = [
            max(len(others) * min(p[list(others)]) for size in range(1, 5)
                for others in itertools.combinations(range(4), size) if i in others)
            for i in range(4)
        ]  # fmt: skip
        assert holm(p) == pytest.approx(np.minimum(1, closed))


def test_an_items_parts_add_up_to_the_final_mean_and_what_is_left_out_counts_nothing():
    scores = matrix(epoch_0=[1, 0, 1, 1], epoch_1=[0, 0, 1, 1])
    assert item_finals(scores).mean(axis=1) == pytest.approx([(0.75 + 1) / 3, (0.5 + 1) / 3])
    official = {"em_official": [1, 1, 0, 0], "rouge1_official": [0.2, math.nan, 0.4, math.nan],
                "bertscore_official": [0.6, math.nan, 0.8, math.nan]}  # fmt: skip
    found = item_finals({"epoch_0": official}, "official")
    assert found.mean() == pytest.approx(((0.3 + 0.7) / 2 + 0.5) / 2)


def test_the_probability_of_being_best_is_the_share_of_resampled_sets_won():
    scores = matrix(
        epoch_0=[1, 1, 0, 0, 1, 0], epoch_1=[1, 0, 1, 1, 1, 0], epoch_2=[0, 0, 1, 0, 1, 1]
    )
    finals = item_finals(scores)
    sets = np.array(
        list(itertools.product(range(6), repeat=6))
    )  # all 46,656 sets that resampling can give
    first = finals[:, sets].mean(axis=2).round(9).argmax(axis=0)
    exact = np.bincount(first, minlength=3) / len(sets)
    rows = describe_choice(scores, samples=40_000)["checkpoints"]
    assert [rows[name]["probability_best"] for name in scores] == pytest.approx(exact, abs=0.01)


# -- simulations ---------------------------------------------------------------------------------------------------


def test_the_interval_covers_the_true_difference_in_93_to_97_percent_of_simulated_runs():
    dice, runs, covered = np.random.default_rng(5), 1000, 0
    for _ in range(runs):
        base = dice.random(127) < 0.45
        better = np.where(
            dice.random(127) < 0.25, dice.random(127) < 0.8, base
        )  # true gain: .25 * (.8 - .45)
        low, high = paired_bootstrap(better, base, samples=1000)
        covered += low <= 0.25 * 0.35 <= high
    assert 0.93 <= covered / runs <= 0.97


def test_better_than_base_is_said_in_at_most_5_percent_of_runs_in_which_nothing_changed():
    """Six checkpoints, each differing from the base by chance; the highest is chosen and then called better or not."""
    dice, runs, said = np.random.default_rng(6), 400, 0
    for _ in range(runs):
        ability = dice.random(127)
        scores = matrix(
            **{f"epoch_{i}": (dice.random(127) < ability).astype(float) for i in range(7)}
        )
        best = choose(scores)
        found = against(scores, "epoch_0", samples=400).get(best)
        said += bool(found and found["difference"] > 0 and found["p_holm"] <= 0.05)
    assert said / runs <= 0.05


def test_a_choice_among_equals_flatters_itself_and_a_clear_one_does_not():
    dice = np.random.default_rng(7)
    equal = (dice.random((14, 127)) < 0.5).astype(float)
    assert 0.02 < winners_curse(equal) < 0.2
    clear = np.vstack([np.zeros(127), (dice.random(127) < 0.9).astype(float)])
    assert abs(winners_curse(clear)) < 0.01


# -- the published run ---------------------------------------------------------------------------------------------


def published():
    """Return a matrix with the published counts: 127 items, 70, 71, 74, 76 and 71 right in epochs 1 to 5.

    The wins and losses of epoch 4 against the others are those whose exact p is the published one.
    """
    scores = {"epoch_4": [1.0] * 76 + [0.0] * 51}
    for name, wins, losses in (
        ("epoch_1", 10, 4),
        ("epoch_2", 13, 8),
        ("epoch_3", 7, 5),
        ("epoch_5", 9, 4),
    ):
        scores[name] = [0.0] * wins + [1.0] * (76 - wins) + [1.0] * losses + [0.0] * (51 - losses)
    return matrix(**{name: scores[name] for name in sorted(scores)})


def test_the_published_counts_give_the_published_p_values_and_a_tied_set():
    scores = published()
    assert [int(sum(row["em"])) for row in scores.values()] == [70, 71, 74, 76, 71]
    found = against(scores, "epoch_4")
    p_values = [round(found[f"epoch_{i}"]["p_em"], 2) for i in (3, 5, 2, 1)]
    assert p_values == [0.77, 0.27, 0.38, 0.18]
    report = describe_choice(scores)
    assert report["best_checkpoint"] == "epoch_4" and report["tied"] == [
        f"epoch_{i}" for i in range(1, 6)
    ]
    assert 0.4 < report["checkpoints"]["epoch_4"]["probability_best"] < 0.8


def test_the_earliest_tied_checkpoint_can_be_chosen_instead():
    assert choose(published(), "earliest_tied") == "epoch_1"
    clear = matrix(epoch_0=[0] * 40, epoch_1=[1] * 40, epoch_2=[1] * 39 + [0])
    assert choose(clear, "highest") == choose(clear, "earliest_tied") == "epoch_1"
    assert tied_set("epoch_1", against(clear, "epoch_1")) == ["epoch_1", "epoch_2"]
    with pytest.raises(InputError, match="unknown rule 'newest'; known are highest, earliest_tied"):
        choose(clear, "newest")


def test_thousands_of_items_and_dozens_of_checkpoints_take_seconds():
    dice = np.random.default_rng(8)
    scores = {
        f"epoch_{i}": {m: dice.random(2000) for m in ("em", "choice", "rouge1", "bertscore")}
        for i in range(24)
    }
    for row in scores.values():
        row["em"] = (row["em"] < 0.6).astype(float)
    started = time.perf_counter()
    assert len(describe_choice(scores)["checkpoints"]) == 24
    assert time.perf_counter() - started < 30


def test_resampling_is_the_same_for_all_checkpoints_and_repeats_with_its_seed():
    rows = np.random.default_rng(9).random((2, 30))
    means = resampled_means(np.vstack([rows, rows[:1]]), 500, seed=1)
    assert (means[:, 0] == means[:, 2]).all() and (
        means == resampled_means(np.vstack([rows, rows[:1]]), 500, 1)
    ).all()
