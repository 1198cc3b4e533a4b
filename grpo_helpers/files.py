"""Paths, JSON and YAML in, atomic files out, hashes: what every other module needs.

In: paths as a reader writes them, relative to the working folder or to the project. Out: text,
parsed values, files that are complete or absent, and :class:`InputError` where something is wrong.
The article opens files where it needs them; here a bad file is reported in one line.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

BLOCK = 2**20  # bytes that are hashed at once

# Files in a model's folder that are read by people only.
PAGES = (".md", ".rst", ".pdf", ".png", ".jpg", ".jpeg", ".gif", ".svg")
PAGE_NAMES = ("readme", "license", "licence", "notice", "copying")
_SURROGATE = re.compile("[\ud800-\udfff]")

# Where a wheel carries notebooks, data and the like; a checkout has them beside the package.
CARRIED = Path(__file__).resolve().parent / "course_files"
MARKER = "grpo-course.json"  # in the root of a folder that `grpo-course init` has laid out


class InputError(ValueError):
    """Bad input, reported in one line: what is wrong, where, and how to fix it."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its name if it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def project_root() -> Path:
    """Return the folder of ``data/``, ``params/`` and ``runs/``.

    That is the checkout of this package. A package that was installed from a wheel has none: then
    it is the course folder around the working folder, as ``grpo-course init`` lays it out.

    Raises:
        InputError: The package was installed from a wheel, and this is no course folder.
    """
    if not is_installed():
        return CARRIED.parent.parent

    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / MARKER).is_file():
            return folder

    raise InputError(
        f"{here} is not in a course folder: make one with `grpo-course init my-course`, "
        "then work in my-course"
    )


def is_installed() -> bool:
    """Return whether this package comes from a wheel, not from a checkout."""
    return CARRIED.is_dir()


def resolve_path(path: str | os.PathLike[str]) -> Path:
    """Return ``path`` as an absolute path: from the working folder, else from the project.

    The same notebook thus finds ``data/train.json`` from the repository root, from ``notebooks/``
    and from elsewhere. A relative path that does not exist in the working folder is taken as a
    path in the project, whether it exists there or not.

    Hangul has two spellings in Unicode, and a Mac may write a file's name in the longer one (NFD):
    a name that differs from ``path`` in that alone is found, too.
    """
    given = Path(path).expanduser()
    here = find_path(given)

    if here.is_absolute() or here.exists():
        return here.resolve()

    return find_path(project_root() / given)


def find_path(path: Path) -> Path:
    """Return ``path``, its names spelled as on disk where they differ in Unicode's form only."""
    if path.exists():
        return path

    found = Path(path.anchor)
    for name in path.parts[len(found.parts) :]:
        spellings = (name, nfc(name), unicodedata.normalize("NFD", name))
        existing = [spelling for spelling in spellings if (found / spelling).exists()]
        found /= existing[0] if existing else name

    return found


def nfc(value: Any) -> Any:
    r"""Return a text, or all texts of a JSON value, with every Hangul syllable as one character.

    >>> nfc("\u110b\u1175") == "\uc774"
    True
    """
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, list):
        return [nfc(element) for element in value]
    if isinstance(value, dict):
        return {nfc(key): nfc(element) for key, element in value.items()}
    return value


def half_character(value: Any) -> str:
    r"""Return the first lone surrogate (half of an emoji, say) in a JSON value, or an empty text.

    No file can be written with it and no tokenizer reads it.

    >>> half_character({"answer": "\ud83d"})
    '\\ud83d'
    """
    if isinstance(value, str):
        halves = _SURROGATE.findall(value)
        return f"\\u{ord(halves[0]):04x}" if halves else ""

    parts: list[Any] = []
    if isinstance(value, list):
        parts = value
    if isinstance(value, dict):
        parts = [*value, *value.values()]

    return next(filter(None, map(half_character, parts)), "")


def replace_halves(text: str) -> str:
    """Return ``text`` with U+FFFD in the place of every lone surrogate."""
    return _SURROGATE.sub("\ufffd", text)


def show_path(path: str | os.PathLike[str]) -> str:
    """Return ``path`` relative to the project if it is inside it: short, without machine names.

    >>> show_path(project_root() / "data" / "dev.json")
    'data/dev.json'
    """
    try:
        return Path(path).resolve().relative_to(project_root()).as_posix()
    except ValueError:  # outside the project, or no project here (InputError)
        return str(path)


def read_text(path: str | os.PathLike[str], what: str = "file") -> str:
    """Return the text of a UTF-8 file; byte order marks at its start are dropped.

    Args:
        path: The file, as :func:`resolve_path` finds it.
        what: What the file is called in error messages, such as ``"data file"``.

    Raises:
        InputError: The file is missing or is not UTF-8.
    """
    file = resolve_path(path)

    if not file.is_file():
        hint = "give a path from the working folder or the project folder"
        raise InputError(f"{what} not found: {path} ({hint})")

    try:
        return file.read_text(encoding="utf-8").lstrip("\ufeff")
    except UnicodeDecodeError as error:
        place = f"byte {error.start}"
        raise InputError(f"{what} {path} is not UTF-8 text ({place}): save it as UTF-8") from None


def read_json(path: str | os.PathLike[str], what: str = "file") -> Any:
    """Return the parsed JSON of a file.

    Args:
        path: The file, as :func:`resolve_path` finds it.
        what: What the file is called in error messages.

    Raises:
        InputError: The file is missing, not UTF-8 (a byte order mark is accepted) or not JSON.
    """
    text = read_text(path, what)

    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise InputError(f"{what} {path} is not JSON: {place}: {error.msg}") from None


def read_yaml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the parameters of a YAML profile, by name.

    Raises:
        InputError: The file is missing, or is not a YAML mapping.
    """
    import yaml

    text = read_text(path, "parameter file")

    try:
        parameters = yaml.safe_load(text) or {}  # an empty file, or only comments
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())  # YAML's own message has several lines
        raise InputError(f"{path} is not YAML: {reason}") from None

    if not isinstance(parameters, dict):
        raise InputError(f"{path} has no parameters: expected lines of the form name: value")

    return parameters


def write_json(path: str | os.PathLike[str], value: Any) -> Path:
    """Write ``value`` as UTF-8 JSON (indent 4, Hangul unescaped), all or nothing.

    Returns:
        The path that was written.
    """
    text = json.dumps(value, ensure_ascii=False, indent=4) + "\n"
    return write_atomically(path, lambda file: file.write(text))


def write_atomically(path: str | os.PathLike[str], write: Callable[[IO[str]], Any]) -> Path:
    """Write a text file that is complete or not there at all.

    The text goes to a temporary file beside ``path``, which is renamed to ``path`` only after all
    of it is on disk. A reader, or a run that starts after a crash, sees the old file or the new
    one, never half of one.

    Args:
        path: The file to write; its folder is made if needed.
        write: Called once with the open temporary file; writes the text.

    Returns:
        ``path`` as a Path.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")

    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())

        os.chmod(name, 0o644)  # mkstemp creates it private to the user
        os.replace(name, target)
    except BaseException:  # Ctrl-C too must not leave the temporary file behind
        Path(name).unlink(missing_ok=True)
        raise

    return target


def check_output_file(path: str | os.PathLike[str]) -> None:
    """Make sure, before anything costly starts, that a file can be written; nothing is made yet.

    Raises:
        InputError: ``path`` is a folder, or lies where nothing can be written.
    """
    target = Path(path)

    if target.is_dir():
        raise InputError(
            f"{path} is a folder: name a file in it, {target / 'answers.json'} for one"
        )
    check_output_folder(target.absolute().parent)


def check_output_folder(path: str | os.PathLike[str]) -> None:
    """Make sure that a folder exists, or can be made, and can be written to; nothing is made yet.

    Raises:
        InputError: It cannot.
    """
    folder = Path(path).absolute()
    nearest = next(place for place in (folder, *folder.parents) if place.exists())

    if not nearest.is_dir():
        raise InputError(f"cannot write to {path}: {nearest} is a file, no folder; choose another")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise InputError(f"cannot write to {path}: no permission in {nearest}; choose another")


def sha256(paths: Iterable[str | os.PathLike[str]]) -> str:
    """Return one SHA-256 hex digest over the names and contents of files.

    Args:
        paths: Files, in the order in which they count; a folder counts as all files below it,
            sorted.
    """
    files: list[Path] = []
    for path in paths:
        files += _files_of(resolve_path(path))

    return _digest(files)


def sha256_of_model(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 hex digest of a model: of one file, or of what counts in a folder.

    Model cards, licences and hidden files do not count: they may change, and the model stays.
    """
    root = resolve_path(path)
    files = [file for file in _files_of(root) if file == root or _belongs_to_model(file, root)]
    return _digest(files)


def _belongs_to_model(file: Path, root: Path) -> bool:
    """Return whether a file below a model's folder can change what the model does."""
    is_hidden = any(part.startswith(".") for part in file.relative_to(root).parts)
    is_page = file.suffix.lower() in PAGES or file.stem.lower() in PAGE_NAMES
    return not is_hidden and not is_page


def _digest(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()

    for file in files:
        digest.update(file.name.encode())
        with file.open("rb") as opened:
            while block := opened.read(BLOCK):  # a model may be larger than the memory
                digest.update(block)

    return digest.hexdigest()


def _files_of(path: Path) -> list[Path]:
    """Return ``path`` itself, or all files below it if it is a folder, sorted."""
    if not path.is_dir():
        return [path]

    return sorted(file for file in path.rglob("*") if file.is_file())
