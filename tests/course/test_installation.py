"""The course as pip installs it: sdist, wheel, `grpo-course init`, commands, hosted notebook."""

import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile

import nbformat
import papermill
import pytest
from exercises import solutions
from helpers import OFFLINE, ROOT, run_offline

from grpo_helpers.course import COMMANDS
from grpo_helpers.files import MARKER, read_json
from grpo_helpers.headless import NOTEBOOKS

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
FOLDERS = ("notebooks", "solutions", "data", "params", "docs")
NOT_BUILT = shutil.ignore_patterns(
    ".git", ".venv", "runs", "build", "dist", "wandb", "*.egg-info", "*_cache", "__pycache__",
    ".hypothesis", ".ipynb_checkpoints", ".coverage",
)  # fmt: skip
STARTER = ROOT / "hosted/start.ipynb"


# -- building --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """The sdist of a copy of this checkout: building leaves files in the folder it builds."""
    folder = tmp_path_factory.mktemp("sdist")
    checkout = folder / "checkout"
    shutil.copytree(ROOT, checkout, ignore=NOT_BUILT)

    code = "from setuptools import build_meta; build_meta.build_sdist('..')"
    done = run_offline([sys.executable, "-c", code], cwd=checkout)

    assert done.returncode == 0, done.stderr[-2000:]
    return next(folder.glob("*.tar.gz"))


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory):
    """The wheel that is built from the sdist, as ``python -m build`` does it, without network."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", folder]

    done = run_offline([*PIP, "wheel", *options, sdist], cwd=folder)

    assert done.returncode == 0, done.stderr[-2000:]
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def carried(wheel):
    """The files that the wheel carries for a course folder, by their names in it."""
    names = zipfile.ZipFile(wheel).namelist()
    start = "grpo_helpers/course_files/"
    return {name.removeprefix(start) for name in names if name.startswith(start)}


FOR_TOOLS = ("data/hidden_letters_model/", "data/demo_runs/")  # without their tools, of no use


def names_of_checkout():
    """Return the files of the folders that make the course, by their names in this checkout."""
    paths = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")]
    names = {path.relative_to(ROOT).as_posix() for path in paths if path.is_file()}
    return {name for name in names if "/." not in name and "__pycache__" not in name}


def test_sdist_holds_every_tracked_file(sdist):
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    tracked = {name for name in listed.stdout.split("\0") if (ROOT / name).is_file()}

    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    assert not tracked - names


def test_wheel_has_the_name_of_the_project(wheel):
    assert wheel.name.startswith("grpo_norms_course-")


def test_wheel_carries_every_file_of_the_course(carried):
    outside_folders = {"README.md", "LICENSE", "constraints.txt"}

    expected = {name for name in names_of_checkout() if not name.startswith(FOR_TOOLS)}
    assert carried == expected | outside_folders


def test_wheel_has_no_tools_and_no_tests(wheel):
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}

    assert {top for top in tops if not top.endswith(".dist-info")} == {"grpo_helpers"}


def test_wheel_is_small_enough_to_be_sent_around(wheel):
    assert wheel.stat().st_size < 15e6


# -- what pip installs -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory):
    """A folder into which pip has installed the wheel, without the packages that it needs."""
    folder = tmp_path_factory.mktemp("site")
    done = run_offline([*PIP, "install", "--no-index", "--no-deps", "--target", folder, wheel])

    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.fixture(scope="module")
def course_folder(site, tmp_path_factory):
    """A course folder that the installed command has laid out."""
    parent = tmp_path_factory.mktemp("home")
    done = course(site, parent, "init", "my-course")

    assert done.returncode == 0, done.stderr
    return parent / "my-course"


def course(site, cwd, *words):
    """Run the installed command ``grpo-course`` in a folder; return the finished process."""
    command = [sys.executable, site / "bin/grpo-course", *words]
    return run_offline(command, cwd=cwd, PYTHONPATH=str(site))


def test_laid_out_folder_has_the_files_that_the_wheel_carries(course_folder, carried):
    paths = [path for path in course_folder.rglob("*") if path.is_file()]
    names = {path.relative_to(course_folder).as_posix() for path in paths}

    assert names == carried | {MARKER}


@pytest.fixture(scope="module")
def class_folder(site, tmp_path_factory):
    """A course folder that was laid out without solutions."""
    parent = tmp_path_factory.mktemp("class")
    done = course(site, parent, "init", "my-course", "--without-solutions")

    assert done.returncode == 0, done.stderr
    return parent / "my-course"


def test_folder_of_a_class_lacks_solutions_and_the_page_for_teachers(class_folder, carried):
    paths = [path for path in class_folder.rglob("*") if path.is_file()]
    names = {path.relative_to(class_folder).as_posix() for path in paths}

    lacking = {name for name in carried if name.startswith("solutions/")} | {"docs/teaching.md"}
    assert names == (carried | {MARKER}) - lacking


def test_readme_of_a_class_does_not_promise_solutions(class_folder):
    assert "solutions" not in (class_folder / "README.md").read_text(encoding="utf-8")


def test_no_solution_is_printed_in_the_folder_of_a_class(class_folder):
    texts = [page.read_text(encoding="utf-8") for page in class_folder.rglob("*.md")]
    for file in class_folder.rglob("*.ipynb"):
        texts += [cell.source for cell in nbformat.read(file, as_version=4).cells]

    for name in NOTEBOOKS:
        for number, solution in solutions(name).items():
            assert not any(solution.strip() in text for text in texts), number


def test_links_of_the_laid_out_readme_lead_to_files(course_folder):
    page = (course_folder / "README.md").read_text(encoding="utf-8")
    targets = [part.split(")")[0] for part in page.split("](")[1:]]

    assert targets
    assert all((course_folder / target).is_file() for target in targets)


def test_folder_with_files_is_not_laid_out_again(site, course_folder):
    done = course(site, course_folder.parent, "init", "my-course")

    assert done.returncode == 2
    assert done.stderr == "error: my-course is not empty: name a new folder\n"


def test_place_where_nothing_can_be_written_is_refused(site, tmp_path):
    (tmp_path / "file").write_text("no folder")

    done = course(site, tmp_path, "init", "file/course")

    assert done.returncode == 2
    assert done.stderr.startswith("error: cannot write to file/course: ")


def test_command_outside_a_course_folder_says_so_in_one_line(site, tmp_path):
    done = course(site, tmp_path, "memory", "--params", "params/t4/04_train.yaml")

    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path} is not in a course folder: ")
    assert done.stderr.count("\n") == 1


def test_notebooks_folder_belongs_to_the_course_folder(site, course_folder):
    code = "from grpo_helpers.files import project_root; print(project_root())"
    command = [sys.executable, "-c", code]

    done = run_offline(command, cwd=course_folder / "notebooks", PYTHONPATH=str(site))

    assert done.stdout.strip() == str(course_folder)


def test_installed_command_reads_the_data_of_the_folder(site, course_folder):
    done = course(site, course_folder / "notebooks", "health", "data/reference_runs/seed_0")

    assert done.returncode == 0, done.stderr
    assert "logged steps" in done.stdout


def test_installed_command_refuses_an_unknown_notebook(site, course_folder):
    done = course(site, course_folder, "run", "--notebooks", "99")

    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown notebook '99'; known are 00_first_run, ")


@pytest.mark.parametrize("command", ["init", "run", "report", "health", "rewards"])
def test_help_shows_the_command_as_it_was_typed(command, site, tmp_path):
    done = course(site, tmp_path, command, "--help")

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: grpo-course {command} ")


# -- the notebook for hosted machines --------------------------------------------------------------


def starter_sources():
    """Return the code cells of the notebook for hosted machines."""
    cells = nbformat.read(STARTER, as_version=4).cells
    return [cell.source for cell in cells if cell.cell_type == "code"]


def test_starter_imports_nothing_of_the_course():
    # The machine may have loaded other versions: whatever needs the course is a process of its own.
    assert not any("import grpo_helpers" in source for source in starter_sources())
    assert not any("from grpo_helpers" in source for source in starter_sources())


def test_starter_has_no_outputs():
    cells = nbformat.read(STARTER, as_version=4).cells

    assert not any(cell.get("outputs") for cell in cells)


def test_starter_stops_where_no_address_is_set(tmp_path):
    namespace = {"source": "git+https://github.com/OWNER/REPOSITORY", "pip_arguments": ""}

    with pytest.raises(RuntimeError, match=r"^set source, in the first cell, to the address"):
        exec(starter_sources()[1], namespace)


@pytest.mark.heavy
def test_starter_installs_the_wheel_and_shows_a_smoke_run(wheel, tmp_path, monkeypatch):
    site = tmp_path / "site"
    for name, value in (OFFLINE | {"PYTHONPATH": str(site)}).items():
        monkeypatch.setenv(name, value)

    executed = papermill.execute_notebook(
        str(STARTER),
        str(tmp_path / "out.ipynb"),
        parameters={
            "source": str(wheel),
            "pip_arguments": f"--no-index --no-deps --target {site}",
            "profile": "smoke",
            "run_name": "smoke",
            "gpu_steps": 0,
        },
        cwd=str(tmp_path),
        progress_bar=False,
    )

    assert (tmp_path / "grpo-course/runs/smoke/best_checkpoint.json").is_file()
    shown = [output for cell in executed.cells for output in cell.get("outputs", [])]
    pages = [output.data["text/html"] for output in shown if "text/html" in output.get("data", {})]
    assert pages and pages[0].startswith("<div><iframe srcdoc=")


# -- containers and the page -----------------------------------------------------------------------


def test_dev_container_makes_a_target_that_exists():
    container = read_json(ROOT / ".devcontainer/devcontainer.json")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")

    assert "make .venv/.installed" in container["postCreateCommand"]
    assert "$(VENV)/.installed:" in makefile


def test_dockerfile_names_the_supported_python():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")

    assert "ARG PYTHON=3.11\n" in dockerfile
    assert project["requires-python"].startswith(">=3.11")


def test_files_that_git_ignores_do_not_reach_the_image():
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()

    assert {".git", ".venv", "runs", "build", "dist"} <= set(ignored)


def test_page_on_installing_lists_every_command():
    page = (ROOT / "docs/install.md").read_text(encoding="utf-8")

    for name, command in COMMANDS.items():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{name}"))
        assert f"python -m grpo_helpers.{command.module}" in row
