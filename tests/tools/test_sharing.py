"""The benchmarks of shared prompts: ratios, targets, seconds by part."""

from __future__ import annotations

import pytest

from tools.benchmarks import sharing, step_profile
from tools.benchmarks.pairs import TimesFaster
from tools.benchmarks.sharing import Case
from tools.benchmarks.step_profile import Profile, Stopwatch


def case_of(prompt_tokens, bare, shared):
    """Return a case with these seconds, and half of the memory for the shared way."""
    seconds = {"bare TRL": bare, "shared": shared}
    return Case(prompt_tokens, None, seconds, {"bare TRL": 2000, "shared": 1000})


def test_ratio_is_taken_pair_by_pair():
    assert TimesFaster.of([4.0, 9.0, 8.0], [2.0, 3.0, 2.0]).median == 3.0


def test_interval_of_equal_pairs_is_a_point():
    ratio = TimesFaster.of([4.0, 4.0, 4.0], [2.0, 2.0, 2.0])
    assert (ratio.low, ratio.high) == (2.0, 2.0)


def test_interval_contains_the_median():
    ratio = TimesFaster.of([4.0, 6.0, 5.0, 9.0], [2.0, 2.0, 2.0, 2.0])
    assert ratio.low <= ratio.median <= ratio.high


def test_slow_sharing_misses_its_target():
    targets = sharing.targets_of(case_of(1000, [4.0], [2.0]))
    assert [target.is_reached for target in targets] == [False, True]


def test_short_prompt_need_not_save_memory():
    assert len(sharing.targets_of(case_of(32, [4.0], [4.0]))) == 1


@pytest.mark.heavy
def test_measured_case_has_as_many_steps_of_each_way(monkeypatch):
    monkeypatch.setattr(sharing, "PAIRS", 1)
    monkeypatch.setattr(sharing, "COMPLETION_TOKENS", 2)
    case = Case(prompt_tokens=8, quant_type=None)
    sharing.measure(case)
    assert {way: len(seconds) for way, seconds in case.seconds.items()} == {
        "bare TRL": 1,
        "shared": 1,
    }


# -- seconds by part -------------------------------------------------------------------------------


class Clock:
    """A clock that tests move."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    """The clock of the stopwatch."""
    moved = Clock()
    monkeypatch.setattr(step_profile, "time", moved)
    return moved


def test_inner_part_is_taken_out_of_the_outer_one(clock):
    stopwatch = Stopwatch()
    with stopwatch.part("outer"):
        clock.now += 1
        with stopwatch.part("inner"):
            clock.now += 5
        clock.now += 2
    assert stopwatch.seconds == {"outer": 3, "inner": 5}


def test_lap_counts_from_the_last_one(clock):
    stopwatch = Stopwatch()
    with stopwatch.part("part"):
        clock.now += 1
        first = stopwatch.lap()
        clock.now += 2
        second = stopwatch.lap()
    assert (first, second) == ({"part": 1}, {"part": 2})


def test_time_is_read_once_the_work_is_done(clock):
    def work():
        clock.now += 4

    stopwatch = Stopwatch(wait=work)
    with stopwatch.part("part"):
        pass
    assert stopwatch.seconds == {"part": 4}


def test_failure_ends_a_part(clock):
    stopwatch = Stopwatch()
    with pytest.raises(RuntimeError), stopwatch.part("part"):
        clock.now += 1
        raise RuntimeError
    assert (stopwatch.current, stopwatch.seconds["part"]) == ("", 1)


def test_floor_is_operations_over_rate():
    seconds = dict.fromkeys(step_profile.PARTS, 1.0)
    profiles = {"TRL": Profile(seconds, {}), "shared": Profile(seconds, {"loss forward": 6e9})}
    rows = {row["part"]: row["floor"] for row in step_profile.rows_of(profiles, rate=3e9)}
    assert (rows["loss forward"], rows["rewards"]) == (2.0, 0.0)
