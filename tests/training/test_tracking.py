"""Trackers: none by default, and wandb without a network."""

import json
import os
import subprocess
import sys

from grpo_helpers.files import project_root

ROOT = project_root()


def test_a_run_tracked_by_wandb_offline_leaves_its_metrics_in_a_local_folder(tmp_path):
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    environment |= {
        "WANDB_MODE": "offline",
        "WANDB_DIR": str(tmp_path),
        "WANDB_ERROR_REPORTING": "false",
    }
    changes = {
        "output_dir": tmp_path,
        "run_name": "tracked",
        "report_to": "wandb",
        "max_steps": 1,
        "num_threads": 1,
    }
    pairs = [word for name, value in changes.items() for word in ("-p", name, str(value))]
    command = [
        sys.executable,
        "-m",
        "grpo_helpers.training",
        "--params",
        "params/smoke/04_train.yaml",
        *pairs,
    ]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (kept,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    record = kept.read_bytes()
    for name in ("train/reward", "train/rewards/em_reward/mean", "train/frac_reward_zero_std"):
        assert name.encode() in record
    rows = [json.loads(line) for line in (tmp_path / "tracked/log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "reward" in row] == [
        1
    ]  # the local log is written all the same


def test_without_a_tracker_none_is_imported():
    code = (
        "import sys, grpo_helpers.training, grpo_helpers.callbacks; print('wandb' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
