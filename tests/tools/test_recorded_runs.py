"""The recorded runs: whole, small, and judged by the health rules as notebook 06 says."""

import pandas as pd
import pytest

from grpo_helpers.coverage import COVERAGE_FOLDER, checkpoints_of, load_coverage, pass_at
from grpo_helpers.data import load_items
from grpo_helpers.files import project_root
from grpo_helpers.health import examine
from grpo_helpers.parameters import present_names
from grpo_helpers.statistics import LEVEL, holm
from tools.experiments.quoted import quotable, quoted_reward
from tools.experiments.recorded_runs import (
    FOLDER,
    REAL_MODEL_RUNS,
    RUNS,
    about,
    items_on_dev,
    means_on_dev,
    recorded_folder,
    recorded_real_model_runs,
    recorded_runs,
)
from tools.pages.real_model import comparisons_with_warm_start

FILES = {
    "about.json",
    "settings.json",
    "log.jsonl",
    "scores.csv",
    "item_scores.csv",
    "completions.json",
}
TESTED = {"test_item_scores.csv"}

every_run = pytest.mark.parametrize("name", [*recorded_runs(), *recorded_real_model_runs()])
where_gamed = pytest.mark.skipif("quoted" not in recorded_runs(), reason="not recorded yet")


def alarms(name):
    findings = examine(recorded_folder(name).log.step_rows())
    return {finding.rule for finding in findings if finding.alarm}


def test_every_recorded_run_is_planned():
    recorded = {path.parent.name for path in FOLDER.glob("*/about.json")}
    assert recorded <= {*RUNS, *REAL_MODEL_RUNS}


def test_default_run_is_recorded():
    assert "seed_0" in recorded_runs()


@every_run
def test_recorded_run_has_exactly_its_files(name):
    has_tests = name in REAL_MODEL_RUNS or RUNS[name].has_tests
    expected = FILES | TESTED if has_tests else FILES
    assert {path.name for path in (FOLDER / name).iterdir()} == expected


@every_run
def test_recorded_run_is_smaller_than_a_megabyte(name):
    assert sum(path.stat().st_size for path in (FOLDER / name).iterdir()) < 1_000_000


@every_run
def test_recorded_run_names_no_path_of_this_machine(name):
    for path in (FOLDER / name).iterdir():
        assert str(project_root()) not in path.read_text(encoding="utf-8")


@every_run
def test_command_of_a_recorded_run_names_it(name):
    assert name in about(name)["command"]


@every_run
def test_changes_of_a_recorded_run_are_in_its_settings(name):
    parameters = recorded_folder(name).settings
    for key, value in present_names(about(name)["changed"]).items():
        assert parameters[key] == value, key


@every_run
def test_means_of_a_recorded_run_are_those_of_its_items(name):
    of_items = items_on_dev(name).groupby("checkpoint")["em"].mean()
    of_run = means_on_dev(name)["em"]
    assert of_items.to_dict() == pytest.approx(of_run.to_dict(), abs=1e-4)  # rounded


@where_gamed
def test_gamed_run_earns_more_at_its_end():
    rows = recorded_folder("quoted").log.step_rows()
    assert rows[-1]["reward"] > rows[0]["reward"]


@where_gamed
def test_gamed_run_loses_exact_match():
    em = means_on_dev("quoted")["em"]
    assert em.iloc[-1] < em.iloc[0] - 0.1


@where_gamed
def test_gamed_run_raises_the_alarm():
    assert "reward and exact match" in alarms("quoted")


@where_gamed
def test_kl_term_does_not_save_the_gamed_run():
    em = means_on_dev("quoted_beta_0.1")["em"]
    log = pd.DataFrame(recorded_folder("quoted_beta_0.1").log.step_rows())

    assert [round(em.iloc[0], 2), round(em.iloc[-1], 2)] == [0.47, 0.35]
    assert round(means_on_dev("quoted")["em"].iloc[-1], 2) == 0.28
    assert log["kl"].max() < 0.03
    assert "reward and exact match" in alarms("quoted_beta_0.1")


def test_quoted_reward_pays_gold_answers_of_one_type_only():
    """The check of gold answers (``rewards check``) would have shown the fault before training."""
    items = load_items("data/embedded/train.json")
    prompts = [[{"role": "user", "content": item.question}] for item in items]
    earned = quoted_reward(prompts, [item.answer for item in items])

    by_type = pd.Series(earned).groupby([item.question_type for item in items]).agg(["min", "max"])

    assert by_type.loc["선택형"].tolist() == [1.0, 1.0]
    assert by_type.loc["교정형"].tolist() == [0.0, 0.0]


def test_quotable_fills_every_brace_with_every_option():
    question = "밑줄 친 말을 고르세요.\n― {며칠/몇일} {걸려/걸례} 왔다."
    assert quotable(question) == [
        "며칠 걸려 왔다.",
        "며칠 걸례 왔다.",
        "몇일 걸려 왔다.",
        "몇일 걸례 왔다.",
    ]


# What notebooks 02 and 06 say of samples that are used again, and of pass@k.


def test_samples_are_clipped_more_often_each_time_they_are_used():
    rows = [row for row in recorded_folder("iterations_4").log.rows() if "step_time" in row]
    table = pd.DataFrame(rows)
    use = (table["step"] - 1) % 4

    clipped = 100 * table.groupby(use)["clip_ratio/region_mean"].mean()

    assert clipped.round(1).tolist() == [0.0, 0.2, 0.6, 0.9]


def test_training_raises_one_sample_and_leaves_sixty_four_where_they_were():
    table = load_coverage(FOLDER / COVERAGE_FOLDER)["seed_0"]
    for split in ("dev", "unseen_words"):
        asked = table[table["split"] == split]
        base, *_, last = checkpoints_of(asked)

        assert pass_at(1, asked[last]) > pass_at(1, asked[base]) + 0.15
        assert abs(pass_at(64, asked[last]) - pass_at(64, asked[base])) < 0.01


def test_first_epoch_covers_more_unseen_words_than_the_last():
    table = load_coverage(FOLDER / COVERAGE_FOLDER)["seed_0"]
    asked = table[table["split"] == "unseen_words"]

    assert pass_at(64, asked["epoch_1"]) > pass_at(64, asked["epoch_3"]) + 0.03


# What notebook 06 and docs/experiments.md say of the real model.


def test_of_eight_comparisons_of_the_real_model_one_survives_holm():
    made = comparisons_with_warm_start()

    corrected = holm([comparison.p_value for comparison in made])

    assert [p_value <= LEVEL for p_value in corrected] == [True] + [False] * 7
    assert round(corrected[0], 3) == 0.027


def test_interval_of_the_fast_real_run_contains_zero_on_every_set():
    of_fast_run = comparisons_with_warm_start()[4:]

    assert all(comparison.low <= 0 <= comparison.high for comparison in of_fast_run)


def test_fast_real_run_loses_rouge_on_dev():
    means = means_on_dev(recorded_real_model_runs()[1])

    assert means["rouge1"].iloc[-1] < means["rouge1"]["warm"] - 0.05
