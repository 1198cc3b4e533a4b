"""Several processes: what a step counts, every item answered once, launches that are refused."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest
from helpers import (
    ROOT,
    SMOKE_PARAMS,
    environment,
    json_lines,
    run_offline,
    smoke_settings,
    train_command,
)

from grpo_helpers import training
from grpo_helpers.files import InputError, read_json
from grpo_helpers.inference import answer
from grpo_helpers.launch import check_processes
from grpo_helpers.run_folder import RunFolder, step_of
from grpo_helpers.training import read_params, train

SMOKE_DEV = "data/smoke/dev.json"


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The folder and output of a run in two processes, started as notebook 04 starts them."""
    folder = tmp_path_factory.mktemp("two")
    changes = {"num_processes": 2, "num_threads": 1, "max_steps": 2, "inference_batch_size": 4}
    done = run_offline(train_command(output_dir=folder, **changes))
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "smoke", done.stdout


@pytest.fixture(scope="module")
def plan():
    """The batch arithmetic of two processes."""
    return read_params(SMOKE_PARAMS, [("num_processes", "2")]).batch_plan


@pytest.fixture(scope="module")
def steps(two):
    """The completions of each step."""
    run_dir, _ = two
    files = sorted((run_dir / "completions").glob("*.parquet"))
    return [pd.read_parquet(file) for file in files]


def questions(step):
    """Return the question of each completion of a step."""
    return step["prompt"].map(lambda messages: messages[-1]["content"])


def test_plan_counts_both_processes(plan):
    assert plan.D == 2


def test_step_of_two_processes_has_the_completions_of_the_plan(steps, plan):
    assert plan.completions_per_step == 16
    assert [len(step) for step in steps] == [16, 16]


def test_step_of_two_processes_has_the_prompts_of_the_plan(steps, plan):
    assert plan.prompts_per_step == 4
    assert [questions(step).nunique() for step in steps] == [4, 4]


def test_group_of_two_processes_has_the_size_of_the_plan(steps, plan):
    for step in steps:
        assert set(questions(step).value_counts()) == {plan.G}


@pytest.mark.parametrize("name", ["epoch0", "step2"])
def test_two_processes_answer_every_item_once(two, name):
    run_dir, _ = two
    rows = read_json(run_dir / f"infer_results/inference_{name}.json")
    items = read_json(ROOT / SMOKE_DEV)

    assert [row["id"] for row in rows] == [item["id"] for item in items]
    assert all(row["output"]["answer"] for row in rows)


def test_two_processes_write_one_log(two):
    run_dir, _ = two
    rows = json_lines(run_dir / "log.jsonl")

    assert [row["step"] for row in rows if "reward" in row] == [1, 2]


def test_second_process_sets_no_files_aside(two):
    run_dir, _ = two

    assert not list(run_dir.glob("previous-*"))


def test_two_processes_print_each_step_once(two):
    _, printed = two
    lines = [line[:8] for line in printed.splitlines() if line.startswith("step ")]

    assert lines == ["step   1", "step   2"]


def test_two_processes_answer_as_one_does(two):
    run_dir, _ = two
    alone = answer(run_dir, "step_2", SMOKE_DEV, run_dir / "alone.json")

    assert alone.read_bytes() == (run_dir / "infer_results/inference_step2.json").read_bytes()


def test_two_processes_that_are_asked_to_stop_end_at_the_same_step(tmp_path):
    """The launcher hears SIGTERM, and asks them by a file that the first one looks for."""
    run = RunFolder(tmp_path / "smoke")
    changes = {"num_processes": 2, "num_threads": 1, "max_steps": 200, "save_steps": 200}
    command = train_command(output_dir=tmp_path, **changes)
    with subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE) as launcher:
        while not run.log.step_rows():
            assert launcher.poll() is None
            time.sleep(0.1)
        launcher.terminate()
        printed, _ = launcher.communicate()

    saved = run.last_complete()
    assert launcher.returncode == 0
    assert f"stopped after step {step_of(saved)} of 200" in printed.decode()
    assert sorted(file.name for file in saved.glob("rng_state*")) == [
        "rng_state_0.pth",
        "rng_state_1.pth",
    ]
    assert run.unanswered(saved) == []


def test_fewer_processes_than_set_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")  # what `accelerate launch --cpu --num_processes 2` starts
    message = r"num_processes is 2, but 1 was started.*torchrun --nproc_per_node 2"

    with pytest.raises(InputError, match=message):
        check_processes(read_params(SMOKE_PARAMS, [("num_processes", "2")]))


def test_launch_says_where_everything_is_kept(two):
    run_dir, printed = two

    (line,) = [text for text in printed.splitlines() if text.startswith("2 processes: ")]
    assert line.startswith("2 processes: all that they print goes to ")
    assert line.endswith("smoke/launch.log")
    assert (run_dir / "launch.log").is_file()


def test_launch_log_holds_the_steps_and_more(two):
    run_dir, printed = two
    kept = (run_dir / "launch.log").read_text(encoding="utf-8").splitlines()

    steps = [line for line in printed.splitlines() if line.startswith("step ")]
    assert set(steps) < set(kept)


def test_launch_says_when_the_model_is_loaded(two):
    _, printed = two

    assert "loading data/tiny_model in every process" in printed


def test_processes_that_break_the_batch_rule_are_refused_in_trls_words():
    changes = [("num_processes", "3"), ("per_device_train_batch_size", "3")]
    message = r"generation_batch_size \(9\) must be divisible by num_generations \(4\)"

    with pytest.raises(InputError, match=message):
        read_params(SMOKE_PARAMS, changes)


def test_failure_inside_the_processes_is_one_line(tmp_path):
    settings = smoke_settings(tmp_path, num_processes=2, extra_grpo_args="{no_such_field: 1}")

    with pytest.raises(InputError, match=r"2 processes failed: .*no_such_field") as caught:
        train(settings)

    kept = Path(str(caught.value).rpartition(" is in ")[2].rstrip(")"))
    assert "no_such_field" in kept.read_text(encoding="utf-8")
    assert not settings.run_dir.exists()
    kept.unlink()


# -- one process on a server with several GPUs -----------------------------------------------------


@pytest.fixture
def three_gpus(monkeypatch):
    """Count three GPUs; everything else stays on the CPU, for there is none."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    # What a GPU would change in the configuration: it may be used.
    fields = training._run_fields
    monkeypatch.setattr(training, "_run_fields", lambda given: fields(given) | {"use_cpu": False})


def test_one_process_takes_one_of_several_gpus(three_gpus, tmp_path):
    config = training.grpo_config(smoke_settings(tmp_path))

    assert config.n_gpu == 1
    assert config.parallel_mode.name == "NOT_PARALLEL"


def test_one_process_trains_where_several_gpus_are_visible(three_gpus, tmp_path):
    settings = smoke_settings(tmp_path, max_steps=1, save_strategy="no")

    train(settings)

    assert [row["step"] for row in json_lines(settings.run_dir / "log.jsonl")][:1] == [1]


def test_process_of_a_cpu_run_takes_no_gpu(tmp_path):
    assert training.grpo_config(smoke_settings(tmp_path)).n_gpu == 0
