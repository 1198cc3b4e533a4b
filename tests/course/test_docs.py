"""The pages say what is so: links lead somewhere, commands exist, figures are those of the committed results."""

import importlib.util
import re
import shutil
import subprocess
import sys
from dataclasses import fields

import nbformat
import pytest

from grpo_helpers.files import project_root, read_json
from grpo_helpers.settings import TrainSettings
from tools.course import publish as outputs
from tools.experiments.recorded_runs import FOLDER as RECORDED
from tools.pages import article, experiments

ROOT = project_root()
PAGES = [
    *ROOT.glob("*.md"),
    *ROOT.glob("docs/*.md"),
    *ROOT.glob("solutions/*.md"),
    *ROOT.glob("data/**/README.md"),
]


def text(page):
    return page.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_to_a_file_or_a_heading(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", text(page)):
        if target.startswith("#"):
            headings = [re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in
                        re.findall(r"^#+ (.*)$", text(page), re.M)]  # fmt: skip
            assert target[1:] in headings, target
        elif "://" not in target:
            assert (page.parent / target.split("#")[0]).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_of_a_page_exists(page):
    makefile = text(ROOT / "Makefile")
    for target in re.findall(r"[`\n]make ([a-z][a-z-]+)", text(page)):
        assert re.search(rf"^[\w% -]*\b{target}\b[\w% -]*:", makefile, re.M), target
    for module in re.findall(r"python -m ((?:grpo_helpers|tools)\.\w+)", text(page)):
        assert importlib.util.find_spec(module), module


def test_the_figures_of_the_experiments_page_come_from_the_recorded_runs():
    assert text(experiments.PAGE) == experiments.page(), "run python -m tools.pages.experiments"


def test_the_figures_of_the_article_page_come_from_our_data_and_runs():
    assert text(article.PAGE) == article.page(), "run python -m tools.pages.article"


@pytest.mark.parametrize("page", outputs.WORDINGS)
def test_the_results_of_a_readme_are_those_of_the_default_run(page):
    assert outputs.block(read_json(outputs.RESULTS), page) in text(ROOT / page), "run make outputs"


def test_the_committed_notebooks_and_the_readmes_show_the_same_run():
    cells = nbformat.read(ROOT / "notebooks/05_evaluate_and_select.ipynb", as_version=4).cells
    shown = "".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))
    found = read_json(outputs.RESULTS)
    assert re.search(rf"Chosen on dev \(.*\): {found['best_checkpoint']} ", shown)
    for row in found["test"]:
        assert f"{row['reference_mean']:.3f} -> {row['mean']:.3f}" in shown, row


def test_the_sweep_recipe_uses_parameters_that_exist_and_its_table_is_made(tmp_path):
    page = text(ROOT / "docs/sweeps.md")
    named = set(re.findall(r"(?<!mkdir )-p (\w+)", page))
    assert len(named) >= 6 and named <= {field.name for field in fields(TrainSettings)}
    for name in ("settings.json", "scores.csv"):
        target = tmp_path / "runs/sweep-one" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(RECORDED / "seed_0" / name, target)
    code = re.search(r"```python\n(.*?)```", page, re.S)[1]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "sweep-one" in done.stdout and "0.7" in done.stdout


def test_the_loop_has_the_same_seven_stages_in_the_readme_the_package_and_the_notebooks():
    stages = "①②③④⑤⑥⑦"
    assert set(re.findall(f"[{stages}]", text(ROOT / "README.md"))) == set(stages)
    modules = "".join(text(path) for path in (ROOT / "grpo_helpers").glob("*.py"))
    assert set(re.findall(f"[{stages}]", modules)) == set(stages)
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        assert set(re.findall(f"[{stages}]", text(notebook))) == set(stages), notebook.name
