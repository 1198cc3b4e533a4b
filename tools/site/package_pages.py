"""The pages about the package: one for each module, in the rooms of the README's tree.

In: the README, and the modules' docstrings. Out: Markdown in which mkdocstrings puts what it reads
off the source.
"""

from __future__ import annotations

import ast
import re

from tools.site.sources import ROOT


def rooms(readme: str) -> dict[str, list[str]]:
    """Return the modules of each room, in the order of the README's tree."""
    tree = readme.split("in import order")[1].split("\ndata/")[0]
    one_line_each = re.sub(r"\n {10,}", " ", tree)
    found = re.findall(r"^  ([a-z]+(?: [a-z]+)?)  +(.*)$", one_line_each, re.MULTILINE)
    return {room: re.findall(r"[a-z_]+", modules) for room, modules in found}


def module_page(name: str) -> str:
    """Return the page of a module."""
    return f"---\ntitle: {name}\n---\n\n::: grpo_helpers.{name}\n"


def index_page(readme: str) -> str:
    """Return the page that lists all modules, each with the first sentence of its docstring."""
    lines = [
        "# The package `grpo_helpers`",
        "",
        "A module imports only modules listed above it. These pages are read off the docstrings.",
    ]
    for room, modules in rooms(readme).items():
        lines += ["", f"## {room.capitalize()}", "", "| module | what it is for |", "|---|---|"]
        lines += [f"| [{name}]({name}.md) | {first_sentence(name)} |" for name in modules]
    return "\n".join(lines) + "\n"


def first_sentence(name: str) -> str:
    """Return the first line of a module's docstring, without importing the module."""
    source = (ROOT / "grpo_helpers" / f"{name}.py").read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(source)) or ""
    return docstring.split("\n")[0].replace("``", "`")
