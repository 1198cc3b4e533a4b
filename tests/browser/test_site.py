"""The site in a browser, on a laptop and on a phone: it fits, stays silent, and asks nobody else.

    pip install -e .[browser,site]   # and Chromium, e.g. apt install chromium
    pytest -m browser tests/browser/test_site.py

Screenshots stay in ``runs/screenshots/``, to be looked at.
"""

from __future__ import annotations

import pytest
from site_pages import SCREENSHOTS, WINDOWS

pytestmark = pytest.mark.browser

PAGES = (
    "index.html",
    "overview.html",
    "notebooks/02_reward_exploration.html",  # formulas
    "notebooks/04_train.html",  # the group inspector
    "api/selection.html",
    "docs/parameters.html",  # wide tables
)
every_window = pytest.mark.parametrize("window", WINDOWS)


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
