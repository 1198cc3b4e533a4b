"""The benchmark of growth: exponents, curves, targets."""

from __future__ import annotations

import pytest

from tools.benchmarks import growth
from tools.benchmarks.growth import CURVES, SLOWER, Curve, Point, exponent
from tools.benchmarks.sharing import Work

ONE, TWO = (Point(Work(prompt_tokens=tokens)) for tokens in (1, 2))


def facts_with(bare, shared):
    """Return the facts of every curve that has a target, with these exponents."""
    exponents = {"bare TRL": bare, "shared": shared}
    return {size: {"exponent": exponents} for size in SLOWER}


def test_exponent_of_a_square_is_two():
    assert exponent([2, 4, 8], [4.0, 16.0, 64.0]) == pytest.approx(2.0)


def test_exponent_of_equal_seconds_is_zero():
    assert exponent([1, 2, 4], [3.0, 3.0, 3.0]) == pytest.approx(0.0)


def test_facts_give_the_exponent_of_each_way():
    curve = Curve("prompt tokens", {1: ONE, 2: TWO})
    measured = {ONE: {"bare TRL": 1.0, "shared": 1.0}, TWO: {"bare TRL": 2.0, "shared": 1.0}}
    assert growth.facts_of(curve, measured)["exponent"] == {"bare TRL": 1.0, "shared": 0.0}


def test_way_that_grows_as_fast_misses_its_target():
    assert not any(target.is_reached for target in growth.targets_of(facts_with(0.9, 0.9)))


def test_way_that_grows_more_slowly_reaches_its_target():
    assert all(target.is_reached for target in growth.targets_of(facts_with(0.9, 0.4)))


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: curve.size)
def test_curve_has_three_sizes_and_the_start(curve):
    assert len(curve.points) == 3
    assert Point(growth.START) in curve.points.values()


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: curve.size)
def test_micro_batches_take_whole_groups(curve):
    for point in curve.points.values():
        assert point.work.micro_batch * point.work.micro_batches % point.work.group == 0


@pytest.mark.heavy
def test_point_is_measured_in_both_ways(monkeypatch):
    monkeypatch.setattr(growth, "STEPS", 1)
    work = Work(prompt_tokens=8, micro_batch=8, micro_batches=1, completion_tokens=2)
    assert set(growth.measure(Point(work, width=96))) == {"bare TRL", "shared"}
