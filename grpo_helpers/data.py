"""① Contest files in and out: read, check and write JSON of the contest's shape.

In: ``{"id", "input": {"question_type", "question"}, "output": {"answer"}}``, or the flat variant ``{"Question",
"Question_Type", "Answer", "Description"}``, as a JSON list or one JSON object a line. Out: a list of :class:`Item`.
Unlike the article's loader, a bad file is refused in one line before anything costly starts, and every file is written
atomically, so that a killed run never leaves half a JSON file.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from grpo_helpers.files import InputError, read_json, read_text
from grpo_helpers.questions import CORRECTION, QUESTION_TYPES, SELECTION, Item


def read_rows(path: str | os.PathLike) -> list[Any]:
    """Return the rows of a JSON list, or of a ``.jsonl`` file with one JSON value a line (blank lines are skipped).

    Raises InputError if the file cannot be read, or is not a non-empty list.
    """
    if Path(path).suffix.lower() != ".jsonl":
        rows = read_json(path, "data file")
        if not isinstance(rows, list) or not rows:
            raise InputError(
                f"{path}: expected a non-empty JSON list of questions, found {_describe(rows)}"
            )
        return rows
    lines = [
        (n, line)
        for n, line in enumerate(read_text(path, "data file").split("\n"), 1)
        if line.strip()
    ]
    if not lines:
        raise InputError(f"{path}: expected one JSON object a line, found an empty file")
    rows = []
    for number, line in lines:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise InputError(
                f"{path} is not JSON: line {number}, column {error.colno}: {error.msg}"
            ) from None
    return rows


def load_items(path: str | os.PathLike, need_answer: bool = True) -> list[Item]:
    """Return the items of a ``.json`` or ``.jsonl`` file in the contest's shape or its flat variant, in file order.

    A row of the flat variant without an id gets its number. Raises InputError if the file is not a non-empty list of
    rows, or a row has no id, question or (if ``need_answer``) answer, an unknown type, or the id of an earlier row.
    """
    rows = enumerate(read_rows(path), 1)
    items = [
        _item(_unflattened(row, number), f"{path}: row {number}", need_answer)
        for number, row in rows
    ]
    seen: dict[str, int] = {}
    for number, item in enumerate(items, 1):
        first = seen.setdefault(str(item.id), number)
        if first != number:
            raise InputError(
                f"{path}: row {number}: id {item.id!r} is used in row {first} already; ids must be unique"
            )
    return items


def _describe(value: Any) -> str:
    return "an empty list" if value == [] else f"a {type(value).__name__}"


def _unflattened(row: Any, number: int) -> Any:
    """Return a row of the flat variant in the nested shape; any other row as it is."""
    if not isinstance(row, dict) or "input" in row or not {"Question", "Question_Type"} & set(row):
        return row
    rest = {
        key: value
        for key, value in row.items()
        if key not in ("Question", "Question_Type", "Answer")
    }
    source = {"question_type": row.get("Question_Type"), "question": row.get("Question")}
    output = {"answer": row["Answer"]} if row.get("Answer") is not None else {}
    return {"id": number, **rest, "input": source, "output": output}


def _item(row: Any, where: str, need_answer: bool) -> Item:
    if not isinstance(row, dict):
        raise InputError(
            f"{where}: expected an object with id, input and output, found {_describe(row)}"
        )
    if (
        not isinstance(row.get("id"), str | int)
        or isinstance(row.get("id"), bool)
        or row["id"] == ""
    ):
        raise InputError(f"{where}: needs an id (a string or a whole number)")
    where = f"{where} (id {row['id']!r})"
    source = row.get("input")
    if not isinstance(source, dict):
        raise InputError(f"{where}: needs input: {{question_type, question}}")
    kind = source.get("question_type")
    if kind not in QUESTION_TYPES:
        raise InputError(
            f"{where}: unknown question_type {kind!r}; known are {SELECTION} and {CORRECTION}"
        )
    question = _text(source.get("question"), f"{where}: input.question")
    answer = row["output"].get("answer") if isinstance(row.get("output"), dict) else None
    if answer is not None or need_answer:
        answer = _text(answer, f"{where}: output.answer")
    extra = {key: value for key, value in row.items() if key not in ("id", "input", "output")}
    return Item(row["id"], kind, question, answer, extra)


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{where} is missing or empty; it must be a non-empty string")
    return value


def item_to_row(item: Item, output: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return ``item`` in the contest's JSON shape, with ``output`` (default: its gold answer) as the answer part."""
    gold = {"answer": item.answer} if item.answer is not None else {}
    fields = {"question_type": item.question_type, "question": item.question}
    return {
        "id": item.id,
        **item.extra,
        "input": fields,
        "output": gold if output is None else output,
    }
