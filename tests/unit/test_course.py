"""`grpo-course` starts the right module, and the notebooks that a command line names are found."""

import importlib
import shutil
import sys

import pytest
from helpers import ROOT

from grpo_helpers import course, course_folder, headless
from grpo_helpers.command_line import program_name
from grpo_helpers.course_summary import main as report
from grpo_helpers.files import MARKER, InputError


@pytest.mark.parametrize("name", sorted(course.COMMANDS))
def test_module_of_a_command_has_a_main(name):
    module = importlib.import_module(f"grpo_helpers.{course.COMMANDS[name].module}")

    assert callable(module.main)


def test_command_gets_the_words_after_its_name(capsys):
    assert course.main(["health", "no/such/run"]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_command_line_without_a_command_lists_all(capsys):
    assert course.main([]) == 2

    listed = capsys.readouterr().err
    assert all(f"\n  {name} " in listed for name in course.COMMANDS)


def test_unknown_command_ends_with_two(capsys):
    with pytest.raises(SystemExit) as end:
        course.main(["trian"])

    assert end.value.code == 2
    assert "invalid choice: 'trian'" in capsys.readouterr().err


def test_windows_is_refused_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "platform", "win32")

    assert course.main(["health", "runs/default"]) == 2
    assert capsys.readouterr().err.startswith("error: the course needs Linux or macOS: ")


@pytest.mark.parametrize("started_as", ["/usr/bin/grpo-course", "grpo-course.exe"])
def test_program_is_named_as_it_was_started(started_as, monkeypatch):
    monkeypatch.setattr(sys, "argv", [started_as, "run"])

    assert program_name("headless", "run") == "grpo-course run"


def test_checkout_is_not_laid_out(tmp_path):
    with pytest.raises(InputError, match="this package is part of the checkout"):
        course_folder.lay_out(tmp_path / "course")


def test_class_gets_neither_solutions_nor_the_page_for_teachers(tmp_path, monkeypatch):
    package = tmp_path / "package"
    for name in ("solutions/00.md", "docs/teaching.md", "docs/gpu.md", "data/solutions/00.md"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text("text")
    shutil.copy(ROOT / "tools/course/folder_readme.md", package / "README.md")
    monkeypatch.setattr(course_folder, "CARRIED", package)
    monkeypatch.setattr(course_folder, "is_installed", lambda: True)

    made = course_folder.lay_out(tmp_path / "course", with_solutions=False)

    files = {path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file()}
    assert files == {"README.md", "docs/gpu.md", "data/solutions/00.md", MARKER}
    assert "`solutions/`" not in (made / "README.md").read_text(encoding="utf-8")


def test_unevaluated_run_has_no_report(tmp_path, capsys):
    assert report([str(tmp_path)]) == 2
    assert "has no scores.csv: run notebook 05 on it first" in capsys.readouterr().err


# -- which notebooks, which parameters ------------------------------------------------------------


def test_notebooks_run_in_the_order_of_the_course():
    chosen = headless.chosen_notebooks(["05", "04_train"])

    assert chosen == ["04_train", "05_evaluate_and_select"]


def test_changed_parameter_is_read_as_yaml():
    values = headless.changed_parameters([["max_steps", "2"]], ["04_train"])

    assert values == {"max_steps": 2}


def test_changed_text_stays_text():
    values = headless.changed_parameters([["model_name", "2025"]], ["04_train"])

    assert values == {"model_name": "2025"}


def test_parameter_that_no_chosen_notebook_has_is_refused():
    with pytest.raises(InputError, match=r"^unknown parameter max_steps of notebooks 03_memory"):
        headless.changed_parameters([["max_steps", "2"]], ["03_memory_budget"])


def test_name_of_the_run_is_no_parameter_to_change():
    with pytest.raises(InputError, match="write --run_name"):
        headless.changed_parameters([["run_name", "mine"]], ["04_train"])


def test_outputs_are_published_of_the_whole_course_only(capsys):
    from tools.course import run

    assert run.main(["--write-outputs", "--notebooks", "04"]) == 2
    assert "--write-outputs publishes the whole course" in capsys.readouterr().err
