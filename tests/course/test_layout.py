"""The package shows its architecture: order of modules, sizes, docstrings, nothing heavy at import."""

import ast
import re
import subprocess
import sys

import pytest

import grpo_helpers
from grpo_helpers.files import project_root

ROOT = project_root()
ORDER = (
    re.search(r"files, .*?plots", grpo_helpers.__doc__, re.DOTALL)[0]
    .replace("\n", " ")
    .split(", ")
)
MODULES = {
    path.stem: path for path in (ROOT / "grpo_helpers").glob("*.py") if path.stem != "__init__"
}


def test_the_package_docstring_lists_every_module():
    assert sorted(ORDER) == sorted(MODULES)


def test_the_package_stays_small():
    lines = {
        name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in MODULES.items()
    }
    assert len(MODULES) <= 40 and sum(lines.values()) <= 9000
    assert max(lines.values()) <= 600, max(lines, key=lines.get)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_module_imports_only_modules_above_it(name):
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    imported = [
        node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module
    ]
    own = [module.split(".")[1] for module in imported if module.startswith("grpo_helpers.")]
    assert all(ORDER.index(module) < ORDER.index(name) for module in own), own
    assert not any(module.startswith("tools") for module in imported)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_everything_public_has_a_docstring(name):
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            nested = any(
                node in ast.walk(o)
                for o in ast.walk(tree)
                if isinstance(o, ast.FunctionDef) and o is not node
            )
            assert nested or ast.get_docstring(node), f"{name}.{node.name}"


def test_importing_the_light_modules_loads_nothing_heavy():
    light = [
        name
        for name in ORDER
        if name not in ("inference", "callbacks", "training", "evaluate_json")
    ]
    code = f"import sys, {', '.join('grpo_helpers.' + n for n in light)}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"torch", "transformers", "trl", "bert_score", "matplotlib"} & set(loaded)


def test_tracked_files_stay_under_forty_megabytes():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    sizes = [
        (ROOT / name).stat().st_size
        for name in listed.stdout.split("\0")
        if name and (ROOT / name).is_file()
    ]
    assert sum(sizes) < 40e6
