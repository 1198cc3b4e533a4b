"""Loading and writing contest files."""

import json
import os

import pytest

from grpo_helpers.data import InputError, item_to_row, load_items, write_atomically, write_json

GOOD = {
    "id": "1",
    "input": {"question_type": "선택형", "question": '"{며칠/몇일}이 걸렸다." 가운데 올바른 것을 선택하고, ...'},
    "output": {"answer": '"며칠이 걸렸다."가 옳다. 소리대로 적는다.'},
}


def changed(**changes):
    row = json.loads(json.dumps(GOOD))
    for path, value in changes.items():
        *parents, last = path.split("__")
        target = row
        for key in parents:
            target = target[key]
        if value is None:
            del target[last]
        else:
            target[last] = value
    return row


BAD_FILES = {
    "an empty list": ("[]", "non-empty JSON list"),
    "an object instead of a list": ("{}", "non-empty JSON list"),
    "text that is not JSON": ('[{"id": 1,}]', "not JSON: line 1"),
    "a row that is no object": ('["text"]', "row 1: expected an object"),
    "a row without id": (json.dumps([changed(id=None)]), "row 1: needs an id"),
    "a row without input": (json.dumps([changed(input=None)]), "needs input"),
    "a row without question": (json.dumps([changed(input__question=None)]), "input.question is missing"),
    "a blank question": (json.dumps([changed(input__question="  ")]), "input.question is missing or empty"),
    "a row without answer": (json.dumps([changed(output=None)]), "output.answer is missing"),
    "an unknown type": (json.dumps([changed(input__question_type="서술형")]), "unknown question_type '서술형'"),
    "an id used twice": (json.dumps([GOOD, changed(id=1)]), "row 2: id 1 is used in row 1 already"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_refused_in_one_line_that_names_file_and_place(case, tmp_path):
    text, expected = BAD_FILES[case]
    file = tmp_path / "contest.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as error:
        load_items(file)
    message = str(error.value)
    assert expected in message and "contest.json" in message and "\n" not in message


def test_a_missing_file_is_named():
    with pytest.raises(InputError, match=r"not found: no/such\.json"):
        load_items("no/such.json")


def test_a_file_in_another_encoding_is_refused(tmp_path):
    file = tmp_path / "old.json"
    file.write_bytes(json.dumps([GOOD], ensure_ascii=False).encode("cp949"))
    with pytest.raises(InputError, match="not UTF-8"):
        load_items(file)


def test_a_byte_order_mark_is_accepted(tmp_path):
    file = tmp_path / "bom.json"
    file.write_text(json.dumps([GOOD]), encoding="utf-8-sig")
    assert load_items(file)[0].id == "1"


def test_a_test_file_without_answers_loads_when_none_are_needed(tmp_path):
    file = write_json(tmp_path / "test.json", [changed(output=None)])
    assert load_items(file, need_answer=False)[0].answer is None


def test_an_item_survives_the_way_to_a_row_and_back(tmp_path):
    row = GOOD | {"category": "한글 맞춤법"}
    items = load_items(write_json(tmp_path / "a.json", [row]))
    assert item_to_row(items[0]) == row


def test_json_is_written_as_utf8_with_hangul_as_it_is(tmp_path):
    text = write_json(tmp_path / "out.json", {"말": 1}).read_text(encoding="utf-8")
    assert text == '{\n    "말": 1\n}\n'


def test_a_write_that_fails_leaves_the_old_file_and_no_rubbish(tmp_path):
    target = write_json(tmp_path / "out.json", [1])

    def half_then_fail(file):
        file.write("[1, 2")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(target, half_then_fail)
    assert json.loads(target.read_text()) == [1]
    assert os.listdir(tmp_path) == ["out.json"]
