"""The health rules: quiet on a healthy run, each tripped by the fault it is for."""

from __future__ import annotations

import json
import math

import pytest

from grpo_helpers.health import RULES, WINDOW, examine, main, panel_text
from grpo_helpers.run_folder import read_log
from grpo_helpers.thoughts import THOUGHT_RATIO, UNFINISHED_RATIO

HEALTHY = {
    "reward": 1.0,
    "rewards/em_reward/mean": 0.5,
    "completions/mean_length": 70.0,
    "completions/clipped_ratio": 0.0,
    "frac_reward_zero_std": 0.1,
    "entropy": 0.2,
    "kl": 0.01,
    "grad_norm": 0.02,
    "step_time": 11.0,
    "loss": 0.0,
}

# What each rule's quantities end with where it is broken.
FAULTS = {
    "reward": {"reward": 0.5},
    "exact match": {"rewards/em_reward/mean": 0.2},
    "reward and exact match": {"reward": 1.3, "rewards/em_reward/mean": 0.35},
    "completion length": {"completions/mean_length": 10.0},
    "clipped completions": {"completions/clipped_ratio": 0.6},
    "groups without a signal": {"frac_reward_zero_std": 1.0},
    "entropy": {"entropy": 2.0},
    "KL divergence": {"kl": 3.0},
    "gradient norm": {"grad_norm": 2.0},
    "seconds per step": {"step_time": 60.0},
}


def rows_ending_with(last=None, steps=20):
    """Return rows in which quantities start out healthy and then move evenly to ``last``."""
    rows = []
    for place in range(steps):
        moved = max(0, place - WINDOW) / max(1, steps - 1 - WINDOW)
        row = {"step": place + 1, **HEALTHY}
        for name, value in (last or {}).items():
            row[name] = HEALTHY[name] + (value - HEALTHY[name]) * moved
        rows.append(row)
    return rows


def alarms(rows):
    """Return the names of the rules that alarm."""
    return {finding.rule for finding in examine(rows) if finding.alarm}


def finding_of(rule, rows):
    """Return the finding of one rule."""
    (finding,) = [finding for finding in examine(rows) if finding.rule == rule]
    return finding


def write_log(path, rows, tail=""):
    """Write a log, and ``tail`` after its last line."""
    lines = [json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + tail, encoding="utf-8")
    return path


# -- rules -----------------------------------------------------------------------------------------


def test_every_rule_has_a_fault_here():
    assert set(FAULTS) == {rule.name for rule in RULES}


@pytest.mark.parametrize("rule", FAULTS)
def test_fault_trips_its_rule(rule):
    assert finding_of(rule, rows_ending_with(FAULTS[rule])).alarm


@pytest.mark.parametrize("rule", FAULTS)
def test_alarm_says_what_to_do(rule):
    assert finding_of(rule, rows_ending_with(FAULTS[rule])).action


@pytest.mark.parametrize("rule", FAULTS)
def test_summary_shows_first_and_last_value(rule):
    assert "->" in finding_of(rule, rows_ending_with(FAULTS[rule])).summary


def test_steady_run_is_healthy():
    assert not alarms(rows_ending_with())


def test_improving_run_is_healthy():
    better = {"reward": 1.3, "rewards/em_reward/mean": 0.95, "entropy": 0.08}

    assert not alarms(rows_ending_with(better))


def test_single_bad_step_is_no_alarm():
    rows = rows_ending_with()
    rows[-1] |= {"reward": 0.7, "grad_norm": 0.9}

    assert not alarms(rows)


def test_value_that_is_not_a_number_is_an_alarm():
    rows = rows_ending_with()
    rows[7]["loss"] = math.nan

    assert alarms(rows) == {"finite numbers"}


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_step_that_float16_skips_is_no_alarm(value):
    rows = rows_ending_with()
    for place in (0, 1, 9):
        rows[place]["grad_norm"] = value

    assert alarms(rows) == set()


def test_steps_that_are_skipped_on_and_on_are_an_alarm():
    rows = rows_ending_with()
    for row in rows[-WINDOW:]:
        row["grad_norm"] = math.inf

    assert alarms(rows) == {"finite numbers"}


def test_rule_without_its_quantity_is_left_out():
    rows = rows_ending_with()
    for row in rows:
        del row["kl"]

    assert "KL divergence" not in {finding.rule for finding in examine(rows)}


# -- thoughts --------------------------------------------------------------------------------------


def thinking_rows(last=None, unfinished=0.0):
    """Return rows of a run whose completions all hold a thought."""
    rows = rows_ending_with(last)
    return [row | {THOUGHT_RATIO: 1.0, UNFINISHED_RATIO: unfinished} for row in rows]


LONG = {"completions/mean_length": 300.0}


def test_thoughts_that_grow_with_the_reward_are_healthy():
    assert not alarms(thinking_rows(LONG | {"reward": 1.3}))


def test_thoughts_that_grow_for_nothing_are_an_alarm():
    assert alarms(thinking_rows(LONG)) == {"completion length"}


def test_answers_that_grow_with_the_reward_are_an_alarm_where_nothing_thinks():
    assert alarms(rows_ending_with(LONG | {"reward": 1.3})) == {"completion length"}


def test_completions_that_end_inside_a_thought_are_an_alarm():
    assert alarms(thinking_rows(unfinished=0.5)) == {"clipped completions"}


def test_clipped_completions_are_an_alarm_also_where_some_think():
    assert alarms(thinking_rows(FAULTS["clipped completions"])) == {"clipped completions"}


def test_rules_look_at_steps_before_the_first_thought():
    rows = rows_ending_with(FAULTS["clipped completions"])
    rows[-1] |= {THOUGHT_RATIO: 0.1, UNFINISHED_RATIO: 0.0}

    assert alarms(rows) == {"clipped completions"}


# -- short runs ------------------------------------------------------------------------------------


@pytest.fixture
def short_run():
    """One step fewer than the rules need, and a reward that falls."""
    return rows_ending_with({"reward": 0.1}, steps=2 * WINDOW - 1)


def test_short_run_has_no_alarm(short_run):
    assert not alarms(short_run)


def test_short_run_says_that_it_is_too_early(short_run):
    assert "too early" in finding_of("reward", short_run).summary


def test_panel_marks_rules_that_cannot_say_yet(short_run):
    findings = [finding for finding in examine(short_run) if finding.rule != "finite numbers"]
    signs = {line.split()[0] for line in panel_text(findings).splitlines()}

    assert signs == {"-"}


# -- processes -------------------------------------------------------------------------------------


def test_only_seconds_per_step_are_measured_by_each_process():
    measured = [rule.name for rule in RULES if rule.measured_per_process]

    assert measured == ["seconds per step"]


def test_finding_knows_that_its_rule_is_measured_per_process():
    rows = rows_ending_with(FAULTS["seconds per step"])

    assert finding_of("seconds per step", rows).measured_per_process


# -- the command -----------------------------------------------------------------------------------


def test_command_refuses_a_folder_without_a_log(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: no logged step")


def test_command_returns_0_on_a_healthy_run(tmp_path):
    write_log(tmp_path / "log.jsonl", rows_ending_with())

    assert main([str(tmp_path)]) == 0


def test_command_returns_1_on_an_alarm(tmp_path):
    log = write_log(tmp_path / "log.jsonl", rows_ending_with({"reward": 0.3}))

    assert main([str(log)]) == 1


def test_command_prints_the_alarm(tmp_path, capsys):
    log = write_log(tmp_path / "log.jsonl", rows_ending_with({"reward": 0.3}))
    main([str(log)])

    assert "ALARM  reward" in capsys.readouterr().out


def test_command_prints_what_to_do(tmp_path, capsys):
    log = write_log(tmp_path / "log.jsonl", rows_ending_with({"reward": 0.3}))
    main([str(log)])

    assert "what to do: lower the learning rate" in capsys.readouterr().out


def test_half_written_last_line_is_left_out(tmp_path):
    log = write_log(tmp_path / "log.jsonl", rows_ending_with(), tail='\n{"step": 21, "rew')

    assert main([str(log)]) == 0
    assert len(read_log(log)) == 20
