"""Choosing a checkpoint and scoring a folder of answer files."""

import json
import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from grpo_helpers.data import load_items
from grpo_helpers.files import InputError, write_json
from grpo_helpers.inference import write_answers
from grpo_helpers.report import article_block
from grpo_helpers.run_folder import checkpoint_of
from grpo_helpers.scoring import evaluate_json, read_answers
from grpo_helpers.selection import choose, compare, describe_choice
from grpo_helpers.statistics import mcnemar, paired_bootstrap

LABEL_PATH = "data/smoke/dev.json"
LABELS = load_items(LABEL_PATH)


@pytest.fixture
def answer_folder(tmp_path):
    """Three checkpoints: none right, all right, all but one right."""
    folder = tmp_path / "infer_results"
    golds = [item.answer for item in LABELS]
    for epoch, answers in enumerate(
        [["모르겠다"] * len(LABELS), golds, [*golds[:-1], "모르겠다"]]
    ):  # fmt: skip
        write_answers(folder / f"inference_epoch{epoch}.json", LABELS, answers)
    return folder


def test_a_folder_is_scored_file_by_file_in_training_order(answer_folder):
    scores = evaluate_json(answer_folder, LABEL_PATH)
    assert list(scores) == ["epoch_0", "epoch_1", "epoch_2"]
    assert [float(np.mean(s["em"])) for s in scores.values()] == [0, 1, 1 - 1 / len(LABELS)]
    assert choose(scores) == "epoch_1"


def test_the_report_has_the_articles_form(answer_folder):
    block = article_block(evaluate_json(answer_folder, LABEL_PATH))
    assert block.startswith("File: inference_epoch0.json\n   - ROUGE-1        : 0.0000\n")
    assert block.endswith(
        "Best Final Mean:\n   File       : inference_epoch1.json\n   Final Mean : 1.0000"
    )


def test_the_command_writes_the_tables(answer_folder):
    command = [sys.executable, "-m", "grpo_helpers.evaluate_json"]
    done = subprocess.run(
        [*command, "--input_dir", answer_folder, "--label_path", LABEL_PATH],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "Best Final Mean" in done.stdout
    table = pd.read_csv(answer_folder.parent / "scores.csv")
    assert list(table.checkpoint) == ["epoch_0", "epoch_1", "epoch_2"]
    assert len(pd.read_csv(answer_folder.parent / "item_scores.csv")) == 3 * len(LABELS)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda rows: rows[:-1], "1 missing"),
        (lambda rows: [*rows, rows[0] | {"id": "foreign"}], "1 not in the labels"),
        (lambda rows: [rows[0] | {"input": rows[1]["input"]}, *rows[1:]], "holds another question"),
    ],
)
def test_a_file_that_answers_other_questions_is_refused(answer_folder, change, told):
    file = answer_folder / "inference_epoch1.json"
    write_json(file, change(json.loads(file.read_text(encoding="utf-8"))))
    with pytest.raises(InputError, match=told):
        evaluate_json(answer_folder, LABEL_PATH)


def test_the_command_says_in_one_line_what_is_wrong(tmp_path):
    command = [
        sys.executable,
        "-m",
        "grpo_helpers.evaluate_json",
        "--label_path",
        LABEL_PATH,
        "--input_dir",
    ]
    done = subprocess.run([*command, tmp_path], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "no *.json" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_answers_come_in_the_order_of_the_labels(tmp_path):
    file = write_answers(
        tmp_path / "a.json", LABELS[::-1], [f"answer {item.id}" for item in LABELS[::-1]]
    )
    assert read_answers(file, LABELS) == [f"answer {item.id}" for item in LABELS]


def test_a_file_name_tells_its_checkpoint(tmp_path):
    names = ("inference_epoch12.json", "inference_step3.json", "other.json")
    assert [checkpoint_of(tmp_path / name) for name in names] == ["epoch_12", "step_3", "other"]


def matrix(**right):
    n = len(next(iter(right.values())))
    return {
        name: {"em": em, "choice": em, "rouge1": [0.5] * n, "bertscore": [0.5] * n}
        for name, em in right.items()
    }


def test_the_earliest_of_equal_checkpoints_is_chosen_and_the_base_can_win():
    assert choose(matrix(epoch_10=[1, 0], epoch_2=[0, 1], epoch_0=[0, 0])) == "epoch_2"
    report = describe_choice(matrix(epoch_0=[1, 1], epoch_1=[1, 0]))
    assert report["best_checkpoint"] == "epoch_0" and report["base_is_best"]


def test_mcnemar_gives_the_p_value_of_the_published_run():
    # 127 items; the best checkpoint wins 7 and loses 5 against the next: p = .77
    best, other = [1] * 7 + [0] * 5 + [1] * 69 + [0] * 46, [0] * 7 + [1] * 5 + [1] * 69 + [0] * 46
    wins, losses, p = mcnemar(best, other)
    assert (wins, losses, round(p, 2)) == (7, 5, 0.77)


def test_the_paired_interval_agrees_with_the_normal_approximation():
    dice = np.random.default_rng(0)
    reference = dice.integers(0, 2, 400)
    scores = np.where(dice.random(400) < 0.3, 1, reference)
    difference = scores - reference
    low, high = paired_bootstrap(scores, reference)
    error = difference.std(ddof=1) / np.sqrt(400)
    assert low == pytest.approx(difference.mean() - 1.96 * error, abs=0.005)
    assert high == pytest.approx(difference.mean() + 1.96 * error, abs=0.005)


def test_a_comparison_counts_wins_and_losses():
    row = compare(matrix(epoch_0=[0, 0, 1, 1], epoch_1=[1, 1, 0, 1]), "epoch_1", "epoch_0", "em")
    assert (row.wins, row.losses, row.difference) == (2, 1, 0.25)
    assert row.low <= row.difference <= row.high


def evaluate_command(*arguments):
    command = [
        sys.executable,
        "-m",
        "grpo_helpers.evaluate_json",
        "--label_path",
        LABEL_PATH,
        *map(str, arguments),
    ]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_file_that_cannot_be_used_is_named_and_skipped_and_the_exit_says_so(answer_folder):
    (answer_folder / "inference_epoch2.json").write_text('[{"id": ', encoding="utf-8")
    write_json(answer_folder / "settings.json", {"learning_rate": 1})
    done = evaluate_command("--input_dir", answer_folder)
    assert done.returncode == 1
    told = [
        line for line in done.stderr.splitlines() if line.startswith("evaluate_json: skipped: ")
    ]
    assert len(told) == 2 and "settings.json" in told[0] and "inference_epoch2.json" in told[1]
    assert list(pd.read_csv(answer_folder.parent / "scores.csv").checkpoint) == [
        "epoch_0",
        "epoch_1",
    ]


def test_two_files_of_one_checkpoint_are_not_taken_for_each_other(answer_folder):
    write_answers(answer_folder / "inference_epoch_1.json", LABELS, ["모르겠다"] * len(LABELS))
    with pytest.raises(InputError, match="another file answers for epoch_1 already"):
        evaluate_json(answer_folder, LABEL_PATH)


def test_the_articles_block_comes_first_then_the_choice_in_two_lines_and_the_kept_command_repeats_it(
    answer_folder,
):
    done = evaluate_command(
        "--input_dir", answer_folder, "--rule", "earliest_tied", "--aggregate", "code"
    )
    assert done.returncode == 0, done.stderr
    block, choice, _ = (
        done.stdout.split("\n\n")[0],
        *done.stdout.split("\n\n")[-1].split("\nwritten", 1),
    )
    assert block.startswith("File: inference_epoch0.json") and len(choice.splitlines()) == 2
    assert choice.startswith("Highest: epoch_1 (of 3; on ")
    kept = answer_folder.parent / "best_checkpoint.json"
    report = json.loads(kept.read_text(encoding="utf-8"))
    assert (report["rule"], report["aggregate"]) == ("earliest_tied", "code")
    assert evaluate_command(*report["command"].split()[3:]).returncode == 0
    assert json.loads(kept.read_text(encoding="utf-8")) == report
    assert (answer_folder.parent / "report.html").stat().st_size > 10_000


def test_a_guess_is_as_good_as_the_options_are_few():
    from grpo_helpers.questions import chance

    found = [chance(item) for item in LABELS]
    assert {
        item.question_type: math.isnan(value) for item, value in zip(LABELS, found, strict=True)
    } == {
        "선택형": False,
        "교정형": True,
    }


def test_checkpoints_that_score_the_same_are_called_level_and_none_is_called_a_sure_winner():
    from grpo_helpers.report import choice_lines
    from grpo_helpers.selection import describe_choice

    part = {
        "em": [1.0, 0.0, 1.0],
        "choice": [1.0, 0.0, 1.0],
        "rouge1": [0.5, 0.2, 0.1],
        "bertscore": [0.5, 0.3, 0.9],
    }
    even = choice_lines(describe_choice({"epoch_0": part, "epoch_1": part}, samples=200))
    assert (
        "Highest: epoch_0 (of 2; level with epoch_1); cannot be told from it: epoch_1." in even
        and "100%" not in even
    )
    better = {**part, "em": [1.0, 1.0, 1.0]}
    assert "of resampled question sets" in choice_lines(
        describe_choice({"epoch_0": part, "epoch_1": better}, samples=200)
    )
