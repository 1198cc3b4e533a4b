"""Loading and writing contest files."""

import json
import os

import pytest

from grpo_helpers.data import item_to_row, load_items
from grpo_helpers.files import InputError, write_atomically, write_json
from grpo_helpers.questions import Item

GOOD = {
    "id": "1",
    "input": {
        "question_type": "선택형",
        "question": '"{며칠/몇일}이 걸렸다." 가운데 올바른 것을 선택하고, ...',
    },
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
    "a row without question": (
        json.dumps([changed(input__question=None)]),
        "input.question is missing",
    ),
    "a blank question": (
        json.dumps([changed(input__question="  ")]),
        "input.question is missing or empty",
    ),
    "a row without answer": (json.dumps([changed(output=None)]), "output.answer is missing"),
    "an unknown type": (
        json.dumps([changed(input__question_type="서술형")]),
        "unknown question_type '서술형'",
    ),
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


FLAT = {
    "Question": GOOD["input"]["question"],
    "Question_Type": "선택형",
    "Answer": GOOD["output"]["answer"],
}
VARIANTS = {
    "the contest's shape": ("a.json", json.dumps([GOOD]), "1"),
    "the flat variant with a description": (
        "a.json",
        json.dumps([FLAT | {"Description": "며칠"}]),
        1,
    ),
    "a test file without answers": ("a.json", json.dumps([changed(output=None)]), "1"),
    "one object a line": (
        "a.jsonl",
        json.dumps(GOOD) + "\n\n" + json.dumps(GOOD | {"id": "2"}) + "\n",
        "1",
    ),
    "a byte order mark": ("a.json", "\ufeff" + json.dumps([GOOD]), "1"),
    "flat objects a line": ("a.jsonl", "\ufeff" + json.dumps(FLAT | {"id": "q7"}), "q7"),
}


@pytest.mark.parametrize("case", VARIANTS)
def test_contest_files_are_read_as_they_come(case, tmp_path):
    name, text, item_id = VARIANTS[case]
    (tmp_path / name).write_text(text, encoding="utf-8")
    item = load_items(tmp_path / name, need_answer=False)[0]
    assert (item.id, item.question_type, item.question) == (
        item_id,
        "선택형",
        GOOD["input"]["question"],
    )
    assert item.answer == (None if "without" in case else GOOD["output"]["answer"])


BAD_LINES = {
    "a broken line": (json.dumps(GOOD) + "\n{oops\n", "not JSON: line 2"),
    "an empty file": ("\n", "found an empty file"),
    "a flat row without a type": (
        json.dumps({"Question": "x", "Answer": "y"}),
        "unknown question_type None",
    ),
    "a flat row without an answer": (
        json.dumps({"Question": "x", "Question_Type": "선택형"}),
        "answer is missing",
    ),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_a_bad_jsonl_file_is_refused_in_one_line(case, tmp_path):
    text, told = BAD_LINES[case]
    (tmp_path / "contest.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as error:
        load_items(tmp_path / "contest.jsonl")
    assert (
        told in str(error.value)
        and "contest.jsonl" in str(error.value)
        and "\n" not in str(error.value)
    )


QUESTION_SHAPES = {
    "a brace of one": '"{며칠} 걸렸다." 가운데 올바른 것을 선택하고, 그 이유를 설명하세요.',
    "a brace of three": '"{며칠/몇일/몇 일} 걸렸다." 가운데 올바른 것을 선택하고, 그 이유를 설명하세요.',
    "two braces": '"{며칠/몇일} 뒤에 {봬요/뵈요}." 가운데 올바른 것을 선택하고, 그 이유를 설명하세요.',
    "a bullet": "다음 문장에서 어문 규범에 부합하지 않는 부분을 찾아 고치고, 그 이유를 설명하세요.\n― 몇일 걸렸다.",
    "the vowel as a bullet": "다음 문장에서 ... 설명하세요.\nㅡ 몇일 걸렸다.",
    "a long dash": "다음 문장에서 ... 설명하세요.\n— 몇일 걸렸다.",
    "two lines": "다음 중 어문 규범에 부합하는 것을 선택하고, ...\n― 며칠 걸렸다.\n― 몇일 걸렸다.",
    "a blank": '다음 문장이 ... 문장 부호를 추가하고, ...\n"지은아( ) 이리 오렴."',
    "nested quotes": '"그는 "{며칠/몇일} 걸렸다."라고 했다." 가운데 올바른 것을 선택하고, 그 이유를 설명하세요.',
}


@pytest.mark.parametrize("shape", QUESTION_SHAPES)
def test_every_question_shape_goes_through_prompts_and_few_shot_unharmed(shape):
    from grpo_helpers.prompts import CategoryFewShotGenerator, build_messages, load_instruct
    from grpo_helpers.questions import question_sentences

    question = QUESTION_SHAPES[shape]
    kind = "선택형" if "{" in question or "다음 중" in question else "교정형"
    item = Item("x", kind, question)
    few_shot = CategoryFewShotGenerator(load_items("data/few_shot.json"), 2)
    messages = build_messages(item, load_instruct("data/instruct.json"), few_shot.examples(item))
    assert messages[-1] == {"role": "user", "content": question} and len(messages) == 6
    for sentence in question_sentences(question):
        assert (
            sentence in question
            and not sentence.startswith(("―", "ㅡ", "—", '"'))
            and "설명하세요" not in sentence
        )


def test_a_missing_file_is_named():
    with pytest.raises(InputError, match=r"not found: no/such\.json"):
        load_items("no/such.json")


def test_a_file_in_another_encoding_is_refused(tmp_path):
    file = tmp_path / "old.json"
    file.write_bytes(json.dumps([GOOD], ensure_ascii=False).encode("cp949"))
    with pytest.raises(InputError, match="not UTF-8"):
        load_items(file)


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
