"""Reading a folder of answer files, and the tables and means of their scores."""

from __future__ import annotations

import json
import math
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import scores_of

from grpo_helpers.data import load_items
from grpo_helpers.files import InputError, write_json
from grpo_helpers.inference import write_answers
from grpo_helpers.questions import CORRECTION, SELECTION, chance
from grpo_helpers.run_folder import checkpoint_of
from grpo_helpers.scoring import (
    checkpoint_means,
    evaluate_json,
    item_finals,
    item_table,
    read_answers,
    read_folder,
    scan_folder,
    scores_from_table,
    scores_table,
    write_tables,
)

LABEL_PATH = "data/smoke/dev.json"
LABELS = load_items(LABEL_PATH)
GOLDS = [item.answer for item in LABELS]
UNKNOWN = ["모르겠다"] * len(LABELS)  # "I don't know"


@pytest.fixture
def answer_folder(tmp_path):
    """Three checkpoints: none right, all right, all but one right."""
    folder = tmp_path / "infer_results"
    write_answers(folder / "inference_epoch0.json", LABELS, UNKNOWN)
    write_answers(folder / "inference_epoch1.json", LABELS, GOLDS)
    write_answers(folder / "inference_epoch2.json", LABELS, [*GOLDS[:-1], UNKNOWN[0]])
    return folder


# -- reading ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "checkpoint"),
    [
        ("inference_epoch12.json", "epoch_12"),
        ("inference_step3.json", "step_3"),
        ("other.json", "other"),
    ],
)
def test_file_name_gives_the_checkpoint(file, checkpoint):
    assert checkpoint_of(Path(file)) == checkpoint


def test_answers_come_in_the_order_of_the_labels(tmp_path):
    backwards = LABELS[::-1]
    texts = [f"answer {item.id}" for item in backwards]
    file = write_answers(tmp_path / "a.json", backwards, texts)

    assert read_answers(file, LABELS) == texts[::-1]


ODD_ANSWERS = {
    "nothing": "",
    "white space": " \n ",
    "a thought that was cut off": "<think>음",
    "a thought and an answer": f"<think>음</think>\n{GOLDS[0]}",
    "decomposed Hangul": unicodedata.normalize("NFD", GOLDS[0]),
    "half a character": "며칠 \ud83d",
    "a null character": "\x00",
}


@pytest.mark.parametrize("case", ODD_ANSWERS)
def test_whatever_is_written_is_read(case, tmp_path):
    texts = [ODD_ANSWERS[case]] * len(LABELS)
    file = write_answers(tmp_path / "a.json", LABELS, texts)

    expected = unicodedata.normalize("NFC", texts[0].strip()).replace("\ud83d", "\ufffd")
    assert read_answers(file, LABELS) == [expected] * len(LABELS)


def test_empty_answer_scores_zero(tmp_path):
    write_answers(tmp_path / "inference_epoch1.json", LABELS, ["", *GOLDS[1:]])

    scores = evaluate_json(tmp_path, LABEL_PATH)["epoch_1"]

    for metric in ("em", "choice", "format", "rouge1", "bertscore"):
        assert scores[metric][0] == 0
    assert scores["em"][1:] == [1.0] * (len(LABELS) - 1)


def with_output(output, **fields):
    """Return a change of an answer file: its second row gets this output and these fields."""
    return lambda rows: [rows[0], rows[1] | {"output": output} | fields, *rows[2:]]


def without_output(**fields):
    """Return a change of an answer file: its second row has these fields and no output."""

    def change(rows):
        row = {key: value for key, value in rows[1].items() if key != "output"}
        return [rows[0], row | fields, *rows[2:]]

    return change


def as_flat(rows):
    """The rows in the flat variant, gold answer and prediction side by side."""
    flat = []
    for row in rows:
        source = {"Question": row["input"]["question"], "Answer": row["output"]["answer"]}
        flat.append({"id": row["id"], "Question_Type": "선택형", "prediction": "몇일"} | source)
    return flat


OTHER_LAYOUTS = {
    "output is a text": (with_output(GOLDS[1]), "output is a text"),
    "output is null": (with_output(None), "output is null"),
    "output is a list": (with_output([GOLDS[1]]), "output is a list"),
    "output is empty": (with_output({}), "output is an empty object"),
    "the answer is null": (with_output({"answer": None}), "output.answer is null"),
    "the answer is a number": (with_output({"answer": 1}), "output.answer is an int"),
    "another key": (with_output({"prediction": GOLDS[1]}), "output has prediction"),
    "the answer at the top": (without_output(answer=GOLDS[1]), "the row has answer at its top"),
    "no answer": (without_output(), "the row has id, input"),
    "gold beside prediction": (with_output({"answer": GOLDS[1]}, Answer="몇일"), "Answer stands"),
    "both in output": (
        with_output({"answer": GOLDS[1], "prediction": "몇일"}),
        "output.prediction stands beside output.answer",
    ),
    "flat rows": (as_flat, "the row has Answer at its top level"),
}


@pytest.mark.parametrize("case", OTHER_LAYOUTS)
def test_prediction_of_another_layout_is_refused_with_its_field(case, tmp_path):
    change, message = OTHER_LAYOUTS[case]
    file = write_answers(tmp_path / "inference_epoch1.json", LABELS, GOLDS)
    write_json(file, change(json.loads(file.read_text(encoding="utf-8"))))

    with pytest.raises(InputError) as error:
        evaluate_json(tmp_path, LABEL_PATH)

    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_reasoning_in_a_field_of_its_own_is_no_answer(tmp_path):
    file = write_answers(tmp_path / "inference_epoch1.json", LABELS, GOLDS)
    change = with_output({"answer": GOLDS[1], "reasoning": "음"}, gold=GOLDS[1])
    write_json(file, change(json.loads(file.read_text(encoding="utf-8"))))

    assert read_answers(file, LABELS) == GOLDS


def drop_last(rows):
    return rows[:-1]


def add_foreign(rows):
    return [*rows, rows[0] | {"id": "foreign"}]


def swap_question(rows):
    return [rows[0] | {"input": rows[1]["input"]}, *rows[1:]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop_last, "1 missing"),
        (add_foreign, "1 not in the labels"),
        (swap_question, "not the same question as in the labels"),
    ],
)
def test_file_with_other_questions_is_refused(answer_folder, change, message):
    file = answer_folder / "inference_epoch1.json"
    write_json(file, change(json.loads(file.read_text(encoding="utf-8"))))

    with pytest.raises(InputError, match=message):
        evaluate_json(answer_folder, LABEL_PATH)


def test_second_file_of_a_checkpoint_is_refused(answer_folder):
    write_answers(answer_folder / "inference_epoch_1.json", LABELS, UNKNOWN)

    with pytest.raises(InputError, match="another file answers for epoch_1 already"):
        read_folder(answer_folder, LABELS)


def test_folder_without_answers_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no \*\.json in .*: expected the inference_\*\.json"):
        read_folder(tmp_path, LABELS)


def test_scan_reads_the_good_files_of_a_mixed_folder(answer_folder):
    (answer_folder / "inference_epoch2.json").write_text('[{"id": ', encoding="utf-8")

    folder = scan_folder(answer_folder, LABELS)

    assert list(folder.answers) == ["epoch_0", "epoch_1"]
    assert len(folder.problems) == 1
    assert "inference_epoch2.json" in folder.problems[0]


# -- scores ----------------------------------------------------------------------------------------


def test_files_are_scored_in_training_order(answer_folder):
    scores = evaluate_json(answer_folder, LABEL_PATH)

    assert list(scores) == ["epoch_0", "epoch_1", "epoch_2"]


def test_exact_match_of_a_file_is_its_share_of_gold_answers(answer_folder):
    scores = evaluate_json(answer_folder, LABEL_PATH)

    shares = [float(np.mean(by_metric["em"])) for by_metric in scores.values()]
    assert shares == [0, 1, 1 - 1 / len(LABELS)]


def test_evaluate_json_can_be_imported_from_its_door():
    from grpo_helpers import evaluate_json as door

    assert door.evaluate_json is evaluate_json


def test_item_parts_average_to_the_final_mean():
    scores = scores_of(epoch_0=[1, 0, 1, 1], epoch_1=[0, 0, 1, 1])

    means = item_finals(scores).mean(axis=1)

    assert means == pytest.approx([(0.75 + 1) / 3, (0.5 + 1) / 3])


def test_item_left_out_of_a_metric_counts_nothing():
    official = {
        "em_official": [1, 1, 0, 0],
        "rouge1_official": [0.2, math.nan, 0.4, math.nan],
        "bertscore_official": [0.6, math.nan, 0.8, math.nan],
    }

    finals = item_finals({"epoch_0": official}, "official")

    assert finals.mean() == pytest.approx(((0.3 + 0.7) / 2 + 0.5) / 2)


def test_chance_is_known_for_selection_only():
    is_unknown = {item.question_type: math.isnan(chance(item)) for item in LABELS}

    assert is_unknown == {SELECTION: False, CORRECTION: True}


# -- tables ----------------------------------------------------------------------------------------


def scores_of_labels():
    half = len(LABELS) // 2
    some_right = [1.0] * half + [0.0] * (len(LABELS) - half)
    none_right = [0.0] * len(LABELS)
    return scores_of(epoch_10=some_right, epoch_2=none_right)


def test_score_table_is_in_training_order():
    table = scores_table(scores_of_labels())

    assert list(table["checkpoint"]) == ["epoch_2", "epoch_10"]


def test_score_table_holds_the_means():
    scores = scores_of_labels()

    row = scores_table(scores).set_index("checkpoint").loc["epoch_10"]

    assert row.to_dict() == checkpoint_means(scores)["epoch_10"]


def test_item_table_has_a_row_per_checkpoint_and_item():
    table = item_table(scores_of_labels(), LABELS)

    assert len(table) == 2 * len(LABELS)


def test_scores_come_back_from_an_item_table():
    scores = scores_of_labels()

    again = scores_from_table(item_table(scores, LABELS))

    assert list(again) == list(scores)
    for name, by_metric in scores.items():
        assert list(again[name]) == list(by_metric)
        for metric, values in by_metric.items():
            assert list(again[name][metric]) == values


def test_split_of_an_item_table_is_not_a_metric():
    table = item_table(scores_of_labels(), LABELS).assign(split="test")

    assert "split" not in scores_from_table(table)["epoch_2"]


def test_both_tables_are_written(tmp_path):
    by_checkpoint, by_item = write_tables(scores_of_labels(), LABELS, tmp_path)

    assert (by_checkpoint.name, by_item.name) == ("scores.csv", "item_scores.csv")
    assert len(pd.read_csv(by_checkpoint)) == 2
    assert len(pd.read_csv(by_item)) == 2 * len(LABELS)
