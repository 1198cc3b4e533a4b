"""One list of packages: pyproject.toml, environment.yml and constraints.txt agree."""

import sys
import tomllib

import pytest
import yaml
from helpers import ROOT, run_offline
from packaging.requirements import Requirement

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ENVIRONMENT = (ROOT / "environment.yml").read_text(encoding="utf-8")
EXTRAS = PROJECT["optional-dependencies"]


def conda_entries():
    """Return the packages of environment.yml that conda installs."""
    dependencies = yaml.safe_load(ENVIRONMENT)["dependencies"]
    return [entry for entry in dependencies if isinstance(entry, str)]


def pip_lines():
    """Return the lines of environment.yml that pip gets."""
    dependencies = yaml.safe_load(ENVIRONMENT)["dependencies"]
    return next(entry["pip"] for entry in dependencies if isinstance(entry, dict))


def pinned_versions():
    """Return the version of each package in constraints.txt, by its normalised name."""
    pins = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if "==" in line:
            name, version = line.split("==")
            pins[name.lower().replace("_", "-")] = version
    return pins


def test_conda_installs_python_and_pip_only():
    assert [entry.split("=")[0] for entry in conda_entries()] == ["python", "pip"]


def test_environment_lists_the_packages_of_pyproject():
    listed = {str(Requirement(line)) for line in pip_lines() if not line.startswith("-")}
    declared = {str(Requirement(line)) for line in PROJECT["dependencies"] + EXTRAS["gpu"]}

    assert listed == declared


def test_environment_uses_the_constraints_and_installs_the_course():
    options = [line for line in pip_lines() if line.startswith("-")]

    assert options == ["-c constraints.txt", "-e ."]


def test_every_package_of_the_environment_has_a_reason():
    lines = ENVIRONMENT.split("- pip:")[1].strip().splitlines()

    assert len(lines) == len(pip_lines())
    for line in lines:
        assert "#" in line, line


def pinned_requirements():
    """Return what must be pinned: all but torch, whose CPU and CUDA builds differ in version."""
    lines = PROJECT["dependencies"] + EXTRAS["dev"]
    return [line for line in lines if Requirement(line).name != "torch"]


@pytest.mark.parametrize("line", pinned_requirements())
def test_pinned_version_is_within_the_declared_range(line):
    requirement = Requirement(line)

    pin = pinned_versions()[requirement.name.lower().replace("_", "-")]

    assert pin in requirement.specifier


@pytest.mark.slow
def test_pip_resolves_the_packages_of_the_environment():
    # Below the project, so that "-e ." and the constraints are found.
    file = ROOT / "runs" / ".environment-pip.txt"
    file.parent.mkdir(exist_ok=True)
    lines = [line.replace("-c constraints.txt", "-c ../constraints.txt") for line in pip_lines()]
    file.write_text("\n".join(lines) + "\n")

    try:
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "-r", file]
        done = run_offline(command)
    finally:
        file.unlink()

    assert done.returncode == 0, done.stderr[-2000:]
