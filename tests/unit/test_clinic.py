"""The clinic: cases are read, completions shown, and a diagnosis is checked without its answer."""

import json

import pytest

from grpo_helpers import clinic
from grpo_helpers.files import InputError, write_json

ROWS = [{"step": 1, "reward": 1.0}, {"step": 2, "reward": 1.1}]
GROUP = {
    "step": 2,
    "question": '다음 문장을 고치세요.\n"몇일이 걸렸다."',
    "gloss": "It took days.",
    "examples": [{"question": '"{할게/할께}"', "answer": '"할게"가 옳다.'}],
    "completions": [
        {"text": '"며칠이 걸렸다."가 옳다.', "advantage": 0.707, "scores": {"em": 1.0}},
        {"text": '"몇일이 걸렸다."가 옳다.', "advantage": -0.707, "scores": {"em": 0.0}},
    ],
}


@pytest.fixture
def folder(tmp_path):
    """A clinic in which case 1 is recorded, and whose cause is gamed."""
    case = tmp_path / "case_1"
    write_json(case / "completions.json", [GROUP | {"step": 1}, GROUP])
    (case / "log.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))

    keys = {"1": clinic.key_of("salt", 1, "gamed")}
    write_json(tmp_path / "keys.json", {"salt": "salt", "keys": keys})
    return tmp_path


def test_case_has_the_rows_of_its_log(folder):
    assert clinic.load_case(folder, 1).rows == ROWS


def test_case_gives_the_groups_of_a_step(folder):
    (group,) = clinic.load_case(folder, 1).groups_of_step(2)

    assert [completion.advantage for completion in group.completions] == [0.707, -0.707]


def test_missing_case_is_told_with_its_command(folder, capsys):
    assert clinic.load_case(folder, 2) is None
    assert "to record: python -m tools.experiments.clinic 2" in capsys.readouterr().out


def test_case_without_completions_counts_as_missing(folder):
    (folder / "case_1" / "completions.json").unlink()

    assert not clinic.is_recorded(folder, 1)


def test_completions_are_shown_with_prompt_gloss_and_scores(folder):
    text = clinic.completions_text(clinic.load_case(folder, 1).groups_of_step(2))

    assert text.splitlines() == [
        'step 2: 다음 문장을 고치세요. "몇일이 걸렸다."',
        "  (It took days.)",
        '  worked example: "{할게/할께}"',
        '    "할게"가 옳다.',
        "  advantage +0.71, exact match 1.00",
        '    "며칠이 걸렸다."가 옳다.',
        "  advantage -0.71, exact match 0.00",
        '    "몇일이 걸렸다."가 옳다.',
    ]


def test_advantage_of_nothing_has_no_sign_of_its_own():
    wrote = clinic.Completion("text", -0.0001, {})

    text = clinic.completions_text([clinic.Group(1, "Q", "", [], [wrote])])

    assert "advantage +0.00" in text


def test_right_diagnosis_has_no_fault(folder):
    assert clinic.fault_of_diagnosis(folder, 1, "gamed") == ""


@pytest.mark.parametrize("cause", sorted(set(clinic.CAUSES) - {"gamed"}))
def test_wrong_diagnosis_is_told_what_it_would_look_like(folder, cause):
    fault = clinic.fault_of_diagnosis(folder, 1, cause)

    assert fault == f"it is not {cause}: {clinic.CAUSES[cause].sign}"


def test_missing_diagnosis_is_asked_for(folder):
    assert "diagnosis_1" in clinic.fault_of_diagnosis(folder, 1, "")


def test_misspelt_diagnosis_is_told_its_nearest_name(folder):
    assert clinic.fault_of_diagnosis(folder, 1, "game").endswith("did you mean gamed?")


def test_clinic_without_keys_is_refused(tmp_path):
    with pytest.raises(InputError, match="keys of the clinic not found"):
        clinic.fault_of_diagnosis(tmp_path, 1, "gamed")


def test_key_differs_between_cases_of_the_same_cause():
    assert clinic.key_of("salt", 1, "gamed") != clinic.key_of("salt", 2, "gamed")


def test_more_causes_are_listed_than_there_are_cases():
    assert len(clinic.CAUSES) > len(clinic.NUMBERS)
