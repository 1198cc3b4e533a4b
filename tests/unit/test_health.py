"""The health rules: quiet on a run that is well, each tripped by the fault it is for."""

import json
import math

import pytest

from grpo_helpers.health import RULES, WINDOW, examine, main, panel_text
from grpo_helpers.run_folder import read_log

WELL = {
    "reward": 1.0, "rewards/em_reward/mean": 0.5, "completions/mean_length": 70.0, "completions/clipped_ratio": 0.0,
    "frac_reward_zero_std": 0.1, "entropy": 0.2, "kl": 0.01, "grad_norm": 0.02, "step_time": 11.0, "loss": 0.0,
}  # fmt: skip


def run(steps=20, **last):
    """Return rows in which the named fields begin as usual and then move evenly to ``last``."""
    moved = [max(0, i - WINDOW) / max(1, steps - 1 - WINDOW) for i in range(steps)]
    return [
        {"step": i + 1, **WELL, **{k: WELL[k] + (v - WELL[k]) * moved[i] for k, v in last.items()}}
        for i in range(steps)
    ]


def alarms(rows):
    return {finding.rule for finding in examine(rows) if finding.alarm}


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


def test_every_rule_has_a_fault_here():
    assert set(FAULTS) == {rule.name for rule in RULES}


@pytest.mark.parametrize("rule", FAULTS)
def test_a_fault_trips_its_rule_and_says_what_to_do(rule):
    rows = run(**FAULTS[rule])
    (finding,) = [found for found in examine(rows) if found.rule == rule]
    assert finding.alarm and finding.action and "->" in finding.told
    assert not alarms(run(**{key: WELL[key] for key in FAULTS[rule]}))


def test_a_run_that_improves_is_well():
    assert not alarms(run(reward=1.3, **{"rewards/em_reward/mean": 0.95, "entropy": 0.08}))


def test_a_single_bad_step_is_no_alarm_and_a_number_that_is_none_is():
    rows = run()
    rows[-1] |= {"reward": 0.7, "grad_norm": 0.9}
    assert not alarms(rows)
    rows[7]["loss"] = math.nan
    assert alarms(rows) == {"finite numbers"}


def test_kl_is_left_out_where_it_is_not_logged_and_a_short_run_is_not_judged():
    rows = [
        {key: value for key, value in row.items() if key != "kl"}
        for row in run(steps=2 * WINDOW - 1, reward=0.1)
    ]
    assert "KL divergence" not in {finding.rule for finding in examine(rows)}
    assert not alarms(rows) and any("not before" in finding.told for finding in examine(rows))
    signs = {
        line.split()[0]
        for line in panel_text(examine(rows)).splitlines()
        if "finite numbers" not in line
    }
    assert signs == {"-"}


def test_the_command_exits_by_what_it_finds(tmp_path, capsys):
    log = tmp_path / "log.jsonl"
    assert main([str(tmp_path)]) == 2 and "no logged step" in capsys.readouterr().err
    log.write_text(
        "\n".join(json.dumps(row) for row in run()) + '\n{"step": 21, "rew', encoding="utf-8"
    )
    assert main([str(tmp_path)]) == 0 and len(read_log(log)) == 20
    log.write_text("\n".join(json.dumps(row) for row in run(reward=0.3)), encoding="utf-8")
    assert main([str(log)]) == 1
    told = capsys.readouterr().out
    assert "ALARM  reward" in told and "what to do: lower the learning rate" in told


def test_a_run_that_is_asked_to_stops_on_an_alarm_with_a_save(tmp_path):
    """Answers may have 8 tokens only, so all are cut off."""
    from grpo_helpers.training import read_params, train

    changes = {
        "output_dir": tmp_path,
        "max_steps": 30,
        "save_steps": 30,
        "max_completion_length": 8,
    }
    changes |= {
        "stop_on_alarm": True,
        "num_threads": 1,
        "num_generations": 2,
        "per_device_train_batch_size": 2,
    }
    train(
        read_params(
            "params/smoke/04_train.yaml", [(name, str(value)) for name, value in changes.items()]
        )
    )
    rows = read_log(tmp_path / "smoke/log.jsonl")
    assert len(rows) == 2 * WINDOW and (tmp_path / f"smoke/step_{2 * WINDOW}").is_dir()


def test_slow_steps_are_told_but_end_no_run(tmp_path, capsys):
    """Each process measures its own seconds: if one of several ended the run for them, the others would wait for it."""
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from grpo_helpers.callbacks import HealthCallback

    hook = HealthCallback(tmp_path, stop=True)
    state, control = TrainerState(is_world_process_zero=True), TrainerControl()
    for step in range(2 * WINDOW):
        state.global_step = step + 1
        logs = {"reward": 1.0, "step_time": 1.0 if step < WINDOW else 3.0}
        hook.on_log(TrainingArguments(str(tmp_path)), state, control, logs=logs)
    assert "ALARM  seconds per step" in capsys.readouterr().out and not control.should_training_stop
