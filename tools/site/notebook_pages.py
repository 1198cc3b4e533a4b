"""A notebook as a page: its text and code as Markdown, its committed outputs as HTML.

In: a notebook as JSON, and what its figures show (``figures.yml``). Out: Markdown in which each
output has a place, the HTML for each place, and the figures as files. Nothing is run.

mkdocs-jupyter, which does the same, renders the text itself: MkDocs would then check none of the
links in it, and its pages fetch MathJax from the network. Outputs stay out of the Markdown, because
its parser would change what is in them.
"""

from __future__ import annotations

import base64
import html
import json
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

FIGURES = Path(__file__).parent / "figures.yml"
FIGURE_FOLDER = "figures"
_PLACE = re.compile(r'<div data-output="(\d+)"></div>')


@dataclass
class NotebookPage:
    """A notebook in the form that the site needs.

    Attributes:
        name: The notebook's name, without its ending.
        markdown: Text and code; an output is an empty ``div`` with its number.
        outputs: The HTML of each output, by number.
        figures: The bytes of each figure, by the name of its file.
    """

    name: str
    markdown: str = ""
    outputs: list[str] = field(default_factory=list)
    figures: dict[str, bytes] = field(default_factory=dict)

    def with_outputs(self, page: str) -> str:
        """Return the HTML made from the Markdown with every output in its place."""
        return _PLACE.sub(lambda found: self.outputs[int(found[1])], page)


def read_notebook(path: Path) -> dict[str, Any]:
    """Return a notebook as JSON has it."""
    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return notebook


def figure_texts() -> dict[str, dict[str, str]]:
    """Return what each figure shows, by notebook and by the id of the cell that draws it."""
    texts: dict[str, dict[str, str]] = yaml.safe_load(FIGURES.read_text(encoding="utf-8"))
    return texts


def figure_cells(notebook: Mapping[str, Any]) -> list[str]:
    """Return the ids of the cells that show a figure."""
    cells = []
    for cell in notebook["cells"]:
        if any("image/png" in output.get("data", {}) for output in cell.get("outputs", [])):
            cells.append(cell["id"])
    return cells


def notebook_page(
    name: str, notebook: Mapping[str, Any], figure_text: Mapping[str, str]
) -> NotebookPage:
    """Return a notebook as a page.

    Args:
        name: Its name, without its ending.
        notebook: The notebook as JSON has it.
        figure_text: What each figure shows, by the id of its cell: its alternative text.
    """
    page = NotebookPage(name)
    parts = []

    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        if cell["cell_type"] != "code":
            continue

        fence = _fence_for(source)
        parts.append(f"{fence}python\n{source}\n{fence}")
        for output in _joined_streams(cell["outputs"]):
            shown = _shown(page, output, cell["id"], figure_text.get(cell["id"], ""))
            parts.append(f'<div data-output="{len(page.outputs)}"></div>')
            page.outputs.append(shown)

    page.markdown = "\n\n".join(parts) + "\n"
    return page


def _fence_for(source: str) -> str:
    """Return backticks that do not occur in a source."""
    longest = max((len(run) for run in re.findall("`+", source)), default=0)
    return "`" * max(3, longest + 1)


def _joined_streams(outputs: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return outputs with neighbouring pieces of one stream joined, as Jupyter shows them."""
    joined: list[dict[str, Any]] = []
    for output in outputs:
        last = joined[-1] if joined else {}
        if output["output_type"] == "stream" and last.get("name") == output["name"]:
            last["text"] += "".join(output["text"])
            continue
        joined.append(dict(output))
        if output["output_type"] == "stream":
            joined[-1]["text"] = "".join(output["text"])
    return joined


def _shown(page: NotebookPage, output: Mapping[str, Any], cell: str, figure_text: str) -> str:
    """Return the HTML of an output; a figure goes to the page's files."""
    if output["output_type"] == "stream":
        return _preformatted(output["text"])
    if output["output_type"] == "error":
        return _preformatted(f"{output['ename']}: {output['evalue']}")

    data = output["data"]
    if "image/png" in data:
        return _figure(page, _text_of(data["image/png"]), cell, figure_text)
    if "text/html" in data:
        return f'<div class="output html" tabindex="0">{_text_of(data["text/html"])}</div>'
    return _preformatted(_text_of(data["text/plain"]))


def _text_of(lines: str | Sequence[str]) -> str:
    """Return text that a notebook keeps whole or in lines."""
    return lines if isinstance(lines, str) else "".join(lines)


def _preformatted(text: str) -> str:
    # tabindex: a box that scrolls must be reachable without a mouse.
    return f'<pre class="output" tabindex="0">{html.escape(text)}</pre>'


def _figure(page: NotebookPage, encoded: str, cell: str, figure_text: str) -> str:
    content = base64.b64decode(encoded)
    width, height = struct.unpack(">II", content[16:24])  # of a PNG's first chunk

    number = len([name for name in page.figures if name.startswith(f"{page.name}-{cell}")])
    file = f"{page.name}-{cell}{f'-{number}' if number else ''}.png"
    page.figures[file] = content

    size = f'width="{width}" height="{height}"'
    source = f"{FIGURE_FOLDER}/{file}"
    return f'<img class="figure" src="{source}" alt="{html.escape(figure_text)}" {size}>'
