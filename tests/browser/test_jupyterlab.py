"""The course as a learner meets it: JupyterLab in a real browser, all cells run, a slider moved.

    pip install -e .[browser]   # and Chromium, e.g. apt install chromium
    pytest -m browser tests/test_jupyterlab.py

Screenshots stay in ``runs/screenshots/``, to be looked at.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import nbformat
import pytest
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from grpo_helpers.files import project_root
from tools.course.run import profile_parameters, run_course

pytestmark = pytest.mark.browser
ROOT = project_root()
SHOTS = ROOT / "runs" / "screenshots"
OPENED = ("01_data_and_few_shot", "02_reward_exploration", "05_evaluate_and_select")
# Every cell in the page, not only those in sight: a slider far down can then be found.
WHOLE = {"windowingMode": "none"}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A JupyterLab on copies of the notebooks at smoke size, with a fresh user's settings; its address and folder."""
    home, folder = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("lab")
    shutil.rmtree(ROOT / "runs/test-lab", ignore_errors=True)
    run_course("smoke", "test-lab", ("04_train",))
    for name in OPENED:
        notebook = load_notebook_node(str(ROOT / "notebooks" / f"{name}.ipynb"))
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        nbformat.write(
            parameterize_notebook(
                notebook, profile_parameters("smoke", name) | {"run_name": "test-lab"}
            ),
            folder / f"{name}.ipynb",
        )
    file = home / "settings/@jupyterlab/notebook-extension/tracker.jupyterlab-settings"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(WHOLE))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        f"--port={port}",
        "--ip=127.0.0.1",
    ]
    command += ["--IdentityProvider.token=", f"--ServerApp.root_dir={folder}"]
    places = {
        name: str(home / name.lower())
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    }
    places |= {
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
    }
    with (home / "lab.log").open("w") as log:
        server = subprocess.Popen(
            command, env=os.environ | places | {"HF_HUB_OFFLINE": "1"}, stdout=log, stderr=log
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: ask(f"{address}/api/status") is not None, 60, "JupyterLab does not start")
        yield address, folder
    finally:
        server.terminate()
        server.wait(20)
        shutil.rmtree(ROOT / "runs/test-lab", ignore_errors=True)


def ask(address):
    """Return the JSON of an address, or None while nobody answers."""
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return json.load(answer)
    except OSError:
        return None


def wait_for(condition, seconds, complaint):
    end = time.time() + seconds
    while not condition():
        assert time.time() < end, complaint
        time.sleep(1)


def open_notebook(browser, address, name):
    tab = browser.new_page(viewport={"width": 1366, "height": 768})
    tab.crashes = []
    tab.on("pageerror", lambda error: tab.crashes.append(str(error)))
    tab.goto(f"{address}/lab/tree/{name}.ipynb?reset")
    tab.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
    # This notebook's own kernel: "Run All Cells" before it is there runs nothing, and says nothing.
    wait_for(lambda: f"{name}.ipynb" in idle(address), 60, "no kernel starts")
    tab.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status='idle']", timeout=60_000)
    return tab


def idle(address):
    """Return the notebooks whose kernel waits for work."""
    sessions = ask(f"{address}/api/sessions") or []
    return [
        session["path"] for session in sessions if session["kernel"]["execution_state"] == "idle"
    ]


def run_all(tab, file, seconds=300):
    """Run all cells by the menu; return the notebook as JupyterLab saves it, once its last cell has run."""
    tab.get_by_role("menuitem", name="Run", exact=True).click()
    tab.get_by_text("Run All Cells", exact=True).click()

    def done():
        tab.locator(".jp-Notebook").first.focus()
        tab.keyboard.press("Control+s")
        tab.wait_for_timeout(1500)
        cells = [
            cell for cell in nbformat.read(file, as_version=4).cells if cell.cell_type == "code"
        ]
        return all(cell.execution_count for cell in cells) or any(failed(cell) for cell in cells)

    wait_for(done, seconds, f"{file.name} does not come to its end")
    return nbformat.read(file, as_version=4)


def failed(cell):
    return [output for output in cell.get("outputs", []) if output.output_type == "error"]


@pytest.mark.parametrize("name", OPENED)
def test_all_cells_run_in_jupyterlab_without_an_error(browser, lab, name):
    address, folder = lab
    tab = open_notebook(browser, address, name)
    SHOTS.mkdir(parents=True, exist_ok=True)
    notebook = run_all(tab, folder / f"{name}.ipynb")
    errors = [
        output for cell in notebook.cells if cell.cell_type == "code" for output in failed(cell)
    ]
    assert not errors and not tab.crashes
    tab.screenshot(path=SHOTS / f"{name}_end.png")
    if name.startswith("02"):
        move_a_slider(tab)
    figures = tab.locator(".jp-RenderedImage img")
    figures.nth(figures.count() // 2).scroll_into_view_if_needed()
    tab.wait_for_timeout(500)
    tab.screenshot(path=SHOTS / f"{name}_figure.png")
    assert figures.count() >= 3
    tab.close()


def move_a_slider(tab):
    """Move the first weight of section 8 and see its figure change."""
    handle = tab.locator(".widget-interact .noUi-handle").first
    handle.scroll_into_view_if_needed()
    picture = tab.locator(".widget-interact .jp-RenderedImage img").first
    before, value = (
        picture.get_attribute("src"),
        tab.locator(".widget-interact .widget-readout").first,
    )
    shown = value.inner_text()
    handle.focus()
    for _ in range(4):
        tab.keyboard.press("ArrowRight")
    wait_for(
        lambda: value.inner_text() != shown and picture.get_attribute("src") != before,
        30,
        "the figure stays",
    )
    tab.screenshot(path=SHOTS / "02_slider.png")
