"""The recorded files of the page on rewards: how ``sample`` makes them."""

import pytest

from grpo_helpers.data import load_items
from grpo_helpers.files import project_root, read_json, write_json
from grpo_helpers.inference import write_answers
from grpo_helpers.run_folder import BASE, RunFolder
from tools.experiments import sample
from tools.experiments.recorded_runs import FOLDER as RECORDED
from tools.experiments.reward_lab import FOLDER, PARAMETERS, mean_scores_on_dev

DEV = "data/smoke/dev.json"


@pytest.fixture
def answered_run(tmp_path):
    """A run with the base alone, which gave every gold answer to the smoke questions."""
    settings = read_json(RECORDED / "seed_0" / "settings.json")
    settings["parameters"] |= {"eval_data_path": DEV, "max_completion_length": 4}
    run = RunFolder(tmp_path / "run")
    write_json(run.path / "settings.json", settings)

    items = load_items(DEV)
    write_answers(run.answers(BASE), items, [item.answer for item in items])
    return run


def test_gold_answers_have_full_marks_on_dev(answered_run):
    scores = mean_scores_on_dev(answered_run)[BASE]
    assert (scores["em"], scores["format"]) == (1.0, 1.0)
    assert scores["article"] == pytest.approx(1.0, abs=1e-3)


def test_sample_draws_a_group_for_each_question(answered_run):
    sampled = sample.sample_run(answered_run, questions=2)
    completions = sampled["completions"][BASE]
    assert len(completions) == len(sampled["questions"]) == 2
    assert all(len(group) == sample.GROUP_SIZE for group in completions)


def test_sample_repeats_with_the_same_seed(answered_run):
    first = sample.sample_run(answered_run, questions=1)
    second = sample.sample_run(answered_run, questions=1)
    assert first["completions"] == second["completions"]


def test_sample_says_how_it_was_made(answered_run):
    sampled = sample.sample_run(answered_run, questions=1)
    assert sampled["command"] == "python -m tools.experiments.sample"
    assert sampled["parameters"].keys() == set(PARAMETERS)


def test_sample_of_a_missing_run_is_one_error_line(tmp_path, capsys):
    assert sample.main(["--run", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.startswith("error: no settings.json in ")


def test_recorded_samples_have_the_form_that_sample_writes():
    recorded = read_json(FOLDER / "completions.json")
    assert len(recorded["questions"]) == sample.QUESTIONS
    for groups in recorded["completions"].values():
        assert len(groups) == sample.QUESTIONS
        assert all(len(group) == sample.GROUP_SIZE for group in groups)


def test_recorded_files_name_no_path_of_this_machine():
    for file in FOLDER.glob("*.json"):
        assert str(project_root()) not in file.read_text(encoding="utf-8")
