"""Paths, JSON and YAML in, atomic files out, hashes: what every other module needs."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any


class InputError(ValueError):
    """Bad input, told in one line: what is wrong, where, and how to mend it."""


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
        raise InputError(
            f"{what} {path} is not JSON: line {error.lineno}, column {error.colno}: {error.msg}"
        ) from None


def _text_of(path: str | os.PathLike, what: str) -> str:
    file = resolve_path(path)
    if not file.is_file():
        raise InputError(
            f"{what} not found: {path} (give a path from the working folder or the project folder)"
        )
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{what} {path} is not UTF-8 text (byte {error.start}): save it as UTF-8"
        ) from None


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
