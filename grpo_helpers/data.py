"""① Contest files in and out: read, check and write JSON of the contest's shape.

In: ``{"id", "input": {"question_type", "question"}, "output": {"answer"}}``, or the flat variant
``{"Question", "Question_Type", "Answer", "Description"}``, as a JSON list or one JSON object a
line; every text is read in Unicode's form NFC, whatever the file has. Out: a list of :class:`Item`.
:func:`load_items` reads questions with their gold answers, :func:`load_predictions` the answers of
a model, which may be empty. Unlike the article's loader, these refuse a bad file in one line before
anything costly starts.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import Any

from grpo_helpers.files import (
    InputError,
    half_character,
    nfc,
    read_json,
    read_text,
    replace_halves,
)
from grpo_helpers.questions import CORRECTION, QUESTION_TYPES, SELECTION, Item

FLAT_FIELDS = ("Question", "Question_Type", "Answer")

# Fields beside output.answer that would leave open which of them is the prediction.
RIVAL_FIELDS = (
    "answer",
    "prediction",
    "pred",
    "predicted",
    "predicted_answer",
    "model_answer",
    "model_output",
    "response",
    "completion",
    "generated",
    "generated_answer",
)


# -- rows ------------------------------------------------------------------------------------------


def read_rows(path: str | os.PathLike[str]) -> list[Any]:
    """Return the rows of a JSON list, or of a file with one JSON value a line.

    What the file holds decides, whether it is called ``.json`` or ``.jsonl``. Texts are in NFC.

    Raises:
        InputError: The file cannot be read, or has no rows.
    """
    text = read_text(path, "data file")
    if not text.strip():
        raise InputError(f"{path}: expected questions, one JSON object each, found an empty file")

    if _is_one_object_a_line(text):
        return nfc(_rows_of_lines(text, path))

    rows = read_json(path, "data file")
    if not isinstance(rows, list) or not rows:
        got = _describe(rows)
        raise InputError(
            f"{path}: expected a non-empty JSON list of questions, or one a line, found {got}"
        )

    return nfc(rows)


def _is_one_object_a_line(text: str) -> bool:
    """Return whether the first line with something in it is a whole question."""
    first_line = text.strip().split("\n")[0]

    try:
        row = json.loads(first_line)
    except json.JSONDecodeError:
        return False
    return isinstance(row, dict) and bool(row)


def _rows_of_lines(text: str, path: str | os.PathLike[str]) -> list[Any]:
    """Return the JSON value of each line; blank lines are skipped."""
    rows = []

    # splitlines() would also split at characters that JSON allows inside a string, as U+2028.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue

        try:
            rows.append(json.loads(line.lstrip("\ufeff")))  # files may have been joined
        except json.JSONDecodeError as error:
            place = f"line {number}, column {error.colno}"
            raise InputError(f"{path} is not JSON: {place}: {error.msg}") from None

    return rows


# -- questions -------------------------------------------------------------------------------------


def load_items(path: str | os.PathLike[str], need_answer: bool = True) -> list[Item]:
    """Return the items of a contest file, in file order.

    Args:
        path: A ``.json`` or ``.jsonl`` file in the contest's shape or its flat variant, in which a
            row without an id gets its number.
        need_answer: Whether every row must have an answer; if not, an empty one counts as none.

    Raises:
        InputError: The file is not a non-empty list of rows, or a row has no id, question or (if
            needed) answer, an unknown question type, the id of an earlier row, or half a character.
    """
    items = []

    for number, row in enumerate(read_rows(path), 1):
        where = f"{path}: row {number}"
        _check_whole_characters(row, where)
        items.append(_to_item(_to_nested(row, number), where, need_answer))

    _check_unique_ids(items, path)
    return items


def _check_whole_characters(row: Any, where: str) -> None:
    half = half_character(row)
    if not half:
        return

    row_id = row.get("id") if isinstance(row, dict) else None
    name = "" if row_id is None else f" (id {row_id!r})"
    raise InputError(
        f"{where}{name}: {half} is half of a character (a lone surrogate, often a cut emoji): "
        "write the whole character or remove it"
    )


def _check_unique_ids(items: list[Item], path: str | os.PathLike[str]) -> None:
    """Raise InputError for the first id that is used twice; 1 and "1" count as the same."""
    first_rows: dict[str, int] = {}

    for number, item in enumerate(items, 1):
        first = first_rows.setdefault(str(item.id), number)
        if first != number:
            raise InputError(
                f"{path}: row {number}: id {item.id!r} is already used in row {first}; "
                "ids must be unique"
            )


def _to_nested(row: Any, number: int) -> Any:
    """Return a row of the flat variant in the nested shape; any other row unchanged."""
    if not isinstance(row, dict) or "input" in row:
        return row
    if "Question" not in row and "Question_Type" not in row:
        return row

    other_fields = {key: value for key, value in row.items() if key not in FLAT_FIELDS}
    source = {"question_type": row.get("Question_Type"), "question": row.get("Question")}

    output = {}
    if row.get("Answer") is not None:
        output["answer"] = row["Answer"]

    # An id among the other fields replaces the row's number.
    return {"id": number, **other_fields, "input": source, "output": output}


def _to_item(row: Any, where: str, need_answer: bool) -> Item:
    """Return the item of a nested row; ``where`` is its place, for error messages."""
    if not isinstance(row, dict):
        got = _describe(row)
        raise InputError(f"{where}: expected an object with id, input and output, found {got}")

    item_id = _checked_id(row.get("id"), where)
    where = f"{where} (id {item_id!r})"

    source = row.get("input")
    if not isinstance(source, dict):
        raise InputError(f"{where}: needs input: {{question_type, question}}")

    question_type = source.get("question_type")
    if question_type not in QUESTION_TYPES:
        known = f"{SELECTION} and {CORRECTION}"
        raise InputError(f"{where}: unknown question_type {question_type!r}; known are {known}")

    question = _checked_text(source.get("question"), f"{where}: input.question")

    output = row.get("output")
    answer = output.get("answer") if isinstance(output, dict) else None
    if need_answer:
        answer = _checked_text(answer, f"{where}: output.answer")
    elif not isinstance(answer, str) or not answer.strip():
        answer = None

    extra = {key: value for key, value in row.items() if key not in ("id", "input", "output")}
    return Item(item_id, question_type, question, answer, extra=extra)


def _checked_id(value: Any, where: str) -> str | int:
    """Return ``value`` if it can be an id."""
    is_text_or_number = isinstance(value, str | int) and not isinstance(value, bool)

    if not is_text_or_number or value == "":
        raise InputError(f"{where}: needs an id (a string or a whole number)")

    return value


def _checked_text(value: Any, where: str) -> str:
    """Return ``value`` if it is a text with something in it."""
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{where} is missing or empty; it must be a non-empty string")

    return value


# -- predictions -----------------------------------------------------------------------------------


def load_predictions(path: str | os.PathLike[str]) -> list[Item]:
    """Return the questions of a file of answers, each with the model's answer.

    Whatever :func:`grpo_helpers.inference.write_answers` writes is read back: an answer may be
    empty, and half a character in it (a lone surrogate) is read as U+FFFD.

    Args:
        path: A ``.json`` or ``.jsonl`` file in the contest's shape with ``output.answer``.

    Raises:
        InputError: As for :func:`load_items`, or a row has no ``output.answer``, or another field
            beside it that may be the prediction; the message names the fields of the row.
    """
    items = []

    for number, row in enumerate(read_rows(path), 1):
        where = f"{path}: row {number}"
        answer = replace_halves(_predicted_answer(row, where))
        question = row | {"output": {}}
        _check_whole_characters(question, where)
        item = _to_item(question, where, need_answer=False)
        items.append(replace(item, answer=answer))

    _check_unique_ids(items, path)
    return items


def _predicted_answer(row: Any, where: str) -> str:
    """Return the model's answer of a row."""
    if not isinstance(row, dict):
        got = _describe(row)
        raise InputError(f"{where}: expected an object with id, input and output, found {got}")
    if "id" in row:
        where = f"{where} (id {row['id']!r})"

    output = row.get("output")
    answer = output.get("answer") if isinstance(output, dict) else None
    if not isinstance(answer, str):
        raise InputError(
            f"{where}: no answer in output.answer: {_what_is_there(row)}; "
            "write the model's answer as text to output.answer"
        )

    _check_no_rival(row, answer, where)
    return answer


def _check_no_rival(row: dict[str, Any], answer: str, where: str) -> None:
    """Raise InputError if another field of a row may be the prediction."""
    fields = {name: value for name, value in row.items() if name != "output"}
    for name, value in row["output"].items():
        if name != "answer":
            fields[f"output.{name}"] = value

    for name, value in fields.items():
        is_rival = name.removeprefix("output.").lower() in RIVAL_FIELDS
        if is_rival and value and value != answer:
            raise InputError(
                f"{where}: {name} stands beside output.answer, and one of them may be the gold "
                "answer: leave only the model's answer, in output.answer"
            )


def _what_is_there(row: dict[str, Any]) -> str:
    """Return where a row without ``output.answer`` may have its answer instead."""
    output = row.get("output")

    if "answer" in row or "Answer" in row:
        name = "answer" if "answer" in row else "Answer"
        return f"the row has {name} at its top level"
    if isinstance(output, dict) and "answer" in output:
        return f"output.answer is {_describe(output['answer'])}"
    if isinstance(output, dict) and output:
        return f"output has {', '.join(output)}"
    if "output" in row:
        return f"output is {_describe(output)}"
    return f"the row has {', '.join(row) or 'no fields'}"


# -- rows again ------------------------------------------------------------------------------------


def _describe(value: Any) -> str:
    """Return what a value is, for error messages."""
    names = {"NoneType": "null", "str": "a text", "dict": "an object", "bool": "a truth value"}
    if value == []:
        return "an empty list"
    if value == {}:
        return "an empty object"

    kind = type(value).__name__
    return names.get(kind, "an int" if kind == "int" else f"a {kind}")


def item_to_row(item: Item, output: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return an item in the contest's JSON shape.

    Args:
        item: The item.
        output: The answer part; by default the gold answer, if the item has one.
    """
    if output is None:
        output = {}
        if item.answer is not None:
            output["answer"] = item.answer

    return {
        "id": item.id,
        **item.extra,
        "input": {"question_type": item.question_type, "question": item.question},
        "output": output,
    }
