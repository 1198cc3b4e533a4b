"""The exercises of the course: where they are in a notebook, and what solves them.

In: a notebook as nbformat or JSON has it, and the pages of ``solutions/``. Out: the cells of each
exercise, found by their tags (``exercise-4.1`` is written in, ``check-4.1`` checks it), and the
code of each solution.
"""

from __future__ import annotations

import re
from typing import Any

from grpo_helpers.files import project_root

EXERCISE = "exercise"
CHECK = "check"
_SOLUTION = re.compile(r"^## (\d\.\d) [^\n]*\n.*?```python\n(.*?)```", re.M | re.S)


def solutions(name: str) -> dict[str, str]:
    """Return the code of each exercise's solution, by number.

    Args:
        name: The name of the notebook, without its ending.

    >>> list(solutions("00_first_run"))
    ['0.1', '0.2', '0.3']
    """
    page = (project_root() / f"solutions/{name}.md").read_text(encoding="utf-8")
    return dict(_SOLUTION.findall(page))


def tagged(notebook: Any, kind: str) -> dict[str, Any]:
    """Return the cells tagged ``kind-N.K``, by number, in their order.

    Args:
        notebook: A notebook as nbformat or JSON has it.
        kind: :data:`EXERCISE` or :data:`CHECK`.

    >>> cell = {"metadata": {"tags": ["check-4.1"]}}
    >>> tagged({"cells": [cell]}, CHECK) == {"4.1": cell}
    True
    """
    cells = {}
    for cell in notebook["cells"]:
        for tag in cell["metadata"].get("tags", []):
            if tag.startswith(f"{kind}-"):
                cells[tag.removeprefix(f"{kind}-")] = cell
    return cells
