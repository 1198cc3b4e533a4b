"""Copy what a reader needs of a finished run to ``data/reference_runs``: small files, no weights.

In: a run folder. Out: ``data/reference_runs/<run>/`` with ``settings.json``, ``log.jsonl``,
``scores.csv``, ``item_scores.csv``, ``completions.json`` and ``about.json`` (how it was made), and
``test_item_scores.csv`` where the test sets were answered.
"""

from __future__ import annotations

import datetime
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from grpo_helpers.data import load_items
from grpo_helpers.files import read_json, write_atomically, write_json
from grpo_helpers.questions import Item
from grpo_helpers.rewards import completion_text
from grpo_helpers.run_folder import (
    BASE,
    COMPLETIONS_FOLDER,
    ITEM_SCORES_FILE,
    LOG_FILE,
    SCORES_FILE,
    SETTINGS_FILE,
    RunFolder,
    checkpoint_order,
)
from grpo_helpers.scoring import Scores, evaluate_json, item_table, read_folder, scores_table
from grpo_helpers.splits import DEV
from tools.experiments.recorded_runs import CLOCK_FILE, FOLDER

SHARES = (0.0, 0.5, 1.0)  # where in a run completions are recorded
EXAMPLES = 8  # how many at each place
COLUMNS = (
    "completion",
    "advantage",
    "em_reward",
    "format_reward",
    "rouge1_reward",
    "bertscore_reward",
    "quoted_reward",
)
METRICS = ["em", "choice", "format", "rouge1", "bertscore", "em_seed", "em_official"]


def item_scores_on_dev(run: RunFolder) -> tuple[Scores, list[Item]]:
    """Score the dev answers of a run.

    Returns:
        The scores of every item by checkpoint and metric, and the items.
    """
    label_path = run.settings["eval_data_path"]
    return evaluate_json(DEV.answer_folder(run.path), label_path), load_items(label_path)


def record_files(
    name: str,
    run: RunFolder,
    scores: Scores,
    items: list[Item],
    *,
    about: dict[str, Any],
    seconds: dict[str, float],
) -> Path:
    """Write settings, log, scores and ``about.json`` of a run.

    Args:
        name: The name under which the run is recorded.
        run: The run.
        scores: Its dev scores.
        items: The dev items.
        about: How the run was made; date and minutes are added.
        seconds: Seconds of training behind each checkpoint, for ``scores.csv``.

    Returns:
        ``data/reference_runs/<name>``.
    """
    folder = FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(run.path / SETTINGS_FILE, folder / SETTINGS_FILE)

    rows = run.log.rows()
    lines = [json.dumps(_rounded(row)) + "\n" for row in rows]
    write_atomically(folder / LOG_FILE, lambda file: file.writelines(lines))

    means = scores_table(scores)
    means["train_seconds"] = means["checkpoint"].map(seconds)
    write_table(folder / SCORES_FILE, means)
    write_table(folder / ITEM_SCORES_FILE, item_table(scores, items))

    finished = run.log.path.stat().st_mtime
    date = datetime.date.fromtimestamp(finished).isoformat()
    minutes = round(rows[-1]["seconds"] / 60, 1)
    write_json(folder / "about.json", about | {"date": date, "minutes": minutes})
    return folder


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    """Return a log row with its floats rounded to 5 digits."""
    short = {}
    for key, value in row.items():
        short[key] = round(value, 5) if isinstance(value, float) else value
    return short


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table of scores, rounded to 4 digits, without the columns that nobody redraws."""
    unused = []
    for column in table:
        if str(column).endswith("_official") and column not in METRICS:
            unused.append(column)

    short = table.drop(columns=unused).round(4)
    write_atomically(path, lambda file: short.to_csv(file, index=False))


def train_seconds(run: RunFolder, checkpoints: Sequence[str]) -> dict[str, float]:
    """Return the seconds that the steps up to each checkpoint took.

    What is done between steps (saving, answering the dev set) does not count. A supervised control
    wrote the seconds itself (``clock.json``); a GRPO run logged them step by step, those of steps
    that use samples again (``num_iterations``) in rows without a reward.
    """
    clock = run.path / CLOCK_FILE
    if clock.is_file():
        return {BASE: 0.0} | read_json(clock)

    rows = [row for row in run.log.rows() if "step_time" in row]
    seconds = {}
    for name in checkpoints:
        unit = "epoch" if name.startswith("epoch_") else "step"
        last = checkpoint_order(name)[0] + 1e-6  # epochs are logged as fractions
        seconds[name] = round(sum(row["step_time"] for row in rows if row[unit] <= last), 2)
    return seconds


def sampled_completions(run: RunFolder) -> list[dict[str, Any]]:
    """Return some completions of the first, the middle and the last step.

    Returns:
        One dict per completion: step, question, text, advantage, and every reward.
    """
    files = sorted((run.path / COMPLETIONS_FOLDER).glob("*.parquet"))

    examples = []
    for share in SHARES:
        file = files[round(share * (len(files) - 1))]
        step = int(file.stem.split("_")[-1])

        frame = pd.read_parquet(file)
        spacing = max(1, len(frame) // EXAMPLES)  # so that they are not all of one prompt
        for _, row in frame.iloc[::spacing].head(EXAMPLES).iterrows():
            example = {"step": step, "question": row["prompt"][-1]["content"]}
            example |= {name: row[name] for name in COLUMNS if name in frame}
            example["completion"] = completion_text(list(row["completion"]))
            examples.append(example)
    return examples


def dev_answers(run: RunFolder, items: list[Item], scores: Scores) -> list[dict[str, Any]]:
    """Return some dev answers of the first, the middle and the last checkpoint.

    They take the place of :func:`sampled_completions` in a supervised run, which samples nothing.
    """
    answers = read_folder(DEV.answer_folder(run.path), items)
    checkpoints = list(answers)

    examples = []
    for share in SHARES:
        name = checkpoints[round(share * (len(checkpoints) - 1))]
        for place in range(0, len(items), len(items) // EXAMPLES):
            example = {
                "step": checkpoint_order(name)[0],
                "question": items[place].question,
                "completion": answers[name][place],
                "em_reward": scores[name]["em"][place],
            }
            examples.append(example)
    return examples
