"""Loading contest files."""

import copy
import json
import unicodedata
from types import SimpleNamespace

import pytest

from grpo_helpers.data import item_to_row, load_items
from grpo_helpers.files import InputError, write_json
from grpo_helpers.prompts import CategoryFewShotGenerator, build_messages, load_instruct
from grpo_helpers.questions import CORRECTION, SELECTION, Item, question_sentences

GOOD = {
    "id": "1",
    "input": {
        "question_type": "선택형",
        "question": '"{며칠/몇일}이 걸렸다." 가운데 올바른 것을 선택하고, ...',
    },
    "output": {"answer": '"며칠이 걸렸다."가 옳다. 소리대로 적는다.'},
}
FLAT = {
    "Question": GOOD["input"]["question"],
    "Question_Type": "선택형",
    "Answer": GOOD["output"]["answer"],
}


def with_changes(**changes):
    """GOOD with other values; ``input__question`` is a key of a key, and None deletes one."""
    row = copy.deepcopy(GOOD)

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


def as_file(*rows):
    return json.dumps(list(rows))


def as_lines(*rows):
    return "\n".join(json.dumps(row) for row in rows)


def as_text(row):
    return json.dumps([row], ensure_ascii=False)


def decomposed(text):
    """The text as a Mac may write it: every Hangul syllable as two or three characters."""
    changed = unicodedata.normalize("NFD", text)
    assert changed != text
    return changed


def decomposed_escapes(row):
    return json.dumps(json.loads(decomposed(as_text(row))))


# -- files that are refused ------------------------------------------------------------------------

# What is wrong: the file's name, its text, part of the message.
REFUSED = {
    "an empty list": ("contest.json", "[]", "non-empty JSON list"),
    "an object instead of a list": ("contest.json", "{}", "non-empty JSON list"),
    "text that is not JSON": ("contest.json", '[{"id": 1,}]', "not JSON: line 1"),
    "a row that is no object": ("contest.json", '["text"]', "row 1: expected an object"),
    "a row without id": (
        "contest.json",
        as_file(with_changes(id=None)),
        "row 1: needs an id",
    ),
    "an id that is a truth value": (
        "contest.json",
        as_file(with_changes(id=True)),
        "row 1: needs an id",
    ),
    "a row without input": (
        "contest.json",
        as_file(with_changes(input=None)),
        "needs input",
    ),
    "a row without question": (
        "contest.json",
        as_file(with_changes(input__question=None)),
        "input.question is missing",
    ),
    "a blank question": (
        "contest.json",
        as_file(with_changes(input__question="  ")),
        "input.question is missing or empty",
    ),
    "a row without answer": (
        "contest.json",
        as_file(with_changes(output=None)),
        "output.answer is missing",
    ),
    "an unknown type": (
        "contest.json",
        as_file(with_changes(input__question_type="서술형")),
        "unknown question_type '서술형'",
    ),
    "an id used twice": (
        "contest.json",
        as_file(GOOD, with_changes(id=1)),
        "row 2: id 1 is already used in row 1",
    ),
    "a broken line": (
        "contest.jsonl",
        as_lines(GOOD) + "\n{oops\n",
        "not JSON: line 2",
    ),
    "an empty file": ("contest.jsonl", "\n", "found an empty file"),
    "a flat row without a type": (
        "contest.jsonl",
        as_lines({"Question": "x", "Answer": "y"}),
        "unknown question_type None",
    ),
    "a flat row without an answer": (
        "contest.jsonl",
        as_lines({"Question": "x", "Question_Type": "선택형"}),
        "answer is missing",
    ),
}


@pytest.fixture(params=REFUSED)
def refusal(request, tmp_path):
    """A refused file: its name, the message, and what the message should say."""
    name, text, expected = REFUSED[request.param]
    (tmp_path / name).write_text(text, encoding="utf-8")

    with pytest.raises(InputError) as error:
        load_items(tmp_path / name)

    return SimpleNamespace(file=name, message=str(error.value), expected=expected)


def test_refusal_says_what_is_wrong(refusal):
    assert refusal.expected in refusal.message


def test_refusal_names_the_file(refusal):
    assert refusal.file in refusal.message


def test_refusal_is_one_line(refusal):
    assert "\n" not in refusal.message


def test_missing_file_is_named():
    with pytest.raises(InputError, match=r"not found: no/such\.json"):
        load_items("no/such.json")


def test_file_in_another_encoding_is_refused(tmp_path):
    file = tmp_path / "old.json"
    file.write_bytes(json.dumps([GOOD], ensure_ascii=False).encode("cp949"))
    with pytest.raises(InputError, match="not UTF-8"):
        load_items(file)


# -- files that are read ---------------------------------------------------------------------------

# What is read: the file's name, its text, the id of its first item.
READ = {
    "the contest's shape": ("a.json", as_file(GOOD), "1"),
    "the flat variant with a description": ("a.json", as_file(FLAT | {"Description": "며칠"}), 1),
    "one object a line": ("a.jsonl", as_lines(GOOD) + "\n\n" + as_lines(GOOD | {"id": "2"}), "1"),
    "a byte order mark": ("a.json", "\ufeff" + as_file(GOOD), "1"),
    "one object a line, called json": ("a.json", as_lines(GOOD) + "\n", "1"),
    "a list, called jsonl": ("a.jsonl", json.dumps([GOOD], indent=1), "1"),
    "a list in one line, called jsonl": ("a.jsonl", as_file(GOOD), "1"),
    "joined files with their marks": (
        "a.jsonl",
        f"\ufeff{as_lines(GOOD)}\n\ufeff{as_lines(GOOD | {'id': '2'})}",
        "1",
    ),
    "decomposed Hangul": ("a.json", decomposed(as_text(GOOD)), "1"),
    "decomposed Hangul as escapes": ("a.json", decomposed_escapes(GOOD), "1"),
    "decomposed Hangul in flat rows": ("a.jsonl", decomposed(as_text(FLAT)), 1),
    "flat objects a line": ("a.jsonl", "\ufeff" + as_lines(FLAT | {"id": "q7"}), "q7"),
}


@pytest.mark.parametrize("case", READ)
def test_contest_file_is_read_without_conversion(case, tmp_path):
    name, text, item_id = READ[case]
    (tmp_path / name).write_text(text, encoding="utf-8")

    item = load_items(tmp_path / name)[0]

    expected = Item(item_id, "선택형", GOOD["input"]["question"], GOOD["output"]["answer"])
    assert item == expected


HALF = "\ud83d"
HALVES = {
    "a question": with_changes(input__question=f"몇일 {HALF}"),
    "an answer": with_changes(output__answer=f"며칠 {HALF}"),
    "another field": GOOD | {"gloss": [f"days {HALF}"]},
    "a flat question": FLAT | {"id": "1", "Question": HALF},
}


@pytest.mark.parametrize("case", HALVES)
def test_half_a_character_is_refused_with_its_row(case, tmp_path):
    file = tmp_path / "a.json"
    file.write_text(as_file(GOOD | {"id": "0"}, HALVES[case]), encoding="utf-8")
    with pytest.raises(InputError, match=r"a\.json: row 2 \(id '1'\): \\ud83d is half of"):
        load_items(file, need_answer=False)


def test_whole_emoji_as_escapes_is_read(tmp_path):
    row = with_changes(input__question="몇일 😀")
    (tmp_path / "a.json").write_text(as_file(row), encoding="utf-8")  # \ud83d\ude00
    assert load_items(tmp_path / "a.json")[0].question == "몇일 😀"


def test_decomposed_file_name_is_found(tmp_path):
    folder = tmp_path / unicodedata.normalize("NFD", "가 유형")
    file = write_json(folder / "평가.json", [GOOD])
    assert file.exists()
    assert load_items(tmp_path / "가 유형" / unicodedata.normalize("NFD", "평가.json"))


@pytest.mark.parametrize("answer", ["", " ", None])
def test_empty_answer_counts_as_none_if_none_is_needed(answer, tmp_path):
    file = write_json(tmp_path / "test.json", [GOOD | {"output": {"answer": answer}}])
    assert load_items(file, need_answer=False)[0].answer is None


@pytest.fixture
def without_answers(tmp_path):
    return write_json(tmp_path / "test.json", [with_changes(output=None)])


def test_file_without_answers_is_read_if_none_are_needed(without_answers):
    (item,) = load_items(without_answers, need_answer=False)
    assert item == Item("1", "선택형", GOOD["input"]["question"], None)


def test_description_of_a_flat_row_is_kept(tmp_path):
    file = write_json(tmp_path / "flat.json", [FLAT | {"Description": "며칠"}])
    assert load_items(file)[0].extra == {"Description": "며칠"}


def test_line_separator_inside_a_text_does_not_end_the_line(tmp_path):
    file = tmp_path / "a.jsonl"
    row = GOOD | {"note": "one\u2028two"}
    file.write_text(json.dumps(row, ensure_ascii=False), encoding="utf-8")
    assert load_items(file)[0].extra == {"note": "one\u2028two"}


def test_item_is_written_back_as_the_row_it_was(tmp_path):
    row = GOOD | {"category": "한글 맞춤법"}
    (item,) = load_items(write_json(tmp_path / "a.json", [row]))
    assert item_to_row(item) == row


def test_item_without_answer_is_written_with_an_empty_output(without_answers):
    (item,) = load_items(without_answers, need_answer=False)
    assert item_to_row(item)["output"] == {}


def test_item_is_written_with_another_output():
    item = Item("1", "선택형", "...", "gold")
    assert item_to_row(item, {"answer": "mine"})["output"] == {"answer": "mine"}


# -- question shapes, from the file to the prompt --------------------------------------------------

CHOOSE = "가운데 올바른 것을 선택하고, 그 이유를 설명하세요."
CORRECT = "다음 문장에서 어문 규범에 부합하지 않는 부분을 찾아 고치고, 그 이유를 설명하세요."
SHAPES = {
    "a brace of one": f'"{{며칠}} 걸렸다." {CHOOSE}',
    "a brace of three": f'"{{며칠/몇일/몇 일}} 걸렸다." {CHOOSE}',
    "two braces": f'"{{며칠/몇일}} 뒤에 {{봬요/뵈요}}." {CHOOSE}',
    "a bullet": f"{CORRECT}\n― 몇일 걸렸다.",
    "the vowel as a bullet": "다음 문장에서 ... 설명하세요.\nㅡ 몇일 걸렸다.",
    "a long dash": "다음 문장에서 ... 설명하세요.\n— 몇일 걸렸다.",
    "two lines": "다음 중 어문 규범에 부합하는 것을 선택하고, ...\n― 며칠 걸렸다.\n― 몇일 걸렸다.",
    "a blank": '다음 문장이 ... 문장 부호를 추가하고, ...\n"지은아( ) 이리 오렴."',
    "nested quotes": f'"그는 "{{며칠/몇일}} 걸렸다."라고 했다." {CHOOSE}',
}


@pytest.fixture(scope="module")
def few_shot():
    return CategoryFewShotGenerator(load_items("data/few_shot.json"), 2)


@pytest.fixture(params=SHAPES)
def shaped(request, few_shot):
    """A question of one shape, and its prompt."""
    question = SHAPES[request.param]
    is_choice = "{" in question or "다음 중" in question
    item = Item("x", SELECTION if is_choice else CORRECTION, question)
    instruct = load_instruct("data/instruct.json")
    messages = build_messages(item, instruct, few_shot.examples(item))

    return SimpleNamespace(question=question, messages=messages)


def test_question_of_any_shape_ends_the_prompt_unchanged(shaped):
    assert shaped.messages[-1] == {"role": "user", "content": shaped.question}


def test_question_of_any_shape_gets_its_examples(shaped):
    assert len(shaped.messages) == 6  # instruction, two examples of two messages, question


@pytest.mark.parametrize("shape", SHAPES)
def test_sentences_are_taken_from_the_question(shape):
    for sentence in question_sentences(SHAPES[shape]):
        assert sentence in SHAPES[shape]


@pytest.mark.parametrize("shape", SHAPES)
def test_sentences_start_after_bullet_or_quote(shape):
    for sentence in question_sentences(SHAPES[shape]):
        assert not sentence.startswith(("―", "ㅡ", "—", '"'))


@pytest.mark.parametrize("shape", SHAPES)
def test_sentences_do_not_contain_the_instruction(shape):
    for sentence in question_sentences(SHAPES[shape]):
        assert "설명하세요" not in sentence
