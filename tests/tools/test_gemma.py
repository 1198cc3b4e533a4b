"""The light parts of the Gemma experiment: its questions, its settings, its record."""

import pytest

from grpo_helpers.files import read_json
from grpo_helpers.headless import profile_parameters
from grpo_helpers.parameters import present_names
from grpo_helpers.run_folder import RunFolder
from grpo_helpers.settings import TrainSettings
from grpo_helpers.splits import DEV, TEST
from tools.experiments import gemma
from tools.experiments.recorded_runs import (
    REAL_MODEL_RUNS,
    about,
    items_on_dev,
    recorded_real_model_runs,
)


@pytest.fixture
def rows():
    return [{"id": number} for number in range(100)]


def test_questions_of_a_sentence_stay_together(rows):
    ids = [row["id"] for row in gemma.evenly_spaced_pairs(rows, 12)]
    assert all(second == first + 1 for first, second in zip(ids[::2], ids[1::2], strict=True))


def test_questions_are_spread_over_the_whole_set(rows):
    ids = [row["id"] for row in gemma.evenly_spaced_pairs(rows, 12)]
    assert len(ids) == 12
    assert ids[0] == 0
    assert ids[-1] > 80


def test_small_set_is_asked_as_a_whole(rows):
    assert gemma.evenly_spaced_pairs(rows[:8], 120) == rows[:8]


@pytest.mark.parametrize("run", recorded_real_model_runs())
def test_run_on_other_questions_than_are_asked_today_says_so(run):
    asked = gemma.evenly_spaced_pairs(read_json("data/embedded/dev.json"), gemma.QUESTIONS)
    is_asked = set(items_on_dev(run)["id"]) == {row["id"] for row in asked}

    assert is_asked != ("data" in about(run))


def test_settings_of_every_run_are_parameters_of_notebook_04(monkeypatch, tmp_path):
    # The tool makes the files of the run; the files of the course take their place here.
    files = {"model_name": "data/tiny_model", "eval_data_path": "data/embedded/dev.json"}
    profile = profile_parameters("small_real", "04_train")
    for changes in REAL_MODEL_RUNS.values():
        settings = TrainSettings.from_namespace(profile | gemma.CHANGES | changes | files)
        assert settings.batch_plan.G == 8


def test_recorded_run_changed_what_the_tool_changes():
    for name, changes in REAL_MODEL_RUNS.items():
        assert present_names(about(name)["changed"]) == gemma.CHANGES | changes


def test_answers_of_the_test_set_are_apart_from_notebook_05s(tmp_path):
    run = RunFolder(tmp_path)
    ours = gemma._answer_file(TEST, "step_15", run)
    assert ours != run.answers("step_15", TEST)
    assert gemma._answer_file(DEV, "step_15", run) == run.answers("step_15")


def test_answered_split_is_not_answered_again(tmp_path, monkeypatch):
    monkeypatch.setattr(gemma, "FOLDER", tmp_path)
    file = tmp_path / "answers" / "dev" / "inference_base.json"
    file.parent.mkdir(parents=True)
    file.write_text("[]", encoding="utf-8")
    assert gemma.answer_split(DEV, "base", RunFolder(tmp_path)) == file


def test_template_opens_the_models_turn():
    from jinja2 import Template

    messages = [{"role": "user", "content": "맞는 것은?"}]
    text = Template(gemma.TEMPLATE).render(
        bos_token="<bos>", messages=messages, add_generation_prompt=True
    )
    turn = "<start_of_turn>user\n맞는 것은?<end_of_turn>\n"
    assert text.rstrip("\n") == f"<bos>{turn}<start_of_turn>model"
