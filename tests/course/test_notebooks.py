"""The notebooks as they are committed: anatomy, parameters, profiles, outputs."""

import re
from dataclasses import MISSING, fields
from functools import cache

import nbformat
import papermill
import pytest
import yaml

from grpo_helpers import settings
from grpo_helpers.files import project_root
from tools.course.run import NOTEBOOKS

ROOT = project_root()
CLASSES = dict(
    zip(
        NOTEBOOKS,
        (
            settings.DataSettings,
            settings.RewardLabSettings,
            settings.BudgetSettings,
            settings.TrainSettings,
            settings.EvaluateSettings,
        ),
        strict=True,
    )
)


@cache
def read(name):
    return nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)


def code(name):
    return [cell for cell in read(name).cells if cell.cell_type == "code"]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_parameters_are_the_first_code_cell_and_the_check_is_the_second(name):
    cells = code(name)
    assert cells[0].metadata.get("tags") == ["parameters"]
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in cells) == 1
    assert f"{CLASSES[name].__name__}.from_namespace(globals())" in cells[1].source


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_parameter_is_typed_explained_and_known_with_the_same_default(name):
    shown = papermill.inspect_notebook(str(ROOT / "notebooks" / f"{name}.ipynb"))
    lines = code(name)[0].source.splitlines()
    assert len(shown) == len(lines), (
        "papermill does not understand every line of the parameters cell"
    )
    assert all(p["help"] and p["inferred_type_name"] != "None" for p in shown.values())
    defaults = {
        f.name: f.default if f.default is not MISSING else f.default_factory() for f in fields(CLASSES[name])
    }  # fmt: skip
    assert {key: eval(p["default"]) for key, p in shown.items()} | {
        "output_dir": "runs"
    } == defaults


PROFILES = sorted((ROOT / "params").glob("*/0*.yaml"))


@pytest.mark.parametrize("file", PROFILES, ids=lambda f: f"{f.parent.name}/{f.stem}")
def test_a_profile_holds_only_parameters_its_notebook_has(file):
    values = yaml.safe_load(file.read_text(encoding="utf-8"))
    known = {f.name for f in fields(CLASSES[file.stem])}
    assert values and set(values) <= known
    assert all(not isinstance(value, dict | list) for value in values.values())


def test_the_24_gb_profile_is_the_articles_model_in_four_bits():
    values = yaml.safe_load((ROOT / "params/gpu_24gb/04_train.yaml").read_text(encoding="utf-8"))
    expected = {"use_quant": True, "quant_type": "4bit", "lora_r": 64, "lora_alpha": 16}
    assert expected.items() <= values.items() and "Midm-2.0-Base-Instruct" in values["model_name"]
    settings.TrainSettings(**values)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_cells_are_short_and_told(name):
    lengths = sorted(len(cell.source.splitlines()) for cell in code(name)[1:])
    assert lengths[int(0.9 * (len(lengths) - 1))] <= 20 and lengths[-1] <= 40
    kinds = "".join("c" if cell.cell_type == "code" else "m" for cell in read(name).cells)
    assert "cccc" not in kinds and kinds[0] == kinds[-1] == "m"
    assert read(name).cells[0].source.startswith(f"# {name[:2]}. ")
    for word in ("The one question", "| needs | makes | time and hardware |"):
        assert word in read(name).cells[0].source
    prose = "\n".join(cell.source for cell in read(name).cells if cell.cell_type == "markdown")
    assert "## Findings" in prose and "**Limits" in prose


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_ends_with_findings_five_questions_exercises_and_the_way_on(name):
    cells = read(name).cells
    prose = [cell.source for cell in cells if cell.cell_type == "markdown"]
    (questions,) = re.findall(
        r"\*\*Questions to check yourself\*\*\n\n((?:\d\. .+\n?(?:   .+\n?)*)+)", "\n".join(prose)
    )
    assert re.findall(r"^(\d)\. ", questions, re.M) == list("12345") and questions.count("?") >= 5
    assert prose[-1].startswith(("**Next:** `0", "**Where to go on:**"))
    order = [next(i for i, text in enumerate(prose) if sign in text) for sign in
             ("**The one question:**", "## Findings", "**Questions to check", "## Exercises")]  # fmt: skip
    assert order == sorted(order) and order[0] == 0


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_outputs_are_of_one_run_from_top_to_bottom(name):
    cells = code(name)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert any(cell.outputs for cell in cells)
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    file = ROOT / "notebooks" / f"{name}.ipynb"
    assert file.stat().st_size <= 500_000
    assert not re.search(r"/(home|root|Users|tmp|work)/", file.read_text(encoding="utf-8"))
