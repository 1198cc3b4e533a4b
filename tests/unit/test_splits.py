"""The table of splits."""

from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import pytest

from grpo_helpers.files import InputError, project_root
from grpo_helpers.settings import DataSettings, EvaluateSettings
from grpo_helpers.splits import (
    CORPUS_SPLITS,
    DEV,
    FEW_SHOT,
    SPLITS,
    TEST,
    TEST_SPLITS,
    TEST_UNSEEN_NORMS,
    TEST_UNSEEN_WORDS,
    find_split,
    split_paths,
)

RUN = Path("runs/default")


@pytest.mark.parametrize("split", CORPUS_SPLITS, ids=lambda split: split.name)
def test_split_has_a_file_in_the_data_folder(split):
    assert (project_root() / "data" / split.file).is_file()


@pytest.mark.parametrize("split", SPLITS, ids=lambda split: split.name)
def test_split_has_a_file_among_the_families(split):
    assert (project_root() / "data" / "embedded" / split.file).is_file()


@pytest.mark.parametrize("split", CORPUS_SPLITS, ids=lambda split: split.name)
def test_split_is_a_parameter_of_notebook_01(split):
    assert split.parameter in {field.name for field in fields(DataSettings)}


@pytest.mark.parametrize("split", TEST_SPLITS, ids=lambda split: split.name)
def test_test_split_is_a_parameter_of_notebook_05(split):
    assert split.parameter in {field.name for field in fields(EvaluateSettings)}


@pytest.mark.parametrize("attribute", ["name", "title", "key", "parameter", "file"])
def test_no_two_splits_share_a_name(attribute):
    assert len({getattr(split, attribute) for split in SPLITS}) == len(SPLITS)


@pytest.mark.parametrize("text", ["test_unseen_norms", "unseen norms", "unseen_norms"])
def test_split_is_found_by_each_of_its_names(text):
    assert find_split(text) is TEST_UNSEEN_NORMS


def test_unknown_split_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match=r"unknown split 'exam'; known are train, dev, test"):
        find_split("exam")


def test_dev_answers_are_those_of_training():
    assert DEV.answer_folder(RUN) == RUN / "infer_results"


def test_test_answers_are_in_the_top_result_folder():
    assert TEST.answer_folder(RUN) == RUN / "test_results"


def test_answers_to_unseen_words_have_their_own_folder():
    assert TEST_UNSEEN_WORDS.answer_folder(RUN) == RUN / "test_results" / "unseen_words"


def test_paths_come_from_the_settings():
    paths = split_paths(DataSettings())
    assert paths[FEW_SHOT] == "data/few_shot.json"


def test_paths_are_in_the_order_of_the_table():
    assert list(split_paths(DataSettings())) == list(CORPUS_SPLITS)


def test_split_with_an_empty_path_is_left_out():
    settings = SimpleNamespace(test_data_path="t.json", test_unseen_words_path="")
    assert split_paths(settings, TEST_SPLITS) == {TEST: "t.json"}
