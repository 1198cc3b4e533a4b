"""The ways in which notebook 07's model is trained."""

from pathlib import Path

import pytest

from grpo_helpers import rewards, thinking_runs
from grpo_helpers.answers import split_thought
from grpo_helpers.data import load_items
from grpo_helpers.files import read_json
from grpo_helpers.models import load_model, load_tokenizer
from grpo_helpers.reward_module import load_reward_module
from grpo_helpers.settings import ThinkingSettings, TrainSettings
from grpo_helpers.splits import TEST_UNSEEN_WORDS
from grpo_helpers.training import read_params
from tools.experiments import begun_answers, thinking


def test_ways_are_those_that_the_notebook_compares():
    assert {thinking_runs.BASE, *thinking.WAYS} == set(thinking_runs.WAYS)


def test_tables_go_where_the_notebook_reads():
    assert thinking.OUT.name == thinking_runs.FOLDER


def test_training_of_the_notebook_is_the_profile():
    of_notebook = ThinkingSettings().training.as_dict()
    of_profile = read_params(thinking.PROFILE).as_dict()

    different = {name for name in of_profile if of_profile[name] != of_notebook[name]}
    assert different == {"run_name", "save_steps"}


def test_profile_asks_each_question_once():
    profile = read_params(thinking.PROFILE)
    prompts = profile.batch_plan.completions_per_step // profile.num_generations
    assert profile.max_steps * prompts == thinking.QUESTIONS
    assert len(load_items(profile.train_data_path)) >= thinking.QUESTIONS


def test_losses_differ_in_how_they_average():
    ways = (thinking.GRPO, thinking.PER_ANSWER, thinking.CONSTANT)
    losses = [thinking.settings_of(way, 0, threads=1).loss_type for way in ways]
    assert losses == ["dapo", "grpo", "dr_grpo"]


def test_ways_that_need_another_model_are_not_run_unasked():
    models = {thinking.settings_of(way, 0, threads=1).model_name for way in thinking.WAYS}
    asked_for = thinking.OF_THE_COMMITTED_MODEL
    assert {thinking.settings_of(way, 0, 1).model_name for way in asked_for} < models


def test_gate_waits_for_the_trainings_that_it_compares(tmp_path, monkeypatch):
    monkeypatch.setattr(thinking, "OUT", tmp_path)
    assert thinking.measured_gate() is None


def test_steps_are_those_that_were_recorded():
    for file in thinking.OUT.glob("*.json"):
        way, _, _ = file.stem.partition("_")
        settings = read_params(thinking.PROFILE)
        assert thinking.steps_of(way, settings) == read_json(file)["steps"]


def test_all_ways_have_the_same_questions():
    files = {thinking.settings_of(way, 0, threads=1).train_data_path for way in thinking.WAYS}
    texts = {Path(file).read_text(encoding="utf-8") for file in files}
    assert len(files) == len(thinking.WAYS) and len(texts) == 1


def test_brevity_alone_has_rewards_of_its_own():
    weights = {way: thinking.settings_of(way, 0, threads=1).reward_weights for way in thinking.WAYS}
    assert weights.pop(thinking.BREVITY)["brevity"] > 0
    assert set(weights.values()) == {TrainSettings().reward_weights}


def test_brevity_counts_the_thought():
    load_reward_module(thinking.CHANGES[thinking.BREVITY]["reward_module"])
    from tools.experiments.brevity import FULL_LENGTH, brevity_reward

    thought = "<think>" + "기" * FULL_LENGTH + "</think>"
    assert rewards.registered()["brevity"].sees_thought
    assert brevity_reward(["기", thought + "기"]) == [1 - 1 / FULL_LENGTH, 0]


def test_forbidden_answer_has_no_room_for_a_thought():
    (item,) = load_items("data/word_chain/few_shot.json")[:1]
    assert begun_answers.beginning("forbidden", item) == '"'


def test_misleading_thought_is_the_other_chain():
    (item,) = load_items("data/word_chain/few_shot.json")[:1]
    given = split_thought(begun_answers.beginning("misled", item) + item.answer)
    assert given.thought == item.extra["other_chain"]
    assert given.thought != item.extra["chain"]


@pytest.mark.heavy
@pytest.mark.parametrize(("kind", "thinks"), [("forbidden", {False}), ("misled", {True})])
def test_begun_answer_goes_on_in_the_required_format(kind, thinks):
    name = read_params(thinking.PROFILE).model_name
    model, tokenizer = load_model(name).eval(), load_tokenizer(name)
    answers = begun_answers.begun_answers(model, tokenizer, TEST_UNSEEN_WORDS, kind)
    assert set(answers["thinks"]) == thinks
    assert answers["format"].mean() > 0.9
