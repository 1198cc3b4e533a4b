"""How the code reads, in figures: ``python -m tools.benchmarks.readability [FOLDER ...]``.

In: folders of Python files. Out: one table row per folder. All figures are of function bodies
without their docstrings, since that is where a reader works: how long functions are, how full
their lines are, and how much of them is written as an expression instead of a statement. The
limits that the tests enforce are in ``tests/course/test_layout.py``; the figures here are signs of
density, not aims of their own.
"""

from __future__ import annotations

import argparse
import ast
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

WIDE = 100  # columns from which a line counts as wide
Function = ast.FunctionDef | ast.AsyncFunctionDef
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass
class Reading:
    """What was counted in the function bodies of one folder."""

    function_lines: list[int] = field(default_factory=list)
    body_lines: int = 0
    wide_lines: int = 0
    blank_lines: int = 0
    comment_lines: int = 0
    comprehensions: int = 0
    conditional_expressions: int = 0
    parallel_assignments: int = 0

    def per_hundred(self, count: int) -> float:
        """Return ``count`` per 100 body lines, blank lines not counted as body lines."""
        return 100 * count / max(self.body_lines, 1)

    @property
    def blank_share(self) -> float:
        """Blank lines as a percentage of all lines inside bodies."""
        return 100 * self.blank_lines / max(self.body_lines + self.blank_lines, 1)


def functions_of(tree: ast.Module) -> Iterator[Function]:
    """Yield every function and method that is not nested in another function."""
    stack: list[ast.AST] = [tree]
    while stack:
        node = stack.pop()
        for child in ast.iter_child_nodes(node):
            if isinstance(child, Function):
                yield child
            else:
                stack.append(child)


def body_without_docstring(function: Function) -> list[ast.stmt]:
    """Return the statements of a function, its docstring left out."""
    if ast.get_docstring(function) is None:
        return function.body
    return function.body[1:]


def body_lines(function: Function, source: Sequence[str]) -> list[str]:
    """Return the lines of a function's body, blank ones too, its docstring left out.

    Args:
        function: A function of the file.
        source: The file, line by line.
    """
    body = body_without_docstring(function)
    if not body:
        return []

    first = body[0].lineno - 1
    return list(source[first : function.end_lineno])


def filled_lines(lines: Sequence[str]) -> list[str]:
    """Return the lines that hold something."""
    return [line for line in lines if line.strip()]


def is_parallel_assignment(node: ast.AST) -> bool:
    """Return whether ``node`` assigns several values to several names, as in ``a, b = x, y``."""
    if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Tuple):
        return False
    return isinstance(node.targets[0], ast.Tuple)


def read_function(function: Function, source: Sequence[str], reading: Reading) -> None:
    """Add what one function holds to ``reading``; ``source`` is its file, line by line."""
    lines = body_lines(function, source)
    filled = filled_lines(lines)

    reading.function_lines.append(len(filled))
    reading.body_lines += len(filled)
    reading.blank_lines += len(lines) - len(filled)
    reading.wide_lines += sum(len(line) >= WIDE for line in filled)
    reading.comment_lines += sum(line.lstrip().startswith("#") for line in filled)

    for statement in body_without_docstring(function):
        for node in ast.walk(statement):
            reading.comprehensions += isinstance(node, COMPREHENSIONS)
            reading.conditional_expressions += isinstance(node, ast.IfExp)
            reading.parallel_assignments += is_parallel_assignment(node)


def read_folder(folder: Path) -> Reading:
    """Return the figures of all Python files below ``folder``."""
    reading = Reading()
    for path in sorted(folder.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        source = text.splitlines()
        for function in functions_of(ast.parse(text)):
            read_function(function, source, reading)
    return reading


def table_row(name: str, reading: Reading) -> str:
    """Return one row of the Markdown table."""
    lengths = sorted(reading.function_lines) or [0]
    ninetieth = lengths[int(0.9 * (len(lengths) - 1))]
    cells = [
        name,
        f"{statistics.median(lengths):g} / {ninetieth} / {lengths[-1]}",
        f"{reading.per_hundred(reading.wide_lines):.1f} %",
        f"{reading.blank_share:.1f} %",
        f"{reading.per_hundred(reading.comment_lines):.1f} %",
        f"{reading.per_hundred(reading.comprehensions):.1f}",
        f"{reading.per_hundred(reading.conditional_expressions):.1f}",
        f"{reading.per_hundred(reading.parallel_assignments):.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; return 0."""
    parser = argparse.ArgumentParser(prog="python -m tools.benchmarks.readability")
    parser.add_argument("folders", nargs="*", default=["grpo_helpers", "tools", "tests"])
    args = parser.parse_args(argv)

    heads = ["folder", "function lines: median / p90 / max", f"lines of {WIDE}+ columns"]
    heads += ["blank lines", "comment lines", "comprehensions per 100"]
    heads += ["conditional expressions per 100", "parallel assignments per 100"]
    print(f"| {' | '.join(heads)} |")
    print("|---" * len(heads) + "|")
    for folder in args.folders:
        print(table_row(folder, read_folder(Path(folder))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
