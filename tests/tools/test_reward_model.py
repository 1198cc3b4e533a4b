"""The learned reward of the page on rewards: its pairs, and the arithmetic of best-of-n."""

from itertools import combinations

import numpy as np
import pytest

from grpo_helpers.data import load_items
from grpo_helpers.rewards import em_reward
from tools.experiments import reward_model
from tools.experiments.reward_model import best_of_n


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_best_of_n_is_the_mean_over_all_draws(n):
    scores = np.array([[0.3, -1.0, 2.0, 0.5, 0.1]])
    values = np.array([[1.0, 0.0, 0.0, 1.0, 1.0]])
    chosen = []
    for drawn in combinations(range(5), n):
        best = max(drawn, key=lambda place: scores[0, place])
        chosen.append(values[0, best])

    assert best_of_n(scores, values, n) == pytest.approx([np.mean(chosen)])


def test_pair_has_the_right_form_and_the_wrong_one():
    items = load_items(reward_model.TRAIN_FILE)
    pairs = reward_model.comparisons(items)
    golds = [item.answer for item in items]

    assert len(pairs) == len(items) == reward_model.PAIRS[-1]
    assert all(em_reward(None, [pair.chosen for pair in pairs], references=golds))
    assert not any(em_reward(None, [pair.rejected for pair in pairs], references=golds))


def test_pool_has_every_recorded_completion():
    pool = reward_model.recorded_pool()

    assert pool.gold.shape == (len(pool.items), reward_model.CHOICES[-1])
    assert {len(answers) for answers in pool.answers} == {reward_model.CHOICES[-1]}
