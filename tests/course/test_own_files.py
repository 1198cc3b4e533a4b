"""Notebooks 01 and 02 on a reader's own contest files, which have only the contest's fields."""

import pytest
from helpers import ROOT, SMOKE_PARAMS
from notebook_cells import run_notebook

from grpo_helpers.files import read_json, read_yaml, write_json


def bare(row):
    """A row without the fields that only the course's files have."""
    return {key: row[key] for key in ("id", "input", "output")}


@pytest.fixture(scope="module")
def own_files(tmp_path_factory):
    """Train and dev files: dev has a sentence of train, and an answer without quotes."""
    folder = tmp_path_factory.mktemp("own")
    train = [bare(row) for row in read_json(ROOT / "data/smoke/train.json")][:12]
    dev = [bare(row) for row in read_json(ROOT / "data/smoke/dev.json")][:6]

    dev[1] = dev[1] | {"output": {"answer": "며칠이 맞다."}}
    dev.append(train[0] | {"id": "copied"})
    return {
        "output_dir": str(folder),
        "train_data_path": str(write_json(folder / "train.json", train)),
        "eval_data_path": str(write_json(folder / "dev.json", dev)),
        "headless": dev[1]["id"],
    }


@pytest.fixture(scope="module")
def data_notebook(own_files):
    """What notebook 01 prints for these files, without any test split."""
    few = [bare(row) for row in read_json(ROOT / "data/embedded/few_shot.json")]
    types = ("선택형", "교정형")
    pool = [row for kind in types for row in few if row["input"]["question_type"] == kind]
    few_of_each = [*pool[:3], *pool[-3:]]
    folder = own_files["output_dir"]

    values = {key: value for key, value in own_files.items() if key != "headless"}
    values |= {
        "few_shot_data_path": str(write_json(f"{folder}/few.json", few_of_each)),
        "test_data_path": "",
        "test_unseen_words_path": "",
        "test_unseen_norms_path": "",
    }
    return run_notebook("01_data_and_few_shot", values)


def test_near_copies_are_counted_and_named(data_notebook):
    assert "1 of 7 are near copies, ids copied" in data_notebook


def test_answers_without_quotes_are_counted_and_named(data_notebook, own_files):
    expected = f"1 gold answers have no quoted sentence, ids {own_files['headless']}"
    assert expected in data_notebook


def test_small_pool_ends_the_comparison_of_prompt_lengths(data_notebook):
    assert "up to 3 examples: the few-shot pool has 3 usable" in data_notebook


def test_notebook_reaches_its_findings(data_notebook):
    assert "train 12, dev 7, few-shot 6 questions." in data_notebook


@pytest.mark.heavy
def test_reward_notebook_samples_questions_without_a_translation(own_files):
    values = read_yaml(ROOT / SMOKE_PARAMS.replace("04_train", "02_reward_exploration"))
    values |= {key: own_files[key] for key in ("output_dir", "eval_data_path")}
    assert "in English: no gloss in this file" in run_notebook("02_reward_exploration", values)
