"""The page on what the course leaves out: every name of TRL's that it gives is in the package."""

import ast
import importlib.util
import re
from functools import cache
from pathlib import Path

import pytest
from helpers import ROOT

from grpo_helpers import rewards
from grpo_helpers.settings import TrainSettings

PAGE = ROOT / "docs/beyond-this-course.md"
TEXT = PAGE.read_text(encoding="utf-8")
PROSE = re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL)
NAMES = sorted(set(re.findall(r"`([^`\n]+)`", PROSE)))

# What is named in code style and is no name of TRL's or of notebook 04.
OF_THE_COURSE = {
    "train": "grpo_helpers.training",
    "rewards.register": "grpo_helpers.rewards",
}
OF_PYTHON = {"async", "generate"}
EXPERIMENTAL = {"AsyncGRPOTrainer": "async_grpo", "SDPOTrainer": "sdpo"}
A_VALUE = re.compile(r"(\w+)(?:=|: )(.+)")


@cache
def sources():
    """Return the sources of the installed TRL by path; it is read and not imported."""
    folder = Path(importlib.util.find_spec("trl").origin).parent
    paths = [*folder.glob("trainer/*.py"), *folder.glob("rewards/*.py")]
    for name in EXPERIMENTAL.values():
        paths += folder.glob(f"experimental/{name}/*.py")
    return {path: path.read_text(encoding="utf-8") for path in paths}


@cache
def names_of_trl():
    """Return the classes and functions of TRL, their parameters, fields, and what is logged."""
    names = set()
    for source in sources().values():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                names.add(node.name)
            if isinstance(node, ast.arg):
                names.add(node.arg)
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                names.add(node.target.id)
        names.update(re.findall(r'_metrics\[mode\]\["(\w+)"\]', source))
    return names


@pytest.mark.parametrize("name", NAMES)
def test_name_on_the_page_exists(name):
    if name in OF_PYTHON or name.startswith("trl.experimental."):  # these: a test of their own
        return
    if name in OF_THE_COURSE:
        function = name.rpartition(".")[2]
        path = ROOT / f"{OF_THE_COURSE[name].replace('.', '/')}.py"
        assert f"\ndef {function}(" in path.read_text(encoding="utf-8")
        return

    with_value = A_VALUE.fullmatch(name)
    bare = with_value[1] if with_value else name
    assert bare in names_of_trl() | set(TrainSettings.__dataclass_fields__)


def values_on_the_page():
    """Return each field that the page gives a text as value, with that text."""
    return sorted(set(re.findall(r'`(\w+)="(\w+)"`', PROSE)))


@pytest.mark.parametrize(("field", "value"), values_on_the_page())
def test_value_on_the_page_is_one_that_trl_knows(field, value):
    (config,) = [text for path, text in sources().items() if path.name == "grpo_config.py"]
    declared = config[config.index(f"    {field}: ") :].split("    )\n")[0]

    assert f"'{value}'" in declared or f"`{value}'" in declared  # the second: a slip of TRL's


@pytest.mark.parametrize(("trainer", "module"), EXPERIMENTAL.items())
def test_experimental_trainer_is_where_the_page_says(trainer, module):
    exporting = []
    for path, source in sources().items():
        if path.name == "__init__.py" and path.parent.name == module:
            exporting.append(source)

    assert f"`{trainer}`, in `trl.experimental.{module}`" in PROSE
    assert trainer in exporting[0]


@pytest.mark.parametrize("absent", ["PPO", "Reinforce", "PRM", "MaxRL"])
def test_trl_has_no_trainer_where_the_page_says_so(absent):
    trainers = [name for name in names_of_trl() if name.endswith("Trainer")]

    assert len(trainers) >= 3
    assert not [name for name in trainers if absent in name]


def test_field_through_extra_args_is_no_parameter_of_the_course():
    through = re.findall(r"extra_grpo_args: \{(\w+):", TEXT)

    assert through
    assert not set(through) & set(TrainSettings.__dataclass_fields__)


@pytest.mark.parametrize("field", ["epsilon_high", "mask_truncated_completions", "shuffle_dataset"])
def test_settings_take_the_field_that_the_page_names(field):
    assert field in PROSE

    assert TrainSettings(extra_grpo_args={field: True}).extra_grpo_args == {field: True}


def test_paper_of_the_text_is_in_the_reading_list():
    before, _, listed = TEXT.partition("## Reading list")
    papers = re.compile(r"https://arxiv\.org/abs/\d{4}\.\d{5}")

    assert set(papers.findall(before)) <= set(papers.findall(listed))


@pytest.mark.heavy
def test_reward_of_the_page_punishes_the_last_tokens():
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    exec(code, {})
    overlong = rewards.registered()["overlong"]

    texts = ["short", "long", "cut off"]
    lengths = [80, 88, 96]
    earned = overlong.values(None, texts, completion_ids=[[1] * length for length in lengths])

    assert list(earned) == [0.0, -0.5, -1.0]
    assert list(overlong.values(None, texts)) == [None] * 3
