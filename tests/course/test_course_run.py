"""The course at smoke size, for real: all notebooks through papermill, and what they leave."""

import sys
import time

import pandas as pd
import pytest
from helpers import (
    ROOT,
    SMOKE_PARAMS,
    json_lines,
    last_line,
    parameter_words,
    run_offline,
    train_arguments,
)
from notebook_cells import refusal_of
from training_processes import TrainingProcess

from grpo_helpers import evaluate_json
from grpo_helpers.course_summary import summary
from grpo_helpers.files import read_json, write_json
from grpo_helpers.headless import NOTEBOOKS
from grpo_helpers.inspector import group_advantages, groups_of_run, weighted_sums
from grpo_helpers.report import choice_lines
from grpo_helpers.run_folder import BEST_FILE, RunFolder
from grpo_helpers.selection import Choice

SMOKE_DEV = ROOT / "data/smoke/dev.json"
GPU_PARAMS = ROOT / "params/gpu_24gb/04_train.yaml"

RUN_FILES = {
    "settings.json",
    "log.jsonl",
    "step_2",
    "step_4",
    "checkpoint-4",
    "infer_results",
    "completions",
    "scores.csv",
    "item_scores.csv",
    "best_checkpoint.json",
    "report.html",
    "figures",
    "notebooks",
    "test_results",
}


def papermill(notebook, output, *arguments, cwd=ROOT):
    """Run papermill as a learner does; return its exit code and output."""
    command = [sys.executable, "-m", "papermill", notebook, output, "--no-progress-bar"]
    return run_offline([*command, *arguments], cwd=cwd)


# -- what a run leaves --------------------------------------------------------------------------


def names_in(folder):
    """Return the names of what lies in a folder."""
    return {path.name for path in folder.iterdir()}


def test_run_folder_holds_every_file(smoke_run):
    assert names_in(smoke_run) >= RUN_FILES


def test_every_saved_checkpoint_has_answered(smoke_run):
    expected = {"inference_epoch0.json", "inference_step2.json", "inference_step4.json"}

    assert names_in(smoke_run / "infer_results") == expected


def test_all_executed_notebooks_are_in_the_run_folder(smoke_run):
    expected = {f"{name}.ipynb" for name in NOTEBOOKS}

    assert names_in(smoke_run / "notebooks") == expected


def test_every_notebook_saves_a_figure(smoke_run):
    numbers = {path.name[:2] for path in (smoke_run / "figures").glob("*.png")}

    assert numbers == {name[:2] for name in NOTEBOOKS}


def test_saved_adapter_is_not_empty(smoke_run):
    assert (smoke_run / "step_2/adapter_model.safetensors").stat().st_size > 0


def test_answers_follow_the_order_of_the_labels(smoke_run):
    rows = read_json(smoke_run / "infer_results/inference_step2.json")

    for row, label in zip(rows, read_json(SMOKE_DEV), strict=True):
        assert row["id"] == label["id"]


def test_answers_have_the_fields_of_the_contest(smoke_run):
    for row in read_json(smoke_run / "infer_results/inference_step2.json"):
        assert set(row) == {"id", "input", "output"}
        assert set(row["output"]) == {"answer", "normalized_answer"}


def test_settings_record_the_parameters_of_the_run(smoke_run):
    parameters = read_json(smoke_run / "settings.json")["parameters"]

    assert parameters["max_steps"] == 4
    assert parameters["seed"] == 0


def test_settings_record_versions_and_the_hash_of_the_model(smoke_run):
    written = read_json(smoke_run / "settings.json")

    assert written["versions"]["trl"].startswith("1.16")
    assert len(written["sha256"]["model"]) == 64


@pytest.fixture
def step_rows(smoke_run):
    """The rows of the log that report a step."""
    return [row for row in json_lines(smoke_run / "log.jsonl") if "reward" in row]


def test_log_has_one_row_per_step(step_rows):
    assert [row["step"] for row in step_rows] == [1, 2, 3, 4]


@pytest.mark.parametrize("part", ["format", "em", "rouge1", "bertscore"])
def test_log_has_every_part_of_the_reward(step_rows, part):
    assert f"rewards/{part}_reward/mean" in step_rows[0]


def test_log_has_the_share_of_groups_without_signal(step_rows):
    assert "frac_reward_zero_std" in step_rows[0]


def test_advantages_of_the_inspector_are_those_of_trl(smoke_run):
    run = RunFolder(smoke_run)
    groups = groups_of_run(run)

    assert groups
    for group in groups:
        sums = weighted_sums(group, run.settings["reward_weights"])
        logged = [completion.logged for completion in group.completions]
        # TRL's rewards have 24 bits: a deviation of one bit, divided by 1e-4, is 1e-3.
        assert group_advantages(sums) == pytest.approx(logged, abs=5e-3)


@pytest.mark.parametrize("page", ["report.html", "notebooks/04_train.ipynb"])
def test_page_shows_groups_of_the_training(smoke_run, page):
    assert "group-inspector" in (smoke_run / page).read_text(encoding="utf-8")


def test_training_changes_the_adapter_between_saves(smoke_run):
    from safetensors.torch import load_file

    earlier = load_file(smoke_run / "step_2/adapter_model.safetensors")
    later = load_file(smoke_run / "step_4/adapter_model.safetensors")

    assert any((earlier[name] != later[name]).any() for name in earlier)


def test_training_moves_the_adapter_from_its_zero_start(smoke_run):
    from safetensors.torch import load_file

    weights = load_file(smoke_run / "step_2/adapter_model.safetensors")
    starts_at_zero = [value for name, value in weights.items() if name.endswith("lora_B.weight")]

    assert any(value.abs().max() > 0 for value in starts_at_zero)


def test_summary_lists_every_checkpoint(smoke_run):
    text = summary(smoke_run)

    assert "epoch_0" in text
    assert "step_4" in text


def test_summary_says_how_certain_the_choice_is(smoke_run):
    choice = Choice.from_dict(read_json(smoke_run / BEST_FILE))

    assert choice_lines(choice) in summary(smoke_run)


def test_summary_names_the_chosen_checkpoint_or_the_base(smoke_run):
    text = summary(smoke_run)

    assert "Chosen (highest): " in text
    assert "against the base" in text or "Best on dev: the base model" in text


def test_saved_adapter_answers_as_the_live_model_did(smoke_run, tmp_path):
    from grpo_helpers.inference import run_inference

    again = run_inference(
        "data/smoke/dev.json",
        tmp_path / "again.json",
        "data/tiny_model",
        str(smoke_run / "step_4"),
        batch_size=32,
    )

    live = smoke_run / "infer_results/inference_step4.json"
    assert again.read_bytes() == live.read_bytes()


# The smoke run itself was started from a folder that is neither of these.
@pytest.mark.parametrize("folder", ["notebooks", pytest.param("elsewhere", marks=pytest.mark.slow)])
def test_same_seed_answers_with_the_same_bytes_from_any_folder(folder, smoke_run, tmp_path):
    notebook = ROOT / "notebooks/04_train.ipynb"
    cwd = tmp_path
    if folder == "notebooks":
        notebook = "04_train.ipynb"
        cwd = ROOT / "notebooks"

    changes = ["-f", ROOT / SMOKE_PARAMS]
    changes += parameter_words({"run_name": folder, "output_dir": tmp_path})
    done = papermill(notebook, tmp_path / "out.ipynb", *changes, cwd=cwd)

    assert done.returncode == 0, done.stderr[-2000:]
    for file in (smoke_run / "infer_results").iterdir():
        repeated = tmp_path / folder / "infer_results" / file.name
        assert repeated.read_bytes() == file.read_bytes(), file.name


# -- a run that is killed -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def killed_run(tmp_path_factory):
    """A run folder whose training was killed after four steps of two hundred."""
    folder = tmp_path_factory.mktemp("killed")
    arguments = train_arguments(output_dir=folder, run_name="killed", max_steps=200)
    training = TrainingProcess(arguments, folder)

    training.wait_for_step(folder / "killed/log.jsonl", 4)
    training.kill()
    return folder / "killed"


@pytest.mark.heavy
def test_killed_run_leaves_whole_answer_files(killed_run):
    answered = list((killed_run / "infer_results").glob("*.json"))

    assert answered
    for file in answered:
        assert read_json(file)


@pytest.mark.heavy
def test_killed_run_can_be_scored(killed_run):
    answered = list((killed_run / "infer_results").glob("*.json"))
    where = ["--label_path", str(SMOKE_DEV), "--input_dir", str(killed_run / "infer_results")]

    assert evaluate_json.main(where) == 0
    assert len(pd.read_csv(killed_run / "scores.csv")) == len(answered)


# -- input that must be refused -----------------------------------------------------------------

ROW = read_json(ROOT / "data/smoke/train.json")[0]
ESSAY = ROW["input"] | {"question_type": "서술형"}

# Content of a train file, and what the refusal says.
BAD_TRAIN_FILES = {
    "an empty list": ([], "expected a non-empty JSON list"),
    "a row without a question": (
        [ROW | {"input": {"question_type": "선택형"}}],
        "input.question is missing",
    ),
    "a row without an answer": ([ROW | {"output": {}}], "output.answer is missing"),
    "an unknown question type": ([ROW | {"input": ESSAY}], "unknown question_type"),
    "an id used twice": ([ROW, ROW], "is already used in row 1"),
    "text that is not JSON": ("[{]", "is not JSON: line 1"),
}
# Parameters, and what the refusal says.
BAD_PARAMETERS = {
    "a mistyped parameter": ({"learnig_rate": 1e-4}, "did you mean learning_rate?"),
    "a missing file": ({"train_data_path": "none.json"}, "no file none.json"),
    "an unknown model path": (
        {"model_name": "data/no_model"},
        "model path data/no_model does not exist",
    ),
    "an unknown hub id": (
        {"model_name": "nobody/nothing"},
        "neither a local folder nor available from the hub",
    ),
    "groups TRL rejects": ({"num_generations": 7}, "must be divisible by num_generations"),
}
BAD_INPUT = [*BAD_PARAMETERS, *BAD_TRAIN_FILES]


def bad_input(case, folder):
    """Return the parameters of a case, its file written, and what the refusal says."""
    if case in BAD_PARAMETERS:
        return BAD_PARAMETERS[case]

    content, message = BAD_TRAIN_FILES[case]
    file = folder / "train.json"
    if isinstance(content, str):
        file.write_text(content, encoding="utf-8")
    else:
        write_json(file, content)
    return {"train_data_path": str(file)}, message


@pytest.mark.parametrize("case", BAD_INPUT)
def test_training_notebook_refuses_bad_input_in_one_line(case, tmp_path):
    values, message = bad_input(case, tmp_path)

    refusal = refusal_of("04_train", values | {"output_dir": str(tmp_path / "runs")})

    assert message in refusal
    assert "\n" not in refusal


@pytest.mark.parametrize("case", BAD_INPUT)
def test_refused_training_leaves_no_run_folder(case, tmp_path):
    values, _ = bad_input(case, tmp_path)

    refusal_of("04_train", values | {"output_dir": str(tmp_path / "runs")})

    assert not (tmp_path / "runs").exists()


# One refusal by the settings and one by the data go through papermill in ``make test``; the way
# from an exception to papermill's last line is the same for all.
THROUGH_PAPERMILL = ["a mistyped parameter", "an id used twice"]
ALSO_SLOW = [
    pytest.param(case, marks=pytest.mark.slow)
    for case in BAD_INPUT
    if case not in THROUGH_PAPERMILL
]


@pytest.mark.heavy
@pytest.mark.parametrize("case", [*THROUGH_PAPERMILL, *ALSO_SLOW])
def test_papermill_ends_with_the_refusal_and_leaves_nothing(case, tmp_path):
    values, message = bad_input(case, tmp_path)
    changes = parameter_words(values | {"output_dir": tmp_path / "runs"})

    notebook = ROOT / "notebooks/04_train.ipynb"
    done = papermill(notebook, tmp_path / "out.ipynb", "-f", ROOT / SMOKE_PARAMS, *changes)

    assert done.returncode != 0
    assert message in last_line(done.stderr), done.stderr[-1500:]
    assert not (tmp_path / "runs").exists()


WITHOUT_GPU = {
    "no GPU": ({}, "PyTorch sees no GPU here"),
    "no model": ({"device": "auto"}, "neither a local folder nor available from the hub"),
}


def skip_with_gpu():
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")


@pytest.mark.parametrize("case", WITHOUT_GPU)
def test_gpu_profile_on_a_laptop_is_refused_in_one_line(case, tmp_path):
    skip_with_gpu()
    changes, message = WITHOUT_GPU[case]
    output = {"output_dir": str(tmp_path / "runs")}

    refusal = refusal_of("04_train", changes | output, profile=GPU_PARAMS)

    assert message in refusal
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
@pytest.mark.parametrize("case", WITHOUT_GPU)
def test_gpu_profile_on_a_laptop_ends_papermill_within_a_minute(case, tmp_path):
    skip_with_gpu()
    changes, message = WITHOUT_GPU[case]
    words = parameter_words(changes | {"output_dir": tmp_path / "runs"})

    notebook = ROOT / "notebooks/04_train.ipynb"
    started = time.monotonic()
    done = papermill(notebook, tmp_path / "out.ipynb", "-f", GPU_PARAMS, *words)
    seconds = time.monotonic() - started

    assert done.returncode != 0
    assert message in last_line(done.stderr), done.stderr[-1500:]
    assert not (tmp_path / "runs").exists()
    assert seconds < 60


BAD_LABELS = {
    "an id that is missing": "1 not in the labels",
    "a row without an id": "row 1: needs an id",
}


def bad_labels(case, folder):
    """Return the path of a label file that does not fit the smoke run's answers."""
    rows = read_json(SMOKE_DEV)
    if case == "an id that is missing":
        rows = rows[1:]
    else:
        rows = [ROW | {"id": None}, *rows]
    return str(write_json(folder / "labels.json", rows))


def state_of(run_dir):
    """Return the files of a run folder and its scores, to see whether anything changed."""
    return sorted(run_dir.rglob("*")), (run_dir / "scores.csv").read_bytes()


@pytest.mark.parametrize("case", BAD_LABELS)
def test_evaluation_refuses_labels_and_leaves_the_run_as_it_was(case, smoke_run, tmp_path):
    before = state_of(smoke_run)
    values = {"run_name": "test-smoke", "label_path": bad_labels(case, tmp_path)}

    refusal = refusal_of("05_evaluate_and_select", values)

    assert BAD_LABELS[case] in refusal
    assert state_of(smoke_run) == before


@pytest.mark.slow
@pytest.mark.parametrize("case", BAD_LABELS)
def test_papermill_ends_with_the_refusal_of_labels(case, smoke_run, tmp_path):
    before = state_of(smoke_run)
    labels = bad_labels(case, tmp_path)
    changes = parameter_words({"run_name": "test-smoke", "label_path": labels})

    notebook = ROOT / "notebooks/05_evaluate_and_select.ipynb"
    done = papermill(notebook, tmp_path / "out.ipynb", *changes)

    assert done.returncode != 0
    assert BAD_LABELS[case] in last_line(done.stderr), done.stderr[-1500:]
    assert state_of(smoke_run) == before
