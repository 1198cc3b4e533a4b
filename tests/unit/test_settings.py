"""Parameters are checked before anything costly starts."""

from __future__ import annotations

import pytest
import yaml
from helpers import ROOT

from grpo_helpers.files import InputError
from grpo_helpers.parameters import convert, parameter_names
from grpo_helpers.settings import DataSettings, EvaluateSettings, TrainSettings

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


# -- the run's folder ------------------------------------------------------------------------------


def test_relative_run_folder_is_in_the_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert DataSettings(run_name="x").run_dir == ROOT / "runs" / "x"


def test_absolute_run_folder_is_taken_as_it_is(tmp_path):
    assert DataSettings(run_name="x", output_dir=str(tmp_path)).run_dir == tmp_path / "x"


def test_evaluating_a_missing_run_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match="run 04_train first"):
        EvaluateSettings(output_dir=str(tmp_path))
