"""A run that is cut off goes on from its last complete checkpoint, and ends as if nothing had happened."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from grpo_helpers.files import InputError, project_root, write_json
from grpo_helpers.run_folder import COMPLETE, last_complete, rewind_run_folder, start_run_folder
from grpo_helpers.training import read_params

ROOT = project_root()
# Six steps of an epoch of four, saved at every second: one save falls inside an epoch, one on its end. A step has four
# micro-batches and two rounds of sampling.
CHANGES = {"num_threads": 1, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 4,
           "steps_per_generation": 2, "max_steps": 6, "save_total_limit": 9}  # fmt: skip
ENVIRONMENT = os.environ | {
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",
}


def command(folder, **more):
    changes = CHANGES | {"output_dir": folder, "run_name": "run"} | more
    pairs = [word for name, value in changes.items() for word in ("-p", name, str(value))]
    return [
        sys.executable,
        "-m",
        "grpo_helpers.training",
        "--params",
        "params/smoke/04_train.yaml",
        *pairs,
    ]


def run(folder, **more):
    return subprocess.run(
        command(folder, **more), cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True
    )


def start(folder, **more):
    return subprocess.Popen(
        command(folder, **more),
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_step(process, folder, step):
    log, deadline = folder / "run" / "log.jsonl", time.time() + 240
    while (
        time.time() < deadline
        and process.poll() is None
        and (not log.is_file() or f'{{"step": {step},' not in log.read_text())
    ):
        time.sleep(0.05)
    assert process.poll() is None, process.stdout.read()[-2000:]
    assert time.time() < deadline


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    done = run(folder)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder / "run"


def logged(run_dir):
    """Return the log without what a clock decides."""
    rows = [json.loads(line) for line in (run_dir / "log.jsonl").read_text().splitlines()]
    kept = ("step", "loss", "reward", "grad_norm", "entropy", "num_tokens")
    return [{name: row[name] for name in kept} for row in rows if "reward" in row]


def assert_same(found, whole):
    files = [*whole.glob("step_*/adapter_model.safetensors"), *whole.glob("infer_results/*.json")]
    assert len(files) == 7
    for file in files:
        assert (found / file.relative_to(whole)).read_bytes() == file.read_bytes(), file.name
    assert logged(found) == logged(whole)
    assert not list(found.rglob("*.partial")) and not list(found.rglob("*.tmp"))


def killed_and_resumed(folder, step, delay):
    process = start(folder)
    wait_for_step(process, folder, step)
    time.sleep(delay)
    process.kill()
    process.wait()
    done = run(folder, resume="auto")
    assert done.returncode == 0, done.stderr[-2000:]
    return done


# From a save inside an epoch, and from one at its end, after the data have been shuffled again.
@pytest.mark.parametrize(
    ("step", "delay"), [(3, 0.5), pytest.param(5, 0.5, marks=pytest.mark.slow)]
)
def test_a_run_killed_and_resumed_ends_as_if_it_had_not_been_killed(tmp_path, whole, step, delay):
    done = killed_and_resumed(tmp_path, step, delay)
    assert "going on from checkpoint-" in done.stdout
    assert_same(tmp_path / "run", whole)


@pytest.mark.slow
@pytest.mark.parametrize("point", range(10))
def test_ten_random_points_of_death_make_no_difference(tmp_path, whole, point):
    dice = random.Random(point)
    killed_and_resumed(tmp_path, dice.randint(1, 5), dice.uniform(0, 3))
    assert_same(tmp_path / "run", whole)


@pytest.mark.slow
def test_a_four_bit_run_keeps_its_adapter_in_bfloat16_when_it_goes_on(tmp_path):
    from safetensors.torch import load_file

    assert run(tmp_path, use_quant="true", max_steps=4).returncode == 0
    first = load_file(tmp_path / "run/step_4/adapter_model.safetensors")
    for old in ("checkpoint-4", "step_4"):
        shutil.rmtree(tmp_path / "run" / old)
    assert run(tmp_path, use_quant="true", max_steps=4, resume="auto").returncode == 0
    again = load_file(tmp_path / "run/step_4/adapter_model.safetensors")
    assert {key: value.dtype for key, value in again.items()} == {
        key: value.dtype for key, value in first.items()
    }
    assert all(bool((again[key] == first[key]).all()) for key in first)


@pytest.mark.slow
def test_a_save_inside_a_round_is_taken_up_with_the_same_prompts_and_says_what_differs(tmp_path):
    """Completions are used for two steps here, and the first save lies between them."""
    changes = {"steps_per_generation": 4, "num_iterations": 2, "save_steps": 1, "max_steps": 3}
    assert run(tmp_path, **changes).returncode == 0
    prompts = prompts_of(tmp_path / "run", 3)
    for old in ("checkpoint-2", "checkpoint-3", "step_2", "step_3"):
        shutil.rmtree(tmp_path / "run" / old)
    done = run(tmp_path, **changes, resume="auto")
    assert done.returncode == 0 and "sampled anew" in done.stdout
    assert prompts_of(tmp_path / "run", 3) == prompts


def prompts_of(run_dir, step):
    frame = pd.read_parquet(run_dir / f"completions/completions_{step:05d}.parquet")
    return sorted(messages[-1]["content"] for messages in frame["prompt"])


def test_a_finished_run_has_nothing_to_go_on_with_and_stays_as_it_is(whole):
    before = {
        path: path.stat().st_mtime_ns
        for path in whole.rglob("*")
        if path.name not in ("log.jsonl", whole.name)
    }
    done = run(whole.parent, resume="auto")
    assert done.returncode == 0 and "nothing to go on with" in done.stdout
    assert all(
        path.stat().st_mtime_ns == moment for path, moment in before.items() if path.is_file()
    )


@pytest.mark.parametrize("strategy", ["steps", pytest.param("epoch", marks=pytest.mark.slow)])
def test_an_interrupt_saves_and_the_run_can_go_on(tmp_path, whole, strategy):
    process = start(tmp_path, save_strategy=strategy)
    wait_for_step(process, tmp_path, 2)
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=120)[0]
    assert process.returncode == 0 and "stopping after this step" in told
    saved = last_complete(tmp_path / "run")
    assert saved is not None and int(saved.name.removeprefix("checkpoint-")) < 6
    assert run(tmp_path, save_strategy=strategy, resume="auto").returncode == 0
    found = max((tmp_path / "run").glob("checkpoint-*"), key=lambda path: int(path.name[11:]))
    assert found.name == "checkpoint-6"
    name = "adapter_model.safetensors"
    assert (found / name).read_bytes() == (whole / "checkpoint-6" / name).read_bytes()


# The adapter does not fit, or the optimizer's state does not.
@pytest.mark.parametrize("size", [200_000, pytest.param(500_000, marks=pytest.mark.slow)])
def test_a_disk_that_is_full_is_told_in_one_line_and_harms_no_earlier_save(tmp_path, whole, size):
    limit = f"import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size})); "
    code = limit + "from grpo_helpers.training import main; sys.exit(main(sys.argv[1:]))"
    words = command(tmp_path)
    done = subprocess.run(
        [words[0], "-c", code, *words[3:]],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 2 and last.startswith("error: cannot write") and str(tmp_path) in last
    assert last_complete(tmp_path / "run") is None
    assert run(tmp_path, resume="auto").returncode == 0
    assert_same(tmp_path / "run", whole)


def test_a_folder_that_cannot_be_written_is_told_in_one_line(tmp_path):
    (tmp_path / "file").write_text("no folder")
    done = run(tmp_path / "file")
    assert done.returncode == 2 and "error: cannot write" in done.stderr.strip().splitlines()[-1]


@pytest.fixture
def started(tmp_path):
    """A run folder with a complete checkpoint, without the training."""
    train = tmp_path / "train.json"
    train.write_bytes((ROOT / "data/smoke/train.json").read_bytes())

    def settings(**more):
        changes = {"output_dir": tmp_path, "run_name": "run", "train_data_path": train} | more
        return read_params(
            "params/smoke/04_train.yaml", [(name, str(value)) for name, value in changes.items()]
        )

    start_run_folder(settings())
    for step in (2, 4):
        write_json(tmp_path / f"run/checkpoint-{step}/{COMPLETE}", {"step": step})
    (tmp_path / "run/checkpoint-6").mkdir()
    rows = [json.dumps({"step": step, "reward": 1.0}) for step in range(1, 6)]
    (tmp_path / "run/log.jsonl").write_text("\n".join(rows) + '\n{"step": 6, "rew')
    return settings, tmp_path


def test_the_last_complete_checkpoint_is_taken_and_what_came_after_it_goes(started):
    settings, folder = started
    checkpoint = last_complete(folder / "run")
    assert checkpoint.name == "checkpoint-4"
    rewind_run_folder(settings(), checkpoint)
    assert not (folder / "run/checkpoint-6").exists()
    steps = [
        json.loads(line)["step"] for line in (folder / "run/log.jsonl").read_text().splitlines()
    ]
    assert steps == [1, 2, 3, 4]


def test_other_settings_data_or_versions_are_refused_by_name(started, monkeypatch):
    settings, folder = started
    checkpoint = last_complete(folder / "run")
    with pytest.raises(
        InputError, match=r"parameters learning_rate was 0\.001, is 0\.1.*resume=no"
    ):
        rewind_run_folder(settings(learning_rate=0.1), checkpoint)
    rewind_run_folder(settings(report_to="none", resume="auto"), checkpoint)  # decides nothing
    with monkeypatch.context() as patch:
        patch.setattr("grpo_helpers.run_folder.version", lambda name: "0.0")
        with pytest.raises(InputError, match="versions torch was"):
            rewind_run_folder(settings(), checkpoint)
    (folder / "train.json").write_text(
        (ROOT / "data/smoke/dev.json").read_text(encoding="utf-8"), encoding="utf-8"
    )
    with pytest.raises(InputError, match="sha256 train_data_path was"):
        rewind_run_folder(settings(), checkpoint)
