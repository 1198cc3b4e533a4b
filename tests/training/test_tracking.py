"""Trackers: none by default, and wandb without a network."""

from __future__ import annotations

import sys

import pytest
from helpers import json_lines, run_offline, train_command


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """The folder of a run of one step that wandb tracked offline."""
    folder = tmp_path_factory.mktemp("tracked")
    command = train_command(
        output_dir=folder, run_name="tracked", report_to="wandb", max_steps=1, num_threads=1
    )
    done = run_offline(
        command, WANDB_MODE="offline", WANDB_DIR=str(folder), WANDB_ERROR_REPORTING="false"
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.mark.parametrize(
    "name", ["train/reward", "train/rewards/em_reward/mean", "train/frac_reward_zero_std"]
)
def test_wandb_records_metrics_in_a_local_folder(tracked, name):
    (record,) = (tracked / "wandb").glob("offline-run-*/*.wandb")

    assert name.encode() in record.read_bytes()


def test_tracked_run_writes_its_own_log_too(tracked):
    rows = json_lines(tracked / "tracked/log.jsonl")

    assert [row["step"] for row in rows if "reward" in row] == [1]


def test_tracker_is_not_imported_unless_it_is_asked_for():
    code = "import sys, grpo_helpers.training, grpo_helpers.callbacks; print(*sys.modules)"
    done = run_offline([sys.executable, "-c", code])

    assert done.returncode == 0, done.stderr
    assert "wandb" not in done.stdout.split()
