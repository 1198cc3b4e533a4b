"""The site in a browser, on a laptop and on a phone: it fits, stays silent, and asks nobody else.

    pip install -e .[browser,site]   # and Chromium, e.g. apt install chromium
    pytest -m browser tests/browser/test_site.py

Screenshots stay in ``runs/screenshots/``, to be looked at.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from helpers import ROOT

pytestmark = pytest.mark.browser

SCREENSHOTS = ROOT / "runs" / "screenshots"
WINDOWS = {"laptop": {"width": 1280, "height": 800}, "phone": {"width": 390, "height": 844}}
PAGES = (
    "index.html",
    "overview.html",
    "notebooks/02_reward_exploration.html",  # formulas
    "notebooks/04_train.html",  # the group inspector
    "api/selection.html",
    "docs/parameters.html",  # wide tables
)
every_window = pytest.mark.parametrize("window", WINDOWS)


class Quiet(SimpleHTTPRequestHandler):
    """A server that does not write to the terminal."""

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def address(site):
    """The address of the site on a server of this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@dataclass
class OpenPage:
    """A page in a window, with what it logged and requested."""

    tab: Any
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture
def open_page(browser, address):
    """Opens a page of the site in a window."""
    tabs = []

    def open_in(window: str, page: str) -> OpenPage:
        tab = browser.new_page(viewport=WINDOWS[window])
        tabs.append(tab)
        opened = OpenPage(tab)
        tab.on("console", lambda message: opened.messages.append(message.text))
        tab.on("pageerror", lambda error: opened.messages.append(str(error)))
        tab.on("request", lambda request: opened.requests.append(request.url))
        tab.goto(address + page)
        tab.wait_for_load_state("networkidle")
        return opened

    yield open_in
    for tab in tabs:
        tab.close()


@every_window
@pytest.mark.parametrize("page", PAGES)
def test_page_fits_its_window(open_page, window, page):
    opened = open_page(window, page)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    name = page.removesuffix(".html").replace("/", "-")
    opened.tab.screenshot(path=SCREENSHOTS / f"site-{name}-{window}.png")

    assert opened.tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.parametrize("page", PAGES)
def test_page_logs_nothing(open_page, page):
    assert open_page("laptop", page).messages == []


@pytest.mark.parametrize("page", PAGES)
def test_page_asks_no_other_host(open_page, address, page):
    asked = open_page("laptop", page).requests

    inside = (address, "data:", "blob:")
    assert [request for request in asked if not request.startswith(inside)] == []


@every_window
def test_door_of_the_front_page_opens_a_notebook(open_page, window):
    tab = open_page(window, "index.html").tab
    tab.get_by_role("link", name="Watch a model learn").click()

    assert "First run" in tab.locator("article h1").inner_text()


@every_window
def test_figures_of_a_notebook_are_loaded(open_page, window):
    figures = open_page(window, "notebooks/02_reward_exploration.html").tab.locator("img.figure")

    widths = figures.evaluate_all("(images) => images.map((image) => image.naturalWidth)")
    assert widths and 0 not in widths


@every_window
def test_inspector_in_a_notebook_can_be_used(open_page, window):
    tab = open_page(window, "notebooks/04_train.html").tab
    row = tab.locator(".gi-row").first
    before = row.get_attribute("data-reward")
    tab.locator("[data-weight=em]").first.fill("0")

    assert row.get_attribute("data-reward") != before


@pytest.mark.parametrize("word", ["selection", "맞춤법"])
def test_search_finds_a_word(open_page, word):
    tab = open_page("laptop", "index.html").tab
    query = tab.locator("[data-md-component=search-query]")
    query.click()
    query.fill(word)
    query.press("End")  # the page waits for a key, which fill() does not press

    tab.locator(".md-search-result__item").first.wait_for()
    assert word in tab.locator(".md-search-result__list").inner_text().lower()
