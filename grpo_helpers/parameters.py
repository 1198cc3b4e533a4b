"""Names and types of parameters: what a parameters cell or a YAML file holds.

In: a namespace (a notebook's ``globals()``, a YAML profile) and the types that a settings class
declares. Out: the names that were set, and values of the declared types, or an InputError that
names the parameter. A parameter that has another name by now is still read, from a profile of your
own as from the ``settings.json`` of an earlier run.
"""

from __future__ import annotations

import ast
import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grpo_helpers.files import InputError

TYPES = {"str": str, "int": int, "float": float, "bool": bool, "dict": dict}
PLAIN = (str, int, float, bool, list, dict, type(None))
INJECTED = "# Parameters"  # how the cell that papermill adds begins
PAPERMILL = "PAPERMILL_"  # names that papermill itself adds to that cell on demand


@dataclass(frozen=True)
class Successor:
    """The parameter that has taken the place of an earlier one.

    Attributes:
        name: What it is called.
        values: What it is for each value of the earlier one.
    """

    name: str
    values: Mapping[bool, str]


# Names of earlier versions.
SUPERSEDED = {"bf16": Successor("dtype", {True: "bfloat16", False: "float32"})}


@dataclass(frozen=True)
class Cell:
    """What a cell that ran in a notebook sets.

    Attributes:
        names: The names it assigns literals to, or declares with a type.
        declared: Those that it declares with a type.
        only_sets: Whether it does nothing but assign and import.
        only_literals: Whether it does nothing but assign literals.
        is_injected: Whether it is the cell that papermill adds for ``-p``, ``-r``, ``-y``, ``-f``.
    """

    names: tuple[str, ...]
    declared: tuple[str, ...]
    only_sets: bool
    only_literals: bool
    is_injected: bool


def parameter_names(namespace: Mapping[str, Any], known: Iterable[str] = ()) -> list[str]:
    """Return the names that a notebook's parameters are set by.

    In a notebook they are read from IPython's history ``In``: the latest run of the parameters cell
    and, if papermill's cell ran after it, the latest run of that one. Earlier runs (a typo that was
    corrected since), the notebook's later cells and scratch cells do not count. Elsewhere every
    name of a plain value counts.

    Args:
        namespace: A notebook's ``globals()``, or a mapping of parameters.
        known: The parameters that the notebook has; its parameters cell is recognised by them.

    >>> parameter_names({"seed": 1, "_private": 2, "function": print})
    ['seed']
    >>> parameter_names({"In": ["", "sead = 1", "check", "seed = 1", "check"]}, ["seed"])
    ['seed']
    """
    history = namespace.get("In")
    if not isinstance(history, list):
        return _plain_names(namespace)

    cells = [_read_cell(str(source)) for source in history]
    place = _place_of_parameters_cell(cells, set(known))
    since = cells if place is None else cells[place + 1 :]
    injected = [cell for cell in since if cell.is_injected]

    names = [] if place is None else list(cells[place].names)
    if injected:
        names += injected[-1].names
    return list(dict.fromkeys(names))


def _place_of_parameters_cell(cells: Sequence[Cell], known: set[str]) -> int | None:
    """Return where in the history the parameters cell ran last, or None.

    It is the cell that declares the most parameters or, if none is declared with a type, sets the
    most. A run of it that was edited has about as many, so the last cell with at least half of them
    counts: a scratch cell that overrides one parameter has fewer.
    """
    candidates = [cell.only_sets and not cell.is_injected for cell in cells]

    for attribute in ("declared", "names"):
        counts = []
        for cell, is_candidate in zip(cells, candidates, strict=True):
            names = getattr(cell, attribute) if is_candidate else ()
            counts.append(sum(_is_parameter(name, known) for name in names))

        most = max(counts, default=0)
        if most:
            places = [place for place, count in enumerate(counts) if 2 * count >= most]
            return places[-1]

    return _place_of_literals(cells) if not known else None


def _is_parameter(name: str, known: set[str]) -> bool:
    """Return whether a name is a known parameter, or one that was mistyped."""
    return name in known or bool(difflib.get_close_matches(name, known, n=1, cutoff=0.75))


def _place_of_literals(cells: Sequence[Cell]) -> int | None:
    """Return the place of the last cell of literals, where no parameter is known by name."""
    for place in reversed(range(len(cells))):
        cell = cells[place]
        if cell.names and cell.only_literals and not cell.is_injected:
            return place

    return None


def _plain_names(namespace: Mapping[str, Any]) -> list[str]:
    names = []

    for name, value in namespace.items():
        if not name.startswith("_") and isinstance(value, PLAIN):
            names.append(name)

    return names


def _read_cell(source: str) -> Cell:
    """Return what a cell sets; a cell that cannot be parsed sets nothing."""
    is_injected = source.lstrip().startswith(INJECTED)
    try:
        statements = ast.parse(source).body
    except (SyntaxError, ValueError):
        return Cell((), (), only_sets=False, only_literals=False, is_injected=False)

    names = []
    declared = []
    only_sets = True
    only_literals = True
    for statement in statements:
        name = _assigned_name(statement)
        is_literal = name is not None and _is_literal(statement)
        only_sets &= name is not None or isinstance(statement, ast.Import | ast.ImportFrom)
        only_literals &= is_literal

        is_declared = isinstance(statement, ast.AnnAssign)
        counts = is_literal or is_injected or is_declared
        if name is not None and counts and not name.startswith(PAPERMILL):
            names.append(name)
            declared += [name] * is_declared

    return Cell(
        names=tuple(names),
        declared=tuple(declared),
        only_sets=only_sets,
        only_literals=only_literals,
        is_injected=is_injected,
    )


def _assigned_name(statement: ast.stmt) -> str | None:
    """Return the name in ``name = value`` or ``name: type = value``, else None."""
    if isinstance(statement, ast.Assign):
        target = statement.targets[0]
    elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
        target = statement.target
    else:
        return None

    return target.id if isinstance(target, ast.Name) else None


def _is_literal(statement: ast.stmt) -> bool:
    """Return whether an assignment's value is a literal."""
    try:
        ast.literal_eval(statement.value)  # type: ignore[attr-defined]  # an assignment has one
    except (ValueError, TypeError):
        return False
    return True


def present_names(
    parameters: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return parameters under the names that they have now.

    Args:
        parameters: Parameters by name, as a YAML file or a ``settings.json`` has them.
        defaults: Values that a parameter has where nobody set it: an earlier name overrides them.

    Raises:
        InputError: An earlier name and the present one contradict each other.

    >>> present_names({"seed": 1, "bf16": True})
    {'seed': 1, 'dtype': 'bfloat16'}
    """
    renamed = {name: value for name, value in parameters.items() if name not in SUPERSEDED}
    untouched = defaults or {}

    for name, successor in SUPERSEDED.items():
        if name not in parameters:
            continue

        value = convert(name, parameters[name], "bool")
        meant = successor.values[value]
        given = renamed.get(successor.name, meant)
        if given not in (meant, untouched.get(successor.name)):
            raise InputError(
                f"{name}={str(value).lower()} means {successor.name}={meant} now, and "
                f"{successor.name} is {given!r}: leave {name} out"
            )
        renamed[successor.name] = meant

    return renamed


def read_value(text: str, is_text: bool) -> Any:
    """Return the value that a command line gives to a parameter, in YAML.

    Args:
        text: What follows the parameter's name.
        is_text: Whether the parameter is a text: then only a quoted value is read as YAML.

    >>> read_value("20", is_text=False), read_value("20", is_text=True)
    (20, '20')
    """
    import yaml

    is_quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"
    if is_text and not is_quoted:  # a name may look like a number, a list or a comment
        return text

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:  # "em: 1, format: 0.2" is no YAML without braces
        return text


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
            f"{_how_to_write(name, value, types)}"
        )
    return value


def _how_to_write(name: str, value: Any, types: tuple[type, ...]) -> str:
    """Return how a value of one of ``types`` is written in a file and on a command line."""
    if dict in types and str not in types:
        line = f"{name}: {{key: value}}"
        return (
            f": in a YAML file {line}, with papermill -y '{{{line}}}' "
            "(-p would hand it over as text)"
        )
    if types == (str,):
        text = "..." if value is None or isinstance(value, bool | list | dict) else str(value)
        return (
            f': in a YAML file {name}: "{text}", with papermill -r {name} {text}, '
            f"with grpo_helpers.training -p {name} '\"{text}\"'"
        )
    if types == (bool,):
        return ": write true or false"
    return ""


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
