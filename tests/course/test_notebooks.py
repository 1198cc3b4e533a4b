"""The notebooks as they are committed: anatomy, parameters, profiles, outputs."""

import ast
import re
from dataclasses import MISSING, fields
from functools import cache

import nbformat
import papermill
import pytest
from exercises import read_notebook
from helpers import ROOT

from grpo_helpers import settings
from grpo_helpers.files import read_yaml
from grpo_helpers.headless import NOTEBOOKS
from grpo_helpers.parameters import parameter_names
from grpo_helpers.romanise import romanise
from tools.course.notebook_hash import code_hash, store_hash, stored_hash

CLASSES = {
    "00_first_run": settings.FirstRunSettings,
    "01_data_and_few_shot": settings.DataSettings,
    "02_reward_exploration": settings.RewardLabSettings,
    "03_memory_budget": settings.BudgetSettings,
    "04_train": settings.TrainSettings,
    "05_evaluate_and_select": settings.EvaluateSettings,
    "06_what_grpo_did": settings.RecordedSettings,
    "07_thinking": settings.ThinkingSettings,
    "08_write_grpo_yourself": settings.ByHandSettings,
    "09_clinic": settings.ClinicSettings,
}
PROFILES = sorted((ROOT / "params").glob("*/0*.yaml"))
LONGEST_CELL = 40  # lines
LONGEST_SCRIPT = 80  # lines of a cell tagged script, which is a whole program to be copied
NINE_IN_TEN_CELLS = 20  # lines at most
LARGEST_FILE = 500_000  # bytes
MOST_CELLS = 45
# Their exercises come before their findings.
WRITTEN_BY_READERS = ("08_write_grpo_yourself", "09_clinic")

every_notebook = pytest.mark.parametrize("name", NOTEBOOKS)
every_profile = pytest.mark.parametrize(
    "file", PROFILES, ids=lambda file: f"{file.parent.name}/{file.stem}"
)

read = cache(read_notebook)


def cells_of(name, kind):
    return [cell for cell in read(name).cells if cell.cell_type == kind]


def code_cells(name):
    return cells_of(name, "code")


def prose(name):
    """Return the Markdown of a notebook."""
    return "\n".join(cell.source for cell in cells_of(name, "markdown"))


def tags_of(cell):
    return cell.metadata.get("tags", [])


def outputs_of(name):
    """Return the outputs of all cells of a notebook."""
    outputs = []
    for cell in code_cells(name):
        outputs += cell.outputs
    return outputs


@cache
def shown_parameters(name):
    """Return the parameters of a notebook as papermill reads them."""
    return papermill.inspect_notebook(str(ROOT / "notebooks" / f"{name}.ipynb"))


def declared_defaults(name):
    """Return the default of each parameter of a notebook's settings class."""
    defaults = {}
    for field in fields(CLASSES[name]):
        defaults[field.name] = field.default
        if field.default is MISSING:
            defaults[field.name] = field.default_factory()
    return defaults


# -- parameters ---------------------------------------------------------------------------------


@every_notebook
def test_first_code_cell_holds_the_parameters(name):
    assert tags_of(code_cells(name)[0]) == ["parameters"]


@every_notebook
def test_notebook_has_one_parameters_cell(name):
    tagged = [cell for cell in code_cells(name) if "parameters" in tags_of(cell)]

    assert len(tagged) == 1


@every_notebook
def test_second_code_cell_checks_the_parameters(name):
    checked = f"{CLASSES[name].__name__}.from_namespace(globals())"

    assert checked in code_cells(name)[1].source


@every_notebook
def test_papermill_understands_every_line_of_the_parameters(name):
    lines = code_cells(name)[0].source.splitlines()

    assert len(shown_parameters(name)) == len(lines)


@every_notebook
def test_every_parameter_has_a_type_and_an_explanation(name):
    for parameter in shown_parameters(name).values():
        assert parameter["help"], parameter
        assert parameter["inferred_type_name"] != "None", parameter


@every_notebook
def test_parameters_have_the_defaults_of_their_settings_class(name):
    shown = {"output_dir": "runs"}
    for parameter, described in shown_parameters(name).items():
        shown[parameter] = ast.literal_eval(described["default"])

    assert shown == declared_defaults(name)


@every_notebook
def test_second_pass_over_a_notebook_has_the_same_parameters(name):
    cells = [cell.source for cell in code_cells(name)]
    known = declared_defaults(name)

    history = ["", *cells, "limit = 3", *cells[:2]]

    assert parameter_names({"In": history}, known) == list(shown_parameters(name))


# -- profiles -----------------------------------------------------------------------------------


@every_profile
def test_profile_holds_only_parameters_of_its_notebook(file):
    named = set(read_yaml(file))
    known = {field.name for field in fields(CLASSES[file.stem])}

    assert named
    assert named <= known


@every_profile
def test_profile_holds_plain_values_only(file):
    for value in read_yaml(file).values():
        assert not isinstance(value, dict | list)


def test_24_gb_profile_trains_the_model_of_the_article_in_four_bits():
    values = read_yaml(ROOT / "params/gpu_24gb/04_train.yaml")
    expected = {"use_quant": True, "quant_type": "4bit", "lora_r": 64, "lora_alpha": 16}

    assert expected.items() <= values.items()
    assert "Midm-2.0-Base-Instruct" in values["model_name"]


def test_24_gb_profile_is_accepted_by_the_settings():
    values = read_yaml(ROOT / "params/gpu_24gb/04_train.yaml")

    assert settings.TrainSettings(**values).lora_r == 64


# -- anatomy ------------------------------------------------------------------------------------


def test_notebook_05_answers_every_file_with_one_model():
    calls = []
    for cell in code_cells("05_evaluate_and_select"):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "answer":
                calls.append(ast.unparse(node))

    assert calls
    assert all("kept=kept" in call for call in calls)


@every_notebook
def test_code_cells_are_short(name):
    cells = [cell for cell in code_cells(name)[1:] if "script" not in tags_of(cell)]
    lengths = sorted(len(cell.source.splitlines()) for cell in cells)
    ninetieth = lengths[int(0.9 * (len(lengths) - 1))]

    assert ninetieth <= NINE_IN_TEN_CELLS
    assert lengths[-1] <= LONGEST_CELL


@every_notebook
def test_no_notebook_has_more_than_45_cells(name):
    assert len(read(name).cells) <= MOST_CELLS


def test_script_of_the_training_notebook_is_short():
    (script,) = [cell for cell in code_cells("04_train") if "script" in tags_of(cell)]

    assert len(script.source.splitlines()) <= LONGEST_SCRIPT


@every_notebook
def test_no_four_code_cells_follow_each_other_without_prose(name):
    kinds = "".join(cell.cell_type[0] for cell in read(name).cells)

    assert "cccc" not in kinds


@every_notebook
def test_notebook_begins_and_ends_with_prose(name):
    cells = read(name).cells

    assert cells[0].cell_type == "markdown"
    assert cells[-1].cell_type == "markdown"


@every_notebook
def test_title_carries_the_number_of_the_notebook(name):
    assert read(name).cells[0].source.startswith(f"# {name[:2]}. ")


@every_notebook
@pytest.mark.parametrize("part", ["The one question", "| needs | produces | time and hardware |"])
def test_first_cell_states_question_and_needs(name, part):
    assert part in read(name).cells[0].source


@every_notebook
@pytest.mark.parametrize("part", ["## Findings", "**Limitations"])
def test_notebook_states_findings_and_limitations(name, part):
    assert part in prose(name)


@every_notebook
def test_notebook_asks_five_questions(name):
    pattern = r"\*\*Check your understanding\*\*\n\n((?:\d\. .+\n?(?:   .+\n?)*)+)"
    (questions,) = re.findall(pattern, prose(name))

    assert re.findall(r"^(\d)\. ", questions, re.M) == list("12345")
    assert questions.count("?") >= 5


def test_a_third_of_the_questions_are_predictions_or_diagnoses():
    questions = []
    for name in NOTEBOOKS:
        section = prose(name).split("**Check your understanding**")[1]
        questions += re.findall(r"^[1-5]\. (.+)", section, re.M)[:5]

    asked_to_think = [text for text in questions if text.startswith(("Predict: ", "Diagnose: "))]

    assert len(questions) == 5 * len(NOTEBOOKS)
    assert len(asked_to_think) >= len(questions) / 3


@every_notebook
def test_solutions_answer_the_five_questions(name):
    key = (ROOT / "solutions" / f"{name}.md").read_text(encoding="utf-8")

    answers = key.rpartition("\n## ")[2]

    assert re.findall(r"^(\d)\. ", answers, re.M) == list("12345")


@every_notebook
def test_notebook_ends_with_where_to_go_on(name):
    last = cells_of(name, "markdown")[-1].source

    assert last.startswith(("**Next:** `0", "**Where to go from here:**"))


@every_notebook
def test_parts_of_a_notebook_come_in_the_same_order(name):
    findings = ["## Findings", "**Check your understanding"]
    exercises = ["## Exercises"]
    rest = exercises + findings if name in WRITTEN_BY_READERS else findings + exercises
    places = [prose(name).index(sign) for sign in ("**The one question:**", *rest)]

    assert places == sorted(places)


@every_notebook
def test_first_cell_asks_the_one_question(name):
    assert "**The one question:**" in read(name).cells[0].source


# -- outputs ------------------------------------------------------------------------------------


@every_notebook
def test_cells_are_numbered_as_one_run_from_top_to_bottom(name):
    counts = [cell.execution_count for cell in code_cells(name)]

    assert counts == list(range(1, len(counts) + 1))


@every_notebook
def test_committed_notebook_has_outputs_and_no_error(name):
    kinds = {output.output_type for output in outputs_of(name)}

    assert kinds
    assert "error" not in kinds


@every_notebook
def test_committed_notebook_is_small(name):
    assert (ROOT / "notebooks" / f"{name}.ipynb").stat().st_size <= LARGEST_FILE


@every_notebook
def test_committed_notebook_shows_no_path_of_a_machine(name):
    text = (ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8")

    assert not re.search(r"/(home|root|Users|tmp|work)/", text)


@every_notebook
def test_outputs_were_made_with_the_code_that_is_there(name):
    notebook = read(name)

    assert stored_hash(notebook) == code_hash(notebook), "code changed since: run make outputs"


# -- the fingerprint itself ---------------------------------------------------------------------


def notebook_of(*sources):
    """Return a notebook with these code cells."""
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    return nbformat.v4.new_notebook(cells=cells)


def test_fingerprint_changes_with_a_code_cell():
    assert code_hash(notebook_of("x = 1")) != code_hash(notebook_of("x = 2"))


def test_fingerprint_changes_with_the_border_of_two_cells():
    assert code_hash(notebook_of("x = 1", "y = 2")) != code_hash(notebook_of("x = 1\ny = 2"))


def test_fingerprint_changes_with_the_order_of_cells():
    assert code_hash(notebook_of("x = 1", "x = 2")) != code_hash(notebook_of("x = 2", "x = 1"))


def test_fingerprint_ignores_white_space_at_the_end_of_lines():
    assert code_hash(notebook_of("x = 1  \ny = 2\n")) == code_hash(notebook_of("x = 1\ny = 2"))


def test_fingerprint_ignores_prose_and_outputs():
    plain = notebook_of("x = 1")
    full = notebook_of("x = 1")
    full.cells[0].outputs = [nbformat.v4.new_output("stream", text="1")]
    full.cells.insert(0, nbformat.v4.new_markdown_cell("Text."))

    assert code_hash(full) == code_hash(plain)


def test_stored_fingerprint_is_read_back():
    notebook = notebook_of("x = 1")
    store_hash(notebook)

    assert stored_hash(notebook) == code_hash(notebook)


def test_notebook_without_a_fingerprint_is_not_up_to_date():
    assert stored_hash(notebook_of("x = 1")) is None


# -- Latin letters ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("01_data_and_few_shot", ["률", "율"]),
        ("02_reward_exploration", ["며칠", "몇일"]),
        ("05_evaluate_and_select", ["률", "율", "뎝률", "뎝율"]),
        ("06_what_grpo_did", ["취업", "할인"]),
    ],
)
def test_latin_letters_in_the_prose_are_those_of_the_word(name, words):
    for word in words:
        assert re.search(rf"{word}\W*(is )?\*{romanise(word)}\*", prose(name)), word
