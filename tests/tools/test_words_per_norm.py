"""From memory to rule: which words are trained on, and what is asked afterwards."""

from __future__ import annotations

from collections import Counter

import pytest

from grpo_helpers.data import load_items
from tools.corpus.families import KINDS, TWO_WAY
from tools.experiments import words_per_norm
from tools.experiments.words_per_norm import Point, chosen_items, make, settings_of

TRAIN = load_items("data/families/train.json")
FAMILIES = {item.extra["card"] for item in TRAIN if item.extra["kind"] in KINDS}


@pytest.mark.parametrize("words", [1, 2, 4, 8])
def test_every_family_has_the_same_number_of_words(words):
    counts = Counter(item.extra["card"] for item in chosen_items(TRAIN, words, seed=0))
    assert counts == dict.fromkeys(FAMILIES, words)


def test_no_lexical_word_is_chosen():
    assert {item.extra["kind"] for item in chosen_items(TRAIN, 8, seed=0)} <= set(KINDS)


def test_right_forms_of_a_two_way_family_are_balanced():
    chosen = chosen_items(TRAIN, 8, seed=0)
    for family in FAMILIES:
        of_family = [item for item in chosen if item.extra["card"] == family]
        if of_family[0].extra["kind"] == TWO_WAY:
            forms = Counter(item.extra["form"] for item in of_family)
            assert max(forms.values()) - min(forms.values()) <= 1, family


def test_more_words_contain_the_fewer():
    few = {item.id for item in chosen_items(TRAIN, 2, seed=0)}
    assert few < {item.id for item in chosen_items(TRAIN, 4, seed=0)}


def test_another_seed_draws_other_words():
    first = [item.id for item in chosen_items(TRAIN, 4, seed=0)]
    assert first != [item.id for item in chosen_items(TRAIN, 4, seed=1)]


def test_training_reads_the_chosen_items_only(tmp_path, monkeypatch):
    monkeypatch.setattr(words_per_norm, "project_root", lambda: tmp_path)
    chosen = chosen_items(TRAIN, 1, seed=0)
    settings = settings_of(Point("grpo", 1, 0), chosen)
    assert load_items(settings.train_data_path) == chosen


def test_point_that_exists_is_not_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr(words_per_norm, "OUT", tmp_path)
    (tmp_path / "gold_1_0.csv").write_text("made before", encoding="utf-8")
    assert make(Point("gold", 1, 0)).read_text(encoding="utf-8") == "made before"


@pytest.fixture(scope="module")
def small_point(tmp_path_factory):
    """A point made with hardly any training, asked about few questions."""
    folder = tmp_path_factory.mktemp("words")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(words_per_norm, "OUT", folder)
        patch.setattr(words_per_norm, "project_root", lambda: folder)
        patch.setattr(words_per_norm, "SUPERVISED_STEPS", 1)
        patch.setattr(words_per_norm, "SPLITS", (words_per_norm.TEST_UNSEEN_WORDS,))
        yield make(Point("gold", 1, 0))


@pytest.mark.heavy
def test_point_asks_about_words_of_families_only(small_point):
    import pandas as pd

    table = pd.read_csv(small_point)
    assert set(table.kind) == set(KINDS)
    assert not table.is_trained.any()
    assert set(table.em) <= {0, 1}
