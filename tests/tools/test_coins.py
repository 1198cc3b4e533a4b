"""Watching a run: the run stays the same, and what was measured is recorded."""

from types import SimpleNamespace

import pandas as pd
import pytest
from helpers import made_up_coins, smoke_settings

from grpo_helpers.coins import coins_file, load_coins
from grpo_helpers.files import InputError, read_json, sha256
from grpo_helpers.run_folder import RunFolder
from grpo_helpers.training import train
from tools.experiments import coins as tool
from tools.experiments.coins import CoinsCallback, steps_as_recorded, write_coins
from tools.experiments.probes import EncodedProbe
from tools.experiments.recorded_runs import FOLDER, recorded_folder

pytestmark = pytest.mark.heavy

# Rows of the log that a watch shows, not the run.
CLOCKS = {
    "seconds",
    "step_time",
    "peak_memory_gib",
    "peak_reserved_gib",
    "train_runtime",
    "train_samples_per_second",
    "train_steps_per_second",
}
PROBES = [EncodedProbe((1, 2, 3), (4, 5), (6,), (7, 8)), EncodedProbe((1, 2), (4,), (9,), (7,))]
SMALL = {"max_steps": 2, "save_steps": 2, "num_threads": 1, "learning_rate": 0.01}


@pytest.fixture(scope="module")
def plain_run(tmp_path_factory):
    """A run that nobody watches."""
    settings = smoke_settings(tmp_path_factory.mktemp("plain"), **SMALL)
    train(settings)
    return RunFolder(settings.run_dir)


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """The same run, watched: its folder and the callback."""
    settings = smoke_settings(tmp_path_factory.mktemp("watched"), **SMALL)
    callback = CoinsCallback(PROBES, pad=0)
    train(settings, callbacks=[callback])
    return RunFolder(settings.run_dir), callback


def without_clocks(run):
    """Return the rows of a log without what depends on the machine's pace."""
    rows = []
    for row in run.log.rows():
        rows.append({key: value for key, value in row.items() if key not in CLOCKS})
    return rows


def test_watched_run_logs_the_same(plain_run, watched):
    run, _ = watched

    assert without_clocks(run) == without_clocks(plain_run)


def test_watched_run_has_the_same_adapter(plain_run, watched):
    run, _ = watched
    files = [each.path / "step_2" / "adapter_model.safetensors" for each in (plain_run, run)]

    assert sha256([files[0]]) == sha256([files[1]])


def test_probes_are_measured_before_the_first_step_and_after_each(watched):
    _, callback = watched

    assert list(callback.measured) == [0, 1, 2]


def test_measured_model_is_the_one_in_training(watched):
    """Without a step nothing moves; the second step has the first learning rate above 0."""
    _, callback = watched
    first, *_, last = callback.measured.values()

    assert abs(first.shares - last.shares).max() > 1e-6


def test_last_step_is_measured_whatever_the_pace(monkeypatch):
    monkeypatch.setattr(tool, "measure", lambda *_: "measured")
    callback = CoinsCallback(PROBES, pad=0, every=3)

    for step in range(1, 6):
        state = SimpleNamespace(global_step=step, max_steps=5)
        callback.on_step_end(None, state, None, model=None)

    assert list(callback.measured) == [3, 5]


# -- the record ------------------------------------------------------------------------------------


def test_written_coins_can_be_read(tmp_path):
    file = coins_file(tmp_path, "mine")
    coins = made_up_coins()
    write_coins(file, coins)

    read = load_coins(file)

    assert read.shares == pytest.approx(coins.shares, abs=5e-4)  # three digits
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_same_coins_make_the_same_bytes(tmp_path):
    files = [coins_file(tmp_path / name, "mine") for name in ("first", "second")]
    for file in files:
        write_coins(file, made_up_coins())

    assert files[0].read_bytes() == files[1].read_bytes()


def test_coins_of_a_whole_run_are_smaller_than_300_kilobytes(tmp_path):
    file = coins_file(tmp_path, "mine")
    write_coins(
        file, made_up_coins(126, {"rewarded": 12, "corrected": 6, "real": 6, "invented": 8})
    )

    assert file.stat().st_size < 300_000


@pytest.mark.parametrize("file", sorted((FOLDER / "coins").glob("*.csv.gz")))
def test_recorded_coins_are_complete_and_small(file):
    about = read_json(file.with_name(file.name.replace(".csv.gz", ".json")))
    coins = load_coins(file)

    assert len(coins.words) == sum(about["words"].values())
    assert coins.steps[-1] == about["steps"]
    assert file.stat().st_size < 300_000


def test_supervised_run_has_no_coins():
    with pytest.raises(InputError, match="coins are of GRPO runs"):
        tool.record_coins("gold_0")


def test_coins_that_exist_are_not_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "FOLDER", tmp_path)
    monkeypatch.setattr(tool, "watch", lambda *_: pytest.fail("it trained"))
    file = coins_file(tmp_path, "seed_0")
    write_coins(file, made_up_coins())

    assert tool.record_coins("seed_0") == file


def test_steps_of_a_repeated_run_are_those_of_the_record():
    rows = recorded_folder("seed_0").log.step_rows()

    assert steps_as_recorded("seed_0", rows) == len(rows)
    assert steps_as_recorded("seed_0", [row | {"reward": -1.0} for row in rows]) == 0


def test_command_refuses_a_pace_of_nothing(capsys):
    assert tool.main(["seed_0", "--every", "0"]) == 2
    assert capsys.readouterr().err.startswith("error: --every is 0")


def test_table_of_what_was_measured_has_a_row_for_each_probe(watched, monkeypatch):
    _, callback = watched
    words = made_up_coins().words.head(len(PROBES))
    monkeypatch.setattr(tool, "words_table", lambda probes: words)

    coins = tool.coins_of(PROBES, callback)

    assert coins.shares.shape == (len(PROBES), len(callback.measured))
    assert coins.steps == [0, 1, 2]
    pd.testing.assert_frame_equal(coins.words, words)
