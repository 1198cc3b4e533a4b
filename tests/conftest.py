"""Fixtures that several files share, and how tests are dealt to parallel workers."""

from __future__ import annotations

import os
import shutil
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from helpers import OFFLINE, ROOT, run_offline

# Set before torch and the hub's client are imported: they read these once. Threads that wait leave
# their core to the other worker.
for name, value in (OFFLINE | {"OMP_WAIT_POLICY": "passive"}).items():
    os.environ.setdefault(name, value)

# nbformat's validator would compile a grammar of URLs at import: seconds for every worker, and no
# notebook needs it.
sys.modules.setdefault("rfc3987_syntax", None)

TRAINING = ROOT / "tests" / "training"  # everything in it is heavy

# With several workers the longest groups start first, so that no worker waits for one at the end.
LONGEST_FIRST = (
    "smoke_run",
    "test_resume.py",
    "test_processes.py",
    "test_models.py",
    "test_batch_counts.py",
    "test_memory_probe.py",
    "test_supervised.py",
    "model",
    "test_corpus.py",
)


# Files whose light tests load the embedded model: one worker imports what that takes, not each.
LOADS_MODEL = {
    "test_acceptance.py",
    "test_adversarial.py",
    "test_benchmark_rewards.py",
    "test_by_hand.py",
    "test_demo.py",
    "test_evaluate_json.py",
    "test_inspector.py",
    "test_metrics.py",
    "test_profiles.py",
    "test_reward_lab.py",
    "test_rewards.py",
    "test_rewards_page.py",
    "test_scoring.py",
    "test_tiny_model.py",
}


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out, without importing it, a file that has no test to run: importing TRL takes long."""
    if collection_path.suffix != ".py":
        return None
    source = collection_path.read_text(encoding="utf-8")
    is_test_file = collection_path.name.startswith("test_")

    if not is_test_file and ">>>" not in source:
        return True
    if "not heavy" in config.option.markexpr:
        return is_heavy(collection_path, source) or None
    return None


def is_heavy(path: Path, source: str) -> bool:
    """Return whether all tests of a file are heavy."""
    return TRAINING in path.parents or "\npytestmark = pytest.mark.heavy" in source


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what trains as heavy, and begin with the longest groups."""
    for item in items:
        if TRAINING in item.path.parents or uses(item, "smoke_run"):
            item.add_marker("heavy")
    items.sort(key=lambda item: rank(item.path))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Deal whole groups to the workers of ``--dist loadfile``, not single files."""
    from xdist.scheduler import LoadFileScheduling

    class LoadGroups(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(ROOT / nodeid.split("::")[0])

    return LoadGroups(config, log)


@cache
def group_of(path: Path) -> str:
    """Return the group of a file's tests: users of the smoke run, of the model, or one file."""
    if "smoke_run" in path.read_text(encoding="utf-8"):
        return "smoke_run"
    if path.name in LOADS_MODEL:
        return "model"
    return path.name


def rank(path: Path) -> int:
    """Return the place of a file's group among the groups; the sort keeps their order inside."""
    group = group_of(path)
    if group in LONGEST_FIRST:
        return LONGEST_FIRST.index(group)
    return len(LONGEST_FIRST)


def uses(item: pytest.Item, fixture: str) -> bool:
    """Return whether a test asks for a fixture, itself or through another."""
    return fixture in getattr(item, "fixturenames", ())


@pytest.fixture(autouse=True)
def registered_rewards():
    """The registry of rewards is after every test what it was before."""
    from grpo_helpers import rewards

    before = rewards.registered()
    yield
    rewards.restore(before)


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory):
    """The course at smoke size, run once: ``runs/test-smoke`` as ``make run`` leaves it.

    The notebooks are the committed ones, with every exercise solved and checked once more after its
    check (cells tagged ``solved-N.K``), and they lie in a folder that is not ``notebooks/``. So one
    run serves the tests of the run folder and those of the exercises.
    """
    from exercises import write_solved_notebook

    from grpo_helpers import headless

    course = tmp_path_factory.mktemp("course")
    folder = course / "notebooks"
    folder.mkdir()
    for name in headless.NOTEBOOKS:
        write_solved_notebook(name, folder / f"{name}.ipynb")

    shutil.rmtree(ROOT / "runs/test-smoke", ignore_errors=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(headless, "notebook_path", lambda name: folder / f"{name}.ipynb")
        run_dir = headless.run_course("smoke", "test-smoke")
    yield run_dir
    shutil.rmtree(run_dir)


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The site, built once as ``make site`` builds it; skipped where its extra is not installed."""
    for package in ("mkdocs", "material", "mkdocstrings_handlers.python", "latex2mathml"):
        pytest.importorskip(package, reason="pip install -e .[site]")

    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--site-dir", folder]
    done = run_offline(command, NO_MKDOCS_2_WARNING="1")
    assert done.returncode == 0, done.stderr
    return folder


CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
]


@pytest.fixture(scope="session")
def browser():
    """One Chromium for all tests marked browser."""
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install -e .[browser]")
    installed = [path for path in map(shutil.which, CHROMIUM) if path]
    if not installed:
        pytest.skip("needs Chromium")

    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=installed[0], args=QUIET)
        yield started
        started.close()
