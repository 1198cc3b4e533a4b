"""The page for teachers names what there is, and agrees with the slides."""

import re

import pandas as pd
import pytest
from exercises import read_notebook
from helpers import ROOT

from grpo_helpers.data import load_items
from grpo_helpers.headless import NOTEBOOKS
from grpo_helpers.questions import SELECTION
from grpo_helpers.run_folder import BASE
from tools.course.league_entry import only_reward, try_reward
from tools.course.slides import read_deck

PAGE = (ROOT / "docs/teaching.md").read_text(encoding="utf-8")
BY_NUMBER = {name[:2]: name for name in NOTEBOOKS}
SESSIONS = re.split(r"^### \d\. ", PAGE, flags=re.M)[1:]
EXPECTED = PAGE.split("## Expected numbers")[1].split("\n## ")[0]
RECORDED = ROOT / "data/reference_runs"


def prose(number):
    """Return all Markdown of the notebook with this number."""
    cells = read_notebook(BY_NUMBER[number]).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def row(session, name):
    """Return what a session's table says under a name."""
    return re.search(rf"^\| {name} \| (.*) \|$", session, re.M).group(1)


def numbers(text):
    """Return the single digits of a text: of *questions 3 and 5*, for one."""
    return [int(digit) for digit in re.findall(r"\b\d\b", text)]


def test_plan_has_the_sessions_of_the_slides():
    titles = [session.splitlines()[0] for session in SESSIONS]

    assert titles == [session.title for session in read_deck()]


@pytest.mark.parametrize("place", range(len(SESSIONS)))
def test_session_discusses_the_questions_of_its_slides(place):
    named = {}
    for number, asked in re.findall(
        r"(\d\d): questions? ([\d and,]+)", row(SESSIONS[place], "discuss")
    ):
        named[BY_NUMBER[number]] = numbers(asked)

    assert named == dict(read_deck()[place].discuss)


@pytest.mark.parametrize("session", SESSIONS, ids=lambda session: session.splitlines()[0])
def test_exercise_that_a_session_names_exists(session):
    for exercise in re.findall(r"\b\d\.\d\b", row(session, "exercises") + row(session, "homework")):
        assert f"**Exercise {exercise}**" in prose(f"0{exercise[0]}"), exercise


@pytest.mark.parametrize("session", SESSIONS, ids=lambda session: session.splitlines()[0])
def test_section_that_a_session_names_exists(session):
    for number, listed in re.findall(
        r"notebook (\d\d), sections? ([\d, andto]+)", row(session, "sections")
    ):
        for section in numbers(listed):
            assert f"## {section}. " in prose(number), (number, section)


@pytest.mark.parametrize("session", SESSIONS, ids=lambda session: session.splitlines()[0])
@pytest.mark.parametrize("name", ["aim", "cut first"])
def test_session_says_what_it_is_for_and_what_to_cut(session, name):
    assert row(session, name)


def test_graded_exercises_are_given_in_a_session():
    graded = re.search(r"^\| exercises \| 30 % \| (.*) \|$", PAGE, re.M).group(1)
    given = [row(session, name) for session in SESSIONS for name in ("exercises", "homework")]

    assert set(re.findall(r"\b\d\.\d\b", graded)) <= set(re.findall(r"\b\d\.\d\b", " ".join(given)))


def test_shares_of_the_grade_add_up():
    assert sum(map(int, re.findall(r"^\| \w+ \| (\d+) % \|", PAGE, re.M))) == 100


def test_clinic_has_all_its_cases_as_homework():
    given = " ".join(row(session, "homework") for session in SESSIONS)

    assert sorted(re.findall(r"\b9\.\d\b", given)) == [f"9.{number}" for number in range(1, 9)]


# -- the numbers to expect ----------------------------------------------------------------------


def recorded_row(seed, checkpoint):
    """Return what the page's table says of a checkpoint of a recorded run, out of its files."""
    folder = RECORDED / f"seed_{seed}"
    dev = pd.read_csv(folder / "scores.csv").set_index("checkpoint").loc[checkpoint]
    answers = pd.read_csv(folder / "test_item_scores.csv", keep_default_na=False)
    answers = answers[answers["checkpoint"] == checkpoint]
    exact_match = answers.groupby("split")["em"].mean()

    is_rule = (answers["kind"] == "two-way") & (answers["question_type"] == SELECTION)
    rule = answers[is_rule & (answers["split"] == "nonce")]["choice"].mean()
    splits = ("test", "unseen_words", "nonce")
    values = [dev["em"], *(exact_match[split] for split in splits), rule]
    return [f"{value:.3f}".removeprefix("0") for value in values]


@pytest.mark.parametrize("seed", range(3))
def test_expected_numbers_are_those_of_the_recorded_runs(seed):
    shown = row(EXPECTED, f"seed {seed}").split(" | ")

    tested = pd.read_csv(RECORDED / f"seed_{seed}" / "test_item_scores.csv")["checkpoint"]
    assert shown[0] == tested.iloc[-1]
    assert shown[1:] == recorded_row(seed, shown[0])


def test_expected_numbers_before_training_are_those_of_the_base():
    assert row(EXPECTED, "before training").split(" | ")[1:] == recorded_row(0, BASE)


# -- answers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_answer_key_links_the_answers_to_every_notebook(name):
    key = PAGE.split("## Answer key")[1]

    assert f"(../solutions/{name}.md)" in key


def test_answer_key_has_a_row_for_the_notebook_on_thoughts():
    assert "\n| 07 | " in PAGE


def test_example_of_an_entry_can_be_handed_in(tmp_path):
    file = tmp_path / "entry.py"
    file.write_text(re.search(r"```python\n(.*?)```", PAGE, re.DOTALL).group(1), encoding="utf-8")

    try_reward(only_reward(file), load_items("data/smoke/train.json")[:2])
