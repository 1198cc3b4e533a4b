"""What notebook 06 says about memory and rule is true of the recorded trainings."""

import pandas as pd
import pytest
from helpers import ROOT

from grpo_helpers import carry_over
from grpo_helpers.data import load_items
from grpo_helpers.questions import SELECTION
from grpo_helpers.splits import TEST_NONCE
from tools.experiments.recorded_runs import chosen_checkpoint, items_on_test, recorded_of_arm

POINTS = carry_over.load_points(ROOT / "data/reference_runs" / carry_over.FOLDER)
SHARES = carry_over.memory_and_rule(POINTS).groupby(["way", "words"])[["memory", "rule"]].mean()
MOST = carry_over.WORDS[-1]
HARD = {"ryul-yul", "doe-dwae", "saisiot", "plain-tense"}

every_way = pytest.mark.parametrize("way", carry_over.WAYS)


def choices_of_the_default_run():
    """Return the scores of the chosen checkpoints of all seeds on invented words."""
    tables = []
    for name in recorded_of_arm("seed"):
        tested = items_on_test(name)
        tables.append(tested[tested["checkpoint"] == chosen_checkpoint(tested)])

    scores = pd.concat(tables)
    scores = scores[scores["split"] == TEST_NONCE.key]
    items = {item.id: item for item in load_items(ROOT / "data/embedded" / TEST_NONCE.file)}
    for name in ("card", "form", "word"):
        scores[name] = [items[key].extra.get(name) for key in scores["id"]]
    return scores


def rule(way, words):
    return SHARES.loc[(way, words), "rule"]


def rule_of_two_way_families():
    """Return the share of right choices on invented words by family, over all ways."""
    families = carry_over.rule_by_family(POINTS, MOST)
    families = families[families["kind"] == carry_over.TWO_WAY].set_index("family")
    return families[list(carry_over.WAYS.values())].mean(axis=1)


def test_every_point_is_recorded():
    assert carry_over.missing_points(POINTS) == ""


@every_way
def test_one_word_is_known_in_new_sentences(way):
    assert SHARES.loc[(way, 1), "memory"] > 0.9


@every_way
def test_one_word_leaves_invented_words_to_a_guess(way):
    questions = carry_over.memory_and_rule(POINTS)["rule_questions"].max()
    low, high = carry_over.chance_range(int(questions))

    assert low <= rule(way, 1) <= high


@every_way
def test_more_words_make_more_of_a_rule(way):
    assert rule(way, MOST) > rule(way, 1) + 0.08


def test_grpo_leads_at_two_words():
    assert rule("grpo", 2) > max(rule("gold", 2), rule("rejection", 2))


def test_gold_answers_lead_at_eight_words():
    assert rule("gold", MOST) > max(rule("grpo", MOST), rule("rejection", MOST))


def test_four_families_do_not_carry_over():
    shares = rule_of_two_way_families()

    assert shares[list(HARD)].max() < shares.drop(list(HARD)).min()
    assert shares[list(HARD)].max() < 0.65


# -- what the README says ------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["좀앙", "툽취"])
def test_words_of_the_readme_are_right_with_every_seed(word):
    scores = choices_of_the_default_run()
    of_word = scores[scores["word"].str.startswith(word) & (scores["question_type"] == SELECTION)]

    assert of_word["choice"].tolist() == [1] * len(recorded_of_arm("seed"))


def test_one_form_of_ryul_and_yul_is_preferred():
    scores = choices_of_the_default_run()
    of_family = scores[(scores["card"] == "ryul-yul") & (scores["question_type"] == SELECTION)]
    by_form = of_family.groupby("form")["choice"].mean()

    assert by_form["율"] > 0.9
    assert by_form["률"] < 0.5
