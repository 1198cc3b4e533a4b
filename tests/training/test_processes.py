"""Several processes: the counts of a step, every item answered once, one set of files, launches that are refused."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest

from grpo_helpers.files import InputError, project_root
from grpo_helpers.launch import check_processes
from grpo_helpers.training import read_params

ROOT = project_root()
SMOKE = "params/smoke/04_train.yaml"
ENVIRONMENT = os.environ | {
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",
}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A run of two processes, started as notebook 04 starts them: from one that is none of them."""
    folder = tmp_path_factory.mktemp("two")
    changes = {
        "output_dir": folder,
        "num_processes": 2,
        "num_threads": 1,
        "max_steps": 2,
        "inference_batch_size": 4,
    }
    pairs = [word for name, value in changes.items() for word in ("-p", name, str(value))]
    done = subprocess.run(
        [sys.executable, "-m", "grpo_helpers.training", "--params", SMOKE, *pairs],
        cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "smoke", done.stdout


def test_a_step_of_two_processes_has_the_completions_and_prompts_of_the_plan(two):
    run_dir, _ = two
    plan = read_params(SMOKE, [("num_processes", "2")]).batch_plan
    assert plan.D == 2
    for file in sorted((run_dir / "completions").glob("*.parquet")):
        step = pd.read_parquet(file)
        assert len(step) == plan.completions_per_step == 16
        prompts = step["prompt"].map(lambda messages: messages[-1]["content"])
        assert prompts.nunique() == plan.prompts_per_step == 4
        assert set(prompts.value_counts()) == {plan.G}


def test_no_item_is_lost_or_answered_twice_and_there_is_one_set_of_files(two):
    run_dir, told = two
    wanted = [
        row["id"] for row in json.loads((ROOT / "data/smoke/dev.json").read_text(encoding="utf-8"))
    ]
    for name in ("epoch0", "step2"):
        rows = json.loads(
            (run_dir / f"infer_results/inference_{name}.json").read_text(encoding="utf-8")
        )
        assert [row["id"] for row in rows] == wanted and all(
            row["output"]["answer"] for row in rows
        )
    log = [json.loads(line) for line in (run_dir / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in log if "reward" in row] == [1, 2]
    assert not list(
        run_dir.glob("previous-*")
    )  # the second process did not set the first one's files aside
    assert [line[:8] for line in told.splitlines() if line.startswith("step ")] == [
        "step   1",
        "step   2",
    ]


def test_the_answers_of_two_processes_are_those_of_one(two):
    from grpo_helpers.inference import run_inference

    run_dir, _ = two
    alone = run_inference(
        "data/smoke/dev.json",
        run_dir / "alone.json",
        "data/tiny_model",
        str(run_dir / "step_2"),
        batch_size=4,
    )
    assert alone.read_bytes() == (run_dir / "infer_results/inference_step2.json").read_bytes()


def test_fewer_processes_than_asked_for_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")  # what `accelerate launch --cpu --num_processes 2` starts
    with pytest.raises(
        InputError, match=r"num_processes is 2, but 1 was started.*torchrun --nproc_per_node 2"
    ):
        check_processes(read_params(SMOKE, [("num_processes", "2")]))


def test_several_gpus_in_one_process_are_refused_with_the_two_ways_out(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    with pytest.raises(InputError, match="set num_processes=4 or CUDA_VISIBLE_DEVICES=0"):
        check_processes(read_params(SMOKE))


def test_a_number_of_processes_that_breaks_the_batch_rule_is_refused_in_trls_words():
    with pytest.raises(
        InputError, match=r"generation_batch_size \(9\) must be divisible by num_generations \(4\)"
    ):
        read_params(SMOKE, [("num_processes", "3"), ("per_device_train_batch_size", "3")])


def test_a_failure_inside_the_processes_comes_out_as_one_line(tmp_path):
    changes = [
        ("num_processes", "2"),
        ("output_dir", str(tmp_path)),
        ("extra_grpo_args", "{no_such_field: 1}"),
    ]
    from grpo_helpers.training import train

    with pytest.raises(InputError, match=r"2 processes failed: .*no_such_field"):
        train(read_params(SMOKE, changes))
