"""Slides for six sessions: ``python -m tools.course.slides`` (``make slides``).

In: ``slides.yaml``, which says what each slide shows, and the notebooks with their outputs. Out:
one HTML file that needs no network: figures lie in it, and arrow keys or clicks turn the pages. A
browser prints it as a PDF.

Whatever has a number comes out of a notebook's output, found by the id of its cell, so slides
cannot contradict the run that they show: ``--notebooks runs/default/notebooks`` makes those of your
own run. Questions for discussion are the notebooks' own.
"""

from __future__ import annotations

import argparse
import html
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from grpo_helpers.command_line import SUCCESS, run_command
from grpo_helpers.files import InputError, project_root, resolve_path, show_path, write_atomically

if TYPE_CHECKING:
    from nbformat import NotebookNode

HERE = Path(__file__).parent
DECK = HERE / "slides.yaml"
PAGE = HERE / "slides.html"
QUESTIONS = "**Check your understanding**"
TITLE = "GRPO, end to end"


@dataclass(frozen=True)
class Shown:
    """Which output a slide shows.

    Attributes:
        notebook: The name of the notebook.
        cell: The id of the cell.
        kind: ``figure``, ``table`` or ``printed``.
        lines: Of what is printed, only so many lines; 0 shows all.
    """

    notebook: str
    cell: str
    kind: str
    lines: int = 0


@dataclass(frozen=True)
class Slide:
    """A title, what to say, and an output of a notebook."""

    title: str
    points: Sequence[str]
    shows: Shown


@dataclass(frozen=True)
class Session:
    """One of the six.

    Attributes:
        title: What it is called.
        notebooks: Whose questions it asks.
        slides: What it shows.
        discuss: Notebook -> the numbers of its questions that are discussed.
    """

    title: str
    notebooks: Sequence[str]
    slides: Sequence[Slide]
    discuss: Mapping[str, Sequence[int]] = field(default_factory=dict)


def read_deck(file: Path = DECK) -> list[Session]:
    """Return the sessions of a deck."""
    import yaml

    sessions = []
    for session in yaml.safe_load(file.read_text(encoding="utf-8")):
        slides = []
        for slide in session["slides"]:
            shows = Shown(**slide["shows"])
            slides.append(Slide(slide["title"], slide["points"], shows))
        sessions.append(Session(**(session | {"slides": slides})))
    return sessions


# -- what notebooks say ----------------------------------------------------------------------------


class Notebooks:
    """The executed notebooks of a folder."""

    def __init__(self, folder: Path) -> None:
        """Take the folder; a notebook is read when it is first needed."""
        self.folder = folder
        self.read = cache(self._read)

    def _read(self, name: str) -> NotebookNode:
        import nbformat

        file = self.folder / f"{name}.ipynb"
        if not file.is_file():
            raise InputError(f"no notebook {name}.ipynb in {show_path(self.folder)}")
        return nbformat.read(file, as_version=4)

    def output(self, shown: Shown) -> str:
        """Return an output as HTML.

        Raises:
            InputError: There is no such cell, or it has no such output.
        """
        place = f"{shown.notebook}, cell {shown.cell}"
        cells = [cell for cell in self.read(shown.notebook).cells if cell.id == shown.cell]
        if not cells:
            raise InputError(f"{place}: no such cell; correct {show_path(DECK)}")

        outputs = cells[0].get("outputs", [])
        found = _RENDERERS[shown.kind](outputs, shown.lines)
        if not found:
            raise InputError(f"{place} has no {shown.kind} in its output: run the notebook first")
        return found

    def one_question(self, name: str) -> str:
        """Return the question that a notebook asks in its first cell."""
        pattern = r"\*\*The one question:\*\* (.+?)\n\n"
        found = re.search(pattern, self.read(name).cells[0].source, re.DOTALL)
        question = _in_one_line(found.group(1)) if found else ""
        return question[:1].upper() + question[1:]

    def questions(self, name: str) -> list[str]:
        """Return the questions with which a notebook ends."""
        for cell in self.read(name).cells:
            if QUESTIONS in cell.source:
                listed = cell.source.split(QUESTIONS)[1].strip().split("\n\n")[0]
                return [_in_one_line(text) for text in re.split(r"^\d\. ", listed, flags=re.M)[1:]]
        raise InputError(f"{name} has no questions")


def _in_one_line(text: str) -> str:
    return " ".join(text.split())


def _figure(outputs: Sequence[Any], _: int) -> str:
    """Return the last figure of a cell: one that is drawn anew while a cell runs ends with it."""
    images = [
        output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})
    ]
    return f'<img alt="" src="data:image/png;base64,{images[-1].strip()}">' if images else ""


def _table(outputs: Sequence[Any], _: int) -> str:
    tables = [
        output.data["text/html"] for output in outputs if "text/html" in output.get("data", {})
    ]
    if not tables:
        return ""
    found = re.search(r"<table.*?</table>", tables[-1], re.DOTALL)
    return found.group(0) if found else ""


def _printed(outputs: Sequence[Any], lines: int) -> str:
    text = "".join(output.text for output in outputs if output.output_type == "stream").strip()
    printed = text.splitlines()
    if lines and len(printed) > lines:
        text = "\n".join([*printed[:lines], "..."])
    return f"<pre>{html.escape(text)}</pre>" if text else ""


_RENDERERS = {"figure": _figure, "table": _table, "printed": _printed}


# -- the page --------------------------------------------------------------------------------------


def inline(text: str) -> str:
    """Return a line of Markdown as HTML: code, bold, italics; of a link only its text.

    >>> inline("why is *old* not `new`?")
    'why is <em>old</em> not <code>new</code>?'
    """
    text = html.escape(text, quote=False)
    text = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", text)
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
    text = re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", text)
    return re.sub(r"\*([^*]+)\*", r"<em>\1</em>", text)


def page(sessions: Sequence[Session], notebooks: Notebooks) -> str:
    """Return the deck as one HTML page."""
    sections = []
    for number, session in enumerate(sessions, start=1):
        head = f'<p class="session">Session {number}. {inline(session.title)}</p>'
        questions = _one_questions(session, notebooks)
        for slide in session.slides:
            sections.append(_content(slide, head + questions, notebooks))
            questions = ""  # only on the first slide of a session
        sections.append(_discussion(session, head, notebooks))

    numbered = []
    for place, section in enumerate(sections, start=1):
        position = f"<span>{place} / {len(sections)}</span></footer>"
        numbered.append(section.replace("</footer>", position))
    template = Template(PAGE.read_text(encoding="utf-8"))
    return template.substitute(title=TITLE, slides="\n".join(numbered))


def _one_questions(session: Session, notebooks: Notebooks) -> str:
    asked = [notebooks.one_question(name) for name in session.notebooks]
    return "".join(f'<p class="question">{inline(question)}</p>' for question in asked)


def _content(slide: Slide, head: str, notebooks: Notebooks) -> str:
    points = "".join(f"<li>{inline(point)}</li>" for point in slide.points)
    output = notebooks.output(slide.shows).replace('alt=""', f'alt="{html.escape(slide.title)}"')
    source = f"{slide.shows.notebook}, cell {slide.shows.cell}"
    return (
        f"<section>{head}<h2>{inline(slide.title)}</h2><ul>{points}</ul>"
        f'<div class="shown">{output}</div><footer><span>{source}</span></footer></section>'
    )


def _discussion(session: Session, head: str, notebooks: Notebooks) -> str:
    asked = []
    for name, numbers in session.discuss.items():
        questions = notebooks.questions(name)
        asked += [f"<li>{inline(questions[number - 1])}</li>" for number in numbers]
    answers = ", ".join(f"solutions/{name}.md" for name in session.discuss)
    return (
        f'<section class="discuss">{head}<h2>Discuss</h2><ol>{"".join(asked)}</ol>'
        f"<footer><span>answers: {answers}</span></footer></section>"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Write the slides; return 0, or 2 if a notebook lacks what they show."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.course.slides", description=__doc__.splitlines()[0]
    )
    add = parser.add_argument
    add("--notebooks", default=str(project_root() / "notebooks"), help="executed notebooks")
    add("--out", default="runs/slides.html", help="the file that is written")
    args = parser.parse_args(argv)

    def body() -> int:
        text = page(read_deck(), Notebooks(resolve_path(args.notebooks)))
        written = write_atomically(resolve_path(args.out), lambda file: file.write(text))
        count = text.count("<section")
        print(f"{show_path(written)}: {count} slides, {written.stat().st_size / 1e6:.1f} MB")
        return SUCCESS

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
