"""What MkDocs calls while it builds the site: the files, the navigation, and the last touches.

``mkdocs.yml`` names this file. The work is done in the modules beside it, which know nothing of
MkDocs: a successor of it would need another file like this one, and no more.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from tools.site import formulas, front_page, notebook_pages, package_pages, sources
from tools.site.demo import export as demo

FRONT = "index.md"
_notebooks: dict[str, notebook_pages.NotebookPage] = {}  # by the path of the page


def readme() -> str:
    """Return the README, from which the front page and the navigation are made."""
    return (sources.ROOT / "README.md").read_text(encoding="utf-8")


# -- files ---------------------------------------------------------------------------------------


def on_files(files: Files, config: Any) -> Files:
    """Add the repository's files to those of ``pages/``."""

    def add(path: str, content: str | bytes) -> None:
        files.append(File.generated(config, path, content=content))

    copied = sources.matching(*sources.PAGES, *sources.PICTURES, sources.NOTEBOOKS)
    for path in [*copied, *sources.MOVED]:
        is_notebook = path.endswith(".ipynb")  # it is there to be downloaded
        target = path if is_notebook else sources.site_path(path)
        files.append(File.generated(config, target, abs_src_path=str(sources.ROOT / path)))

    for folder in sources.FOLDERS:
        add(sources.site_path(folder), sources.folder_page(folder))

    if front_page.REPORT.is_file():
        path = str(front_page.REPORT)
        files.append(File.generated(config, front_page.REPORT_PAGE, abs_src_path=path))

    if why := demo.why_not():
        print(f"the site has no page with a model: {why}")
    else:
        _add_demo(add, config.extra["demo"])

    add("api/index.md", package_pages.index_page(readme()))
    for modules in package_pages.rooms(readme()).values():
        for module in modules:
            add(f"api/{module}.md", package_pages.module_page(module))

    for path, notebook in _read_notebooks().items():
        add(path, notebook.markdown)
        for name, content in notebook.figures.items():
            add(f"notebooks/{notebook_pages.FIGURE_FOLDER}/{name}", content)
    return files


def _add_demo(add: Callable[[str, str | bytes], None], runs: Mapping[str, str | None]) -> None:
    """Add the pages with the models, and what they load."""
    run = runs["run"] or ""
    thinking_run = runs["thinking"] or ""
    files = demo.demo_files(run, runs["hacked"] or "")
    thinking_files = demo.thinking_files(thinking_run)
    add(front_page.DEMO_PAGE, demo.page(files, run))
    add(front_page.THINKING_PAGE, demo.thinking_page(thinking_files, thinking_run))

    folder = posixpath.dirname(front_page.DEMO_PAGE)
    for name, content in (files | thinking_files).items():
        add(f"{folder}/{name}", content)


def _read_notebooks() -> dict[str, notebook_pages.NotebookPage]:
    """Return every notebook as a page, by the path of the page; they are kept for their outputs."""
    texts = notebook_pages.figure_texts()
    _notebooks.clear()

    for path in sources.matching(sources.NOTEBOOKS):
        name = Path(path).stem
        notebook = notebook_pages.read_notebook(sources.ROOT / path)
        page = notebook_pages.notebook_page(name, notebook, texts.get(name, {}))
        _notebooks[sources.site_path(path)] = page
    return _notebooks


# -- navigation ----------------------------------------------------------------------------------


def on_config(config: Any) -> Any:
    """Set the navigation: every page has a place in it, in the README's order."""
    notebooks = [sources.site_path(path) for path in sources.matching(sources.NOTEBOOKS)]
    solutions = ["solutions/index.md", *sources.matching("solutions/*.md")]
    guide = readme()
    docs = sorted(sources.matching("docs/*.md"), key=lambda path: _place(guide, path))
    project = ["CONTRIBUTING.md", *_others("*.md"), "tests/README.md", "tools/README.md"]

    package: list[Any] = ["api/index.md"]
    for room, modules in package_pages.rooms(guide).items():
        package.append({room.capitalize(): [f"api/{module}.md" for module in modules]})

    start: list[Any] = [FRONT, {"Overview": "overview.md"}, {"한국어": "README.ko.md"}]
    if not demo.why_not():
        start.append({"Ask the model": front_page.DEMO_PAGE})
        start.append({"Watch a model think": front_page.THINKING_PAGE})

    config.nav = [
        {"Start": start},
        {"Notebooks": [*notebooks, {"Solutions": solutions}]},
        {"Documentation": ["docs/index.md", *docs, "params/index.md"]},
        {"Package": package},
        {"Project": [*project, *sources.matching("data/**/README.md")]},
    ]
    return config


def _place(guide: str, path: str) -> int:
    """Return where the README first lists a page; one that it does not list comes last."""
    place = guide.partition("## Documentation")[2].find(f"({path})")
    return place if place >= 0 else len(guide)


def _others(pattern: str) -> list[str]:
    """Return the root's pages that have no other place in the navigation."""
    placed = {"README.md", "README.ko.md", "CONTRIBUTING.md"}
    return [path for path in sources.matching(pattern) if path not in placed]


# -- pages ---------------------------------------------------------------------------------------


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill the front page, lead links to pages of the site, and draw the loop."""
    path = page.file.src_uri
    if path == FRONT:
        markdown = front_page.front_page(markdown, readme(), has_demo=not demo.why_not())

    markdown = sources.with_site_links(markdown, path)
    if path in _notebooks:
        markdown = f"{markdown}\n[Download this notebook]({_notebooks[path].name}.ipynb)\n"
    return formulas.with_drawn_flowcharts(markdown)


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """Draw the formulas of a page, and put a notebook's outputs in their places."""
    drawn = formulas.with_mathml(html)
    notebook = _notebooks.get(page.file.src_uri)
    return notebook.with_outputs(drawn) if notebook else drawn
