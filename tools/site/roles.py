"""Docstrings as the site needs them: roles become links, examples become code.

In: the docstrings of the package, as Griffe reads them without importing anything. Out: the same in
Markdown. A role with a full name links to what it names, unless that is a constant: those have no
entry of their own. Other roles are set as code. An example that begins with ``>>>`` would be a
quotation in Markdown.
"""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension

_ROLE = re.compile(r":(?P<role>mod|func|class|meth|data|attr|exc):`~?(?P<name>[\w.]+)`")
_EXAMPLE = re.compile(r"^(?P<indent> *)>>>\s.*?(?=^\s*$|\Z)", re.DOTALL | re.MULTILINE)


class Roles(Extension):
    """Rewrites every docstring of the package."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        """Rewrite the docstring of an object, if it has one."""
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(docstring: str) -> str:
    """Return a docstring with links in place of roles, and with its examples fenced."""
    linked = _ROLE.sub(_link, docstring)
    return _EXAMPLE.sub(_fenced, linked)


def _link(found: re.Match[str]) -> str:
    name = found["name"]
    if name.startswith("grpo_helpers.") and found["role"] != "data":
        return f"[`{name}`][{name}]"
    return f"`{name}`"


def _fenced(found: re.Match[str]) -> str:
    indent = found["indent"]
    return f"{indent}```pycon\n{found[0].rstrip()}\n{indent}```\n"
