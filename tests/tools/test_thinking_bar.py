"""The bar of the thinking model: what it asks for, and what it is measured from."""

from dataclasses import replace

import pytest

from grpo_helpers import thinking_runs
from tools.course import thinking_bar
from tools.course.thinking_bar import SeedResult, measure, targets
from tools.experiments import thinking

GOOD = SeedResult(
    seed=0,
    thinks=0.99,
    right=0.9,
    gold=0.5,
    taught=0.97,
    over_base=40,
    over_base_low=30,
    over_gold=40,
    over_gold_low=30,
)
BASE = {"thinks": 0.45, "right without": 0.5}


def missed(results, base=BASE):
    """Return the names of the targets that are missed."""
    return [target.name for target in targets(results, base) if not target.is_reached]


def test_good_results_reach_every_target():
    assert missed([GOOD, GOOD, GOOD]) == []


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"thinks": 0.8}, "GRPO: share that thinks, lowest"),
        ({"gold": 0.7}, "gate: right after gold answers, highest"),
        ({"taught": 0.9}, "gate: right after true thoughts, lowest"),
        ({"over_gold_low": -1}, "95 % intervals, lowest bound"),
    ],
)
def test_one_bad_seed_is_not_averaged_away(changes, name):
    assert missed([GOOD, GOOD, replace(GOOD, **changes)]) == [name]


def test_base_that_always_thinks_misses_its_target():
    base = BASE | {"thinks": 0.9}
    assert missed([GOOD], base) == ["base: share that thinks, sampled"]


@pytest.fixture(scope="module")
def recorded():
    return thinking_runs.load_ways(thinking.OUT)


@pytest.mark.parametrize("seed", thinking.SEEDS)
def test_gain_is_the_difference_of_the_recorded_answers(recorded, seed):
    result = measure(recorded, seed)
    assert result.over_gold == pytest.approx(100 * (result.right - result.gold))
    assert result.over_gold_low < result.over_gold


def test_measuring_what_is_recorded_trains_nothing(monkeypatch, capsys):
    monkeypatch.setattr(thinking_bar, "_train", None)
    thinking_bar.main(["--recorded"])
    assert "gate: right after gold answers" in capsys.readouterr().out
