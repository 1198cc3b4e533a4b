"""The supervised controls: the same minutes, the same folders, the labels they say."""

import json

import pytest
from safetensors.torch import load_file

from grpo_helpers.answers import parse_gold
from grpo_helpers.settings import TrainSettings
from grpo_helpers.training import prepare
from tools.experiments.record import is_done, train_seconds
from tools.experiments.supervised import BATCH, SAVES, gold_rows, noisy_rows, train_supervised

SECONDS = 3.0


def settings_in(folder, **changes):
    files = {
        f"{name}_data_path": f"data/smoke/{split}.json"
        for name, split in (("train", "train"), ("eval", "dev"))
    }
    return TrainSettings(
        output_dir=str(folder), run_name="control", num_threads=1, **files, **changes
    )


@pytest.fixture(scope="module")
def control(tmp_path_factory):
    settings = settings_in(tmp_path_factory.mktemp("supervised"))
    train_supervised(settings, "gold", SECONDS)
    return settings


def test_a_supervised_control_stops_by_the_clock_with_answered_checkpoints_on_the_way(control):
    clock = json.loads((control.run_dir / "clock.json").read_text(encoding="utf-8"))
    assert (
        1 <= len(clock) <= SAVES + 1
    )  # fewer where a step outlasts a fifth; one after as many prompts as GRPO has
    assert list(clock.values())[-1] >= SECONDS and all(
        value < SECONDS for value in list(clock.values())[:-1]
    )
    for name in clock:
        assert (control.run_dir / name / "adapter_model.safetensors").is_file()
        assert (
            control.run_dir / "infer_results" / f"inference_{name.replace('_', '')}.json"
        ).is_file()
    assert (control.run_dir / "infer_results" / "inference_epoch0.json").is_file()
    assert train_seconds(control.run_dir, ["epoch_0", *clock]) == {"epoch_0": 0.0, **clock}
    assert is_done(control.run_dir)


def test_the_adapter_of_a_control_has_moved_from_its_start(control):
    last = list(json.loads((control.run_dir / "clock.json").read_text(encoding="utf-8")))[-1]
    weights = load_file(control.run_dir / last / "adapter_model.safetensors")
    assert all(
        value.abs().max() > 0 for name, value in weights.items() if "lora_B" in name
    )  # they start at 0


def test_the_rows_of_a_control_end_in_gold_answers_or_in_the_careless_teachers(tmp_path):
    settings = settings_in(tmp_path)
    prepared = prepare(settings)
    rows = gold_rows(prepared)
    golds = [parse_gold(item.answer).sentences[0] for item in prepared.train_items]
    assert [parse_gold(row["completion"][0]["content"]).sentences[0] for row in rows] == golds
    assert all(row["prompt"][-1]["role"] == "user" for row in rows)
    noisy = noisy_rows(settings, 4 * BATCH)
    assert len(noisy) == 4 * BATCH and noisy == noisy_rows(settings, 4 * BATCH)
    other = settings_in(tmp_path, seed=1)
    assert noisy != noisy_rows(other, 4 * BATCH)
