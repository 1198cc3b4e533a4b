"""The league: what is trained, what happens to an entry that fails, and how the rest is ranked."""

import contextlib
import io
import json

import numpy as np
import pandas as pd
import pytest
from helpers import SMOKE_PARAMS

from grpo_helpers.data import load_items
from grpo_helpers.files import InputError
from grpo_helpers.metrics import exact_match
from grpo_helpers.run_folder import RunFolder
from grpo_helpers.scoring import read_answers
from grpo_helpers.settings import FirstRunSettings
from tools.course.league import UNTRAINED, find_files, main, rank
from tools.course.league_entry import Rules

DEV = "data/smoke/dev.json"
SMALLEST = ("--params", SMOKE_PARAMS, "--questions", DEV, "--steps", "2")

# An entry that works, although it has changed how answers are scored in its own process.
PATCHES = """
from grpo_helpers import metrics, rewards
metrics.exact_match = lambda *_: 1.0
rewards.register("mine", rewards.em_reward)
"""
# Gold answers earn a number, so only a completion can make it fail.
RAISES = """
from grpo_helpers import rewards

def share(completions, references, **_):
    texts = [rewards.completion_text(completion) for completion in completions]
    return [1 / (text == gold) for text, gold in zip(texts, references)]

rewards.register("share", share)
"""
TWO = """
from grpo_helpers import rewards
rewards.register("one", lambda completions, **_: [1.0 for _ in completions])
rewards.register("second", lambda completions, **_: [0.0 for _ in completions])
"""
QUITS = "raise SystemExit(3)"
FILES = {"patches": PATCHES, "quits": QUITS, "raises": RAISES, "two": TWO, "_helper": QUITS}


def scores_with(**em):
    """Return scores that differ only in exact match."""
    scores = {UNTRAINED: [0.0] * 10} | em
    return {name: {"em": values, "format": [1.0] * 10} for name, values in scores.items()}


def run_main(*arguments):
    """Return the exit code of the command, and what it has printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = main([*map(str, arguments), *SMALLEST])
    return code, printed.getvalue()


@pytest.fixture(scope="module")
def league(tmp_path_factory):
    """A league of four entries, of which one can be ranked: its folder, exit code and lines."""
    folder = tmp_path_factory.mktemp("league")
    for name, source in FILES.items():
        (folder / f"{name}.py").write_text(source, encoding="utf-8")

    code, printed = run_main(folder, "--out", folder / "out")

    return folder, code, printed


# -- rules --------------------------------------------------------------------------------------


def test_entry_trains_with_the_settings_of_the_first_notebook():
    first = FirstRunSettings().training

    settings = Rules("runs/league", first.eval_data_path).settings()

    differing = {"output_dir", "resume"}
    ours, theirs = vars(settings), vars(first)
    assert {name for name in ours if ours[name] != theirs[name]} == differing


def test_edited_file_is_a_new_entry(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("1")
    before = Rules("out", DEV).run_name(file)

    file.write_text("2")

    assert Rules("out", DEV).run_name(file) != before


def test_other_number_of_steps_is_a_new_entry(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("1")

    assert Rules("out", DEV, steps=3).run_name(file) != Rules("out", DEV).run_name(file)


def test_moved_league_keeps_its_entries(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("1")

    assert Rules("here", DEV).run_name(file) == Rules("there", DEV).run_name(file)


def test_folder_without_entries_is_refused(tmp_path):
    with pytest.raises(InputError, match="no Python file"):
        find_files(str(tmp_path))


# -- ranking ------------------------------------------------------------------------------------


def test_highest_exact_match_comes_first():
    ranked = rank(scores_with(weak=[1.0] * 2 + [0.0] * 8, strong=[1.0] * 9 + [0.0]))

    assert ranked["entry"].tolist() == ["strong", "weak", UNTRAINED]
    assert ranked["place"].tolist()[:2] == [1, 2]


def test_equal_exact_match_shares_a_place():
    ranked = rank(scores_with(one=[1.0] + [0.0] * 9, other=[0.0] * 9 + [1.0]))

    assert ranked["place"].tolist()[:2] == [1, 1]


def test_model_before_training_has_no_place():
    ranked = rank(scores_with(worse=[0.0] * 10)).set_index("entry")

    assert pd.isna(ranked.loc[UNTRAINED, "place"])


def test_entry_that_these_questions_cannot_tell_from_the_first_is_tied():
    almost = [1.0] * 8 + [0.0] * 2
    ranked = rank(scores_with(best=[1.0] * 9 + [0.0], almost=almost, far=[0.0] * 10))

    assert ranked.set_index("entry")["tied"][["best", "almost", "far"]].tolist() == [
        True,
        True,
        False,
    ]


def test_interval_encloses_the_exact_match():
    (row,) = rank(scores_with(mine=[1.0] * 6 + [0.0] * 4)).head(1).to_dict("records")

    assert row["low"] < row["exact match"] < row["high"]


# -- a small league -----------------------------------------------------------------------------


@pytest.mark.heavy
def test_league_warns_that_files_are_run_as_they_are(league):
    assert "run as it is" in league[2]


@pytest.mark.heavy
def test_league_with_a_failed_entry_ends_with_one(league):
    assert league[1] == 1


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("raises", "line 6: ZeroDivisionError: division by zero"),
        ("two", "two.py registers one, second"),
        ("quits", "exit code 3"),
    ],
)
def test_failed_entry_gets_one_line(league, name, told):
    folder, _, printed = league
    lines = [line for line in printed.splitlines() if line.startswith(f"{name}: ")]

    assert len(lines) == 1
    assert told in lines[0]
    assert lines[0] in (folder / "out" / "league.md").read_text(encoding="utf-8")


@pytest.mark.heavy
def test_file_with_an_underscore_is_no_entry(league):
    assert "_helper" not in league[2]


@pytest.mark.heavy
def test_entry_cannot_change_how_it_is_scored(league):
    folder = league[0] / "out"
    ranked = pd.read_csv(folder / "league.csv").set_index("entry")
    (path,) = folder.glob("patches-*")
    run, items = RunFolder(path), load_items(DEV)

    texts = read_answers(run.answers(run.checkpoints()[-1]), items)
    scored = [exact_match(text, item.answer) for text, item in zip(texts, items, strict=True)]

    assert ranked.loc["patches", "exact match"] == pytest.approx(np.mean(scored))
    assert np.mean(scored) < 1


@pytest.mark.heavy
def test_table_has_failed_entries_too(league):
    ranked = pd.read_csv(league[0] / "out" / "league.csv").set_index("entry")

    assert set(ranked.index) == {UNTRAINED, "patches", "quits", "raises", "two"}


@pytest.mark.heavy
def test_complete_entry_is_not_trained_again(league, tmp_path):
    (tmp_path / "patches.py").write_text(PATCHES, encoding="utf-8")

    code, printed = run_main(tmp_path, "--out", league[0] / "out")

    assert code == 0
    assert "patches.py (1 of 1): trained already" in printed


@pytest.mark.heavy
def test_entry_trains_with_its_own_reward_alone(league):
    (path,) = (league[0] / "out").glob("patches-*")

    settings = json.loads((path / "settings.json").read_text(encoding="utf-8"))

    assert settings["parameters"]["reward_weights"] == "mine 1"
