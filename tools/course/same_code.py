"""Whether two pieces of code are the same but for how they are laid out.

In: Python source. Out: its normal form, which has neither comments nor docstrings nor annotations,
and one way to break lines. Names count: whoever renames a variable has written other code.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Collection, Iterable
from typing import Any

# What a parser raises for code that nobody can run; deep nesting can exhaust it, too.
NO_CODE = (SyntaxError, ValueError, RecursionError, MemoryError)


class _Plain(ast.NodeTransformer):
    """Takes away what does not change what a function does: docstrings and annotations."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        node.returns = None
        if ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is None:
            return node
        plain = ast.Assign(targets=[node.target], value=node.value)
        return ast.copy_location(plain, node)


def parsed(source: str) -> ast.Module | None:
    """Return the syntax tree of a source without docstrings and annotations; None if it has none.

    A source that holds a magic of IPython (``%time``) has none, and neither has half a function.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a backslash in somebody's text
        try:
            tree: ast.Module = _Plain().visit(ast.parse(source))
            ast.unparse(tree)  # it can fail, too, where code is nested too deep
        except NO_CODE:
            return None
    return tree


def normal_form(source: str) -> str:
    r"""Return a source as it reads without comments, docstrings and annotations, laid out one way.

    Args:
        source: Python; what cannot be parsed stays as it is, without white space at line ends.

    >>> normal_form("def f(n: int):  # twice\n    '''Double.'''\n    return 2*n")
    'def f(n):\n    return 2 * n'
    """
    tree = parsed(source)
    if tree is None:
        return "\n".join(line.rstrip() for line in source.strip().splitlines())
    return ast.unparse(tree)


def statements(source: str) -> list[str]:
    """Return the normal form of each statement at the top of a source; none if it has no tree."""
    tree = parsed(source)
    return [ast.unparse(statement) for statement in tree.body] if tree else []


def evidence(source: str) -> frozenset[str]:
    r"""Return the statements of a solution by which a copy of it is known, in their normal form.

    These are its functions, or all its statements if it has none. A solution that only sets a name
    to a constant has none: there is no other way to write it.

    >>> sorted(evidence("import math\n\ndef f():\n    return math.pi"))
    ['def f():\n    return math.pi']
    >>> evidence('diagnosis = "too_cold"')
    frozenset()
    """
    tree = parsed(source)
    body = tree.body if tree else []
    functions = [statement for statement in body if isinstance(statement, ast.FunctionDef)]
    if not functions and all(_sets_a_constant(statement) for statement in body):
        return frozenset()
    return frozenset(ast.unparse(statement) for statement in functions or body)


def _sets_a_constant(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant)


def names_set(source: str) -> list[str]:
    r"""Return the names that the top of a source gives something to: of functions and of values.

    >>> names_set("import math\nlimit = 2\ndef f():\n    return limit")
    ['limit', 'f']
    """
    tree = parsed(source)
    names: list[str] = []
    for statement in tree.body if tree else []:
        if isinstance(statement, ast.FunctionDef):
            names.append(statement.name)
        elif isinstance(statement, ast.Assign):
            targets: Iterable[Any] = statement.targets
            names += [target.id for target in targets if isinstance(target, ast.Name)]
    return names


def takes_from(source: str, module: str, names: Collection[str]) -> bool:
    """Return whether a source uses or imports one of ``names`` of a module.

    Args:
        source: Python.
        module: The module without its package: ``by_hand``.
        names: Names in it.

    >>> takes_from("loss = by_hand.loss", "by_hand", ["loss"])
    True
    >>> takes_from("return by_hand.Batch", "by_hand", ["loss"])
    False
    """
    tree = parsed(source)
    return any(_takes(node, module, names) for node in ast.walk(tree)) if tree else False


def _takes(node: ast.AST, module: str, names: Collection[str]) -> bool:
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return node.value.id == module and node.attr in names
    if isinstance(node, ast.ImportFrom) and (node.module or "").endswith(f".{module}"):
        return any(alias.name in names for alias in node.names)
    return False
