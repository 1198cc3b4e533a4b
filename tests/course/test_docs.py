"""The pages are true: links lead somewhere, commands exist, figures come from committed results."""

import importlib.util
import re
import shutil
import sys
from dataclasses import fields

import nbformat
import pandas as pd
import pytest
from helpers import ROOT, run_offline

from grpo_helpers.files import read_json
from grpo_helpers.settings import TrainSettings
from tools.course import publish
from tools.experiments.recorded_runs import FOLDER as RECORDED
from tools.pages import article, experiments, gpu, performance

PAGES = [
    *ROOT.glob("*.md"),
    *ROOT.glob("docs/*.md"),
    *ROOT.glob("solutions/*.md"),
    *ROOT.glob("data/**/README.md"),
    ROOT / "tests/README.md",
    ROOT / "tools/README.md",
]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
STAGES = set("①②③④⑤⑥⑦")

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def text_of(path):
    return path.read_text(encoding="utf-8")


def links_in(text):
    """Return the targets of the links in a text, those to other sites left out."""
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    return [target for target in targets if "://" not in target]


def links_of(page):
    """Return the targets of a page's links, those to other sites left out."""
    return links_in(text_of(page))


def anchors_of(page):
    """Return the anchors of a page's headings, as GitHub makes them."""
    anchors = []
    for heading in re.findall(r"^#+ (.*)$", text_of(page), re.M):
        letters = re.sub(r"[^\w\- ]", "", heading.lower()).strip()
        anchors.append(letters.replace(" ", "-"))
    return anchors


def stages_in(text):
    return STAGES & set(text)


# -- links and commands -------------------------------------------------------------------------


@every_page
def test_link_of_a_page_leads_to_a_file(page):
    for target in links_of(page):
        file = target.split("#")[0]
        assert (page.parent / file).exists(), target


@every_page
def test_link_inside_a_page_leads_to_a_heading(page):
    for target in links_of(page):
        if target.startswith("#"):
            assert target.removeprefix("#") in anchors_of(page), target


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_link_of_a_notebook_leads_to_a_file(notebook):
    for cell in nbformat.read(notebook, as_version=4).cells:
        if cell.cell_type == "markdown":
            for target in links_in(cell.source):
                assert (notebook.parent / target.split("#")[0]).exists(), target


@every_page
def test_picture_of_a_page_is_described(page):
    assert not re.search(r"!\[\s*\]\(|<img(?![^>]*\balt=\"\w)", text_of(page))


@every_page
def test_make_target_that_a_page_names_exists(page):
    makefile = text_of(ROOT / "Makefile")
    for target in re.findall(r"[`\n]make ([a-z][a-z-]+)", text_of(page)):
        assert re.search(rf"^[\w% -]*\b{target}\b[\w% -]*:", makefile, re.M), target


@every_page
def test_module_that_a_page_runs_exists(page):
    for module in re.findall(r"python -m ((?:grpo_helpers|tools)[\w.]+\w)", text_of(page)):
        assert importlib.util.find_spec(module), module


# -- figures ------------------------------------------------------------------------------------


def test_experiments_page_shows_the_recorded_runs():
    assert text_of(experiments.PAGE) == experiments.page(), "run python -m tools.pages.experiments"


def test_article_page_shows_our_data_and_runs():
    assert text_of(article.PAGE) == article.page(), "run python -m tools.pages.article"


def test_performance_page_shows_the_recorded_seconds():
    assert text_of(performance.PAGE) == performance.page(), "run python -m tools.pages.performance"


@pytest.mark.parametrize("knob", performance.GROWING.values())
def test_series_of_measured_bytes_differ_in_one_knob_alone(knob):
    series = performance.measured_series(pd.read_csv(performance.MEASURED), knob)

    differing = [name for name in performance.SETTING if series[name].nunique() > 1]
    assert differing == [knob]


def test_gpu_page_shows_the_predicted_hours_of_the_profiles():
    assert text_of(gpu.PAGE) == gpu.page(), "run python -m tools.pages.gpu"


def test_gpu_page_predicts_the_hours_of_every_gpu_profile():
    profiles = {path.parent.name for path in (ROOT / "params").glob("*/04_train.yaml")}
    assert {row.profile for row in gpu.ROWS} == profiles - {"smoke", "thinking"}


# Where a page says that no card has been measured: as long as no record of one is here.
PREDICTED = {
    "README.md": "we have not run it on a GPU yet",
    "docs/gpu.md": "Everything in this table is predicted",
    "docs/experiments.md": "takes there are predicted",
    "notebooks/03_memory_budget.ipynb": "what a card needs is **predicted**",
}


@pytest.mark.parametrize(("page", "words"), PREDICTED.items())
def test_page_says_predicted_until_a_card_has_been_measured(page, words):
    measured = [*RECORDED.glob("gpu_check*.csv"), *RECORDED.glob("memory_cuda.csv")]

    assert (words in text_of(ROOT / page)) is not bool(measured)


def test_papermill_of_the_gpu_page_shows_what_a_cell_prints():
    commands = re.findall(r"^papermill .*", text_of(gpu.PAGE), re.M)

    assert commands
    assert all("--log-output" in command for command in commands)


def test_training_on_the_gpu_page_may_ask_the_hub_for_the_model():
    section = text_of(gpu.PAGE).split("## Train and evaluate\n")[1]
    lines = section.split("```")[1].splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("papermill"))

    assert any(line.startswith("export HF_HUB_OFFLINE=0") for line in lines[:first])


@pytest.mark.parametrize("page", publish.WORDINGS)
def test_readme_shows_the_results_of_the_default_run(page):
    published = read_json(publish.RESULTS)

    assert publish.block(published, page) in text_of(ROOT / page), "run make outputs"


@pytest.fixture(scope="module")
def printed_evaluation():
    """What the committed notebook 05 prints."""
    notebook = nbformat.read(ROOT / "notebooks/05_evaluate_and_select.ipynb", as_version=4)
    printed = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            printed.append(output.get("text", ""))
    return "".join(printed)


def test_committed_notebook_chooses_the_checkpoint_of_the_readme(printed_evaluation):
    best = read_json(publish.RESULTS)["best_checkpoint"]

    assert re.search(rf"Chosen on dev \(.*\): {best} ", printed_evaluation)


def test_committed_notebook_prints_the_test_results_of_the_readme(printed_evaluation):
    for row in read_json(publish.RESULTS)["test"]:
        gain = f"{row['reference_mean']:.3f} -> {row['mean']:.3f}"
        assert gain in printed_evaluation, row


# -- the recipe of a sweep ----------------------------------------------------------------------


def test_sweep_recipe_names_parameters_that_exist():
    named = set(re.findall(r"(?<!mkdir )-p (\w+)", text_of(ROOT / "docs/sweeps.md")))
    known = {field.name for field in fields(TrainSettings)}

    assert len(named) >= 6
    assert named <= known


def test_sweep_recipe_makes_its_table(tmp_path):
    run = tmp_path / "runs/sweep-one"
    run.mkdir(parents=True)
    for name in ("settings.json", "scores.csv"):
        shutil.copyfile(RECORDED / "seed_0" / name, run / name)

    code = re.search(r"```python\n(.*?)```", text_of(ROOT / "docs/sweeps.md"), re.S)[1]
    done = run_offline([sys.executable, "-c", code], cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert "sweep-one" in done.stdout
    assert "0.7" in done.stdout


# -- the seven stages ---------------------------------------------------------------------------


def test_readme_shows_all_seven_stages():
    assert stages_in(text_of(ROOT / "README.md")) == STAGES


def test_package_marks_all_seven_stages():
    marked = set()
    for path in (ROOT / "grpo_helpers").glob("*.py"):
        marked |= stages_in(text_of(path))

    assert marked == STAGES


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_shows_all_seven_stages(notebook):
    assert stages_in(text_of(notebook)) == STAGES


# -- the page on tests --------------------------------------------------------------------------


def test_page_on_tests_names_every_test_file():
    page = text_of(ROOT / "tests/README.md")

    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        name = file.relative_to(ROOT / "tests").as_posix()
        assert f"`{name}`" in page


def test_page_on_tests_names_only_files_that_exist():
    for file in re.findall(r"`(\w+/test_\w+\.py)`", text_of(ROOT / "tests/README.md")):
        assert (ROOT / "tests" / file).is_file(), file


def test_page_on_tests_says_what_to_run_for_every_module():
    page = text_of(ROOT / "tests/README.md")

    for path in sorted((ROOT / "grpo_helpers").glob("[!_]*.py")):
        assert f"`{path.stem}`" in page
