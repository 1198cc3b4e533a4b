"""The ways in which notebook 07's model is trained."""

from pathlib import Path

from grpo_helpers import rewards, thinking_runs
from grpo_helpers.data import load_items
from grpo_helpers.settings import ThinkingSettings, TrainSettings
from grpo_helpers.training import read_params
from tools.experiments import thinking


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


def test_all_ways_have_the_same_questions():
    files = {thinking.settings_of(way, 0, threads=1).train_data_path for way in thinking.WAYS}
    texts = {Path(file).read_text(encoding="utf-8") for file in files}
    assert len(files) == len(thinking.WAYS) and len(texts) == 1


def test_brevity_alone_has_rewards_of_its_own():
    weights = {way: thinking.settings_of(way, 0, threads=1).reward_weights for way in thinking.WAYS}
    assert weights.pop(thinking.BREVITY)["brevity"] > 0
    assert set(weights.values()) == {TrainSettings().reward_weights}


def test_brevity_counts_the_thought():
    before = rewards.registered()
    try:
        from tools.experiments.brevity import FULL_LENGTH, brevity_reward

        thought = "<think>" + "기" * FULL_LENGTH + "</think>"
        assert rewards.registered()["brevity"].sees_thought
        assert brevity_reward(["기", thought + "기"]) == [1 - 1 / FULL_LENGTH, 0]
    finally:
        rewards.restore(before)
