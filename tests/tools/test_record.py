"""Recording runs: which are made and how, and what is recorded of them."""

import pandas as pd
import pytest

from grpo_helpers import rewards
from grpo_helpers.data import load_items
from grpo_helpers.files import InputError, read_json, write_json
from grpo_helpers.inference import write_answers
from grpo_helpers.run_folder import BASE, RunFolder
from tools.experiments import record, recording
from tools.experiments.recorded_runs import FOLDER, QUOTED_WEIGHTS, RUNS, recorded_folder

DEV = "data/smoke/dev.json"


@pytest.fixture
def run(tmp_path):
    """A GRPO run of two epochs: the base knows no answer, epoch_1 half of them, epoch_2 all."""
    run = RunFolder(tmp_path / "run")
    settings = read_json(FOLDER / "seed_0" / "settings.json")
    settings["parameters"]["eval_data_path"] = DEV
    write_json(run.path / "settings.json", settings)

    items = load_items(DEV)
    golds = [item.answer for item in items]
    half = [golds[place] if place % 2 else "?" for place in range(len(items))]
    for checkpoint, texts in {BASE: ["?"] * len(items), "epoch_1": half, "epoch_2": golds}.items():
        write_answers(run.answers(checkpoint), items, texts)

    for step in range(1, 5):
        seconds = 10.0 * step
        run.log.append(
            {
                "step": step,
                "epoch": step / 2,
                "reward": 0.123456789,
                "step_time": 8.0,
                "seconds": seconds,
            }
        )
    run.log.append({"step": 4, "epoch": 2.0, "train_runtime": 41.0, "seconds": 60.0})
    return run


@pytest.fixture
def recorded(run, tmp_path, monkeypatch):
    """The folder in which the run is recorded."""
    monkeypatch.setattr(recording, "FOLDER", tmp_path / "reference_runs")
    scores, items = recording.item_scores_on_dev(run)
    seconds = recording.train_seconds(run, list(scores))
    return recording.record_files(
        "mine", run, scores, items, about={"changed": {}}, seconds=seconds
    )


def test_patterns_select_runs_in_their_order():
    assert record.matching_runs(["gold_*", "seed_0"]) == ["seed_0", "gold_0", "gold_1", "gold_2"]


def test_unknown_run_is_refused():
    with pytest.raises(InputError, match="no run is called nothing; known are quoted, seed_0"):
        record.matching_runs(["nothing"])


def test_command_with_an_unknown_run_ends_with_code_2(capsys):
    assert record.main(["nothing"]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_finished_run_is_not_made_again(run, monkeypatch):
    monkeypatch.setattr(record, "run_course", lambda *args: pytest.fail("it trained"))
    monkeypatch.setattr(record, "project_root", lambda: run.path.parent)
    (run.path.parent / "runs").mkdir()
    run.path.rename(run.path.parent / "runs" / "bar-seed-0")
    assert record.make_run("seed_0").path.name == "bar-seed-0"


def test_run_without_a_closing_row_is_not_done(run):
    assert record.is_done(run)
    run.log.rewind(3)
    assert not record.is_done(run)


def test_default_run_is_made_by_notebook_04(tmp_path, monkeypatch):
    called = []
    monkeypatch.setattr(record, "project_root", lambda: tmp_path)
    monkeypatch.setattr(record, "run_course", lambda *args: called.append(args))
    record.make_run("temperature_0.5", threads=1)
    changes = {"temperature": 0.5, "num_threads": 1, "resume": "auto"}
    assert called == [("default", "reference-temperature_0.5", ("04_train",), changes)]


def test_quoted_reward_is_known_only_while_its_run_trains(monkeypatch):
    weights = []
    monkeypatch.setattr(
        record, "train", lambda settings: weights.append(rewards.reward_weights(QUOTED_WEIGHTS))
    )
    record.train_with_quoted_reward({"reward_weights": QUOTED_WEIGHTS, "run_name": "test-quoted"})
    assert weights[0]["quoted"] == pytest.approx(1 / 3)
    assert "quoted" not in rewards.registered()


def test_control_trains_as_long_as_the_recorded_default_run():
    log = recorded_folder("seed_1").log.step_rows()
    seconds = record.seconds_of_the_default_run(RUNS["gold_1"])
    assert seconds == pytest.approx(sum(row["step_time"] for row in log))


def test_seconds_of_a_run_count_steps_only(run):
    seconds = recording.train_seconds(run, [BASE, "epoch_1", "epoch_2"])
    assert seconds == {BASE: 0, "epoch_1": 16.0, "epoch_2": 32.0}


def test_steps_that_use_samples_again_count_among_the_seconds(run):
    run.log.append({"step": 5, "epoch": 2.0, "step_time": 3.0, "seconds": 60.0})

    assert recording.train_seconds(run, ["epoch_2"]) == {"epoch_2": 35.0}


def test_recorded_scores_have_the_seconds_of_training(recorded):
    table = pd.read_csv(recorded / "scores.csv").set_index("checkpoint")
    assert table["em"].tolist() == [0.0, 0.5, 1.0]
    assert table["train_seconds"].tolist() == [0.0, 16.0, 32.0]


def test_recorded_log_has_every_row_with_five_digits(recorded):
    rows = RunFolder(recorded).log.rows()
    assert len(rows) == 5
    assert rows[0]["reward"] == 0.12346


def test_about_has_the_minutes_of_the_run(recorded):
    assert read_json(recorded / "about.json")["minutes"] == 1.0


def test_recorded_tables_lack_the_columns_that_nobody_redraws(recorded):
    columns = pd.read_csv(recorded / "item_scores.csv").columns
    official = [column for column in columns if column.endswith("_official")]
    assert official == ["em_official"]


def test_repeat_counts_the_scores_that_differ(run, recorded, tmp_path, monkeypatch):
    items = pd.read_csv(recorded / "item_scores.csv")
    changed = items["checkpoint"].eq("epoch_2") & items["id"].eq(items["id"].iloc[0])
    items.loc[changed, "em"] = 0.0

    monkeypatch.setattr(record, "FOLDER", tmp_path)
    monkeypatch.setattr(record, "make_run", lambda name, run_name, threads: run)
    monkeypatch.setattr(record, "items_on_dev", lambda name: items)
    monkeypatch.setattr(record, "about", lambda name: {"date": "2026-11-24"})

    comparison = record.repeat("seed_0")
    assert comparison["answers"] == len(items)
    assert comparison["differ"] == 1
    assert read_json(tmp_path / "repeats.json") == {"seed_0": comparison}
