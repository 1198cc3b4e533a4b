"""① Contest files in and out: read, check and write JSON of the contest's shape.

In: ``{"id", "input": {"question_type", "question"}, "output": {"answer"}}``, or the flat variant ``{"Question",
"Question_Type", "Answer", "Description"}``, as a JSON list or one JSON object a line. Out: a list of :class:`Item`.
Unlike the article's loader, a bad file is refused in one line before anything costly starts, and every file is written
atomically, so that a killed run never leaves half a JSON file.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

SELECTION = "선택형"  # "choose": pick one option of every {A/B} in a sentence
CORRECTION = "교정형"  # "correct": find and mend the one error of a sentence
QUESTION_TYPES = (SELECTION, CORRECTION)


class InputError(ValueError):
    """Bad input, told in one line: what is wrong, where, and how to mend it."""


@dataclass(frozen=True)
class Item:
    """One question of the contest; ``extra`` holds the other fields of its row (in our data ``card``, ``source`` ...).

    >>> item = Item("7", SELECTION, '"{며칠/몇일}이 걸렸다." 가운데 ...', '"며칠이 걸렸다."가 옳다. ...')
    >>> item.question_type
    '선택형'
    """

    id: str | int  # unique within its file; kept as the file has it
    question_type: str  # 선택형 (choose) or 교정형 (correct)
    question: str  # as the contest words it
    answer: str | None = None  # the gold answer; None in a file without answers
    extra: dict[str, Any] = field(default_factory=dict, compare=False)


def project_root() -> Path:
    """Return the folder that holds ``data/``, ``params/`` and ``runs/`` (the checkout this package lies in)."""
    return Path(__file__).resolve().parent.parent


def resolve_path(path: str | os.PathLike) -> Path:
    """Return ``path`` as an absolute path: from the working folder if it exists there, else from the project.

    So the same notebook finds ``data/train.json`` from the repository root, from ``notebooks/`` and from elsewhere.
    """
    here = Path(path).expanduser()
    return here.resolve() if here.is_absolute() or here.exists() else project_root() / here


def show_path(path: str | os.PathLike) -> str:
    """Return ``path`` relative to the project where it lies inside it: short, and free of machine names."""
    full, root = Path(path).resolve(), project_root()
    return full.relative_to(root).as_posix() if full.is_relative_to(root) else str(path)


def read_json(path: str | os.PathLike, what: str = "file") -> Any:
    """Return the parsed JSON of ``path``, or raise InputError: missing, not UTF-8 (a BOM is accepted) or not JSON."""
    try:
        return json.loads(_text_of(path, what))
    except json.JSONDecodeError as error:
        raise InputError(f"{what} {path} is not JSON: line {error.lineno}, column {error.colno}: {error.msg}") from None


def _text_of(path: str | os.PathLike, what: str) -> str:
    file = resolve_path(path)
    if not file.is_file():
        raise InputError(f"{what} not found: {path} (give a path from the working folder or the project folder)")
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{what} {path} is not UTF-8 text (byte {error.start}): save it as UTF-8") from None


def read_rows(path: str | os.PathLike) -> list[Any]:
    """Return the rows of a JSON list, or of a ``.jsonl`` file with one JSON value a line (blank lines are skipped).

    Raises InputError if the file cannot be read, or is not a non-empty list.
    """
    if Path(path).suffix.lower() != ".jsonl":
        rows = read_json(path, "data file")
        if not isinstance(rows, list) or not rows:
            raise InputError(f"{path}: expected a non-empty JSON list of questions, found {_describe(rows)}")
        return rows
    lines = [(n, line) for n, line in enumerate(_text_of(path, "data file").split("\n"), 1) if line.strip()]
    if not lines:
        raise InputError(f"{path}: expected one JSON object a line, found an empty file")
    rows = []
    for number, line in lines:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise InputError(f"{path} is not JSON: line {number}, column {error.colno}: {error.msg}") from None
    return rows


def load_items(path: str | os.PathLike, need_answer: bool = True) -> list[Item]:
    """Return the items of a ``.json`` or ``.jsonl`` file in the contest's shape or its flat variant, in file order.

    A row of the flat variant without an id gets its number. Raises InputError if the file is not a non-empty list of
    rows, or a row has no id, question or (if ``need_answer``) answer, an unknown type, or the id of an earlier row.
    """
    rows = enumerate(read_rows(path), 1)
    items = [_item(_unflattened(row, number), f"{path}: row {number}", need_answer) for number, row in rows]
    seen: dict[str, int] = {}
    for number, item in enumerate(items, 1):
        first = seen.setdefault(str(item.id), number)
        if first != number:
            raise InputError(f"{path}: row {number}: id {item.id!r} is used in row {first} already; ids must be unique")
    return items


def _describe(value: Any) -> str:
    return "an empty list" if value == [] else f"a {type(value).__name__}"


def _unflattened(row: Any, number: int) -> Any:
    """Return a row of the flat variant in the nested shape; any other row as it is."""
    if not isinstance(row, dict) or "input" in row or not {"Question", "Question_Type"} & set(row):
        return row
    rest = {key: value for key, value in row.items() if key not in ("Question", "Question_Type", "Answer")}
    source = {"question_type": row.get("Question_Type"), "question": row.get("Question")}
    output = {"answer": row["Answer"]} if row.get("Answer") is not None else {}
    return {"id": number, **rest, "input": source, "output": output}


def _item(row: Any, where: str, need_answer: bool) -> Item:
    if not isinstance(row, dict):
        raise InputError(f"{where}: expected an object with id, input and output, found {_describe(row)}")
    if not isinstance(row.get("id"), str | int) or isinstance(row.get("id"), bool) or row["id"] == "":
        raise InputError(f"{where}: needs an id (a string or a whole number)")
    where = f"{where} (id {row['id']!r})"
    source = row.get("input")
    if not isinstance(source, dict):
        raise InputError(f"{where}: needs input: {{question_type, question}}")
    kind = source.get("question_type")
    if kind not in QUESTION_TYPES:
        raise InputError(f"{where}: unknown question_type {kind!r}; known are {SELECTION} and {CORRECTION}")
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
    return {"id": item.id, **item.extra, "input": fields, "output": gold if output is None else output}


def read_yaml(path: str | os.PathLike) -> dict[str, Any]:
    """Return the parameters of a YAML profile; InputError where the file is missing or holds no YAML mapping."""
    import yaml

    file = resolve_path(path)
    if not file.is_file():
        raise InputError(f"parameter file not found: {path}")
    try:
        given = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(given, dict):
        raise InputError(f"{path} holds no parameters: expected lines of the form name: value")
    return given


def write_json(path: str | os.PathLike, value: Any) -> Path:
    """Write ``value`` as UTF-8 JSON (indent 4, Hangul as it is) and return the path. Atomic: all or nothing."""
    text = json.dumps(value, ensure_ascii=False, indent=4) + "\n"
    return write_atomically(path, lambda file: file.write(text))


def write_atomically(path: str | os.PathLike, write: Callable[[IO[str]], Any]) -> Path:
    """Call ``write(file)`` on a new file beside ``path``, rename it to ``path`` only when all is on disk; return that.

    A reader, and a run that starts after a crash, sees the old file or the new one, never a part of one.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)  # mkstemp makes it private to the user
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return target


def sha256(paths: Iterable[str | os.PathLike]) -> str:
    """Return one SHA-256 hex digest over the names and bytes of ``paths``; a folder stands for its files, sorted."""
    digest = hashlib.sha256()
    for root in map(resolve_path, paths):
        for file in sorted(p for p in root.rglob("*") if p.is_file()) if root.is_dir() else [root]:
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()
