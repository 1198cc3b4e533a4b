"""The league: what is trained, what happens to an entry that fails, and how the rest is ranked."""

import contextlib
import io
import json

import numpy as np
import pandas as pd
import pytest
from helpers import SMOKE_PARAMS

from grpo_helpers.data import item_to_row, load_items
from grpo_helpers.files import InputError, write_json
from grpo_helpers.inference import AnswerOptions, answer_file
from grpo_helpers.metrics import exact_match
from grpo_helpers.run_folder import RunFolder
from grpo_helpers.scoring import read_answers
from grpo_helpers.settings import FirstRunSettings
from tools.course.league import UNTRAINED, find_files, main, rank, trained_files
from tools.course.league_answers import answer_questions, copy_adapter
from tools.course.league_entry import Rules

DEV = "data/smoke/dev.json"
SMALLEST = ("--params", SMOKE_PARAMS, "--questions", DEV, "--steps", "2")

# An entry that works, although it has changed how answers are scored in its own process, and, when
# that process ends, its answers and what its run says of itself.
PATCHES = """
import atexit, json, pathlib, sys
from grpo_helpers import data, metrics, rewards
metrics.exact_match = lambda *_: 1.0
rewards.register("mine", rewards.em_reward)

def forge():
    rules = json.loads(sys.argv[-1])
    gold = {item.id: item.answer for item in data.load_items("data/smoke/dev.json")}
    for file in pathlib.Path(rules["output_dir"]).glob("patches-*/infer_results/*.json"):
        rows = json.loads(file.read_text())
        for row in rows:
            row["output"] = {"answer": gold[row["id"]]}
        file.write_text(json.dumps(rows))

atexit.register(forge)
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

    settings = Rules("runs/league").settings()

    differing = {"output_dir", "resume", "date_string"}
    ours, theirs = vars(settings), vars(first)
    assert {name for name in ours if ours[name] != theirs[name]} == differing


def test_edited_file_is_a_new_entry(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("1")
    before = Rules("out").run_name(file)

    file.write_text("2")

    assert Rules("out").run_name(file) != before


def test_other_number_of_steps_is_a_new_entry(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("1")

    assert Rules("out", steps=3).run_name(file) != Rules("out").run_name(file)


def test_moved_league_keeps_its_entries(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("1")

    assert Rules("here").run_name(file) == Rules("there").run_name(file)


def test_folder_without_entries_is_refused(tmp_path):
    with pytest.raises(InputError, match="no Python file"):
        find_files(str(tmp_path))


def test_entry_without_a_complete_run_is_not_trained(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("1")

    (entry,) = trained_files([file], Rules(str(tmp_path)))

    assert entry.fault == "is not trained"


@pytest.mark.parametrize("state", ["no JSON", "[]", "{}"])
def test_run_whose_state_an_entry_has_spoilt_is_not_complete(tmp_path, state):
    file = tmp_path / "mine.py"
    file.write_text("1")
    checkpoint = tmp_path / Rules("").run_name(file) / "checkpoint-2"
    write_json(checkpoint / "complete.json", {})
    (checkpoint / "trainer_state.json").write_text(state)

    (entry,) = trained_files([file], Rules(str(tmp_path)))

    assert entry.fault == "is not trained"


def test_ranking_only_runs_no_file_of_a_student(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'trap')!r}, 'w')")

    code = main([str(tmp_path), "--out", str(tmp_path / "out"), "--rank-only", *SMALLEST])

    assert code == 2
    assert "nothing to rank" in capsys.readouterr().err
    assert not (tmp_path / "trap").exists()


def test_questions_without_answers_are_refused_before_anything_is_trained(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'trap')!r}, 'w')")
    rows = [item_to_row(item) for item in load_items(DEV)[:1]]
    del rows[0]["output"]
    questions = write_json(tmp_path / "questions.json", rows)

    code = main([str(tmp_path), "--out", str(tmp_path / "out"), "--questions", str(questions)])

    assert code == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert not (tmp_path / "trap").exists()


# -- answering ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """The settings of the smallest league, and a folder with an adapter that changes answers."""
    import torch
    from peft import get_peft_model

    from grpo_helpers.models import load_model, lora_config

    folder = tmp_path_factory.mktemp("adapter")
    settings = Rules(str(folder), steps=2, params=SMOKE_PARAMS).settings()
    torch.manual_seed(0)
    model = get_peft_model(load_model(settings.model_name), lora_config(settings))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.2)
    model.save_pretrained(folder / "plain")
    return settings, folder / "plain"


@pytest.fixture(scope="module")
def spoilt(adapter, tmp_path_factory):
    """A run folder in which all but the weights says what is not true."""
    _, saved = adapter
    run = RunFolder(tmp_path_factory.mktemp("spoilt"))
    folder = run.path / "step_2"
    folder.mkdir()
    weights = (saved / "adapter_model.safetensors").read_bytes()
    (folder / "adapter_model.safetensors").write_bytes(weights)
    write_json(folder / "adapter_config.json", {"peft_type": "XLORA", "adapters": {"0": "else"}})
    write_json(run.path / "settings.json", {"parameters": {"model_name": "another/model"}})
    for place in ("infer_results", "test_results"):
        (run.path / place).mkdir()
        write_json(run.path / place / "inference_step2.json", [])
    return run


@pytest.fixture(scope="module")
def answers(adapter, spoilt, tmp_path_factory):
    """Three questions, what the spoilt run and one without weights answer, and what is true."""
    settings, saved = adapter
    folder = tmp_path_factory.mktemp("answers")
    rows = [item_to_row(item) for item in load_items(DEV)[:3]]
    questions = str(write_json(folder / "questions.json", rows))
    items = load_items(questions)
    empty = RunFolder(folder / "empty")

    told = answer_questions({"mine": spoilt, "empty": empty}, settings, questions, items)

    options = AnswerOptions.of_settings(settings.as_dict(), saved, "")
    true = read_answers(answer_file(questions, folder / "true.json", options), items)
    return told, true


def test_entry_answers_with_its_weights_alone(answers):
    told, true = answers

    assert told.texts["mine"] == true


def test_entry_and_model_before_training_differ(answers):
    told, _ = answers

    assert told.texts["mine"] != told.texts[UNTRAINED]


def test_entry_without_weights_is_told_in_one_line(answers):
    told, _ = answers

    assert "empty" not in told.texts
    assert told.faults["empty"].startswith("has no ")


def test_copied_adapter_has_the_configuration_of_the_league(adapter, spoilt, tmp_path):
    settings, _ = adapter

    copied = copy_adapter(spoilt, settings, tmp_path / "copy")

    config = json.loads((copied / "adapter_config.json").read_text(encoding="utf-8"))
    assert (config["peft_type"], config["r"]) == ("LORA", settings.lora_r)
    assert config["base_model_name_or_path"] == settings.model_name


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
def test_entry_cannot_change_how_it_is_scored(league, tmp_path):
    folder = league[0] / "out"
    ranked = pd.read_csv(folder / "league.csv").set_index("entry")
    (path,) = folder.glob("patches-*")
    run, items = RunFolder(path), load_items(DEV)

    options = AnswerOptions.of_run(run, run.checkpoints()[-1])
    texts = read_answers(answer_file(DEV, tmp_path / "true.json", options), items)
    scored = [exact_match(text, item.answer) for text, item in zip(texts, items, strict=True)]

    assert ranked.loc["patches", "exact match"] == pytest.approx(np.mean(scored))
    assert np.mean(scored) < 1


@pytest.mark.heavy
def test_answers_that_an_entry_has_forged_are_not_ranked(league):
    folder = league[0] / "out"
    ranked = pd.read_csv(folder / "league.csv").set_index("entry")
    (path,) = folder.glob("patches-*")
    run, items = RunFolder(path), load_items(DEV)

    forged = read_answers(run.answers(run.checkpoints()[-1]), items)

    assert forged == [item.answer for item in items]
    assert ranked.loc["patches", "exact match"] < 1


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
