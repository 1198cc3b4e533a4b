"""Fixtures of the tests that open pages of the site."""

from __future__ import annotations

import pytest
from site_pages import OpenPage, open_in_window, served


@pytest.fixture(scope="module")
def address(site):
    """The address of the site on a server of this machine."""
    with served(site) as address:
        yield address


@pytest.fixture
def open_page(browser, address):
    """Opens a page of the site in a window."""
    tabs = []

    def open_in(window: str, page: str) -> OpenPage:
        opened = open_in_window(browser, window, address + page)
        tabs.append(opened.tab)
        return opened

    yield open_in
    for tab in tabs:
        tab.close()
