"""The recorded runs: what is kept is whole and small, and the rules say of them what notebook 05 says."""

import json

import pandas as pd
import pytest

from grpo_helpers.data import load_items
from grpo_helpers.files import project_root
from grpo_helpers.health import examine
from grpo_helpers.run_folder import read_log
from tools.experiments import gemma as real_model
from tools.experiments.record import KEPT, RUNS, quotable, quoted_reward

FILES = {
    "about.json",
    "settings.json",
    "log.jsonl",
    "scores.csv",
    "item_scores.csv",
    "completions.json",
}
TESTED = {"test_item_scores.csv"}


def alarms(name):
    return {
        finding.rule for finding in examine(read_log(KEPT / name / "log.jsonl")) if finding.alarm
    }


RECORDED = [*RUNS, *real_model.RUNS]


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_run_is_whole_small_and_says_how_it_was_made(name):
    folder = KEPT / name
    tested = name in real_model.RUNS or RUNS[name].tests
    assert {path.name for path in folder.iterdir()} == FILES | (TESTED if tested else set())
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1_000_000
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    parameters = json.loads((folder / "settings.json").read_text(encoding="utf-8"))["parameters"]
    assert about["changed"].items() <= parameters.items() and name in about["command"]
    items = pd.read_csv(folder / "item_scores.csv")
    means = pd.read_csv(folder / "scores.csv").set_index("checkpoint")["em"]
    assert items.groupby("checkpoint")["em"].mean().to_dict() == pytest.approx(
        means.to_dict(), abs=1e-4
    )  # rounded
    assert not any(
        str(project_root()) in path.read_text(encoding="utf-8") for path in folder.iterdir()
    )


def test_the_gamed_run_earns_more_and_more_while_exact_match_falls_and_the_rules_see_it():
    rows = read_log(KEPT / "quoted/log.jsonl")
    assert rows[-1]["reward"] > rows[0]["reward"]
    scores = pd.read_csv(KEPT / "quoted/scores.csv")["em"]
    assert scores.iloc[-1] < scores.iloc[0] - 0.1
    assert "reward and exact match" in alarms("quoted")


def test_the_hot_run_is_well_and_the_rules_are_quiet():
    scores = pd.read_csv(KEPT / "temperature_1.0_rate_0.0003/scores.csv")["em"]
    assert scores.iloc[-1] > scores.iloc[0] and not alarms("temperature_1.0_rate_0.0003")


def test_the_gamed_reward_pays_the_gold_answer_of_one_type_only():
    """What the gold gate is for: it would have shown the fault before training."""
    items = load_items("data/embedded/train.json")
    prompts = [[{"role": "user", "content": item.question}] for item in items]
    paid = quoted_reward(prompts, [item.answer for item in items])
    assert {item.question_type: value for item, value in zip(items, paid, strict=True)} == {
        "선택형": 1.0,
        "교정형": 0.0,
    }
    assert quotable("밑줄 친 말을 고르세요.\n― {며칠/몇일} {걸려/걸례} 왔다.") == [
        "며칠 걸려 왔다.", "며칠 걸례 왔다.", "몇일 걸려 왔다.", "몇일 걸례 왔다."
    ]  # fmt: skip
