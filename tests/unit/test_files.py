"""Paths, JSON, YAML and atomic writing."""

import json
import os
import tracemalloc

import pytest

from grpo_helpers import files
from grpo_helpers.files import (
    InputError,
    check_output_file,
    project_root,
    read_json,
    read_text,
    read_yaml,
    resolve_path,
    sha256,
    show_path,
    write_atomically,
    write_json,
)


def test_relative_path_is_found_in_the_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve_path("data/dev.json") == project_root() / "data/dev.json"


def test_working_folder_comes_before_the_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/dev.json").write_text("[]")
    assert resolve_path("data/dev.json") == tmp_path / "data/dev.json"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The package as if it came from a wheel; returns a folder that is not a course folder."""
    carried = tmp_path / "site/grpo_helpers/course_files"
    carried.mkdir(parents=True)
    monkeypatch.setattr(files, "CARRIED", carried)

    outside = tmp_path / "outside"
    outside.mkdir()
    monkeypatch.chdir(outside)
    return outside


def test_installed_package_takes_the_marked_folder_above(installed, monkeypatch):
    (installed / files.MARKER).write_text("{}")
    (installed / "notebooks").mkdir()
    monkeypatch.chdir(installed / "notebooks")

    assert resolve_path("data/dev.json") == installed / "data/dev.json"


def test_installed_package_without_a_marked_folder_says_how_to_make_one(installed):
    with pytest.raises(InputError, match=r"is not in a course folder: .*`grpo-course init"):
        project_root()


def test_path_is_shown_whole_where_there_is_no_course_folder(installed):
    assert show_path(installed / "a.json") == str(installed / "a.json")


def test_existing_file_is_found_where_there_is_no_course_folder(installed):
    (installed / "a.json").write_text("[]")

    assert read_json("a.json") == []


def test_path_outside_the_project_is_shown_whole(tmp_path):
    assert show_path(tmp_path / "a.json") == str(tmp_path / "a.json")


def test_text_is_read_without_byte_order_mark(tmp_path):
    file = tmp_path / "mark.txt"
    file.write_text("\ufeff봄", encoding="utf-8")
    assert read_text(file) == "봄"


def test_missing_text_file_is_named():
    with pytest.raises(InputError, match=r"^data file not found: no/such\.txt "):
        read_text("no/such.txt", "data file")


def test_json_error_names_line_and_column(tmp_path):
    file = tmp_path / "bad.json"
    file.write_text("[1,\n2,]")
    with pytest.raises(InputError, match=r"bad\.json is not JSON: line 2, column"):
        read_json(file)


def test_empty_yaml_has_no_parameters(tmp_path):
    file = tmp_path / "empty.yaml"
    file.write_text("# nothing yet\n")
    assert read_yaml(file) == {}


def test_yaml_list_is_refused(tmp_path):
    file = tmp_path / "list.yaml"
    file.write_text("- one\n- two\n")
    with pytest.raises(InputError, match="expected lines of the form name: value"):
        read_yaml(file)


def test_broken_yaml_is_reported_in_one_line(tmp_path):
    file = tmp_path / "broken.yaml"
    file.write_text("a: [1\nb: 2\n")
    with pytest.raises(InputError, match=r"broken\.yaml is not YAML") as error:
        read_yaml(file)
    assert "\n" not in str(error.value)


def test_missing_yaml_is_called_a_parameter_file():
    with pytest.raises(InputError, match=r"^parameter file not found: no/such"):
        read_yaml("no/such.yaml")


def test_json_is_written_as_utf8_with_plain_hangul(tmp_path):
    written = write_json(tmp_path / "out.json", {"말": 1})
    assert written.read_text(encoding="utf-8") == '{\n    "말": 1\n}\n'


@pytest.fixture
def interrupted_write(tmp_path):
    """A file whose second writing was interrupted half way."""
    target = write_json(tmp_path / "out.json", [1])

    def half_then_fail(file):
        file.write("[1, 2")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(target, half_then_fail)

    return target


def test_interrupted_write_keeps_the_old_file(interrupted_write):
    assert json.loads(interrupted_write.read_text()) == [1]


def test_interrupted_write_leaves_no_temporary_file(interrupted_write):
    assert os.listdir(interrupted_write.parent) == ["out.json"]


def test_hash_of_a_folder_is_that_of_its_sorted_files(tmp_path):
    for name in ("b.txt", "a.txt"):
        (tmp_path / name).write_text(name)
    assert sha256([tmp_path]) == sha256([tmp_path / "a.txt", tmp_path / "b.txt"])


@pytest.mark.parametrize("name", ["file/answers.json", "file/folder/answers.json", "."])
def test_place_where_no_file_can_be_is_refused_early(tmp_path, name):
    (tmp_path / "file").write_text("no folder")

    with pytest.raises(InputError, match=r"is a folder|is a file, no folder"):
        check_output_file(tmp_path / name)


def test_place_of_a_new_file_is_only_looked_at(tmp_path):
    check_output_file(tmp_path / "new" / "answers.json")

    assert not list(tmp_path.iterdir())


def test_hash_changes_with_the_content(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("one")
    before = sha256([file])
    file.write_text("two")
    assert sha256([file]) != before


def test_hash_of_a_large_file_needs_little_memory(tmp_path):
    """A file of weights may be larger than the memory; this one takes no room on the disk."""
    file = tmp_path / "weights"
    with file.open("wb") as opened:
        opened.truncate(32 * files.BLOCK)

    tracemalloc.start()
    sha256([file])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 4 * files.BLOCK
