"""The files around the code are valid, and what they name exists: workflows, forms, guides."""

import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import version

import check_jsonschema
import pytest
import yaml
from click.testing import CliRunner
from helpers import ROOT

import grpo_helpers
from grpo_helpers.headless import NOTEBOOKS
from tools.pages import parameters

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
FORMS = sorted(set((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")))
YAML_FILES = [*WORKFLOWS, *FORMS, ROOT / ".pre-commit-config.yaml", ROOT / "CITATION.cff"]
SCHEMAS = {
    "vendor.github-workflows": WORKFLOWS,
    "vendor.github-issue-forms": [form for form in FORMS if form.stem != "config"],
    "vendor.github-issue-config": [form for form in FORMS if form.stem == "config"],
    "vendor.citation-file-format": [ROOT / "CITATION.cff"],
}
# Folders in which a word with a slash is a path.
FOLDERS = "data|docs|grpo_helpers|notebooks|params|solutions|tests|tools"


def text_of(path):
    return path.read_text(encoding="utf-8")


def named(path):
    return str(path.relative_to(ROOT))


def make_targets():
    """Return every target that the Makefile has a rule for."""
    targets = set()
    for line in text_of(ROOT / "Makefile").splitlines():
        if rule := re.match(r"^([a-z][a-z -]*):", line):
            targets |= set(rule[1].split())
    return targets


def steps_of(workflow):
    """Return every step of every job of a workflow."""
    jobs = yaml.safe_load(text_of(workflow))["jobs"].values()
    return [step for job in jobs for step in job["steps"]]


# -- YAML ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", YAML_FILES, ids=named)
def test_yaml_file_parses(path):
    assert isinstance(yaml.safe_load(text_of(path)), dict)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_files_fit_their_public_schema(schema):
    files = [str(path) for path in SCHEMAS[schema]]
    options = ["--force-filetype", "yaml", "--builtin-schema", schema]

    # In this process: starting the command four times would take most of the time.
    done = CliRunner().invoke(check_jsonschema.main, [*options, *files])

    assert done.exit_code == 0, done.output


# -- workflows and hooks ------------------------------------------------------------------------


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=named)
def test_make_target_of_a_workflow_exists(workflow):
    commands = "\n".join(step.get("run", "") for step in steps_of(workflow))

    assert set(re.findall(r"\bmake ([a-z][a-z-]*)", commands)) <= make_targets()


def test_workflows_run_quick_full_and_all_tests():
    commands = "\n".join(text_of(path) for path in WORKFLOWS)

    assert {"quick", "test", "test-all"} <= set(re.findall(r"\bmake ([a-z-]+)", commands))


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=named)
def test_actions_are_pinned_by_major_version(workflow):
    for step in steps_of(workflow):
        assert re.fullmatch(r"[\w/-]+@v\d+", step.get("uses", "a/b@v1")), step


def test_workflows_test_the_supported_pythons():
    project = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]
    assert project["requires-python"] == ">=3.11,<3.13"

    jobs = yaml.safe_load(text_of(ROOT / ".github/workflows/tests.yml"))["jobs"]

    for name in ("quick", "full"):
        assert jobs[name]["strategy"]["matrix"]["python"] == ["3.11", "3.12"]


def test_program_of_a_hook_is_installed():
    for repository in yaml.safe_load(text_of(ROOT / ".pre-commit-config.yaml"))["repos"]:
        for hook in repository["hooks"]:
            program = hook["entry"].split()[0].removeprefix(".venv/bin/")
            folder = sys.executable.rpartition("/")[0]
            assert shutil.which(program, path=folder), hook["entry"]


def test_notebook_form_lists_every_notebook():
    form = yaml.safe_load(text_of(ROOT / ".github/ISSUE_TEMPLATE/stuck.yml"))
    notebook = next(part for part in form["body"] if part.get("id") == "notebook")

    assert notebook["attributes"]["options"] == list(NOTEBOOKS)


# -- paths --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", [*YAML_FILES, ROOT / "CONTRIBUTING.md", ROOT / ".github/pull_request_template.md"],
    ids=named,
)  # fmt: skip
def test_path_that_a_project_file_names_exists(path):
    for word in re.findall(rf"(?<![\w./-])(?:{FOLDERS})/[\w./-]*\w", text_of(path)):
        # The guide names tests without the folder tests/.
        assert (ROOT / word).exists() or (ROOT / "tests" / word).exists(), word


def change_table():
    """Return the rows of *Where do I change X?* as lists of cells."""
    section = (
        text_of(ROOT / "CONTRIBUTING.md").split("## Where do I change X?")[1].split("\n## ")[0]
    )
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows[1:]]


@pytest.mark.parametrize("row", change_table(), ids=lambda row: row[0])
def test_row_of_the_change_table_names_files_that_exist(row):
    _, files, tests, commands = row

    for module in re.findall(r"(?<![\w/.])(\w+\.(?:py|html))`", files):
        assert (ROOT / "grpo_helpers" / module).exists() or module == "my_rewards.py", module
    for test in re.findall(r"`((?:unit|course|training|tools|browser)/[\w.]*)`", tests):
        assert (ROOT / "tests" / test).exists(), test
    assert set(re.findall(r"make ([a-z-]+)", commands)) <= make_targets()


def test_readme_tree_lists_the_modules_in_import_order():
    listed = grpo_helpers.__doc__.split("listed above it:")[1].split(".")[0]
    expected = re.findall(r"\w+", listed)

    tree = text_of(ROOT / "README.md").split("in import order")[1].split("\ndata/")[0]
    one_line_each = re.sub(r"\n {10,}", " ", tree)
    rooms = re.findall(r"^  [a-z]+(?: [a-z]+)?  +(.*)$", one_line_each, re.M)

    assert re.findall(r"[a-z_]+", " ".join(rooms)) == expected


# -- reference and version ----------------------------------------------------------------------


def test_parameters_page_shows_the_parameters_cells():
    assert text_of(parameters.PAGE) == parameters.page(), "run python -m tools.pages.parameters"


def test_parameter_wrapped_in_parentheses_keeps_its_comment():
    (parameter,) = parameters.read_cell('label_path: str = (\n    ""  # gold answers\n)')

    assert parameter == parameters.Parameter("label_path", "str", "''", "gold answers")


def test_installed_version_is_the_packages_own():
    assert version("grpo-norms-course") == grpo_helpers.__version__


def test_version_is_written_once():
    project = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]
    citation = yaml.safe_load(text_of(ROOT / "CITATION.cff"))

    assert project["dynamic"] == ["version"] and "version" not in citation


def test_citation_has_the_title_of_the_readme():
    citation = yaml.safe_load(text_of(ROOT / "CITATION.cff"))

    assert text_of(ROOT / "README.md").startswith(f"# {citation['title']}\n")


def test_make_help_lists_every_target():
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)

    assert make_targets() <= set(re.findall(r"[a-z-]+", done.stdout))
