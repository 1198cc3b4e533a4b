"""One Chromium for all tests marked browser."""

import shutil

import pytest

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
]


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install -e .[browser]")
    installed = [path for path in map(shutil.which, CHROMIUM) if path]
    if not installed:
        pytest.skip("needs Chromium")

    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=installed[0], args=QUIET)
        yield started
        started.close()
