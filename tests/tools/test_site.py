"""The site: what is made of README, notebooks and docstrings, and the pages that come out of it."""

from __future__ import annotations

import html
import re
from functools import cache
from itertools import chain
from urllib.parse import unquote

import pytest
from helpers import ROOT

import grpo_helpers
from tools.site import formulas, front_page, notebook_pages, package_pages, sources

README = (ROOT / "README.md").read_text(encoding="utf-8")
NOTEBOOKS = sources.matching(sources.NOTEBOOKS)


# -- links -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("page", "link", "expected"),
    [
        ("docs/gpu.md", "../notebooks/04_train.ipynb", "../notebooks/04_train.md"),
        ("notebooks/02.md", "../docs/gpu.md#several-gpus", "../docs/gpu.md#several-gpus"),
        ("README.ko.md", "README.md", "overview.md"),
        ("data/README.md", "LICENSE", "LICENSE.txt"),
        ("overview.md", "solutions", "solutions/index.md"),
        ("docs/experiments.md", "../params", "../params/index.md"),
        ("docs/install.md", "../Dockerfile", "../Dockerfile.txt"),
        ("docs/install.md", "../hosted/start.ipynb", "../hosted/start.ipynb"),
        ("docs/gpu.md", "#several-gpus", "#several-gpus"),
        ("docs/gpu.md", "https://example.org/a.ipynb", "https://example.org/a.ipynb"),
    ],
)
def test_link_leads_to_the_page_of_its_file(page, link, expected):
    assert sources.with_site_links(f"[text]({link})", page) == f"[text]({expected})"


def test_heading_gets_the_anchor_it_has_on_github():
    assert sources.github_slug("①: 규범, and `code` (2 × 3)!") == "-규범-and-code-2--3"


# -- notebooks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_each_figure_of_a_notebook_is_described(path):
    name = path.removeprefix("notebooks/").removesuffix(".ipynb")
    drawn = notebook_pages.figure_cells(notebook_pages.read_notebook(ROOT / path))

    described = notebook_pages.figure_texts().get(name, {})

    assert set(described) == set(drawn), "describe them in tools/site/figures.yml, by cell"


def test_figures_are_described_of_notebooks_that_exist():
    assert {f"notebooks/{name}.ipynb" for name in notebook_pages.figure_texts()} <= set(NOTEBOOKS)


PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJ"
    "RU5ErkJggg=="
)


def code_cell(source, *outputs):
    return {"cell_type": "code", "id": "a", "source": source, "outputs": list(outputs)}


def printed(text):
    return {"output_type": "stream", "name": "stdout", "text": [text]}


def shown(**data):
    kinds = {"png": "image/png", "html": "text/html", "plain": "text/plain"}
    return {"output_type": "display_data", "data": {kinds[name]: data[name] for name in data}}


def page_of(*cells):
    return notebook_pages.notebook_page("made_up", {"cells": cells}, {"a": 'a "rising" line'})


def test_printed_text_cannot_become_a_tag():
    page = page_of(code_cell("f()", printed("<script>&")))

    assert "&lt;script&gt;&amp;" in page.with_outputs(page.markdown)


def test_pieces_of_one_stream_are_shown_together():
    page = page_of(code_cell("f()", printed("one\n"), printed("two\n")))

    assert len(page.outputs) == 1
    assert "one\ntwo" in page.outputs[0]


def test_output_stands_below_its_code():
    page = page_of(code_cell("f()", printed("one")), code_cell("g()", printed("two")))

    filled = page.with_outputs(page.markdown)

    words = ("f()", "one", "g()", "two")
    assert sorted(words, key=filled.index) == list(words)


def test_code_with_backticks_stays_one_block():
    page = page_of(code_cell('"""\n```\n"""'))

    assert page.markdown.startswith("````python\n")


def test_figure_has_its_text_and_its_size():
    page = page_of(code_cell("f()", shown(png=PIXEL, plain="<Figure>")))

    assert 'alt="a &quot;rising&quot; line" width="1" height="1"' in page.outputs[0]


def test_two_figures_of_a_cell_are_two_files():
    page = page_of(code_cell("f()", shown(png=PIXEL), shown(png=PIXEL)))

    assert list(page.figures) == ["made_up-a.png", "made_up-a-1.png"]


def test_table_of_pandas_is_kept_as_html():
    page = page_of(code_cell("f()", shown(html="<table><td>1</td></table>", plain="1")))

    assert "<td>1</td>" in page.outputs[0]


# -- formulas and the loop -------------------------------------------------------------------------


def test_loop_of_the_readme_becomes_seven_boxes():
    drawn = formulas.with_drawn_flowcharts(README)

    assert "mermaid" not in drawn
    assert drawn.count("<li") == 7


def test_arrow_that_goes_back_is_written_out():
    chart = '```mermaid\nflowchart LR\n A["one"] --> B["two"]\n B -- "now" --> A\n```'

    drawn = formulas.with_drawn_flowcharts(chart)

    assert '<li class="followed">one</li>' in drawn
    assert "<li>two<small>↩ back to one</small></li>" in drawn


def test_formula_becomes_mathml():
    pytest.importorskip("latex2mathml", reason="pip install -e .[site]")

    drawn = formulas.with_mathml(r'<span class="arithmatex">\(a \lt b\)</span>')

    assert "<math" in drawn and "arithmatex" not in drawn


# -- front page and package ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def front():
    template = (ROOT / "tools/site/pages/index.md").read_text(encoding="utf-8")
    return front_page.front_page(template, README)


@pytest.mark.parametrize("words", ["make lab", "make run", "95 % interval", "learning_curve.png"])
def test_front_page_has_the_commands_and_the_results(front, words):
    assert words in front


def test_front_page_says_what_the_readme_begins_with(front):
    assert README.split("\n\n")[1] in front


@pytest.mark.parametrize("has_demo", [True, False])
def test_front_page_leads_to_the_model_where_it_is_there(has_demo):
    page = front_page.front_page("{demo}", README, has_demo=has_demo)

    assert (front_page.DEMO_PAGE in page) == has_demo


@pytest.mark.parametrize("has_run", [True, False])
def test_front_page_leads_to_the_report_of_a_run_that_was_made(monkeypatch, tmp_path, has_run):
    report = tmp_path / "report.html"
    if has_run:
        report.write_text("<p>answers</p>")
    monkeypatch.setattr(front_page, "REPORT", report)

    page = front_page.front_page("{report}", README)

    assert (front_page.REPORT_PAGE in page) == has_run


def test_package_pages_are_in_import_order():
    listed = grpo_helpers.__doc__.split("listed above it:")[1].split(".")[0]

    modules = list(chain(*package_pages.rooms(README).values()))

    assert modules == re.findall(r"\w+", listed)


def test_role_of_a_docstring_becomes_a_link():
    roles = pytest.importorskip("tools.site.roles", reason="pip install -e .[site]")

    linked = roles.as_markdown("See :func:`grpo_helpers.answers.parse_gold` and :data:`RULES`.")

    name = "grpo_helpers.answers.parse_gold"
    assert linked == f"See [`{name}`][{name}] and `RULES`."


def test_example_of_a_docstring_becomes_code():
    roles = pytest.importorskip("tools.site.roles", reason="pip install -e .[site]")

    fenced = roles.as_markdown("Add.\n\n>>> 1 + 1\n2\n\nMore.")

    assert fenced == "Add.\n\n```pycon\n>>> 1 + 1\n2\n```\n\nMore."


# -- the pages that come out of it -----------------------------------------------------------------


@cache
def text_of(path):
    return path.read_text(encoding="utf-8")


@cache
def anchors_of(path):
    """Return the anchors of a page."""
    return set(re.findall(r'\bid="([^"]+)"', text_of(path)))


def links_of(path):
    """Return the links of a page to the site itself."""
    links = re.findall(r'<a\b[^>]*?\bhref="([^"]+)"', text_of(path))
    return [html.unescape(link) for link in links if not re.match(r"https?:|mailto:", link)]


def test_make_site_stops_at_a_link_that_leads_nowhere():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")

    (build,) = re.findall(r"-m mkdocs build(.*)", makefile)

    assert re.search(r"^strict: true\b", settings, re.MULTILINE)
    assert build == "", "with --quiet, MkDocs ignores the warnings that strict mode stops at"


@pytest.mark.slow
def test_built_site_has_a_page_for_everything(site):
    modules = chain(*package_pages.rooms(README).values())
    pages = [sources.site_path(path) for path in [*NOTEBOOKS, *sources.matching("docs/*.md")]]
    pages += [f"api/{name}.md" for name in modules]

    missing = [page for page in pages if not (site / page).with_suffix(".html").is_file()]

    assert not missing


@pytest.mark.slow
def test_built_link_leads_to_a_page_and_its_anchor(site):
    for page in site.rglob("*.html"):
        if page.name == "404.html":  # its links begin at the root of a server
            continue
        for link in links_of(page):
            file, _, anchor = link.partition("#")
            target = (page.parent / unquote(file)).resolve() if file else page
            if target.is_dir():
                target = target / "index.html"
            assert target.is_file(), f"{page.name}: {link}"
            if anchor and target.suffix == ".html":
                assert unquote(anchor) in anchors_of(target), f"{page.name}: {link}"


@pytest.mark.slow
def test_built_page_loads_nothing_from_another_host(site):
    loaded = r'<(?:script|img|iframe)\b[^>]*\bsrc="(https?:)?//|<link\b[^>]*\bhref="(https?:)?//'

    asking = [page.name for page in site.rglob("*.html") if re.search(loaded, text_of(page))]

    assert not asking


@pytest.mark.slow
def test_built_picture_has_a_text(site):
    for page in site.rglob("*.html"):
        for picture in re.findall(r"<img\b[^>]*>", text_of(page)):
            assert re.search(r'\balt="[^"]', picture), f"{page.name}: {picture[:80]}"


@pytest.mark.slow
def test_built_page_has_no_formula_left(site):
    assert not [page.name for page in site.rglob("*.html") if "arithmatex" in text_of(page)]
