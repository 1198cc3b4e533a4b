"""The old, flat commands (``python -m tools.run_course``): each still starts its tool."""

import importlib
import subprocess
import sys

import pytest

from grpo_helpers.files import project_root

ROOT = project_root()
# Old command -> where its tool is now.
MOVED = {
    "article": "pages.article",
    "bar": "course.acceptance",
    "bench": "benchmarks.rewards",
    "bench_training": "benchmarks.training",
    "build_data": "corpus.build",
    "check_data": "corpus.check",
    "e5_encoder": "experiments.archive.e5_encoder",
    "memory_probe": "benchmarks.memory_probe",
    "memory_trace": "benchmarks.memory_trace",
    "outputs": "course.publish",
    "real_model": "experiments.gemma",
    "reference_runs": "experiments.record",
    "run_course": "course.run",
}
PACKAGES = {"experiments": "pages.experiments", "tiny_model": "tiny_model.train"}
SPLIT = ["reward_lab"]


def run_help(module):
    command = [sys.executable, "-m", f"tools.{module}", "--help"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_every_old_name_is_listed_here():
    files = {path.stem for path in (ROOT / "tools/old_names").glob("*.py")}
    assert files == {*MOVED, *SPLIT}


@pytest.mark.parametrize(("old", "new"), MOVED.items())
def test_old_name_has_the_main_of_its_tool(old, new):
    before = importlib.import_module(f"tools.{old}")
    after = importlib.import_module(f"tools.{new}")
    assert before.main is after.main


@pytest.mark.parametrize(("package", "new"), PACKAGES.items())
def test_package_with_an_old_name_has_the_main_of_its_tool(package, new):
    before = importlib.import_module(f"tools.{package}.__main__")
    after = importlib.import_module(f"tools.{new}")
    assert before.main is after.main


@pytest.mark.parametrize("old", ["run_course", "experiments"])
def test_old_command_explains_itself(old):
    done = run_help(old)
    assert done.returncode == 0, done.stderr
    assert "usage: " in done.stdout


def test_old_command_passes_bad_input_on():
    command = [sys.executable, "-m", "tools.run_course", "--profile", "none"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown profile 'none'")


def test_reward_lab_runs_the_tool_it_names(monkeypatch):
    from tools import reward_lab

    called = []
    monkeypatch.setitem(reward_lab.TOOLS, "sample", lambda argv: called.append(argv) or 0)
    assert reward_lab.main(["sample", "--run", "runs/mine"]) == 0
    assert called == [["--run", "runs/mine"]]
