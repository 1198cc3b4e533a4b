"""The article's block, the choice in words, best_checkpoint.json, and the page of answers."""

from __future__ import annotations

import json
import math
import shlex

import pytest
from helpers import scores_of

from grpo_helpers import rewards
from grpo_helpers.data import load_items
from grpo_helpers.files import read_json
from grpo_helpers.inspector import Group, ScoredCompletion, inspect_groups
from grpo_helpers.report import (
    PARTS,
    HeldOutResults,
    ReportSplit,
    article_block,
    choice_lines,
    write_choice,
    write_report,
)
from grpo_helpers.selection import compare_with_base, describe_choice

LABELS = load_items("data/smoke/dev.json")

SCORES = scores_of(epoch_0=[0] * 40, epoch_1=[1] * 40, epoch_2=[1] * 39 + [0])
PART = {
    "em": [1.0, 0.0, 1.0],
    "choice": [1.0, 0.0, 1.0],
    "rouge1": [0.5, 0.2, 0.1],
    "bertscore": [0.5, 0.3, 0.9],
}
BETTER = {**PART, "em": [1.0, 1.0, 1.0]}


# -- text ------------------------------------------------------------------------------------------


def test_article_block_starts_with_the_first_file():
    block = article_block(SCORES)

    assert block.startswith("File: inference_epoch0.json\n   - ROUGE-1        : 0.5000\n")


def test_article_block_ends_with_the_best_file():
    block = article_block(SCORES)

    assert block.endswith(
        "Best Final Mean:\n   File       : inference_epoch1.json\n   Final Mean : 0.6667"
    )


def test_choice_lines_name_the_tied_checkpoints():
    highest, _ = choice_lines(describe_choice(SCORES, samples=200)).splitlines()

    assert highest.endswith("statistically tied with it: epoch_2.")


def test_choice_lines_say_that_all_others_are_lower():
    scores = scores_of(epoch_0=[0] * 40, epoch_1=[1] * 40)

    highest, _ = choice_lines(describe_choice(scores, samples=2000)).splitlines()

    assert highest.endswith("all others are significantly lower.")


def test_choice_lines_give_the_gain_over_the_base():
    _, chosen = choice_lines(describe_choice(SCORES, samples=200)).splitlines()

    assert chosen == (
        "Chosen (highest): epoch_1, Final Mean 0.667 [0.667, 0.667]; "
        "against the base +33.3 points [+33.3, +33.3], p = 0.01: significantly better."
    )


def test_choice_lines_compare_the_base_with_nothing():
    scores = scores_of(epoch_0=[1, 1], epoch_1=[0, 0])

    _, chosen = choice_lines(describe_choice(scores, samples=200)).splitlines()

    assert chosen == "Chosen (highest): epoch_0, Final Mean 0.667 [0.667, 0.667]."


def test_equal_checkpoints_are_said_to_be_equal():
    text = choice_lines(describe_choice({"epoch_0": PART, "epoch_1": PART}, samples=200))

    start = "Highest: epoch_0 (of 2; same Final Mean as epoch_1); "
    assert text.startswith(f"{start}statistically tied with it: epoch_1.")


def test_equal_checkpoints_have_no_certain_winner():
    text = choice_lines(describe_choice({"epoch_0": PART, "epoch_1": PART}, samples=200))

    assert "100%" not in text


def test_better_checkpoint_is_highest_on_a_share_of_question_sets():
    text = choice_lines(describe_choice({"epoch_0": PART, "epoch_1": BETTER}, samples=200))

    assert "of resampled question sets" in text


# -- best_checkpoint.json --------------------------------------------------------------------------


def write(folder, scores=SCORES, tests=None):
    choice = describe_choice(scores, samples=100)
    return write_choice(folder, choice, input_dir="answers", label_path="dev.json", tests=tests)


@pytest.fixture
def tests_of_epoch_1():
    comparisons = compare_with_base(SCORES, "epoch_1", samples=100)
    return HeldOutResults(test=comparisons, by_split={"dev": comparisons})


def test_stored_choice_ends_with_its_command(tmp_path):
    stored = read_json(write(tmp_path))

    assert stored["command"] == (
        "python -m grpo_helpers.evaluate_json --input_dir answers --label_path dev.json "
        "--rule highest --aggregate article"
    )
    assert list(stored)[-1] == "command"


def test_command_names_an_encoder_of_the_readers_own(tmp_path):
    choice = describe_choice(scores_of(epoch_0=[0, 1], epoch_1=[1, 1]), samples=50)
    about = {"input_dir": "answers", "label_path": "[가] dev.json"}
    path = write_choice(tmp_path, choice, **about, encoder="my encoder", encoder_layers=9)
    words = shlex.split(read_json(path)["command"])

    assert words[words.index("--label_path") + 1] == "[가] dev.json"
    assert words[-4:] == ["--encoder", "my encoder", "--encoder_layers", "9"]


def test_base_alone_says_nothing_about_training():
    choice = describe_choice(scores_of(epoch_0=[0, 1]), samples=50)

    (line,) = choice_lines(choice).splitlines()
    assert "there is no checkpoint to choose" in line


def test_test_results_are_stored_before_the_command(tmp_path, tests_of_epoch_1):
    stored = read_json(write(tmp_path, tests=tests_of_epoch_1))

    assert list(stored)[-3:] == ["test_versus_base", "by_split", "command"]
    assert stored["test_versus_base"][0]["difference"] == 1
    assert stored["by_split"] == {"dev": stored["test_versus_base"]}


def test_test_results_stay_while_the_choice_is_the_same(tmp_path, tests_of_epoch_1):
    before = read_json(write(tmp_path, tests=tests_of_epoch_1))

    assert read_json(write(tmp_path)) == before


def test_test_results_go_with_another_choice(tmp_path, tests_of_epoch_1):
    write(tmp_path, tests=tests_of_epoch_1)

    stored = read_json(write(tmp_path, scores_of(epoch_0=[0, 0], epoch_2=[1, 1])))

    assert "test_versus_base" not in stored


# -- report.html -----------------------------------------------------------------------------------


def page_of(folder, text):
    """Return the source of a page with one answer, and its data."""
    scores = {part: [1.0] for part in PARTS}
    split = ReportSplit(LABELS[:1], {"epoch_0": [text]}, {"epoch_0": scores})
    page = write_report(folder / "report.html", {"dev": split}, "epoch_0")

    source = page.read_text(encoding="utf-8")
    return source, json.loads(source.split('id="data">')[1].split("</script>")[0])


def shown_answer(folder, text):
    """Return what the page shows of an answer, without its scores."""
    _, data = page_of(folder, text)
    answer = data["items"][0]["answers"]["epoch_0"]
    return {name: value for name, value in answer.items() if name not in PARTS}


HOSTILE_THOUGHT = "</details></div></script><script>window.hit = 1</script><details open>"


def test_page_keeps_thought_and_answer_apart(tmp_path):
    shown = shown_answer(tmp_path, "<think>음...</think>며칠")

    assert shown == {"text": "며칠", "thought": "음...", "fault": ""}


def test_page_says_what_is_wrong_with_a_thought(tmp_path):
    assert shown_answer(tmp_path, "<think>음...") == {
        "text": "",
        "thought": "음...",
        "fault": "not closed",
    }


def test_page_holds_no_thought_of_an_answer_without_one(tmp_path):
    assert shown_answer(tmp_path, "며칠") == {"text": "며칠"}


@pytest.mark.parametrize("closed", ["</think>며칠", ""])
def test_thought_adds_no_tag_to_the_page(tmp_path, closed):
    plain, _ = page_of(tmp_path, "며칠")
    source, data = page_of(tmp_path, f"<think>{HOSTILE_THOUGHT}{closed}")

    assert source.count("<") == plain.count("<")
    assert data["items"][0]["answers"]["epoch_0"]["thought"] == HOSTILE_THOUGHT


def test_page_puts_nothing_into_itself_as_html(tmp_path):
    source, _ = page_of(tmp_path, "며칠")

    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "srcdoc"):
        assert way not in source


def page_with(folder, reward, score):
    """Return the data of a page with one answer, which got ``score`` from ``reward``."""
    scores = {part: [1.0] for part in PARTS} | {reward: [score]}
    split = ReportSplit(LABELS[:1], {"epoch_0": [LABELS[0].answer]}, {"epoch_0": scores})
    page = write_report(folder / "report.html", {"dev": split}, "epoch_0")

    text = page.read_text(encoding="utf-8")
    return json.loads(text.split('id="data">')[1].split("</script>")[0])


@pytest.fixture
def own_reward():
    """A reward of one's own, in the registry for one test."""
    rewards.register("brevity", lambda completions, **_: [None] * len(completions))
    return "brevity"


def test_page_shows_a_reward_of_your_own(tmp_path, own_reward):
    data = page_with(tmp_path, own_reward, 0.25)

    assert data["parts"][-1] == own_reward
    assert data["items"][0]["answers"]["epoch_0"][own_reward] == 0.25


def test_page_has_groups_of_the_training_if_there_are_any(tmp_path):
    completions = (ScoredCompletion("a", {"em": 1.0}), ScoredCompletion("b", {"em": 0.0}))
    inspector = inspect_groups([Group("", completions)])
    split = ReportSplit(
        LABELS[:1], {"epoch_0": ["a"]}, {"epoch_0": {part: [1.0] for part in PARTS}}
    )

    pages = []
    for given in (None, inspector):
        page = write_report(tmp_path / "report.html", {"dev": split}, "epoch_0", inspector=given)
        pages.append(page.read_text(encoding="utf-8"))

    assert [inspector.html in text for text in pages] == [False, True]
    # The policy names every script that may run.
    assert [text.count("'sha256-") for text in pages] == [1, 2]


def test_page_leaves_out_a_score_that_was_not_given(tmp_path, own_reward):
    data = page_with(tmp_path, own_reward, math.nan)

    assert data["items"][0]["answers"]["epoch_0"][own_reward] is None
