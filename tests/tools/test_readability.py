"""The measures of how code reads: what is counted, and of which lines."""

from __future__ import annotations

import ast

import pytest

from tools.benchmarks import readability

SOURCE = '''
def dense(pairs):
    """Not counted: a docstring."""
    a, b = 1, 2
    # A comment.

    return [x if x else a for x in pairs] + [b]


class Holder:
    def method(self):
        def inner():
            return {x for x in ()}

        return inner


def empty():
    """Only a docstring."""
'''


@pytest.fixture
def reading(tmp_path):
    """What is counted in a folder with one file."""
    (tmp_path / "module.py").write_text(SOURCE, encoding="utf-8")
    return readability.read_folder(tmp_path)


def test_length_of_a_function_leaves_docstring_and_blank_lines_out(reading):
    assert sorted(reading.function_lines) == [0, 3, 3]


def test_nested_function_belongs_to_its_outer_one():
    names = {function.name for function in readability.functions_of(ast.parse(SOURCE))}
    assert names == {"dense", "method", "empty"}


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("body_lines", 6),
        ("blank_lines", 2),
        ("comment_lines", 1),
        ("wide_lines", 0),
        ("comprehensions", 2),
        ("conditional_expressions", 1),
        ("parallel_assignments", 1),
    ],
)
def test_reading_counts(name, count, reading):
    assert getattr(reading, name) == count


def test_blank_share_is_of_all_lines_in_bodies(reading):
    assert reading.blank_share == 25.0


def test_line_of_a_hundred_columns_is_wide(tmp_path):
    assignment = f'    text = "{88 * "x"}"'
    assert len(assignment) == readability.WIDE + 1
    (tmp_path / "module.py").write_text(f"def f():\n{assignment}\n", encoding="utf-8")
    assert readability.read_folder(tmp_path).wide_lines == 1


@pytest.mark.parametrize(
    ("source", "is_parallel"),
    [("a, b = 1, 2", True), ("a, b = pair", False), ("a = 1, 2", False), ("a = b = 1", False)],
)
def test_parallel_assignment_depends_on_both_sides(source, is_parallel):
    node = ast.parse(source).body[0]
    assert readability.is_parallel_assignment(node) == is_parallel


def test_table_has_one_row_per_folder(tmp_path, capsys):
    assert readability.main([str(tmp_path), "tools/benchmarks"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[2].startswith(f"| {tmp_path} | 0 / 0 / 0 |")


def test_folder_without_functions_has_a_row(tmp_path):
    assert readability.table_row("empty", readability.read_folder(tmp_path)).count("|") == 9
