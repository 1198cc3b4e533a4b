"""① Contest files in and out: read, check and write JSON of the contest's shape.

In: ``{"id", "input": {"question_type", "question"}, "output": {"answer"}}``, or the flat variant
``{"Question", "Question_Type", "Answer", "Description"}``, as a JSON list or one JSON object a
line. Out: a list of :class:`Item`. Unlike the article's loader, this one refuses a bad file in one
line before anything costly starts. Files are written atomically (see :mod:`grpo_helpers.files`), so
an interrupted run never leaves half a JSON file.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from grpo_helpers.files import InputError, read_json, read_text
from grpo_helpers.questions import CORRECTION, QUESTION_TYPES, SELECTION, Item

FLAT_FIELDS = ("Question", "Question_Type", "Answer")


def read_rows(path: str | os.PathLike[str]) -> list[Any]:
    """Return the rows of a JSON list, or of a ``.jsonl`` file with one JSON value a line.

    Raises:
        InputError: The file cannot be read, or is not a list of at least one row.
    """
    if Path(path).suffix.lower() == ".jsonl":
        return _read_json_lines(path)

    rows = read_json(path, "data file")
    if not isinstance(rows, list) or not rows:
        got = _describe(rows)
        raise InputError(f"{path}: expected a non-empty JSON list of questions, found {got}")

    return rows


def _read_json_lines(path: str | os.PathLike[str]) -> list[Any]:
    """Return the JSON value of each line; blank lines are skipped."""
    rows = []

    # splitlines() would also split at characters that JSON allows inside a string, as U+2028.
    for number, line in enumerate(read_text(path, "data file").split("\n"), 1):
        if not line.strip():
            continue

        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            place = f"line {number}, column {error.colno}"
            raise InputError(f"{path} is not JSON: {place}: {error.msg}") from None

    if not rows:
        raise InputError(f"{path}: expected one JSON object a line, found an empty file")

    return rows


def load_items(path: str | os.PathLike[str], need_answer: bool = True) -> list[Item]:
    """Return the items of a contest file, in file order.

    Args:
        path: A ``.json`` or ``.jsonl`` file in the contest's shape or its flat variant, in which a
            row without an id gets its number.
        need_answer: Whether every row must have an answer.

    Raises:
        InputError: The file is not a non-empty list of rows, or a row has no id, question or (if
            needed) answer, an unknown question type, or the id of an earlier row.
    """
    items = []

    for number, row in enumerate(read_rows(path), 1):
        nested = _to_nested(row, number)
        items.append(_to_item(nested, f"{path}: row {number}", need_answer))

    _check_unique_ids(items, path)
    return items


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
    if answer is not None or need_answer:
        answer = _checked_text(answer, f"{where}: output.answer")

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


def _describe(value: Any) -> str:
    """Return what a value is, for error messages."""
    if value == []:
        return "an empty list"

    return f"a {type(value).__name__}"


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
