"""Names and types of parameters: what a parameters cell or a YAML file holds.

In: a namespace (a notebook's ``globals()``, a YAML profile) and the types that a settings class
declares. Out: the names that were set, and values of the declared types, or an InputError that
names the parameter.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from typing import Any

from grpo_helpers.files import InputError

TYPES = {"str": str, "int": int, "float": float, "bool": bool, "dict": dict}
PLAIN = (str, int, float, bool, list, dict, type(None))


def parameter_names(namespace: Mapping[str, Any]) -> list[str]:
    """Return the names set by a notebook's parameter cells so far.

    A parameter cell holds nothing but literal assignments. In a notebook the cells are read from
    IPython's history ``In``, so that checking again later, when the namespace is full of other
    variables, gives the same names. Elsewhere every name of a plain value counts.

    >>> parameter_names({"seed": 1, "_private": 2, "function": print})
    ['seed']
    """
    history = namespace.get("In")
    if not isinstance(history, list):
        return _plain_names(namespace)

    names: dict[str, None] = {}  # in order, each once
    for cell in history:
        names.update(dict.fromkeys(_literal_assignments(str(cell))))
    return list(names)


def _plain_names(namespace: Mapping[str, Any]) -> list[str]:
    names = []

    for name, value in namespace.items():
        if not name.startswith("_") and isinstance(value, PLAIN):
            names.append(name)

    return names


def _literal_assignments(cell: str) -> list[str]:
    """Return the names a cell assigns literals to; none if it does anything else."""
    try:
        statements = ast.parse(cell).body
    except (SyntaxError, ValueError):
        return []

    names = []
    for statement in statements:
        name = _assigned_name(statement)
        if name is None:
            return []
        names.append(name)
    return names


def _assigned_name(statement: ast.stmt) -> str | None:
    """Return the name in ``name = literal`` or ``name: type = literal``, else None."""
    if isinstance(statement, ast.Assign):
        target = statement.targets[0]
    elif isinstance(statement, ast.AnnAssign):
        target = statement.target
    else:
        return None

    if not isinstance(target, ast.Name) or statement.value is None:
        return None
    try:
        ast.literal_eval(statement.value)
    except (ValueError, TypeError):
        return None
    return target.id


def convert(name: str, value: Any, declared: str) -> Any:
    """Return a parameter's value as the type it is declared with.

    Args:
        name: The parameter, for the error message.
        value: What a notebook, a YAML file or the command line gave.
        declared: The annotation, such as ``"int"`` or ``"str | dict"``.

    Raises:
        InputError: The value is not of that type, and no number that stands for one.

    >>> convert("learning_rate", "1e-5", "float")
    1e-05
    """
    types = _types_of(declared)

    if str in types and value is False:  # YAML reads a bare `no` as False
        return "no"
    if types in ((int,), (float,)):
        return _as_number(name, value, types[0])
    if not isinstance(value, types):
        raise InputError(
            f"parameter {name} is {value!r}; it must be {' or '.join(_words(declared))}"
        )
    return value


def _words(declared: str) -> list[str]:
    """Return the types of an annotation by name: ``str | dict[str, float]`` -> str, dict."""
    return [part.split("[")[0].strip() for part in declared.split("|")]


def _types_of(declared: str) -> tuple[type, ...]:
    return tuple(TYPES[word] for word in _words(declared))


def _as_number(name: str, value: Any, kind: type) -> int | float:
    """Return ``value`` as an int or a float; YAML reads 1e-3 as text, so such text will do."""
    expected = "a number" if kind is float else "int"
    problem = InputError(f"parameter {name} is {value!r}; it must be {expected}")

    if isinstance(value, bool):
        raise problem
    if kind is int and isinstance(value, int):
        return value

    try:
        number = float(value)
    except (TypeError, ValueError):
        raise problem from None
    if not math.isfinite(number) or kind(number) != number:
        raise problem
    return kind(number)
