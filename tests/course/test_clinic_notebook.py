"""Notebook 09 comes to its end in any state: no case recorded, or one of them."""

import shutil

import pytest
from exercises import read_notebook, solutions, tagged
from helpers import ROOT
from notebook_cells import refusal_of, run_notebook

from grpo_helpers import clinic
from grpo_helpers.files import write_json
from grpo_helpers.run_folder import RunLog

NAME = "09_clinic"
KEYS = ROOT / "data" / "clinic" / "keys.json"


def run_on(folder):
    """Return what the notebook prints for a folder of cases, and where its figures go."""
    shutil.copy(KEYS, folder / "keys.json")
    values = {"clinic_dir": str(folder), "output_dir": str(folder / "runs")}
    return run_notebook(NAME, values)


@pytest.fixture(scope="module")
def nothing_recorded(tmp_path_factory):
    """What the notebook prints where no case is recorded."""
    return run_on(tmp_path_factory.mktemp("nothing"))


@pytest.fixture(scope="module")
def one_recorded(tmp_path_factory):
    """The folder in which case 1 is recorded, out of a recorded run's log, and what is printed."""
    folder = tmp_path_factory.mktemp("one")
    case = folder / "case_1"
    case.mkdir()
    log = RunLog(case / "log.jsonl")
    for row in RunLog(ROOT / "data/reference_runs/seed_0/log.jsonl").step_rows()[:20]:
        log.append(row)

    wrote = {"text": "wrote this", "advantage": 1.0, "scores": {"em": 1.0}}
    group = {"question": "Q", "gloss": "", "examples": [], "completions": [wrote]}
    groups = [group | {"step": 1}, group | {"step": 20}]
    write_json(case / "completions.json", groups)
    return folder, run_on(folder)


def test_notebook_without_cases_says_how_to_record_each(nothing_recorded):
    for number in (clinic.HEALTHY, *clinic.NUMBERS):
        assert f"to record: {clinic.COMMAND} {number}\n" in nothing_recorded


def test_notebook_without_cases_comes_to_its_end(nothing_recorded):
    assert "- 0 of 8 cases are diagnosed." in nothing_recorded


def test_recorded_case_is_drawn(one_recorded):
    folder, _ = one_recorded

    assert (folder / "runs/default/figures/09_case_1.png").is_file()


def test_completions_of_first_and_last_step_are_printed(one_recorded):
    _, printed = one_recorded

    assert printed.count("wrote this") == 2
    assert "step 20: Q" in printed


def test_every_cause_is_listed(nothing_recorded):
    for name, cause in clinic.CAUSES.items():
        assert f"{name}: {cause.meaning}" in nothing_recorded


def test_folder_without_keys_is_refused_in_one_line(tmp_path):
    refusal = refusal_of(NAME, {"clinic_dir": str(tmp_path), "output_dir": str(tmp_path)})

    assert refusal.startswith("clinic_dir: no file ")
    assert "\n" not in refusal


@pytest.mark.parametrize("number", clinic.NUMBERS)
def test_diagnosis_of_the_solutions_is_right(number):
    values = {}
    exec(solutions(NAME)[f"9.{number}"], values)

    diagnosis = values[f"diagnosis_{number}"]

    assert clinic.fault_of_diagnosis(KEYS.parent, number, diagnosis) == ""


def test_notebook_asks_for_every_case():
    assert list(tagged(read_notebook(NAME), "check")) == [f"9.{n}" for n in clinic.NUMBERS]
