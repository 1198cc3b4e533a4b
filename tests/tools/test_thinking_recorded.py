"""What notebook 07 and the READMEs say of the thinking model is true of the recorded trainings."""

import pytest
from helpers import ROOT

from grpo_helpers import thinking_runs
from grpo_helpers.splits import TEST, TEST_UNSEEN_WORDS
from grpo_helpers.thinking_runs import FORBIDDEN, GREEDY, MISLED, SAMPLED, compare_ways
from tools.course import thinking_bar
from tools.experiments import thinking

RECORDED = thinking_runs.load_ways(thinking.OUT)
UNSEEN = TEST_UNSEEN_WORDS.key
SEEDS = range(3)
THREE_SEEDS = ("gold", "rejection", "taught", "brevity", "grpo")
GUESS = 0.5

every_seed = pytest.mark.parametrize("seed", SEEDS)
both_sets = pytest.mark.parametrize("split", [TEST.key, UNSEEN])


def mean(way, share, split=UNSEEN, kind=GREEDY):
    """Return the mean of a share over the seeds of a way."""
    return compare_ways(RECORDED, (way,), split, kind)[share].iloc[0]


def test_every_way_is_recorded():
    assert thinking_runs.missing_ways(RECORDED) == ""


@pytest.mark.parametrize("way", THREE_SEEDS)
def test_way_has_three_seeds(way):
    assert set(RECORDED[RECORDED["way"] == way]["seed"]) == set(SEEDS)


@every_seed
def test_rewarded_model_beats_gold_answers_and_its_base_in_every_seed(seed):
    result = thinking_bar.measure(RECORDED, seed)
    assert min(result.over_base_low, result.over_gold_low) > 0
    assert min(result.over_base, result.over_gold) >= 20


def test_gate_is_passed():
    assert mean("gold", "highest") <= 0.6
    assert mean("taught", "lowest") >= 0.95


def test_card_of_the_model_shows_the_gate():
    card = (ROOT / "data/thinking_model/README.md").read_text(encoding="utf-8")
    assert f"{mean('gold', 'right'):.3f} are right after the first" in card
    assert f"{mean('taught', 'right'):.3f} after the second" in card


@both_sets
def test_gold_answers_end_all_thinking(split):
    assert mean("gold", "thinks", split, SAMPLED) < 0.01


@both_sets
def test_rewarded_model_nearly_always_thinks(split):
    assert mean("grpo", "thinks", split, SAMPLED) >= 0.9


@both_sets
def test_model_paid_for_brevity_stops_thinking(split):
    assert mean("brevity", "thinks", split, SAMPLED) < 0.1
    assert mean("brevity", "right", split) == pytest.approx(GUESS, abs=0.1)


@both_sets
def test_rejection_sampling_hardly_moves_the_share_that_thinks(split):
    after = mean("rejection", "thinks", split, SAMPLED)
    assert after == pytest.approx(mean("base", "thinks", split, SAMPLED), abs=0.1)
    assert mean("rejection", "right", split, SAMPLED) < mean("grpo", "right", split, SAMPLED) - 0.1


def test_greedy_answers_of_rejection_sampling_are_as_good_as_those_of_grpo_or_near_a_guess():
    assert mean("rejection", "lowest") < GUESS + 0.1
    assert mean("rejection", "highest") > mean("grpo", "right") - 0.01


@both_sets
def test_rewarded_model_guesses_where_it_may_not_think(split):
    assert mean("grpo", "right", split, FORBIDDEN) == pytest.approx(GUESS, abs=0.1)


@both_sets
def test_rewarded_model_follows_a_wrong_thought(split):
    assert mean("grpo", "right", split, MISLED) < 0.1


@both_sets
def test_thought_that_leads_nowhere_neither_helps_nor_spreads(split):
    assert mean("astray", "right", split, SAMPLED) == pytest.approx(GUESS, abs=0.1)
    before = mean("astray-base", "thinks", split, SAMPLED)
    assert mean("astray", "thinks", split, SAMPLED) < before + 0.1


@both_sets
@pytest.mark.parametrize("way", ["per-answer", "constant"])
def test_other_losses_reach_the_same(way, split):
    assert mean(way, "right", split) == pytest.approx(mean("grpo", "right", split), abs=0.02)


@pytest.mark.parametrize("page", ["README.md", "README.ko.md"])
@pytest.mark.parametrize("way", ["base", "gold", "taught", "grpo"])
@pytest.mark.parametrize("kind", [GREEDY, SAMPLED])
def test_readme_shows_what_was_measured(page, way, kind):
    paragraphs = (ROOT / page).read_text(encoding="utf-8").split("\n\n")
    (about_thinking,) = [paragraph for paragraph in paragraphs if "`<think>" in paragraph]
    assert f"{mean(way, 'right', kind=kind):.2f}" in about_thinking
