"""One list of packages: pyproject.toml, environment.yml and constraints.txt agree."""

import json
import sys
import tomllib

import pytest
import yaml
from helpers import ROOT, run_offline
from packaging.requirements import Requirement
from packaging.version import Version

from grpo_helpers.preflight import VLLM_RELEASES

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ENVIRONMENT = (ROOT / "environment.yml").read_text(encoding="utf-8")
EXTRAS = PROJECT["optional-dependencies"]


def conda_entries():
    """Return what environment.yml asks of conda; its last entry is the list for pip."""
    *entries, _ = yaml.safe_load(ENVIRONMENT)["dependencies"]
    return entries


def pip_lines():
    """Return the lines of environment.yml that pip gets."""
    *_, last = yaml.safe_load(ENVIRONMENT)["dependencies"]
    return last["pip"]


def normalised(lines):
    """Return requirements in one spelling."""
    return {str(Requirement(line)) for line in lines}


def option_lines():
    return [line for line in pip_lines() if line.startswith("-")]


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
    listed = set(pip_lines()) - set(option_lines())

    assert normalised(listed) == normalised(PROJECT["dependencies"] + EXTRAS["gpu"])


def test_environment_uses_the_constraints_and_installs_the_course():
    assert option_lines() == ["-c constraints.txt", "-e ."]


def test_every_package_of_the_environment_has_a_reason():
    lines = ENVIRONMENT.split("- pip:")[1].strip().splitlines()

    assert len(lines) == len(pip_lines())
    for line in lines:
        assert "#" in line, line


def pinned_requirements():
    """Return what must be pinned: all but torch, whose CPU and CUDA builds differ in version."""
    lines = PROJECT["dependencies"] + EXTRAS["dev"] + EXTRAS["site"]
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
    lines = "\n".join(pip_lines()) + "\n"
    file.write_text(lines.replace("-c constraints.txt", "-c ../constraints.txt"))

    try:
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "-r", file]
        done = run_offline(command)
    finally:
        file.unlink()

    assert done.returncode == 0, done.stderr[-2000:]


# -- vLLM ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("release", ["0.27.0", "0.30.0"])
def test_vllm_of_the_extra_is_one_that_trl_supports(release):
    (line,) = EXTRAS["vllm"]
    first, last = (Version(release) for release in VLLM_RELEASES)

    assert Requirement(line).specifier.contains(release)
    assert first <= Version(release) <= last


@pytest.mark.parametrize("release", ["0.26.0", "0.31.0"])
def test_vllm_for_another_torch_or_transformers_is_left_out(release):
    (line,) = EXTRAS["vllm"]

    assert not Requirement(line).specifier.contains(release)


@pytest.mark.slow
def test_vllm_of_the_extra_is_made_for_our_torch_and_transformers(tmp_path):
    (line,) = EXTRAS["vllm"]
    report = tmp_path / "report.json"
    options = ["--dry-run", "--quiet", "--ignore-installed", "--no-deps", "--report", report]
    done = run_offline([sys.executable, "-m", "pip", "install", *options, line])
    assert done.returncode == 0, done.stderr[-2000:]

    (package,) = json.loads(report.read_text())["install"]
    needed = {}
    for requirement in map(Requirement, package["metadata"]["requires_dist"]):
        needed[requirement.name] = requirement.specifier
    ours = {Requirement(line).name: Requirement(line) for line in PROJECT["dependencies"]}
    (torch,) = needed["torch"]  # an exact version

    assert torch.version in ours["torch"].specifier
    assert pinned_versions()["transformers"] in needed["transformers"]
