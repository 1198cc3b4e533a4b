"""The clinic's recordings: one change in each, nothing that gives it away, and a symptom to see."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from grpo_helpers import rewards
from grpo_helpers.clinic import (
    CAUSES,
    HEALTHY,
    NUMBERS,
    Case,
    Completion,
    Group,
    case_folder,
    is_recorded,
    key_of,
    load_case,
)
from grpo_helpers.data import load_items
from grpo_helpers.files import read_json, write_json
from grpo_helpers.health import EXACT_MATCH
from grpo_helpers.models import load_tokenizer
from grpo_helpers.run_folder import RunFolder
from grpo_helpers.settings import TrainSettings
from tools.experiments import clinic
from tools.experiments.clinic import CASES, FOLDER, STEPS

LARGEST = 300_000  # bytes of a case
SAME_IN_ALL = {"run_name", "output_dir", "eval_data_path", "max_steps", "save_strategy"}
BETRAYING = ("learning_rate", "step_time", "seconds", "num_tokens", "rewards/quoted_reward/mean")

every_recorded = pytest.mark.parametrize(
    "number", [number for number in CASES if is_recorded(FOLDER, number)]
)


@pytest.fixture
def work(tmp_path, monkeypatch):
    """The folder in which the files of cases are written."""
    monkeypatch.setattr(clinic, "WORK", str(tmp_path))
    return tmp_path


def planned_settings(number):
    """Return the settings of a case."""
    with clinic.knowing_rewards_of(number):
        return clinic.settings_of(number)


# -- the plan --------------------------------------------------------------------------------------


def test_every_number_of_the_clinic_is_planned():
    assert list(CASES) == [HEALTHY, *NUMBERS]


def test_every_case_has_a_cause_of_its_own():
    causes = {CASES[number].cause for number in NUMBERS}

    assert len(causes) == len(NUMBERS)
    assert causes <= set(CAUSES)


def test_keys_of_the_course_are_those_of_the_plan():
    written = read_json(FOLDER / "keys.json")

    for number in NUMBERS:
        key = key_of(written["salt"], number, CASES[number].cause)
        assert written["keys"][str(number)] == key, "python -m tools.experiments.clinic --keys"


@pytest.mark.parametrize("number", CASES)
def test_case_changes_only_what_its_plan_says(number, work):
    settings = planned_settings(number).as_dict()
    default = TrainSettings().as_dict()

    changed = {name for name, value in settings.items() if value != default[name]}
    prepared = {"train_data_path", "model_name"}

    assert changed - SAME_IN_ALL - prepared == set(CASES[number].changed)


@pytest.mark.parametrize("number", CASES)
def test_case_is_short(number, work):
    assert planned_settings(number).max_steps <= 20


def test_healthy_case_is_the_default_run(work):
    settings = planned_settings(HEALTHY).as_dict()
    default = TrainSettings().as_dict()

    assert {name for name in settings if settings[name] != default[name]} == SAME_IN_ALL


def test_small_groups_keep_the_prompts_of_a_step(work):
    settings = planned_settings(4)

    assert settings.batch_plan.prompts_per_round == TrainSettings().batch_plan.prompts_per_round


def test_shuffled_answers_belong_to_other_questions(tmp_path):
    path = clinic.with_shuffled_answers(tmp_path)["train_data_path"]
    shuffled = {item.id: item.answer for item in load_items(path)}

    items = load_items("data/embedded/train.json")
    same = [item for item in items if shuffled[item.id] == item.answer]

    assert sorted(shuffled.values()) == sorted(item.answer for item in items)
    assert len(same) < 0.02 * len(items)


def test_copied_model_ends_answers_with_another_token(tmp_path):
    name = clinic.with_another_end(tmp_path)["model_name"]
    tokenizer = load_tokenizer(name)
    config = read_json(Path(name) / "generation_config.json")

    assert tokenizer.eos_token == clinic.NEVER_WRITTEN
    assert config["eos_token_id"] == tokenizer.eos_token_id


# -- recording -------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path):
    """A finished run of one step, with two groups of four completions."""
    run = RunFolder(tmp_path / "run")
    write_json(
        run.path / "settings.json", {"parameters": TrainSettings(num_generations=4).as_dict()}
    )
    run.log.append({"step": 1, "reward": 0.123456789, "learning_rate": 1.0, "step_time": 3.0})
    run.log.append({"step": 1, "train_runtime": 3.0})

    rows = []
    for item in load_items("data/embedded/train.json")[:2]:
        example = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
        prompt = [{"role": "system", "content": "S"}, *example]
        prompt.append({"role": "user", "content": item.question})
        for place in range(4):
            row = {"step": 1, "prompt": prompt, "advantage": place / 3}
            row["completion"] = [{"role": "assistant", "content": f"text {place}"}]
            rows.append(row | {f"{name}_reward": 0.5 for name in clinic.REWARDS})

    (run.path / "completions").mkdir()
    pd.DataFrame(rows).to_parquet(run.path / "completions" / "completions_00001.parquet")
    return run


def test_recorded_log_keeps_no_setting_and_no_clock(run, tmp_path):
    clinic.record_case(3, run, tmp_path)

    assert load_case(tmp_path, 3).rows == [{"step": 1, "reward": 0.12346}]


def test_recorded_groups_have_two_completions_whatever_their_size(run, tmp_path):
    clinic.record_case(3, run, tmp_path)

    sizes = [len(group.completions) for group in load_case(tmp_path, 3).groups]

    assert sizes == [2, 2]


def test_recorded_groups_carry_their_prompt_in_english_too(run, tmp_path):
    clinic.record_case(3, run, tmp_path)
    group = load_case(tmp_path, 3).groups[0]
    item = load_items("data/embedded/train.json")[0]

    assert (group.question, group.gloss) == (item.question, item.extra["gloss"])
    assert [(example.question, example.answer) for example in group.examples] == [("Q", "A")]


def test_shorter_cases_do_not_replace_those_of_the_course(capsys):
    assert clinic.main(["1", "--steps", "2"]) == 2
    assert "give --folder, too" in capsys.readouterr().err


def test_recorded_case_is_not_made_again(run, tmp_path, monkeypatch, capsys):
    clinic.record_case(3, run, tmp_path)
    monkeypatch.setattr(clinic, "make_case", lambda *_: pytest.fail("it was made again"))

    assert clinic.main(["3", "--folder", str(tmp_path)]) == 0
    assert "case 3: too short" in capsys.readouterr().out


def test_new_keys_have_a_new_salt(tmp_path):
    first = read_json(clinic.write_keys(tmp_path))
    second = read_json(clinic.write_keys(tmp_path))

    assert first["salt"] != second["salt"]


@pytest.mark.heavy
def test_gamed_case_is_trained_and_recorded(work, tmp_path, monkeypatch):
    small = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1}
    plan = CASES[3]
    monkeypatch.setitem(CASES, 3, clinic.PlannedCase("gamed", plan.shows, plan.changed | small))
    before = rewards.registered()

    run = clinic.make_case(3, steps=1)
    clinic.record_case(3, run, tmp_path / "recorded")

    assert len(load_case(tmp_path / "recorded", 3).rows) == 1
    assert rewards.registered() == before


# -- symptoms --------------------------------------------------------------------------------------


def case_of(advantages=(1.2, -0.4), texts=("a", "b"), examples=1, **series):
    """Return a case of ten steps whose quantities run from one value to another."""
    rows = []
    for step in range(10):
        row = {"step": step + 1}
        for key, (first, last) in series.items():
            row[key] = first + (last - first) * step / 9
        rows.append(row)

    completions = []
    for text, advantage in zip(texts, advantages, strict=True):
        completions.append(Completion(text, advantage, {}))
    return Case(9, rows, [Group(1, "Q", "", ["E"] * examples, completions)])


def healthy(**changes):
    """Return the symptoms of a healthy run, some of them changed."""
    start = {
        EXACT_MATCH: (0.5, 0.7),
        "reward": (1.1, 1.2),
        clinic.FORMAT: (0.99, 0.99),
        clinic.CLIPPED: (0.0, 0.0),
        clinic.SILENT: (0.0, 0.1),
        clinic.LONGEST: (70.0, 70.0),
    }
    series = {key: changes.pop(key, value) for key, value in start.items()}
    return case_of(**changes, **series)


def test_healthy_run_shows_that_it_learns():
    assert CASES[HEALTHY].shows(healthy())


@pytest.mark.parametrize("number", NUMBERS)
def test_healthy_run_has_no_symptom_of_a_case(number):
    assert not CASES[number].shows(healthy())


FULL = {clinic.CLIPPED: (1.0, 1.0)}
SYMPTOMS = {
    1: {clinic.SILENT: (1.0, 1.0), "texts": ("a", "a")},
    2: FULL | {clinic.LONGEST: (96, 96)},
    3: {"reward": (1.1, 1.3), EXACT_MATCH: (0.5, 0.3)},
    4: {"advantages": (0.707, -0.707)},
    5: {EXACT_MATCH: (0.5, 0.0)},
    6: {EXACT_MATCH: (0.0, 0.0)},
    7: FULL | {clinic.LONGEST: (24, 24)},
    8: {EXACT_MATCH: (0.0, 0.0), "examples": 3},
}


@pytest.mark.parametrize(("number", "changes"), SYMPTOMS.items())
def test_symptom_of_a_case_is_seen(number, changes):
    assert CASES[number].shows(healthy(**changes))


# -- what is recorded in the course ----------------------------------------------------------------


@every_recorded
def test_recorded_case_shows_its_symptom(number):
    assert CASES[number].shows(load_case(FOLDER, number))


@every_recorded
def test_recorded_case_has_all_steps(number):
    steps = [row["step"] for row in load_case(FOLDER, number).rows]

    assert steps == list(range(1, STEPS + 1))


@every_recorded
def test_recorded_case_is_small(number):
    files = case_folder(FOLDER, number).iterdir()

    assert sum(file.stat().st_size for file in files) < LARGEST


@every_recorded
def test_recorded_case_betrays_nothing(number):
    keys = set()
    for row in load_case(FOLDER, number).rows:
        keys |= set(row)

    assert keys.isdisjoint(BETRAYING)


def test_notebook_names_no_cause_as_a_diagnosis():
    notebook = (FOLDER.parents[1] / "notebooks" / "09_clinic.ipynb").read_text(encoding="utf-8")

    assert set(re.findall(r"diagnosis_\d = (\S+)", json.dumps(json.loads(notebook)))) == {'\\"\\"'}
