"""``make bar``: what it measures of a run, and when it fails."""

import dataclasses

import pytest

from grpo_helpers.data import load_items
from grpo_helpers.files import write_json
from grpo_helpers.inference import write_answers
from grpo_helpers.run_folder import BASE, RunFolder
from grpo_helpers.scoring import score_all, write_tables
from grpo_helpers.splits import TEST, TEST_NONCE, TEST_UNSEEN_WORDS
from tools.corpus.families import KINDS
from tools.course import acceptance
from tools.course.acceptance import SeedResult, measure, targets

NO_ANSWER = "모르겠다"
GOOD = SeedResult(
    seed=0,
    best="epoch_3",
    test_gain=40.0,
    test_low=35.0,
    word_gain=30.0,
    word_low=22.0,
    nonce_gain=25.0,
    nonce_low=18.0,
    nonce_choice=0.85,
    base_nonce_choice=0.5,
    base_choice=0.5,
    base_format=0.95,
    base_copied=0.99,
)
MISSES = {
    "gain on test, mean >= 25 points": {"test_gain": 20.0},
    "gain on test, lowest seed >= 15 points": {"test_gain": 14.0},
    "gain on unseen words of families >= 25 points": {"word_gain": 24.0},
    "gain on nonce words, mean >= 20 points": {"nonce_gain": 19.0},
    "95 % intervals, lowest bound > 0 points": {"nonce_low": -1.0},
    "choice on two-way nonce words, mean >= 0.75": {"nonce_choice": 0.7},
    "base: choice on two-way nonce words >= 0.4": {"base_nonce_choice": 0.3},
    "base: choice on two-way nonce words <= 0.6": {"base_nonce_choice": 0.7},
    "base: choice on two options, test >= 0.45": {"base_choice": 0.4},
    "base: choice on two options, test <= 0.55": {"base_choice": 0.6},
    "base: format rate >= 0.8": {"base_format": 0.7},
    "base: unseen sentences copied >= 0.98": {"base_copied": 0.97},
}


def missed(results):
    return {target.text for target in targets(results) if not target.is_reached}


def test_good_results_reach_every_target():
    assert missed([GOOD, GOOD, GOOD]) == set()


@pytest.mark.parametrize(("target", "changes"), MISSES.items())
def test_bad_result_misses_its_target(target, changes):
    assert target in missed([dataclasses.replace(GOOD, **changes)])


def test_one_bad_seed_is_not_averaged_away():
    bad = dataclasses.replace(GOOD, test_gain=14.0)
    assert missed([GOOD, GOOD, bad]) == {"gain on test, lowest seed >= 15 points"}


def test_one_interval_below_zero_is_not_averaged_away():
    bad = dataclasses.replace(GOOD, word_low=-0.5)
    assert missed([GOOD, GOOD, bad]) == {"95 % intervals, lowest bound > 0 points"}


@pytest.fixture(scope="module")
def evaluated_run(tmp_path_factory):
    """A run folder as notebook 05 leaves it.

    The base answers nothing; epoch_1 answers family words correctly, and lexical words not at all.
    """
    run = RunFolder(tmp_path_factory.mktemp("project") / "runs" / "bar-seed-0")
    for split in (TEST, TEST_UNSEEN_WORDS, TEST_NONCE):
        items = load_items(f"data/embedded/{split.file}")
        answers = {BASE: [NO_ANSWER] * len(items), "epoch_1": []}
        for item in items:
            is_of_family = item.extra["kind"] in KINDS
            answers["epoch_1"].append(item.answer if is_of_family else NO_ANSWER)

        for checkpoint, texts in answers.items():
            write_answers(run.answers(checkpoint, split), items, texts)
        write_tables(score_all(answers, items), items, split.answer_folder(run.path))

    write_json(run.path / "best_checkpoint.json", {"best_checkpoint": "epoch_1"})
    return run


def test_measure_reads_the_gain_of_the_chosen_checkpoint(evaluated_run):
    result = measure(evaluated_run.path, seed=0)
    assert result.best == "epoch_1"
    assert 80 < result.test_gain < 100
    assert 80 < result.test_low < result.test_gain


def test_lexical_words_are_no_part_of_the_unseen_words_of_families(evaluated_run):
    assert measure(evaluated_run.path, seed=0).word_gain == pytest.approx(100)


def test_choice_on_nonce_words_is_measured(evaluated_run):
    result = measure(evaluated_run.path, seed=0)
    assert (result.base_nonce_choice, result.nonce_choice) == (0.0, 1.0)


def test_measure_describes_the_base(evaluated_run):
    result = measure(evaluated_run.path, seed=0)
    assert (result.base_choice, result.base_format, result.base_copied) == (0.0, 0.0, 0.0)


def test_measuring_only_trains_nothing(evaluated_run, monkeypatch, capsys):
    monkeypatch.setattr(acceptance, "SEEDS", (0,))
    monkeypatch.setattr(acceptance, "run_course", lambda *args: pytest.fail("it trained"))
    monkeypatch.setattr(acceptance, "project_root", lambda: evaluated_run.path.parent.parent)

    assert acceptance.main(["--measure-only"]) == 1
    printed = capsys.readouterr().out
    assert "reached  gain on nonce words, mean >= 20 points: 100.000" in printed
    assert "MISSED   base: format rate >= 0.8: 0.000" in printed
