"""One list of packages: pyproject.toml, environment.yml and constraints.txt agree."""

import subprocess
import sys
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement

from grpo_helpers.files import project_root

ROOT = project_root()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ENVIRONMENT = (ROOT / "environment.yml").read_text(encoding="utf-8")


def pip_lines():
    dependencies = yaml.safe_load(ENVIRONMENT)["dependencies"]
    return next(entry["pip"] for entry in dependencies if isinstance(entry, dict))


def test_conda_brings_python_and_pip_only():
    plain = [d for d in yaml.safe_load(ENVIRONMENT)["dependencies"] if isinstance(d, str)]
    assert [d.split("=")[0] for d in plain] == ["python", "pip"]


def test_environment_and_pyproject_are_one_list():
    listed = {str(Requirement(line)) for line in pip_lines() if not line.startswith("-")}
    wanted = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["gpu"]
    assert listed == {str(Requirement(line)) for line in wanted}
    assert [line for line in pip_lines() if line.startswith("-")] == ["-c constraints.txt", "-e ."]


def test_every_package_has_a_reason():
    lines = ENVIRONMENT.split("- pip:")[1].strip().splitlines()
    assert len(lines) == len(pip_lines()) and all("#" in line for line in lines)


def test_the_constraints_fit_the_ranges():
    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    )  # fmt: skip
    pins = {name.lower().replace("_", "-"): pin for name, pin in pins.items()}
    for line in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]:
        requirement = Requirement(line)
        if requirement.name != "torch":
            assert pins[requirement.name] in requirement.specifier, line


@pytest.mark.slow
def test_pip_resolves_the_environments_list(tmp_path):
    file = (
        ROOT / "runs" / ".environment-pip.txt"
    )  # below the project, so that "-e ." and the constraints are found
    file.parent.mkdir(exist_ok=True)
    lines = [line.replace("-c constraints.txt", "-c ../constraints.txt") for line in pip_lines()]
    file.write_text("\n".join(lines) + "\n")
    try:
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "-r", str(file)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    finally:
        file.unlink()
    assert done.returncode == 0, done.stderr[-2000:]
