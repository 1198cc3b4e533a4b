"""The course as a learner meets it: JupyterLab in a real browser, all cells run, a slider moved.

    pip install -e .[browser]   # and Chromium, e.g. apt install chromium
    pytest -m browser tests/browser/test_jupyterlab.py

Screenshots stay in ``runs/screenshots/``, to be looked at.
"""

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest
from helpers import ROOT, environment
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from grpo_helpers.headless import profile_parameters

pytestmark = pytest.mark.browser

SCREENSHOTS = ROOT / "runs" / "screenshots"
OPENED = ("01_data_and_few_shot", "02_reward_exploration", "05_evaluate_and_select")
WITH_SLIDERS = "02_reward_exploration"
LAPTOP = {"width": 1366, "height": 768}
# Every cell in the page, not only those in sight: a slider far down can then be found.
WHOLE_NOTEBOOK = {"windowingMode": "none"}


# -- JupyterLab ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lab(smoke_run, tmp_path_factory):
    """A JupyterLab with a fresh user's settings, on notebooks at smoke size; address and folder."""
    home = tmp_path_factory.mktemp("home")
    folder = tmp_path_factory.mktemp("lab")
    run_dir = ROOT / "runs/test-lab"
    shutil.rmtree(run_dir, ignore_errors=True)
    shutil.copytree(smoke_run, run_dir)

    for name in OPENED:
        write_smoke_notebook(name, folder / f"{name}.ipynb")
    write_user_settings(home)

    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with (home / "lab.log").open("w") as log:
        server = subprocess.Popen(
            lab_command(port, folder), env=fresh_user(home), stdout=log, stderr=log
        )
    try:
        wait_for(
            lambda: json_of(f"{address}/api/status") is not None, 60, "JupyterLab does not start"
        )
        yield address, folder
    finally:
        server.terminate()
        server.wait(20)
        shutil.rmtree(run_dir, ignore_errors=True)


def write_smoke_notebook(name, target):
    """Write a notebook with the parameters of the smoke profile and without outputs."""
    notebook = load_notebook_node(str(ROOT / "notebooks" / f"{name}.ipynb"))
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
            cell.execution_count = None

    parameters = profile_parameters("smoke", name) | {"run_name": "test-lab"}
    nbformat.write(parameterize_notebook(notebook, parameters), target)


def write_user_settings(home):
    """Let JupyterLab keep all cells of a notebook in its page."""
    file = home / "settings/@jupyterlab/notebook-extension/tracker.jupyterlab-settings"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(WHOLE_NOTEBOOK))


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def lab_command(port, folder):
    """Return the command that serves ``folder`` at ``port``, without a token."""
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += [f"--port={port}", "--ip=127.0.0.1"]
    command += ["--IdentityProvider.token=", f"--ServerApp.root_dir={folder}"]
    return command


def fresh_user(home):
    """Return the environment of a user who has never opened Jupyter."""
    return environment(
        JUPYTER_CONFIG_DIR=str(home / "config"),
        JUPYTER_RUNTIME_DIR=str(home / "runtime"),
        IPYTHONDIR=str(home / "ipython"),
        JUPYTERLAB_SETTINGS_DIR=str(home / "settings"),
        JUPYTERLAB_WORKSPACES_DIR=str(home / "workspaces"),
    )


def json_of(address):
    """Return the JSON of an address, or None while nobody answers."""
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return json.load(answer)
    except OSError:
        return None


def wait_for(condition, seconds, complaint):
    """Return once ``condition`` is true; fail with ``complaint`` after ``seconds``."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, complaint
        time.sleep(1)


# -- a notebook in its tab ----------------------------------------------------------------------


@dataclass
class Worked:
    """A notebook after all its cells ran: its tab, its content, what crashed in the page."""

    name: str
    tab: Any
    notebook: nbformat.NotebookNode
    crashes: list[str]


@pytest.fixture(scope="module", params=OPENED)
def worked(request, browser, lab):
    """A notebook opened in JupyterLab, all cells run from the menu."""
    address, folder = lab
    name = request.param
    crashes: list[str] = []
    tab = browser.new_page(viewport=LAPTOP)
    tab.on("pageerror", lambda error: crashes.append(str(error)))

    open_notebook(tab, address, name)
    notebook = run_all(tab, folder / f"{name}.ipynb")
    screenshot(tab, f"{name}_end")
    yield Worked(name, tab, notebook, crashes)
    tab.close()


def open_notebook(tab, address, name):
    """Open a notebook and wait for a kernel of its own."""
    tab.goto(f"{address}/lab/tree/{name}.ipynb?reset")
    tab.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
    # This notebook's own kernel: "Run All Cells" before it is there runs nothing, and says nothing.
    wait_for(lambda: f"{name}.ipynb" in idle_notebooks(address), 60, "no kernel starts")
    tab.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status='idle']", timeout=60_000)


def idle_notebooks(address):
    """Return the notebooks whose kernel waits for work."""
    idle = []
    for session in json_of(f"{address}/api/sessions") or []:
        if session["kernel"]["execution_state"] == "idle":
            idle.append(session["path"])
    return idle


def run_all(tab, file: Path, seconds=300):
    """Run all cells from the menu; return the notebook as saved once its last cell has run."""
    tab.get_by_role("menuitem", name="Run", exact=True).click()
    tab.get_by_text("Run All Cells", exact=True).click()

    def is_done():
        tab.locator(".jp-Notebook").first.focus()
        tab.keyboard.press("Control+s")
        tab.wait_for_timeout(1500)
        saved = nbformat.read(file, as_version=4)
        all_ran = all(cell.execution_count for cell in code_cells(saved))
        return all_ran or errors_of(saved)

    wait_for(is_done, seconds, f"{file.name} does not come to its end")
    return nbformat.read(file, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def errors_of(notebook):
    """Return the error outputs of a notebook."""
    errors = []
    for cell in code_cells(notebook):
        errors += [output for output in cell.outputs if output.output_type == "error"]
    return errors


def screenshot(tab, name):
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    tab.screenshot(path=SCREENSHOTS / f"{name}.png")


# -- tests --------------------------------------------------------------------------------------


def test_all_cells_run_without_an_error(worked):
    assert not errors_of(worked.notebook)


def test_page_has_no_script_error(worked):
    assert not worked.crashes


def test_page_shows_at_least_three_figures(worked):
    figures = worked.tab.locator(".jp-RenderedImage img")
    figures.nth(figures.count() // 2).scroll_into_view_if_needed()
    worked.tab.wait_for_timeout(500)
    screenshot(worked.tab, f"{worked.name}_figure")

    assert figures.count() >= 3


def test_slider_of_a_weight_redraws_its_figure(worked):
    if worked.name != WITH_SLIDERS:
        pytest.skip("this notebook has no sliders")
    handle = worked.tab.locator(".widget-interact .noUi-handle").first
    picture = worked.tab.locator(".widget-interact .jp-RenderedImage img").first
    readout = worked.tab.locator(".widget-interact .widget-readout").first
    handle.scroll_into_view_if_needed()
    earlier_picture = picture.get_attribute("src")
    earlier_value = readout.inner_text()

    handle.focus()
    for _ in range(4):
        worked.tab.keyboard.press("ArrowRight")

    wait_for(lambda: readout.inner_text() != earlier_value, 30, "the value stays")
    wait_for(lambda: picture.get_attribute("src") != earlier_picture, 30, "the figure stays")
    screenshot(worked.tab, "02_slider")
