"""The statistics: against scipy and brute force, in simulations, and on the published counts."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from grpo_helpers.statistics import (
    holm,
    mcnemar,
    paired_bootstrap,
    resampled_means,
    seed_spread,
    sign_flip_p,
    winners_curse,
)

# -- intervals -------------------------------------------------------------------------------------


def test_interval_is_scipys_percentile_interval():
    rng = np.random.default_rng(1)
    ours = rng.random(60)
    theirs = rng.random(60)

    low, high = paired_bootstrap(ours, theirs, samples=20_000)

    expected = stats.bootstrap(
        (ours - theirs,), np.mean, n_resamples=20_000, method="percentile", rng=2
    )
    assert (low, high) == pytest.approx(tuple(expected.confidence_interval), abs=0.005)


def test_interval_agrees_with_the_normal_approximation():
    rng = np.random.default_rng(0)
    reference = rng.integers(0, 2, 400)
    scores = np.where(rng.random(400) < 0.3, 1, reference)

    low, high = paired_bootstrap(scores, reference)

    difference = scores - reference
    error = difference.std(ddof=1) / np.sqrt(400)
    assert low == pytest.approx(difference.mean() - 1.96 * error, abs=0.005)
    assert high == pytest.approx(difference.mean() + 1.96 * error, abs=0.005)


@pytest.mark.heavy
def test_interval_covers_the_truth_in_95_percent_of_runs():
    rng = np.random.default_rng(5)
    runs = 1000
    true_gain = 0.25 * (0.8 - 0.45)
    covered = 0

    for _ in range(runs):
        base = rng.random(127) < 0.45
        better = np.where(rng.random(127) < 0.25, rng.random(127) < 0.8, base)
        low, high = paired_bootstrap(better, base, samples=1000)
        covered += low <= true_gain <= high

    assert 0.93 <= covered / runs <= 0.97


def test_resampled_items_are_the_same_for_all_rows():
    rows = np.random.default_rng(9).random((2, 30))

    means = resampled_means(np.vstack([rows, rows[:1]]), 500, seed=1)

    assert (means[:, 0] == means[:, 2]).all()


def test_resampling_repeats_with_its_seed():
    rows = np.random.default_rng(9).random((3, 30))

    assert (resampled_means(rows, 500, seed=1) == resampled_means(rows, 500, seed=1)).all()


# -- p-values --------------------------------------------------------------------------------------


@pytest.fixture
def differences():
    return np.random.default_rng(3).normal(0.4, 1, (3, 10))


@pytest.fixture
def exact_p(differences):
    """The p of each row over all of its 1,024 signs."""
    signs = np.array(list(itertools.product([-1, 1], repeat=10)))
    shares = []
    for row in differences:
        shares.append((np.abs(signs @ row) >= abs(row.sum()) - 1e-12).mean())
    return shares


def test_sign_flip_p_is_the_share_of_all_flips(differences, exact_p):
    assert sign_flip_p(differences, 50_000) == pytest.approx(exact_p, abs=0.01)


def test_share_of_all_flips_is_scipys_permutation_test(differences, exact_p):
    for row, p in zip(differences, exact_p, strict=True):
        test = stats.permutation_test(
            (row, 0 * row),
            lambda a, b: np.mean(a - b),
            permutation_type="samples",
            n_resamples=np.inf,
        )
        assert test.pvalue == pytest.approx(p, abs=1e-9)


def test_mcnemars_p_is_the_binomial_sum_written_out():
    for wins, losses in itertools.product(range(8), range(8)):
        n = wins + losses
        fewer = min(wins, losses)
        tail = sum(math.comb(n, i) for i in range(fewer + 1)) / 2**n
        expected = 1.0 if wins == losses else min(1.0, 2 * tail)

        test = mcnemar([1] * wins + [0] * losses, [0] * wins + [1] * losses)

        assert test.p_value == pytest.approx(expected)


def test_mcnemar_gives_the_published_p():
    # 127 items; the published best checkpoint wins 7 and loses 5 against the next: p = .77
    best = [1] * 7 + [0] * 5 + [1] * 69 + [0] * 46
    other = [0] * 7 + [1] * 5 + [1] * 69 + [0] * 46

    wins, losses, p = mcnemar(best, other)

    assert (wins, losses, round(p, 2)) == (7, 5, 0.77)


def test_holm_agrees_with_the_closed_test():
    """A hypothesis is rejected where Bonferroni rejects every set of hypotheses it belongs to."""
    sets = [
        list(chosen) for size in range(1, 5) for chosen in itertools.combinations(range(4), size)
    ]
    rng = np.random.default_rng(4)

    for _ in range(50):
        p = rng.random(4) ** 2
        closed = []
        for hypothesis in range(4):
            bonferroni = [len(chosen) * min(p[chosen]) for chosen in sets if hypothesis in chosen]
            closed.append(max(bonferroni))
        assert holm(p) == pytest.approx(np.minimum(1, closed))


# -- the winner's curse ----------------------------------------------------------------------------


def test_choice_among_equals_flatters_itself():
    rng = np.random.default_rng(7)
    equal = (rng.random((14, 127)) < 0.5).astype(float)

    assert 0.02 < winners_curse(equal) < 0.2


def test_clear_choice_does_not_flatter_itself():
    right = np.random.default_rng(7).random(127) < 0.9
    clear = np.vstack([np.zeros(127), right.astype(float)])

    assert abs(winners_curse(clear)) < 0.01


# -- repeated runs ---------------------------------------------------------------------------------


def test_seed_spread_has_no_luck_where_effects_add_up():
    by_seed = np.array([[0.0], [0.02], [0.04]])
    by_epoch = np.array([[0.5, 0.6, 0.9]])

    spread = seed_spread(by_seed + by_epoch, questions=100)

    assert spread.luck == pytest.approx(0, abs=1e-9)
    assert spread.by_seed == pytest.approx(2.0)
    assert spread.by_epoch == pytest.approx(100 * np.std([0.5, 0.6, 0.9], ddof=1))


def test_seed_spread_finds_the_luck_that_was_added():
    rng = np.random.default_rng(0)
    curves = np.linspace(0.5, 0.9, 40) + 0.01 * rng.normal(size=(30, 40))

    assert seed_spread(curves, questions=100).luck == pytest.approx(1.0, abs=0.1)


def test_lead_is_best_minus_second_best_of_each_seed():
    curves = np.array([[0.5, 0.8, 0.7], [0.9, 0.6, 0.87]])

    assert seed_spread(curves, questions=100).lead == pytest.approx((10 + 3) / 2)


def test_questions_leave_the_standard_error_of_a_share():
    curves = np.array([[0.1, 0.4], [0.2, 0.6]])

    assert seed_spread(curves, questions=100).of_questions == pytest.approx(5.0)
