"""Package and tools keep to the limits of CONTRIBUTING: order, docstrings, size of functions."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import grpo_helpers
from grpo_helpers.files import project_root
from tools.benchmarks.readability import body_lines, filled_lines, functions_of

ROOT = project_root()
LONGEST_FUNCTION = 40  # lines that hold something, the docstring not counted
MOST_POSITIONAL = 4
UNDOCUMENTED_PARAMETERS = 3  # with more than these a public function has an Args section
ANY_NUMBER = {
    "print",
    "zip",
    "max",
    "min",
    "product",
    "chain",
}  # calls that take any number of values
HEAVY = {"torch", "transformers", "trl", "peft", "bert_score", "matplotlib", "datasets"}
# Callbacks and the trainer are subclasses of classes of transformers and TRL.
LOADS_TRANSFORMERS = (
    "shared_prompts",
    "callbacks",
    "shared_prefix",
    "server_trainer",
    "training",
    "live",
)


def package_modules() -> dict[str, Path]:
    """Return the path of each module of the package, by name."""
    paths = (ROOT / "grpo_helpers").glob("*.py")
    return {path.stem: path for path in paths if path.stem != "__init__"}


def listed_order() -> list[str]:
    """Return the modules in the order in which the package's docstring lists them."""
    listing = re.search(r"^files, .*?\.$", grpo_helpers.__doc__, re.DOTALL | re.MULTILINE)
    return re.split(r",\s+", listing[0].rstrip("."))


MODULES = package_modules()
ORDER = listed_order()
SOURCES = sorted([*(ROOT / "grpo_helpers").glob("*.py"), *(ROOT / "tools").rglob("*.py")])
SOURCE_NAMES = [path.relative_to(ROOT).as_posix() for path in SOURCES]
every_source = pytest.mark.parametrize("path", SOURCES, ids=SOURCE_NAMES)


def parsed(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def imported_modules(path: Path) -> set[str]:
    """Return every module that a file imports, also inside functions, as dotted names."""
    names = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def public_functions(path: Path) -> Iterator[ast.FunctionDef]:
    """Yield the functions and methods of a file that do not begin with an underscore."""
    for function in functions_of(parsed(path)):
        if not function.name.startswith("_"):
            yield function


def parameters_of(function: ast.FunctionDef) -> list[ast.arg]:
    """Return the named parameters of a function, without self and cls."""
    named = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return [parameter for parameter in named if parameter.arg not in ("self", "cls")]


def test_package_docstring_lists_every_module():
    assert sorted(ORDER) == sorted(MODULES)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_module_imports_only_modules_above_it(name):
    imported = imported_modules(MODULES[name])
    own = {module.split(".")[1] for module in imported if module.startswith("grpo_helpers.")}

    above = ORDER[: ORDER.index(name)]

    assert own <= set(above), own - set(above)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_package_imports_no_tool(name):
    assert not any(module.split(".")[0] == "tools" for module in imported_modules(MODULES[name]))


def test_tools_import_each_other_in_no_circle():
    paths = {}
    for path in (ROOT / "tools").rglob("*.py"):
        dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        paths[dotted.removesuffix(".__init__")] = path
    remaining = {name: imported_modules(path) & set(paths) for name, path in paths.items()}

    # Take away, again and again, what imports nothing that is left: a circle stays.
    while free := [name for name, needed in remaining.items() if not needed & set(remaining)]:
        for name in free:
            del remaining[name]

    assert not remaining


@every_source
def test_module_has_a_docstring(path):
    assert ast.get_docstring(parsed(path))


@every_source
def test_function_fits_on_a_screen(path):
    source = path.read_text(encoding="utf-8").splitlines()
    for function in functions_of(parsed(path)):
        filled = filled_lines(body_lines(function, source))
        assert len(filled) <= LONGEST_FUNCTION, f"{function.name}: {len(filled)} lines"


@every_source
def test_call_names_its_arguments_from_the_fifth_on(path):
    for node in ast.walk(parsed(path)):
        if not isinstance(node, ast.Call):
            continue
        called = getattr(node.func, "id", getattr(node.func, "attr", ""))
        if called not in ANY_NUMBER:
            assert len(node.args) <= MOST_POSITIONAL, f"line {node.lineno}: {called}"


@every_source
def test_no_part_of_a_tuple_is_unpacked_into_a_call(path):
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Call):
            starred = [argument for argument in node.args if isinstance(argument, ast.Starred)]
            sliced = [argument for argument in starred if isinstance(argument.value, ast.Subscript)]
            assert not sliced, f"line {node.lineno}"


@pytest.mark.parametrize("name", sorted(MODULES))
def test_public_function_of_many_parameters_documents_them(name):
    for function in public_functions(MODULES[name]):
        if len(parameters_of(function)) > UNDOCUMENTED_PARAMETERS:
            assert "Args:" in (ast.get_docstring(function) or ""), function.name


@pytest.mark.parametrize("name", sorted(MODULES))
def test_public_function_says_what_it_takes_and_returns(name):
    for function in public_functions(MODULES[name]):
        assert function.returns is not None, function.name
        untyped = [each.arg for each in parameters_of(function) if each.annotation is None]
        assert not untyped, f"{function.name}: {untyped}"


def test_linter_holds_the_limits_of_the_style():
    lint = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]
    assert lint["line-length"] == 100
    assert lint["lint"]["mccabe"]["max-complexity"] == 10
    assert lint["lint"]["pylint"]["max-args"] == 7
    assert {"C90", "D", "PLR0913"} <= set(lint["lint"]["select"])


def test_importing_the_light_modules_loads_nothing_heavy():
    light = [f"grpo_helpers.{name}" for name in ORDER if name not in LOADS_TRANSFORMERS]
    code = f"import sys, {', '.join(light)}; print(*sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert not HEAVY & set(done.stdout.split())


def test_tracked_files_stay_under_45_megabytes():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    names = [name for name in listed.stdout.split("\0") if name]
    sizes = [(ROOT / name).stat().st_size for name in names if (ROOT / name).is_file()]
    assert sum(sizes) < 45e6
