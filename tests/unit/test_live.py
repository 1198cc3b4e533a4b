"""The curve that is drawn while a run trains."""

import json
from types import SimpleNamespace

import pytest

from grpo_helpers.live import EXACT_MATCH, LiveCurve, curve_so_far
from grpo_helpers.run_folder import RunFolder


def rows_of(*shares):
    """Return the log rows of steps with these shares of right samples."""
    rows = []
    for step, share in enumerate(shares, 1):
        rows.append({"step": step, "reward": 1.0, EXACT_MATCH: share})
    return rows


@pytest.fixture
def run(tmp_path):
    """A run with three logged steps."""
    lines = [json.dumps(row) for row in rows_of(0.25, 0.5, 0.75)]
    (tmp_path / "log.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return RunFolder(tmp_path)


@pytest.fixture
def shown(monkeypatch):
    """What is displayed and redrawn, in the order in which it is."""
    figures = []
    place = SimpleNamespace(update=lambda figure: figures.append(("redrawn", figure)))

    def display(figure, display_id):
        figures.append(("displayed", figure))
        return place

    monkeypatch.setattr("IPython.display.display", display)
    return figures


def state_at(step):
    return SimpleNamespace(global_step=step, max_steps=10, is_world_process_zero=True)


def test_title_says_how_far_the_run_is():
    figure = curve_so_far(rows_of(0.25, 0.5), steps=10)

    title = figure.axes[0].get_title()
    assert title == "step 2 of 10: 50% of the samples are right"


def test_axis_is_as_long_as_the_run_will_be():
    figure = curve_so_far(rows_of(0.25), steps=10)

    assert figure.axes[0].get_xlim() == (1, 10)


def test_curve_is_redrawn_in_its_place(run, shown):
    curve = LiveCurve(run)

    curve.on_step_end(None, state_at(2), None)
    curve.on_step_end(None, state_at(3), None)

    assert [what for what, _ in shown] == ["displayed", "redrawn"]


def test_curve_waits_for_its_turn(run, shown):
    LiveCurve(run, every=5).on_step_end(None, state_at(3), None)

    assert shown == []


def test_nothing_is_drawn_before_the_first_logged_step(tmp_path, shown):
    LiveCurve(RunFolder(tmp_path)).on_step_end(None, state_at(1), None)

    assert shown == []


def test_whole_curve_is_drawn_at_the_end(run, shown):
    LiveCurve(run, every=5).on_train_end(None, state_at(3), None)

    (_, figure), *_ = shown
    assert "step 3 of 10" in figure.axes[0].get_title()
