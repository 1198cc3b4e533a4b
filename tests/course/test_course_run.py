"""The course at smoke size, for real: five notebooks through papermill, and what they leave behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
import torch

from grpo_helpers.files import project_root, write_json
from tools.course.run import NOTEBOOKS, run_course, summary

ROOT = project_root()
ENVIRONMENT = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
SMOKE = ROOT / "params/smoke/04_train.yaml"


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="module")
def smoke_run():
    """The five notebooks, run once with the smoke profile."""
    shutil.rmtree(ROOT / "runs/test-smoke", ignore_errors=True)
    run_dir = run_course("smoke", "test-smoke")
    yield run_dir
    shutil.rmtree(run_dir)


def papermill(*arguments, cwd=ROOT):
    command = [sys.executable, "-m", "papermill", *map(str, arguments), "--no-progress-bar"]
    return subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True)


def test_every_file_of_a_run_is_there(smoke_run):
    names = {path.name for path in smoke_run.iterdir()}
    expected = {
        "settings.json",
        "log.jsonl",
        "step_2",
        "step_4",
        "infer_results",
        "completions",
        "scores.csv",
    }
    expected |= {
        "item_scores.csv",
        "best_checkpoint.json",
        "figures",
        "notebooks",
        "test_results",
        "checkpoint-4",
    }
    expected |= {"report.html"}
    assert expected <= names
    inferred = sorted(path.name for path in (smoke_run / "infer_results").iterdir())
    assert inferred == ["inference_epoch0.json", "inference_step2.json", "inference_step4.json"]
    assert sorted(path.stem for path in (smoke_run / "notebooks").iterdir()) == sorted(NOTEBOOKS)
    figures = {path.name[:2] for path in (smoke_run / "figures").glob("*.png")}
    assert figures == {"01", "02", "03", "04", "05"}
    assert (smoke_run / "step_2" / "adapter_model.safetensors").stat().st_size > 0


def test_the_answers_have_the_contests_shape(smoke_run):
    rows = json.loads(
        (smoke_run / "infer_results/inference_step2.json").read_text(encoding="utf-8")
    )
    labels = json.loads((ROOT / "data/smoke/dev.json").read_text(encoding="utf-8"))
    assert [row["id"] for row in rows] == [label["id"] for label in labels]
    assert all(set(row) == {"id", "input", "output"} for row in rows)
    assert all(set(row["output"]) == {"answer", "normalized_answer"} for row in rows)


def test_settings_say_what_it_takes_to_repeat_the_run(smoke_run):
    written = json.loads((smoke_run / "settings.json").read_text(encoding="utf-8"))
    assert written["parameters"]["max_steps"] == 4 and written["parameters"]["seed"] == 0
    assert written["versions"]["trl"].startswith("1.16") and len(written["sha256"]["model"]) == 64


def test_the_log_has_a_row_per_step_with_every_part_of_the_reward(smoke_run):
    rows = [json.loads(line) for line in (smoke_run / "log.jsonl").read_text().splitlines()]
    steps = [row for row in rows if "reward" in row]
    assert [row["step"] for row in steps] == [1, 2, 3, 4]
    parts = {f"rewards/{name}_reward/mean" for name in ("format", "em", "rouge1", "bertscore")}
    assert parts <= set(steps[0]) and "frac_reward_zero_std" in steps[0]


def test_training_changed_the_adapter(smoke_run):
    from safetensors.torch import load_file

    first, last = (load_file(smoke_run / f"step_{n}" / "adapter_model.safetensors") for n in (2, 4))
    assert any((first[key] != last[key]).any() for key in first)
    assert any(key.endswith("lora_B.weight") and first[key].abs().max() > 0 for key in first)


def test_the_summary_names_the_checkpoints_and_the_chosen_one(smoke_run):
    text = summary(smoke_run)
    assert "epoch_0" in text and "step_4" in text and "of resampled question sets" in text
    assert "Chosen (highest): " in text and (
        "against the base" in text or "Best on dev: the base model" in text
    )


def test_the_answers_of_the_live_model_are_those_of_the_saved_adapter(smoke_run, tmp_path):
    from grpo_helpers.inference import run_inference

    out = run_inference(
        "data/smoke/dev.json",
        tmp_path / "again.json",
        "data/tiny_model",
        str(smoke_run / "step_4"),
        batch_size=32,
    )
    assert out.read_bytes() == (smoke_run / "infer_results/inference_step4.json").read_bytes()


NOTEBOOK_FROM = {"elsewhere": ROOT / "notebooks/04_train.ipynb", "notebooks": "04_train.ipynb"}


@pytest.mark.parametrize("folder", ["elsewhere", pytest.param("notebooks", marks=pytest.mark.slow)])
def test_the_same_seed_gives_the_same_bytes_from_any_folder(folder, smoke_run, tmp_path):
    cwd, notebook = ROOT / "notebooks" if folder == "notebooks" else tmp_path, NOTEBOOK_FROM[folder]
    changes = ("-f", SMOKE, "-p", "run_name", folder, "-p", "output_dir", tmp_path)
    done = papermill(notebook, tmp_path / "out.ipynb", *changes, cwd=cwd)
    assert done.returncode == 0, done.stderr[-2000:]
    for file in (smoke_run / "infer_results").iterdir():
        assert (tmp_path / folder / "infer_results" / file.name).read_bytes() == file.read_bytes()


def test_a_run_killed_in_the_middle_leaves_whole_files_that_can_be_scored(tmp_path):
    log = tmp_path / "killed/log.jsonl"
    code = (
        "import yaml; from grpo_helpers.settings import TrainSettings; from grpo_helpers.training import train;"
        f"train(TrainSettings(**yaml.safe_load(open({str(SMOKE)!r})) | "
        f"dict(run_name='killed', output_dir={str(tmp_path)!r}, max_steps=200)))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env=ENVIRONMENT, start_new_session=True
    )
    try:
        deadline = time.time() + 240
        while not (log.exists() and log.read_text().count("\n") >= 4):
            assert process.poll() is None and time.time() < deadline, (
                "the run ended before it could be killed"
            )
            time.sleep(0.05)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    answered = sorted((tmp_path / "killed/infer_results").glob("*.json"))
    assert answered and all(json.loads(file.read_text(encoding="utf-8")) for file in answered)
    command = [
        sys.executable,
        "-m",
        "grpo_helpers.evaluate_json",
        "--label_path",
        ROOT / "data/smoke/dev.json",
    ]
    command += ["--input_dir", answered[0].parent]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert len(pd.read_csv(tmp_path / "killed/scores.csv")) == len(answered)


ESSAY = {"question_type": "서술형", "question": "맞는 것을 쓰시오."}
ROW = json.loads((ROOT / "data/smoke/train.json").read_text(encoding="utf-8"))[0]
BAD_TRAIN_FILES = {
    "an empty list": ([], "expected a non-empty JSON list"),
    "a row without a question": (
        [ROW | {"input": {"question_type": "선택형"}}],
        "input.question is missing",
    ),
    "a row without an answer": ([ROW | {"output": {}}], "output.answer is missing"),
    "an unknown question type": (
        [ROW | {"input": ROW["input"] | {"question_type": "서술형"}}],
        "unknown question_type",
    ),
    "an id used twice": ([ROW, ROW], "is used in row 1 already"),
    "text that is not JSON": ("[{]", "is not JSON: line 1"),
}
BAD = {
    "a mistyped parameter": ({"learnig_rate": 1e-4}, "did you mean learning_rate?"),
    "a missing file": ({"train_data_path": "none.json"}, "no file none.json"),
    "an unknown model path": (
        {"model_name": "data/no_model"},
        "model path data/no_model does not exist",
    ),
    "an unknown hub id": (
        {"model_name": "nobody/nothing"},
        "neither a local folder nor to be had from the hub",
    ),
    "groups TRL rejects": ({"num_generations": 7}, "must be divisible by num_generations"),
}


def refused(told, tmp_path, notebook, *arguments):
    """Run a notebook that must be refused; its last line of stderr must say ``told``."""
    done = papermill(ROOT / "notebooks" / f"{notebook}.ipynb", tmp_path / "out.ipynb", *arguments)
    last = [line for line in done.stderr.splitlines() if line.strip()][-1]
    assert done.returncode != 0 and told in last, done.stderr[-1500:]


# What each fault of a file says is tested in test_data.py; here, that papermill's last line is that sentence.
QUICK = [*BAD, "an id used twice"]
SLOW = [pytest.param(case, marks=pytest.mark.slow) for case in BAD_TRAIN_FILES if case not in QUICK]


@pytest.mark.parametrize("case", [*QUICK, *SLOW])
def test_papermill_ends_with_one_clear_line_and_leaves_nothing(case, tmp_path):
    if case in BAD:
        values, told = BAD[case]
    else:
        content, told = BAD_TRAIN_FILES[case]
        file = tmp_path / "train.json"
        file.write_text(
            content if isinstance(content, str) else json.dumps(content), encoding="utf-8"
        )
        values = {"train_data_path": file}
    parameters = [word for key, value in values.items() for word in ("-p", key, value)]
    refused(
        told, tmp_path, "04_train", "-f", SMOKE, *parameters, "-p", "output_dir", tmp_path / "runs"
    )
    assert not (tmp_path / "runs").exists()


GPU_PROFILE = ROOT / "params/gpu_24gb/04_train.yaml"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ((), "PyTorch sees no GPU here"),
        (("-p", "device", "auto"), "neither a local folder nor to be had from the hub"),
    ],
)
def test_the_gpu_profile_without_a_gpu_or_without_its_model_ends_with_one_clear_line(
    changes, told, tmp_path
):
    started = time.time()
    refused(
        told,
        tmp_path,
        "04_train",
        "-f",
        GPU_PROFILE,
        "-p",
        "output_dir",
        tmp_path / "runs",
        *changes,
    )
    assert not (tmp_path / "runs").exists() and time.time() - started < 60


def test_labels_that_lack_an_id_are_refused_and_the_run_stays_as_it_was(smoke_run, tmp_path):
    rows = json.loads((ROOT / "data/smoke/dev.json").read_text(encoding="utf-8"))
    for kept, told in (
        (rows[1:], "1 not in the labels"),
        ([ROW | {"id": None}, *rows], "row 1: needs an id"),
    ):
        labels = write_json(tmp_path / "labels.json", kept)
        before = sorted(smoke_run.rglob("*")), (smoke_run / "scores.csv").read_bytes()
        refused(
            told,
            tmp_path,
            "05_evaluate_and_select",
            "-p",
            "run_name",
            "test-smoke",
            "-p",
            "label_path",
            labels,
        )
        assert before == (sorted(smoke_run.rglob("*")), (smoke_run / "scores.csv").read_bytes())
