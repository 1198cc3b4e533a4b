"""The supervised controls: they stop by the clock, with run folders like notebook 04's."""

import pytest

from grpo_helpers.answers import parse_gold
from grpo_helpers.files import read_json
from grpo_helpers.run_folder import BASE, RunFolder
from grpo_helpers.settings import TrainSettings
from grpo_helpers.training import prepare
from tools.experiments.record import is_done
from tools.experiments.recorded_runs import CLOCK_FILE
from tools.experiments.recording import dev_answers, item_scores_on_dev, train_seconds
from tools.experiments.supervised import (
    SAVES,
    gold_rows,
    train_supervised,
)

pytestmark = pytest.mark.heavy
SECONDS = 3.0


def settings_in(folder, **changes):
    return TrainSettings(
        output_dir=str(folder),
        run_name="control",
        warmup_steps=0,  # its first step already moves the adapter, should there be no second
        num_threads=1,
        train_data_path="data/smoke/train.json",
        eval_data_path="data/smoke/dev.json",
        **changes,
    )


@pytest.fixture(scope="module")
def control(tmp_path_factory):
    """The run folder of a control trained for a few seconds."""
    settings = settings_in(tmp_path_factory.mktemp("supervised"))
    train_supervised(settings, SECONDS)
    return RunFolder(settings.run_dir)


@pytest.fixture(scope="module")
def clock(control):
    """The seconds of training at each save."""
    return read_json(control.path / CLOCK_FILE)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepare(settings_in(tmp_path_factory.mktemp("prepared")))


def test_control_saves_at_most_every_fifth_and_once_more(clock):
    # Fewer where a step outlasts a fifth; one more after as many prompts as GRPO sees.
    assert 1 <= len(clock) <= SAVES + 1


def test_control_stops_when_its_time_is_up(clock):
    *before, last = clock.values()
    assert last >= SECONDS
    assert all(seconds < SECONDS for seconds in before)


def test_control_saves_an_adapter_at_every_checkpoint(control, clock):
    for checkpoint in clock:
        assert (control.path / checkpoint / "adapter_model.safetensors").is_file()


def test_control_answers_dev_with_the_base_and_every_checkpoint(control, clock):
    for checkpoint in (BASE, *clock):
        assert control.answers(checkpoint).is_file()


def test_seconds_of_a_control_are_those_of_its_clock(control, clock):
    assert train_seconds(control, [BASE, *clock]) == {BASE: 0.0, **clock}


def test_control_counts_as_done(control):
    assert is_done(control)


def test_control_is_recorded_with_its_dev_answers(control, clock):
    scores, items = item_scores_on_dev(control)
    examples = dev_answers(control, items, scores)
    last = int(list(clock)[-1].removeprefix("step_"))
    assert examples[0]["step"] == 0
    assert examples[-1]["step"] == last
    assert all(example["completion"] for example in examples)


def test_adapter_of_a_control_has_moved(control, clock):
    from safetensors.torch import load_file

    last = list(clock)[-1]
    weights = load_file(control.path / last / "adapter_model.safetensors")
    starts_at_zero = [value for name, value in weights.items() if "lora_B" in name]
    assert all(value.abs().max() > 0 for value in starts_at_zero)


def test_gold_rows_end_in_the_gold_sentences(prepared):
    rows = gold_rows(prepared)
    golds = [parse_gold(item.answer).sentences[0] for item in prepared.train_items]
    assert [parse_gold(row["completion"][0]["content"]).sentences[0] for row in rows] == golds


def test_gold_rows_keep_the_prompts_of_training(prepared):
    assert all(row["prompt"][-1]["role"] == "user" for row in gold_rows(prepared))
