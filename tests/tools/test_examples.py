"""The examples in the docstrings of the tools give what they say."""

import doctest
import importlib

import pytest

from grpo_helpers.files import project_root

ROOT = project_root()


def modules_with_examples():
    for path in sorted((ROOT / "tools").rglob("*.py")):
        if ">>> " in path.read_text(encoding="utf-8"):
            yield ".".join(path.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_of_a_tool_hold(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0
