"""What notebook 06 says about memory and rule is true of the recorded trainings."""

import pandas as pd
import pytest
from helpers import ROOT

from grpo_helpers import carry_over
from grpo_helpers.data import load_items
from grpo_helpers.files import read_json
from grpo_helpers.questions import SELECTION
from grpo_helpers.run_folder import BASE
from grpo_helpers.splits import TEST_NONCE
from tools.experiments.recorded_runs import SEEDS, chosen_checkpoint, items_on_test, recorded_of_arm

POINTS = carry_over.load_points(ROOT / "data/reference_runs" / carry_over.FOLDER)
SHARES = carry_over.memory_and_rule(POINTS).groupby(["way", "words"])[["memory", "rule"]].mean()
MOST = carry_over.WORDS[-1]
HIDDEN_POINTS = carry_over.load_points(ROOT / "data/reference_runs" / carry_over.HIDDEN_FOLDER)
HIDDEN = carry_over.memory_and_rule(HIDDEN_POINTS)
HARD = {"ryul-yul", "doe-dwae", "saisiot", "plain-tense"}

every_way = pytest.mark.parametrize("way", carry_over.WAYS)


def choices_of_the_default_run(checkpoint_of=chosen_checkpoint):
    """Return the scores of one checkpoint of every seed, the chosen one, on invented words."""
    tables = []
    for name in recorded_of_arm("seed"):
        tested = items_on_test(name)
        tables.append(tested[tested["checkpoint"] == checkpoint_of(tested)])

    scores = pd.concat(tables)
    scores = scores[scores["split"] == TEST_NONCE.key]
    items = {item.id: item for item in load_items(ROOT / "data/embedded" / TEST_NONCE.file)}
    for name in ("card", "form", "word"):
        scores[name] = [items[key].extra.get(name) for key in scores["id"]]
    return scores


def invented_words_after_one_word():
    """Return the answers about invented words of two-way families after training on one word."""
    one = POINTS[(POINTS["words"] == 1) & (POINTS["kind"] == carry_over.TWO_WAY)]

    trained = one[one["is_trained"]].drop_duplicates(["way", "seed", "card"])
    trained = trained[["way", "seed", "card", "form"]].rename(columns={"form": "trained_form"})
    is_asked = (one["split"] == TEST_NONCE.title) & (one["question_type"] == SELECTION)
    invented = one[is_asked].merge(trained, on=["way", "seed", "card"])
    return invented.assign(is_trained_form=invented["form"] == invented["trained_form"])


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
def test_one_word_teaches_a_preference_for_its_form(way):
    scores = invented_words_after_one_word()
    by_form = scores[scores["way"] == way].groupby("is_trained_form")["choice"].mean()

    assert by_form[True] > 0.8
    assert by_form[False] < 0.4


@every_way
def test_two_words_make_more_than_a_guess(way):
    questions = carry_over.memory_and_rule(POINTS)["rule_questions"].max()

    assert rule(way, 2) > carry_over.chance_range(int(questions)).high


@pytest.mark.parametrize("way", ["grpo", "rejection"])
def test_more_than_two_words_add_nothing(way):
    assert rule(way, MOST) == pytest.approx(rule(way, 2), abs=0.05)


def test_gold_answers_go_on_teaching():
    assert rule("gold", MOST) > rule("gold", 2) + 0.08


def test_grpo_leads_at_two_words():
    assert rule("grpo", 2) > max(rule("gold", 2), rule("rejection", 2))


def test_gold_answers_lead_at_eight_words():
    assert rule("gold", MOST) > max(rule("grpo", MOST), rule("rejection", MOST))


def test_memory_falls_with_the_words_under_grpo():
    memory = SHARES.loc["grpo", "memory"]

    assert memory.is_monotonic_decreasing


def test_four_families_do_not_carry_over():
    shares = rule_of_two_way_families()

    assert shares[list(HARD)].max() < shares.drop(list(HARD)).min()
    assert shares[list(HARD)].max() < 0.65


# -- without letters ------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["grpo", "gold"])
def test_model_without_letters_is_in_the_band_of_guessers_on_invented_words(way):
    of_way = HIDDEN[HIDDEN["way"] == way]
    guess = carry_over.chance_range(int(of_way["rule_questions"].max()))

    assert len(of_way) == len(SEEDS)
    assert guess.low < of_way["rule"].mean() < guess.high


@pytest.mark.parametrize("way", ["grpo", "gold"])
def test_every_seed_with_letters_leads_every_seed_without(way):
    seen = carry_over.memory_and_rule(POINTS)
    seen = seen[(seen["way"] == way) & (seen["words"] == MOST)]

    assert seen["rule"].min() > HIDDEN.loc[HIDDEN["way"] == way, "rule"].max()


@pytest.mark.parametrize("way", ["grpo", "gold"])
def test_model_without_letters_remembers_what_it_was_shown(way):
    assert HIDDEN.loc[HIDDEN["way"] == way, "memory"].mean() > 0.7


@pytest.mark.parametrize("way", ["grpo", "gold"])
def test_model_without_letters_loses_more_of_the_rule_than_of_memory(way):
    hidden = HIDDEN[HIDDEN["way"] == way][["memory", "rule"]].mean()
    lost = SHARES.loc[(way, MOST)] - hidden

    assert lost["rule"] > 1.5 * lost["memory"] > 0


def test_model_without_letters_copies_as_well_as_the_other():
    hidden, seen = (
        pd.DataFrame(read_json(ROOT / f"data/{name}/figures.json")["splits"]).set_index("split")
        for name in ("hidden_letters_model", "tiny_model")
    )
    copied = "copied outside the chosen word"

    assert hidden.loc["test", copied] == pytest.approx(seen.loc["test", copied], abs=0.01)
    assert hidden.loc["nonce words", copied] > 0.96


# -- what the README says ------------------------------------------------------------------------


def test_word_of_the_readme_is_wrong_before_training():
    scores = choices_of_the_default_run(checkpoint_of=lambda tested: BASE)

    assert scores[scores["word"] == "툽취예요"]["choice"].tolist() == [0] * len(
        recorded_of_arm("seed")
    )


@pytest.mark.parametrize("word", ["좀앙", "툽취"])
def test_words_of_the_readme_are_right_with_every_seed(word):
    scores = choices_of_the_default_run()
    of_word = scores[scores["word"].str.startswith(word) & (scores["question_type"] == SELECTION)]

    assert of_word["choice"].tolist() == [1] * len(recorded_of_arm("seed"))


def test_compounds_get_a_siot_whether_they_need_it_or_not():
    scores = choices_of_the_default_run()
    of_family = scores[(scores["card"] == "saisiot") & (scores["question_type"] == SELECTION)]
    by_form = of_family.groupby("form")["choice"].mean()

    assert by_form["사이시옷"] > 0.85
    assert by_form["사이시옷 없이"] < 0.25
