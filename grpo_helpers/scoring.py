"""⑥ Score the answer files of a run.

In: the ``inference_*.json`` of a folder and the file with the gold answers. Out: the score of
every answer by every metric, and tables of them: one row per checkpoint (``scores.csv``) and one
row per checkpoint and item (``item_scores.csv``). The article keeps means only; without scores
per item no two checkpoints can be compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from grpo_helpers.data import load_items, load_predictions
from grpo_helpers.files import InputError, nfc, resolve_path, write_atomically
from grpo_helpers.metrics import ENCODER, ENCODER_LAYERS, final_mean, score_answers
from grpo_helpers.questions import Item
from grpo_helpers.rewards import extra_scores
from grpo_helpers.run_folder import (
    ITEM_SCORES_FILE,
    SCORES_FILE,
    checkpoint_of,
    checkpoint_order,
)
from grpo_helpers.thoughts import any_thinks, thought_scores

if TYPE_CHECKING:
    import pandas as pd

Scores = Mapping[str, Mapping[str, Sequence[float]]]  # checkpoint -> metric -> score per item
Answers = Mapping[str, list[str]]  # checkpoint -> answer per item

# The columns of an item table that are no metrics; tables of several splits have a ``split``.
ITEM_COLUMNS = ("checkpoint", "id", "question_type", "category", "kind", "card", "split")
ABOUT_ITEMS = ("category", "kind", "card")  # fields of the course's own rows; other files lack them
SHOW_PROGRESS_FROM = 2000  # answers; fewer are scored in a moment


# -- answers -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AnswerFolder:
    """What was read from a folder of answer files.

    Attributes:
        answers: The answers of each checkpoint, in training order.
        problems: What is wrong with each file that could not be used, one line each.
    """

    answers: dict[str, list[str]]
    problems: list[str]


def read_answers(file: Path, labels: Sequence[Item]) -> list[str]:
    """Return the answers of one file in the order of ``labels``.

    An empty answer is one that scores 0.

    Raises:
        InputError: The file answers other questions than those of ``labels``, or a row of it has no
            answer in ``output.answer``.
    """
    items = {str(item.id): item for item in load_predictions(file)}
    _check_same_questions(file.name, items, labels)

    answers = []
    for label in labels:
        answers.append(items[str(label.id)].answer or "")
    return answers


def _check_same_questions(name: str, items: Mapping[str, Item], labels: Sequence[Item]) -> None:
    """Raise InputError unless ``items``, by id, hold the questions of ``labels`` and no others."""
    expected = {str(label.id) for label in labels}
    missing = [str(label.id) for label in labels if str(label.id) not in items]
    foreign = [key for key in items if key not in expected]

    if missing or foreign:
        raise InputError(
            f"{name} does not answer the questions of the labels: "
            f"{len(missing)} missing (first: {missing[:1]}), "
            f"{len(foreign)} not in the labels (first: {foreign[:1]}); see label_path"
        )

    for label in labels:
        if items[str(label.id)].question != label.question:
            raise InputError(f"{name}: id {label.id!r} is not the same question as in the labels")


def scan_folder(input_dir: str | Path, labels: Sequence[Item]) -> AnswerFolder:
    """Read every ``*.json`` of a folder, and note the files that cannot be used.

    Args:
        input_dir: The folder with the answer files.
        labels: The items that were asked.
    """
    files = resolve_path(input_dir).glob("*.json")
    answers: dict[str, list[str]] = {}
    problems = []

    for file in sorted(files, key=lambda file: checkpoint_order(file.stem)):
        checkpoint = nfc(checkpoint_of(file))
        try:
            texts = read_answers(file, labels)
            if checkpoint in answers:
                raise InputError(f"{file.name}: another file answers for {checkpoint} already")
        except InputError as error:
            problems.append(str(error))
        else:
            answers[checkpoint] = texts

    return AnswerFolder(answers, problems)


def require_answers(folder: AnswerFolder, input_dir: str | Path) -> None:
    """Raise InputError if no file of the folder could be used."""
    if folder.answers:
        return

    problem = ""
    if folder.problems:
        problem = f" that can be used ({folder.problems[0]})"

    expected = "expected the inference_*.json of a run's infer_results folder"
    raise InputError(f"no *.json{problem} in {input_dir}: {expected}")


def read_folder(input_dir: str | Path, labels: Sequence[Item]) -> dict[str, list[str]]:
    """Return the answers of every ``*.json`` of a folder, by checkpoint, in training order.

    Args:
        input_dir: The folder with the answer files.
        labels: The items that were asked.

    Raises:
        InputError: There is no answer file, or one that cannot be used.
    """
    folder = scan_folder(input_dir, labels)

    if folder.problems:
        raise InputError(folder.problems[0])

    require_answers(folder, input_dir)
    return folder.answers


# -- scores --------------------------------------------------------------------------------------


def evaluate_json(
    input_dir: str | Path,
    label_path: str | Path,
    encoder: str = ENCODER,
    encoder_layers: int = ENCODER_LAYERS,
) -> dict[str, dict[str, list[float]]]:
    """Return the per-item scores of every ``*.json`` of a folder, by checkpoint.

    Args:
        input_dir: The folder with the answer files.
        label_path: The contest file with the gold answers.
        encoder: BERTScore's encoder: a local folder or a hub id.
        encoder_layers: The layer of it that is compared.

    Returns:
        Scores per checkpoint (in training order), metric and item.

    Raises:
        InputError: There is no answer file, or one that cannot be used.
    """
    labels = load_items(label_path)
    answers = read_folder(input_dir, labels)
    return score_all(answers, labels, encoder, encoder_layers)


def score_all(
    answers: Answers,
    labels: Sequence[Item],
    encoder: str = ENCODER,
    encoder_layers: int = ENCODER_LAYERS,
) -> dict[str, dict[str, list[float]]]:
    """Return the per-item scores of every checkpoint's answers.

    Rewards of the reader's own (:func:`grpo_helpers.rewards.register`) are metrics, too. Where an
    answer holds a thought, so are ``thinks`` and ``thought_characters``. A progress bar is shown
    where there are thousands of answers.

    Args:
        answers: One answer per item, by checkpoint.
        labels: The items with their gold answers.
        encoder: BERTScore's encoder: a local folder or a hub id.
        encoder_layers: The layer of it that is compared.
    """
    from tqdm.auto import tqdm

    count = len(answers) * len(labels)
    progress = tqdm(answers.items(), unit="file", leave=False, disable=count < SHOW_PROGRESS_FROM)

    some_think = any(any_thinks(texts) for texts in answers.values())

    scores = {}
    for name, texts in progress:
        scores[name] = score_answers(texts, labels, encoder, encoder_layers)
        scores[name] |= extra_scores(texts, labels)
        if some_think:
            scores[name] |= thought_scores(texts)
    return scores


def _parts_of_mean(values: Sequence[float]) -> np.ndarray:
    """Return numbers whose plain mean is the mean of the scored items.

    NaN marks an item that a rule leaves out: it becomes 0, and the others count for as much more.
    """
    array = np.asarray(values, float)
    is_scored = ~np.isnan(array)
    filled = np.where(is_scored, array, 0.0)
    return filled * len(array) / max(is_scored.sum(), 1)


def item_finals(scores: Scores, aggregate: str = "article") -> np.ndarray:
    """Return each item's part of the Final Mean: the mean of a row is the checkpoint's.

    Args:
        scores: Scores per checkpoint, metric and item.
        aggregate: How the Final Mean is computed, one of ``metrics.AGGREGATES``.

    Returns:
        An array of shape (checkpoints, items).
    """
    rows = []

    for by_metric in scores.values():
        parts: dict[str, Any] = {}  # arrays: aggregates compute with them as with numbers
        for metric, values in by_metric.items():
            parts[metric] = _parts_of_mean(values)
        rows.append(final_mean(parts, aggregate))

    return np.array(rows)


def checkpoint_means(scores: Scores, aggregate: str = "article") -> dict[str, dict[str, float]]:
    """Return each checkpoint's mean of every metric, and its ``final_mean``.

    Args:
        scores: Scores per checkpoint, metric and item.
        aggregate: How the Final Mean is computed, one of ``metrics.AGGREGATES``.
    """
    means = {}

    for name, by_metric in scores.items():
        row = {}
        for metric, values in by_metric.items():
            row[metric] = float(_parts_of_mean(values).mean())

        row["final_mean"] = final_mean(row, aggregate)
        means[name] = row

    return means


# -- tables --------------------------------------------------------------------------------------


def scores_table(scores: Scores, aggregate: str = "article") -> pd.DataFrame:
    """Return one row per checkpoint with the mean of every metric, in training order.

    Args:
        scores: Scores per checkpoint, metric and item.
        aggregate: How the Final Mean is computed, one of ``metrics.AGGREGATES``.
    """
    import pandas as pd

    rows = []
    for name, means in checkpoint_means(scores, aggregate).items():
        rows.append({"checkpoint": name, **means})

    table = pd.DataFrame(rows)
    return table.sort_values("checkpoint", key=lambda names: names.map(checkpoint_order))


def item_table(scores: Scores, labels: Sequence[Item]) -> pd.DataFrame:
    """Return one row per checkpoint and item: id, type, what it is about, and every metric."""
    import pandas as pd

    about: dict[str, list[Any]] = {
        "id": [item.id for item in labels],
        "question_type": [item.question_type for item in labels],
    }
    for field in ABOUT_ITEMS:
        about[field] = [str(item.extra.get(field) or "") for item in labels]

    frames = []
    for name, by_metric in scores.items():
        frames.append(pd.DataFrame({"checkpoint": name, **about, **by_metric}))
    return pd.concat(frames, ignore_index=True)


def scores_from_table(frame: pd.DataFrame) -> dict[str, dict[str, list[float]]]:
    """Return the scores of an item table: what :func:`item_table` was made from.

    Args:
        frame: Rows of ``item_scores.csv``, or of one split of a table of several splits.

    Returns:
        Scores per checkpoint (in the order of the table), metric and item.
    """
    metrics = _metric_columns(frame.columns)
    scores = {}

    for name, part in frame.groupby("checkpoint", sort=False):
        scores[str(name)] = {metric: part[metric].tolist() for metric in metrics}

    return scores


def _metric_columns(columns: Iterable[str]) -> list[str]:
    """Return the names of the metrics among the columns of an item table."""
    return [column for column in columns if column not in ITEM_COLUMNS]


def write_tables(scores: Scores, labels: Sequence[Item], output_dir: str | Path) -> list[Path]:
    """Write ``scores.csv`` and ``item_scores.csv``, each atomically; return their paths.

    Args:
        scores: Scores per checkpoint, metric and item.
        labels: The items, in the order of the scores.
        output_dir: The folder that the tables go to.
    """
    tables = {SCORES_FILE: scores_table(scores), ITEM_SCORES_FILE: item_table(scores, labels)}
    paths = []

    for name, table in tables.items():
        write = partial(table.to_csv, index=False)
        paths.append(write_atomically(Path(output_dir) / name, write))

    return paths
