"""The benchmark of training: what is timed, and both ways of answering and of training."""

from __future__ import annotations

import time
from functools import partial

import pytest
from helpers import smoke_settings

from grpo_helpers.settings import TrainSettings
from tools.benchmarks import training
from tools.benchmarks.training import (
    ARTICLE,
    BARE,
    IN_PLACE,
    OURS,
    STEP_WAYS,
    UNSHARED,
    Answering,
)

PAUSE = 0.02


class FakeTrainer:
    """Three steps of two micro-batches each; the micro-batches of the first one are slow."""

    def training_step(self, step):
        time.sleep(10 * PAUSE if step == 0 else PAUSE)

    def _maybe_log_save_evaluate(self):
        time.sleep(PAUSE)

    def train(self):
        for step in range(3):
            self.training_step(step)
            self.training_step(step)
            self._maybe_log_save_evaluate()
        self._maybe_log_save_evaluate()  # at the end of the epoch


def train_fake():
    FakeTrainer().train()


# -- timing -----------------------------------------------------------------------------------


def test_steps_are_timed_without_the_first():
    seconds = training.step_seconds(train_fake, FakeTrainer)
    assert len(seconds) == 2
    assert max(seconds) < 10 * PAUSE


def test_step_takes_all_of_its_micro_batches_and_its_log():
    assert min(training.step_seconds(train_fake, FakeTrainer)) >= 3 * PAUSE


def test_timing_leaves_the_trainer_as_it_was():
    before = FakeTrainer.training_step
    training.step_seconds(train_fake, FakeTrainer)
    assert FakeTrainer.training_step is before


def test_timed_run_takes_one_step_more_than_is_timed(tmp_path):
    assert training.settings_of(tmp_path, OURS, 0).max_steps == training.STEPS + 1


def test_timed_run_saves_nothing(tmp_path):
    assert training.settings_of(tmp_path, OURS, 0).save_strategy == "no"


def test_every_way_takes_as_many_completions_to_a_step(tmp_path):
    plans = [training.settings_of(tmp_path, way, 0).batch_plan for way in STEP_WAYS]
    assert {plan.completions_per_step for plan in plans} == {128}


def test_articles_micro_batch_is_one_completion(tmp_path):
    settings = training.settings_of(tmp_path, ARTICLE, 0)
    assert settings.per_device_train_batch_size == 1


def test_steps_are_compared_pair_by_pair():
    seconds = {OURS: [2.0, 3.0], UNSHARED: [4.0, 6.0], BARE: [6.0, 9.0], ARTICLE: [8.0, 12.0]}
    measured = training.compare_steps(seconds)
    assert [target.value for target in measured.targets] == pytest.approx([3.0, 4.0, 2 / 3])
    assert measured.facts["steps"][ARTICLE] == {
        "seconds": 10.0,
        "times_faster": 4.0,
        "interval": [4.0, 4.0],
    }


# -- answering --------------------------------------------------------------------------------


def test_answering_is_compared_by_its_seconds(tmp_path, monkeypatch, capsys):
    ways = {
        IN_PLACE: Answering(seconds=2.0, peak=600, answers=["a", "b"]),
        ARTICLE: Answering(seconds=12.0, peak=500, answers=["a", "c"]),
    }
    monkeypatch.setattr(training, "new_adapter", lambda folder, settings: folder)
    monkeypatch.setattr(training, "answer_elsewhere", lambda way, adapter: ways[way])
    measured = training.bench_answering(tmp_path)
    assert measured.targets[0].value == 6.0
    assert measured.facts["reload_mib"] == 500
    assert "in batches and alone: 50%" in capsys.readouterr().out


@pytest.mark.heavy
def test_both_ways_answer_every_question(tmp_path):
    settings = TrainSettings()
    adapter = training.new_adapter(tmp_path / "adapter", settings)
    for way in (IN_PLACE, ARTICLE):
        answering = training.answer(way, str(adapter), settings, questions=3)
        assert len(answering.answers) == 3, way
        assert answering.seconds > 0, way


# -- a bare script ----------------------------------------------------------------------------


@pytest.mark.heavy
def test_bare_script_trains_with_todays_libraries(tmp_path):
    from trl import GRPOTrainer

    settings = smoke_settings(tmp_path, max_steps=2, save_strategy="no")
    train = partial(training.train_bare, settings)
    assert len(training.step_seconds(train, GRPOTrainer)) == 1
