"""Names and types of parameters: what a parameters cell or a YAML file holds, checked against a dataclass."""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from grpo_helpers.files import InputError

_TYPES = {"str": str, "int": int, "float": float, "bool": bool, "dict": dict}


def parameter_names(namespace: Mapping[str, Any]) -> list[str]:
    """Return the names set by a notebook's parameter cells so far: cells that hold nothing but literal assignments.

    In a notebook the cells are read from IPython's history ``In``, so that running the check again later, when the
    namespace is full of other variables, says the same. Elsewhere every name of a plain value counts.
    """
    if not isinstance(namespace.get("In"), list):
        plain = (str, int, float, bool, list, dict, type(None))
        return [
            n
            for n, value in namespace.items()
            if not n.startswith("_") and isinstance(value, plain)
        ]
    return list(
        dict.fromkeys(name for cell in namespace["In"] for name in _literal_assignments(str(cell)))
    )


def _literal_assignments(cell: str) -> list[str]:
    names = []
    try:
        for statement in ast.parse(cell).body:
            targets = getattr(statement, "targets", None) or [getattr(statement, "target", None)]
            if not isinstance(statement, ast.Assign | ast.AnnAssign) or not isinstance(
                targets[0], ast.Name
            ):
                return []
            ast.literal_eval(statement.value)
            names.append(targets[0].id)
    except (SyntaxError, ValueError, TypeError):
        return []
    return names


def _converted(name: str, value: Any, declared: str) -> Any:
    """Return ``value`` as the declared type; YAML reads 1e-3 as text (a number will do) and a bare no as False."""
    wanted = _TYPES[declared.split("[")[0]]
    value = "no" if wanted is str and value is False else value
    if (
        isinstance(value, wanted) and not isinstance(value, bool | float)
    ) or wanted is bool is type(value):
        return value
    with suppress(TypeError, ValueError):  # told below, with the name and the declared type
        number = math.nan if isinstance(value, bool) else float(value)
        if wanted in (int, float) and math.isfinite(number) and wanted(number) == number:
            return wanted(number)
    raise InputError(
        f"parameter {name} is {value!r}; it must be {'a number' if wanted is float else declared}"
    )
