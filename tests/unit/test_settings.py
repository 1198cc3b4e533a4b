"""Parameters are checked before anything costly starts."""

import pytest
import yaml

from grpo_helpers.files import InputError, project_root
from grpo_helpers.parameters import parameter_names
from grpo_helpers.settings import DataSettings, EvaluateSettings, TrainSettings


def test_a_mistyped_parameter_is_refused_and_the_nearest_is_told():
    with pytest.raises(
        InputError, match=r"unknown parameter 'learnig_rate': did you mean learning_rate\?"
    ):
        TrainSettings.from_namespace({"learnig_rate": 1e-4})


def test_in_a_notebook_only_parameter_cells_count():
    cells = [
        "",
        "seed: int = 1  # help",
        "# Parameters\nnum_generation = 4",
        "x = len('a')\nlimit = 3",
        "import os",
    ]
    assert parameter_names({"In": cells}) == ["seed", "num_generation"]
    with pytest.raises(InputError, match="did you mean num_generations"):
        TrainSettings.from_namespace({"In": cells, "seed": 1, "num_generation": 4, "limit": 3})


def test_checking_again_later_says_the_same():
    cells = [
        "",
        "seed: int = 1",
        "settings = TrainSettings.from_namespace(globals())",
        "rows = read()\nn = 3",
    ]
    namespace = {"In": cells, "seed": 1, "rows": [1, 2], "n": 3}
    assert TrainSettings.from_namespace(namespace).seed == 1


def test_numbers_written_as_text_become_numbers():
    settings = TrainSettings(learning_rate="1e-5", num_generations="4")
    assert (settings.learning_rate, settings.num_generations) == (1e-5, 4)


def test_a_bare_no_of_a_yaml_file_is_the_word_no():
    named = yaml.safe_load("save_strategy: no\nresume: no\nreport_to: none")
    settings = TrainSettings(**named)
    assert (settings.save_strategy, settings.resume, settings.report_to) == ("no", "no", "none")


BAD = {
    "text for a number": ({"num_generations": "many"}, "num_generations is 'many'; it must be int"),
    "a fraction for a whole number": ({"lora_r": 1.5}, "lora_r is 1.5"),
    "a number for a switch": ({"use_quant": 1}, "use_quant is 1; it must be bool"),
    "a missing file": ({"train_data_path": "none.json"}, "train_data_path: no file none.json"),
    "an unknown strategy": ({"save_strategy": "best"}, "save_strategy is 'best'"),
    "an unknown preset": ({"reward_weights": "mine"}, "unknown reward preset 'mine'"),
    "an unknown quantisation": ({"quant_type": "2bit"}, "quant_type is '2bit'"),
    "no room for an answer": ({"max_completion_length": 0}, "max_completion_length is 0"),
    "a temperature of zero": ({"temperature": 0.0}, "temperature is 0"),
    "a run name that is a path": ({"run_name": "../x"}, "run_name"),
    "groups that do not fit": (
        {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 1},
        "must be divisible by num_generations",
    ),
    "groups of one": ({"num_generations": 1}, "at least 2 generations"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_value_that_cannot_work_is_refused_in_one_line(case):
    values, told = BAD[case]
    with pytest.raises(InputError) as error:
        TrainSettings(**values)
    assert told in str(error.value) and "\n" not in str(error.value)


def test_a_relative_run_folder_lies_in_the_project_wherever_one_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert DataSettings(run_name="x").run_dir == project_root() / "runs" / "x"
    assert DataSettings(run_name="x", output_dir=str(tmp_path)).run_dir == tmp_path / "x"


def test_evaluating_a_run_that_is_not_there_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match="run 04_train first"):
        EvaluateSettings(output_dir=str(tmp_path))
