"""Parameters are checked before anything costly starts."""

from __future__ import annotations

import unicodedata

import pytest
import yaml
from helpers import ROOT

from grpo_helpers.files import InputError, read_json, write_json
from grpo_helpers.parameters import convert, parameter_names
from grpo_helpers.rewards import reward_weights
from grpo_helpers.settings import (
    DataSettings,
    EvaluateSettings,
    RecordedSettings,
    ThinkingSettings,
    TrainSettings,
)

# -- names -----------------------------------------------------------------------------------------

CELLS = [
    "",
    "seed: int = 1  # help",
    "# Parameters\nnum_generation = 4",
    "x = len('a')\nlimit = 3",
    "import os",
]


def test_mistyped_parameter_is_refused_with_the_nearest_name():
    message = r"unknown parameter 'learnig_rate': did you mean learning_rate\?"
    with pytest.raises(InputError, match=message):
        TrainSettings.from_namespace({"learnig_rate": 1e-4})


def test_parameter_like_no_other_is_refused_with_all_names():
    with pytest.raises(InputError, match="unknown parameter 'xyz': known are adam_epsilon, "):
        TrainSettings.from_namespace({"xyz": 1})


def test_only_cells_of_literals_name_parameters():
    assert parameter_names({"In": CELLS}) == ["seed", "num_generation"]


def test_mistyped_parameter_of_a_cell_is_refused():
    namespace = {"In": CELLS, "seed": 1, "num_generation": 4, "limit": 3}
    with pytest.raises(InputError, match="did you mean num_generations"):
        TrainSettings.from_namespace(namespace)


def test_checking_again_later_gives_the_same_settings():
    cells = [
        "",
        "seed: int = 1",
        "settings = TrainSettings.from_namespace(globals())",
        "rows = read()\nn = 3",
    ]
    namespace = {"In": cells, "seed": 1, "rows": [1, 2], "n": 3}
    assert TrainSettings.from_namespace(namespace).seed == 1


CHECK = "settings = TrainSettings.from_namespace(globals())"
CELL = "learning_rate: float = 1e-3\nseed: int = 0"
MISTYPED = CELL.replace("learning_rate", "learnig_rate")
INJECTED = "# Parameters\nseed = 3"
MISTYPED_INJECTION = "# Parameters\nsead = 3"

# Cells in the order in which they ran in one kernel.
ACCEPTED = {
    "a corrected typo": [MISTYPED, CHECK, CELL, CHECK],
    "a corrected typo of the only name": ["learnig_rate = 1", CHECK, "learning_rate = 1", CHECK],
    "a second pass over all cells": [CELL, CHECK, "tokens_per_second = None", CELL, CHECK],
    "a second check alone": [CELL, CHECK, "tokens_per_second = None", CHECK],
    "a scratch cell before the check": [CELL, "n = 3\nseeds = [0, 1]", CHECK],
    "a corrected injection": [CELL, MISTYPED_INJECTION, CHECK, INJECTED, CHECK],
    "a parameters cell after a mistyped injection": [CELL, MISTYPED_INJECTION, CHECK, CELL, CHECK],
    "a corrected cell that computes": [MISTYPED, CHECK, f"{CELL}\nlora_r: int = 2 * 8", CHECK],
    "papermill's own names": [CELL, f"{INJECTED}\nPAPERMILL_INPUT_PATH = 'in.ipynb'", CHECK],
    "no parameters cell": ["n = 3", CHECK],
}
REFUSED_CELLS = {
    "a typo": [MISTYPED, CHECK],
    "a typo of the only name": ["learnig_rate = 1", CHECK],
    "a typo in a second run": [CELL, CHECK, MISTYPED, CHECK],
    "a typo before a scratch cell with a parameter": [MISTYPED, "seed = 3", CHECK],
    "a typo in a cell that computes": ["learnig_rate: float = 2 * 1e-4\nseed: int = 0", CHECK],
    "a typo beside an import": [f"import os\n{MISTYPED}", CHECK],
    "a typo in papermill's cell": [CELL, "# Parameters\nlearnig_rate = 1", CHECK],
    "a number that is no literal": [CELL, "# Parameters\nlearnig_rate = float('nan')", CHECK],
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_cells_that_were_superseded_or_set_no_parameter_do_not_count(case):
    assert TrainSettings.from_namespace({"In": ["", *ACCEPTED[case]]}).seed == 0


@pytest.mark.parametrize("case", REFUSED_CELLS)
def test_typo_in_the_latest_parameters_is_refused(case):
    with pytest.raises(InputError, match="did you mean learning_rate"):
        TrainSettings.from_namespace({"In": ["", *REFUSED_CELLS[case]]})


# -- names of earlier versions ---------------------------------------------------------------------


@pytest.mark.parametrize(("bf16", "dtype"), [(True, "bfloat16"), (False, "float32")])
def test_earlier_name_of_a_parameter_is_read(bf16, dtype):
    assert TrainSettings.from_namespace({"bf16": bf16}).dtype == dtype


def test_earlier_name_is_said_to_be_one(capsys):
    TrainSettings.from_namespace({"bf16": True})
    assert capsys.readouterr().err == "note: bf16 is called dtype now\n"


def test_earlier_name_in_papermills_cell_overrides_the_parameters_cell():
    cells = [f'{CELL}\ndtype: str = "float32"', "# Parameters\nbf16 = True", CHECK]
    namespace = {"In": ["", *cells], "dtype": "float32", "bf16": True}
    assert TrainSettings.from_namespace(namespace).dtype == "bfloat16"


def test_variable_with_an_earlier_name_that_no_parameter_cell_sets_does_not_count():
    namespace = {"In": ["", CELL, CHECK], "bf16": True}
    assert TrainSettings.from_namespace(namespace).dtype == "float32"


def test_earlier_name_that_contradicts_the_present_one_is_refused():
    message = "bf16=true means dtype=bfloat16 now, and dtype is 'float16': leave bf16 out"
    with pytest.raises(InputError, match=message):
        TrainSettings.from_namespace({"bf16": True, "dtype": "float16"})


def test_earlier_name_of_another_notebook_is_unknown():
    with pytest.raises(InputError, match="unknown parameter 'bf16'"):
        DataSettings.from_namespace({"bf16": True})


# -- types -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "number"), [("learning_rate", "1e-5", 1e-5), ("num_generations", "4", 4)]
)
def test_number_as_text_becomes_a_number(name, text, number):
    value = getattr(TrainSettings(**{name: text}), name)
    assert value == number
    assert type(value) is type(number)


@pytest.mark.parametrize("name", ["save_strategy", "resume", "report_to"])
def test_bare_no_of_yaml_is_the_word(name):
    written = {"save_strategy": "no", "resume": "no", "report_to": "none"}[name]
    parameters = yaml.safe_load(f"{name}: {written}")
    assert getattr(TrainSettings(**parameters), name) == written


@pytest.mark.parametrize("value", ["article", {"em": 1.0}])
def test_type_with_an_alternative_takes_both(value):
    assert convert("reward_weights", value, "str | dict") == value


@pytest.mark.parametrize("value", [1, ["em"], None])
def test_type_with_an_alternative_takes_nothing_else(value):
    with pytest.raises(InputError, match="it must be str or dict"):
        convert("reward_weights", value, "str | dict")


HOW_TO_WRITE = {
    "a name of digits": ("run_name", 2025, "-r run_name 2025"),
    "a name of digits in YAML": ("run_name", 2025, 'run_name: "2025"'),
    "a mapping as text": ("extra_grpo_args", '{"top_k": 5}', "papermill -y '{extra_grpo_args: {"),
    "a number for a switch": ("use_quant", 1, "write true or false"),
}


@pytest.mark.parametrize("case", HOW_TO_WRITE)
def test_value_of_another_type_is_refused_with_the_way_to_write_it(case):
    name, value, fix = HOW_TO_WRITE[case]
    with pytest.raises(InputError) as error:
        TrainSettings(**{name: value})
    assert fix in str(error.value)


@pytest.mark.parametrize("weights", [{"em": 1}, '{"em": 1}', "{em: 1}", "em 1"])
def test_reward_weights_may_be_a_mapping_or_its_text(weights):
    weights_of_run = reward_weights(TrainSettings(reward_weights=weights).reward_weights)
    assert weights_of_run == {"format": 0.0, "em": 1.0, "rouge1": 0.0, "bertscore": 0.0}


# -- values ----------------------------------------------------------------------------------------

BAD = {
    "text for a number": ({"num_generations": "many"}, "num_generations is 'many'; it must be int"),
    "a fraction for a whole number": ({"lora_r": 1.5}, "lora_r is 1.5"),
    "a number for a switch": ({"use_quant": 1}, "use_quant is 1; it must be bool"),
    "a switch for a number": ({"lora_r": True}, "lora_r is True; it must be int"),
    "no number for a number": ({"learning_rate": "nan"}, "learning_rate is 'nan'"),
    "a missing file": ({"train_data_path": "none.json"}, "train_data_path: no file none.json"),
    "an unknown strategy": ({"save_strategy": "best"}, "save_strategy is 'best'"),
    "an unknown preset": ({"reward_weights": "mine"}, "unknown reward preset 'mine'"),
    "an unknown reward": ({"reward_weights": {"bleu": 1}}, "reward_weights names 'bleu'"),
    "an unknown quantisation": ({"quant_type": "2bit"}, "quant_type is '2bit'"),
    "no room for an answer": ({"max_completion_length": 0}, "max_completion_length is 0"),
    "a negative rate": ({"learning_rate": -1.0}, "learning_rate is -1.0; it must be 0 or more"),
    "a dropout of everything": ({"lora_dropout": 1.0}, "lora_dropout is 1.0"),
    "a temperature of zero": ({"temperature": 0.0}, "temperature is 0"),
    "one checkpoint to resume from": ({"save_total_limit": 1}, "save_total_limit is 1"),
    "a run name that is a path": ({"run_name": "../x"}, "run_name"),
    "a run name of dots": ({"run_name": ".."}, "run_name"),
    "groups that do not fit": (
        {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 1},
        "must be divisible by num_generations",
    ),
    "an unknown dtype": ({"dtype": "half"}, "dtype is 'half'; it must be bfloat16, float16 or"),
    "a dtype in two places": (
        {"model_kwargs": {"torch_dtype": "auto"}},
        "model_kwargs sets torch_dtype: leave it out, there is a parameter dtype",
    ),
    "code of a model's repository": (
        {"model_kwargs": {"trust_remote_code": True}},
        "no code of a model's repository is run here",
    ),
    "a precision of TRL's own": (
        {"extra_grpo_args": {"fp16": True}},
        "extra_grpo_args sets fp16: set the parameter dtype",
    ),
    "arguments of the model for TRL": (
        {"extra_grpo_args": {"model_init_kwargs": {}}},
        "set the parameter model_kwargs",
    ),
    "an unknown loss": ({"loss_type": "drgrpo"}, "loss_type is 'drgrpo'; it must be grpo, dr_grpo"),
    "an unknown scale": ({"scale_rewards": "std"}, "scale_rewards is 'std'; it must be group"),
    "an unknown tracker": ({"report_to": "wanbd"}, "report_to is 'wanbd'; it must be none, all"),
    "one unknown tracker of two": ({"report_to": "wandb,x"}, "report_to is 'wandb,x'"),
    "a negative layer": ({"bertscore_layers": -1}, "bertscore_layers is -1"),
    "a folder of TRL's own": (
        {"extra_grpo_args": {"output_dir": "x"}},
        "extra_grpo_args sets output_dir, which is a parameter",
    ),
    "a parameter in two places": (
        {"extra_grpo_args": {"learning_rate": 1}},
        "set the parameter learning_rate",
    ),
    "what the course fills in": (
        {"extra_grpo_args": {"log_completions": False}},
        "extra_grpo_args sets log_completions, which the course fills in itself",
    ),
    "groups of one": ({"num_generations": 1}, "at least 2 generations"),
    "a server without http": (
        {"rollout_server": "localhost:8000"},
        "such as http://localhost:8000",
    ),
    "a server with a path": ({"rollout_server": "http://localhost:8000/v1"}, "without a path"),
    "a server and an engine": (
        {"rollout_server": "http://localhost:8000", "extra_grpo_args": {"use_vllm": True}},
        "rollout_server and use_vllm (in extra_grpo_args) both sample",
    ),
    "a server and a loss that is not corrected": (
        {"rollout_server": "http://localhost:8000", "loss_type": "vespo"},
        "loss_type is 'vespo', which is not corrected",
    ),
    "a server and two processes": (
        {"rollout_server": "http://localhost:8000", "num_processes": 2},
        "rollout_server serves one process, not 2",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_value_that_cannot_work_is_refused_in_one_line(case):
    values, message = BAD[case]
    with pytest.raises(InputError) as error:
        TrainSettings(**values)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_trackers_are_listed_one_by_one():
    assert TrainSettings(report_to="wandb, mlflow").trackers == ["wandb", "mlflow"]


@pytest.mark.parametrize("word", ["none", "all"])
def test_word_for_no_or_every_tracker_names_none(word):
    assert TrainSettings(report_to=word).trackers == []


def test_run_of_trackers_may_have_a_name_of_its_own():
    extra = {"run_name": "for wandb", "top_k": 5}

    assert TrainSettings(extra_grpo_args=extra).extra_grpo_args == extra


# -- the run that is evaluated ---------------------------------------------------------------------


@pytest.fixture
def answered(tmp_path):
    """Return a function that gives a run one answer file."""

    def answer(name):
        file = tmp_path / "run" / "infer_results" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("[]")

    return answer


def evaluate_in(folder, **values):
    """Return notebook 05's settings for the run in ``folder``."""
    return EvaluateSettings(run_name="run", output_dir=str(folder), **values)


def test_run_with_a_checkpoint_can_be_evaluated(tmp_path, answered):
    answered("inference_epoch0.json")
    answered("inference_step2.json")

    assert evaluate_in(tmp_path).run_dir == tmp_path / "run"


def test_run_without_a_checkpoint_is_not_judged(tmp_path, answered):
    answered("inference_epoch0.json")

    with pytest.raises(InputError, match="has no checkpoint, only the answers of the base model"):
        evaluate_in(tmp_path)


@pytest.mark.parametrize("name", ["inference_batch_size", "bootstrap_samples"])
def test_count_of_zero_is_refused_in_evaluation(tmp_path, answered, name):
    answered("inference_step2.json")

    with pytest.raises(InputError, match=f"{name} is 0; it must be 1 or more"):
        evaluate_in(tmp_path, **{name: 0})


def test_folder_of_recorded_runs_is_found_in_the_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert RecordedSettings().recorded_folder == ROOT / "data/reference_runs"


@pytest.mark.parametrize("settings", [RecordedSettings, ThinkingSettings])
def test_missing_folder_of_recorded_runs_is_refused(settings):
    with pytest.raises(InputError, match=r"recorded_dir: no folder nowhere .*data/reference_runs"):
        settings(recorded_dir="nowhere")


def test_count_of_zero_is_refused_for_recorded_runs():
    with pytest.raises(InputError, match="bootstrap_samples is 0; it must be 1 or more"):
        RecordedSettings(bootstrap_samples=0)


def test_notebook_on_recorded_runs_needs_invented_words():
    with pytest.raises(InputError, match="test_nonce_path is empty; give it a file"):
        RecordedSettings(test_nonce_path="")


# -- the run's folder ------------------------------------------------------------------------------


def test_relative_run_folder_is_in_the_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert DataSettings(run_name="x").run_dir == ROOT / "runs" / "x"


def test_absolute_run_folder_is_taken_as_it_is(tmp_path):
    assert DataSettings(run_name="x", output_dir=str(tmp_path)).run_dir == tmp_path / "x"


def test_evaluating_a_missing_run_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match="run 04_train first"):
        EvaluateSettings(output_dir=str(tmp_path))


@pytest.fixture
def answered_run(tmp_path):
    """A run folder with answers, as far as the check of notebook 05 looks."""
    for epoch in (0, 1):
        write_json(tmp_path / f"default/infer_results/inference_epoch{epoch}.json", [])
    return tmp_path


@pytest.mark.parametrize("parameter", ["test_data_path", "test_unseen_words_path", "label_path"])
def test_evaluating_without_gold_answers_is_refused_at_once(answered_run, parameter):
    rows = [row | {"output": {}} for row in read_json("data/smoke/test.json")]
    file = write_json(answered_run / "unanswered.json", rows)
    with pytest.raises(InputError, match=f"^{parameter}: .*row 1 .*python -m grpo_helpers.infer"):
        EvaluateSettings(output_dir=str(answered_run), **{parameter: str(file)})


def test_empty_path_is_told_as_empty():
    with pytest.raises(InputError, match="train_data_path is empty"):
        TrainSettings(train_data_path="")


def test_run_of_a_decomposed_name_is_the_same_run(tmp_path):
    decomposed = unicodedata.normalize("NFD", "실험")
    (tmp_path / decomposed).mkdir()
    for name in (decomposed, "실험"):
        settings = DataSettings(run_name=name, output_dir=str(tmp_path))
        assert settings.run_dir == tmp_path / decomposed
