"""The rewards in the article's way and in ours: the same values, and a run to take them from."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from grpo_helpers.data import load_items
from grpo_helpers.metrics import ENCODER, ENCODER_LAYERS
from tools.benchmarks import rewards
from tools.benchmarks.rewards import ArticleWay, OurWay, RecordedStep

TRAIN = "data/smoke/train.json"
ITEMS = load_items(TRAIN)[:3]
GOLDS = [item.answer for item in ITEMS]
SETTINGS = {
    "train_data_path": TRAIN,
    "bertscore_model": ENCODER,
    "bertscore_layers": ENCODER_LAYERS,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
}


@pytest.fixture
def step():
    """A right answer, one with another reason, and one without any."""
    completions = [GOLDS[0], GOLDS[0], '"며칠이 걸렸다."가 옳다.']
    return RecordedStep("made up", completions, GOLDS, SETTINGS, step_seconds=[2.0, 2.0])


@pytest.fixture
def run(tmp_path):
    """The folder of a finished run with one recorded step."""
    (tmp_path / "completions").mkdir()
    prompts = [[{"role": "user", "content": item.question}] for item in ITEMS]
    completions = [[{"role": "assistant", "content": gold}] for gold in GOLDS]
    step = pd.DataFrame({"prompt": prompts, "completion": completions})
    step.to_parquet(tmp_path / "completions" / "completions_00001.parquet")

    settings = json.dumps({"parameters": SETTINGS})
    (tmp_path / "settings.json").write_text(settings, encoding="utf-8")
    row = json.dumps({"step": 1, "reward": 1.0, "step_time": 3.5})
    (tmp_path / "log.jsonl").write_text(row + "\n", encoding="utf-8")
    return tmp_path


# -- the recorded step ------------------------------------------------------------------------


def test_recorded_step_has_the_texts(run):
    assert rewards.recorded_step(run).completions == GOLDS


def test_recorded_step_finds_the_gold_answers(run):
    assert rewards.recorded_step(run).references == GOLDS


def test_recorded_step_has_the_seconds_of_the_log(run):
    assert rewards.recorded_step(run).step_seconds == [3.5]


def test_folder_without_a_run_is_one_error_line(tmp_path, capsys):
    assert rewards.main(["--run", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "make run" in error
    assert error.count("\n") == 1


# -- the two ways -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def article():
    return ArticleWay(ENCODER, ENCODER_LAYERS)


def test_both_ways_give_the_same_rewards(step, article):
    comparison = rewards.compare_rewards(step, article, OurWay(ENCODER, ENCODER_LAYERS))
    assert comparison.difference <= 1e-6


def test_both_ways_compute_the_same_four_rewards(step, article):
    ours = OurWay(ENCODER, ENCODER_LAYERS)
    assert set(ours(step.completions, step.references)) == set(article([], []))


def test_both_ways_give_the_same_rouge(article):
    pairs = rewards.unique_reasons()[:20]
    assert rewards.compare_rouge(pairs, article).difference <= 1e-9


def test_answer_without_a_reason_earns_no_bertscore(step, article):
    assert article(step.completions, step.references)["bertscore"][2] == 0.0


def test_no_reason_occurs_twice_among_the_pairs():
    texts = [text for pair in rewards.unique_reasons() for text in pair]
    assert len(texts) == len(set(texts)) > 100


def test_speed_up_is_the_ratio_of_seconds():
    assert rewards.Comparison(6.0, 2.0, difference=0.0).speed_up == 3.0


# -- the targets ------------------------------------------------------------------------------


def test_share_of_a_step_is_that_of_all_its_completions(run, monkeypatch):
    monkeypatch.setattr(rewards, "unique_reasons", lambda: [("소리대로 적는다.", "소리대로 쓴다.")])
    comparison = rewards.Comparison(article_seconds=7.0, our_seconds=0.21, difference=0.0)
    monkeypatch.setattr(rewards, "compare_rewards", lambda *_: comparison)
    share = rewards.bench_rewards(run)[-1]
    # Eight completions a step, three measured in 0.21 s, 3.5 s for a step.
    assert share.value == pytest.approx(0.21 * 8 / 3 / 3.5)


def test_recorded_targets_are_those_of_the_tool(run, monkeypatch):
    recorded = []
    monkeypatch.setattr(rewards, "bench_rewards", lambda folder: ["targets of", str(folder)])
    monkeypatch.setattr(rewards, "report", lambda targets: 0)
    monkeypatch.setattr(rewards, "record", lambda *given: recorded.append(given))
    rewards.main(["--run", str(run), "--record"])
    assert recorded == [("rewards", ["targets of", str(run)])]
