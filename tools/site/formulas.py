r"""Formulas and the diagram of the loop, drawn without a script.

In: HTML with formulas between ``\(`` and ``\)`` as pymdownx.arithmatex leaves them; Markdown with a
Mermaid flowchart. Out: MathML, which browsers draw themselves, and a list of boxes. MathJax and
Mermaid would weigh megabytes on every page, for two notebooks with formulas and one diagram.
"""

from __future__ import annotations

import html
import re

_INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)
_BLOCK = re.compile(r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', re.DOTALL)
LONG = 30  # characters of LaTeX; an inline formula that has more may be wider than a phone
_FLOWCHART = re.compile(r"^```mermaid\nflowchart .*?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_BOX = re.compile(r'(\w+)\["(.*?)"\]')
_ARROW = re.compile(r'^\s*(\w+)(?:\[".*?"\])? (?:-- "(.*?)" )?--> (\w+)', re.MULTILINE)


def with_mathml(page: str) -> str:
    """Return a page's HTML with its formulas as MathML.

    Each is in a box of its own, which scrolls where a phone is too narrow for the formula.
    """
    page = _BLOCK.sub(
        lambda found: f'<div class="formula">{_mathml(found[1], "block")}</div>', page
    )
    return _INLINE.sub(lambda found: _inline(found[1]), page)


def _inline(escaped: str) -> str:
    name = "formula long" if len(escaped) > LONG else "formula"
    return f'<span class="{name}">{_mathml(escaped, "inline")}</span>'


def _mathml(escaped: str, display: str) -> str:
    from latex2mathml.converter import convert

    mathml: str = convert(html.unescape(escaped).strip(), display=display)
    return mathml


def with_drawn_flowcharts(text: str) -> str:
    """Return Markdown with its flowcharts as lists: a box for each node, in order.

    An arrow to the next box is drawn; one to another box is written into the box it starts from.
    """
    return _FLOWCHART.sub(lambda found: _drawn(found[1]), text)


def _drawn(chart: str) -> str:
    boxes = dict(_BOX.findall(chart))
    order = list(boxes)
    notes: dict[str, str] = dict.fromkeys(boxes, "")
    followed = set()

    for start, label, end in _ARROW.findall(chart):
        step = order.index(end) - order.index(start)
        title = boxes[end].split("<br/>")[0]
        if step == 1:
            followed.add(start)
        elif step < 0:
            notes[start] += f"<small>↩ back to {title}</small>"
        else:
            notes[start] += f"<small>{label} → {title}</small>"

    items = []
    for name, words in boxes.items():
        arrow = ' class="followed"' if name in followed else ""
        items.append(f"<li{arrow}>{words}{notes[name]}</li>")
    return f'<ol class="flow">{"".join(items)}</ol>\n'
