"""``make bar PROFILE=families``: what it measures of a run, and when it fails."""

from __future__ import annotations

import dataclasses

import pytest

from grpo_helpers.data import load_items
from grpo_helpers.files import write_json
from grpo_helpers.run_folder import BASE, BEST_FILE
from grpo_helpers.scoring import score_all, write_tables
from grpo_helpers.splits import TEST, TEST_NONCE, TEST_UNSEEN_WORDS
from tools.corpus.families import KINDS
from tools.course.family_acceptance import FamilySeedResult, family_targets, measure_families

GOOD = FamilySeedResult(
    seed=0,
    best="epoch_3",
    test_gain=40.0,
    test_low=35.0,
    word_gain=30.0,
    word_low=22.0,
    nonce_gain=25.0,
    nonce_low=18.0,
    nonce_choice=0.85,
    base_choice=0.5,
    base_format=0.95,
)
MISSES = {
    "gain on test, mean >= 25 points": {"test_gain": 20.0},
    "gain on test, lowest seed >= 15 points": {"test_gain": 14.0},
    "gain on unseen words of families >= 25 points": {"word_gain": 24.0},
    "gain on nonce words, mean >= 20 points": {"nonce_gain": 19.0},
    "95 % intervals, lowest bound > 0 points": {"nonce_low": -1.0},
    "choice on two-way nonce words, mean >= 0.75": {"nonce_choice": 0.7},
    "base: choice on two-way nonce words >= 0.4": {"base_choice": 0.3},
    "base: choice on two-way nonce words <= 0.6": {"base_choice": 0.7},
    "base: format rate >= 0.8": {"base_format": 0.7},
}


def missed(results):
    return {target.text for target in family_targets(results) if not target.is_reached}


def test_good_results_reach_every_target():
    assert missed([GOOD, GOOD, GOOD]) == set()


@pytest.mark.parametrize(("target", "changes"), MISSES.items())
def test_bad_result_misses_its_target(target, changes):
    assert target in missed([dataclasses.replace(GOOD, **changes)])


def test_one_interval_below_zero_is_not_averaged_away():
    bad = dataclasses.replace(GOOD, word_low=-0.5)
    assert missed([GOOD, GOOD, bad]) == {"95 % intervals, lowest bound > 0 points"}


@pytest.fixture(scope="module")
def evaluated_run(tmp_path_factory):
    """A run folder as notebook 05 leaves it.

    The base answers nothing; epoch_1 answers family words rightly, and lexical words not at all.
    """
    run_dir = tmp_path_factory.mktemp("runs") / "bar"
    for split in (TEST, TEST_UNSEEN_WORDS, TEST_NONCE):
        items = load_items(f"data/families/{split.file}")
        answers = {BASE: ["모르겠다"] * len(items), "epoch_1": []}
        for item in items:
            answers["epoch_1"].append(item.answer if item.extra["kind"] in KINDS else "모르겠다")
        write_tables(score_all(answers, items), items, split.answer_folder(run_dir))
    write_json(run_dir / BEST_FILE, {"best_checkpoint": "epoch_1"})
    return run_dir


def test_single_words_are_no_part_of_the_unseen_words_of_families(evaluated_run):
    result = measure_families(evaluated_run, seed=0)
    assert result.word_gain == pytest.approx(100)
    assert result.test_gain < 100


def test_choice_on_nonce_words_is_measured(evaluated_run):
    result = measure_families(evaluated_run, seed=0)
    assert (result.base_choice, result.nonce_choice) == (0.0, 1.0)
