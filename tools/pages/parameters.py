"""Write ``docs/parameters.md``, the reference of parameters: ``python -m tools.pages.parameters``.

In: the parameters cells of the notebooks, the choices that the settings allow, the profiles of
``params/``, and ``templates/parameters.md``. Out: the page. A test compares the page with what
this module writes.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from grpo_helpers.files import (
    InputError,
    project_root,
    read_json,
    read_yaml,
    show_path,
)
from grpo_helpers.headless import NOTEBOOKS
from grpo_helpers.settings import CHOICES
from tools.pages.command import page_command
from tools.pages.markdown import fill_template, table

PAGE = project_root() / "docs" / "parameters.md"
UNCHANGED = "-"


@dataclass(frozen=True)
class Parameter:
    """A line of a parameters cell.

    Attributes:
        name: What ``-p`` and a profile call it.
        type: Its annotation, such as ``int``.
        default: The value in the cell, as Python writes it.
        meaning: The comment beside it.
    """

    name: str
    type: str
    default: str
    meaning: str


def parameters_of(notebook: str) -> list[Parameter]:
    """Return the parameters of a notebook, in the order of its parameters cell.

    Args:
        notebook: Its name without the ending, such as ``04_train``.

    Raises:
        InputError: The notebook has no cell that is tagged ``parameters``.
    """
    path = project_root() / "notebooks" / f"{notebook}.ipynb"
    for cell in read_json(path, "notebook")["cells"]:
        if "parameters" in cell["metadata"].get("tags", []):
            return read_cell("".join(cell["source"]))

    raise InputError(f"{show_path(path)} has no cell with the tag parameters")


def read_cell(source: str) -> list[Parameter]:
    """Return the parameters in the source of a parameters cell.

    >>> read_cell("seed: int = 0  # of the sampling")
    [Parameter(name='seed', type='int', default='0', meaning='of the sampling')]
    """
    comments = _comments_by_line(source)
    parameters = []

    for statement in ast.parse(source).body:
        if not isinstance(statement, ast.AnnAssign) or statement.value is None:
            continue

        # A long line is wrapped in parentheses; its comment is then on one of the inner lines.
        lines = range(statement.lineno, (statement.end_lineno or statement.lineno) + 1)
        meaning = " ".join(comments[line] for line in lines if line in comments)
        parameters.append(
            Parameter(
                name=ast.unparse(statement.target),
                type=ast.unparse(statement.annotation),
                default=ast.unparse(statement.value),
                meaning=meaning,
            )
        )

    return parameters


def _comments_by_line(source: str) -> dict[int, str]:
    """Return line number -> text of the comment on that line."""
    comments = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            comments[token.start[0]] = token.string.lstrip("# ").strip()
    return comments


def notebook_section(notebook: str) -> str:
    """Return the heading and the table of one notebook."""
    rows = []

    for parameter in parameters_of(notebook):
        meaning = parameter.meaning
        if parameter.name in CHOICES:
            choices = ", ".join(f"`{choice}`" for choice in CHOICES[parameter.name])
            meaning = f"{meaning} (one of {choices})"

        row = {
            "parameter": f"`{parameter.name}`",
            "type": parameter.type.replace("|", "or"),  # a bar would end the column
            "default": f"`{parameter.default}`",
            "what it does": meaning.replace("|", "\\|"),
        }
        rows.append(row)

    link = f"[{notebook}](../notebooks/{notebook}.ipynb)"
    return f"## Notebook {link}\n\n{table(rows)}"


def profiles_table(notebook: str = "04_train") -> str:
    """Return a table of the values that the profiles set: a row a parameter, a column a profile."""
    profiles = {}
    for path in sorted((project_root() / "params").glob(f"*/{notebook}.yaml")):
        profiles[path.parent.name] = read_yaml(path)

    rows = []
    for parameter in parameters_of(notebook):
        values = {name: _shown(values, parameter.name) for name, values in profiles.items()}
        if set(values.values()) == {UNCHANGED}:
            continue
        rows.append({"parameter": f"`{parameter.name}`", **values})

    return table(rows)


def _shown(profile: dict[str, Any], name: str) -> str:
    """Return the value that a profile gives a parameter, as YAML writes it."""
    if name not in profile:
        return UNCHANGED
    value = profile[name]
    if isinstance(value, bool):
        value = str(value).lower()
    return f"`{value}`"


def page() -> str:
    """Return the whole page."""
    sections = [notebook_section(notebook) for notebook in NOTEBOOKS]
    return fill_template(
        "parameters.md",
        notebooks="\n\n".join(sections),
        profiles=profiles_table(),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    return page_command("tools.pages.parameters", page, PAGE, argv=argv)


if __name__ == "__main__":
    sys.exit(main())
