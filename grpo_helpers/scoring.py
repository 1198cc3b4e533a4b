"""Score the answer files of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from grpo_helpers.data import load_items
from grpo_helpers.files import InputError, resolve_path, write_atomically
from grpo_helpers.metrics import ENCODER, ENCODER_LAYERS, final_mean, score_answers
from grpo_helpers.questions import Item
from grpo_helpers.run_folder import checkpoint_of, checkpoint_order

if TYPE_CHECKING:
    import pandas as pd


Scores = Mapping[str, Mapping[str, Sequence[float]]]  # checkpoint -> metric -> score per item


def _part(values: Sequence[float]) -> np.ndarray:
    """Return what each item adds to a mean: NaN marks an item that a rule leaves out, the others count as much more."""
    array = np.asarray(values, float)
    scored = ~np.isnan(array)
    return np.where(scored, array, 0.0) * len(array) / max(scored.sum(), 1)


def item_finals(scores: Scores, aggregate: str = "article") -> np.ndarray:
    """Return each item's part of the Final Mean, (checkpoints, items): the mean of a row is the checkpoint's."""
    rows = [
        {metric: _part(values) for metric, values in by_metric.items()}
        for by_metric in scores.values()
    ]
    return np.array([final_mean(row, aggregate) for row in rows])


def checkpoint_means(scores: Scores, aggregate: str = "article") -> dict[str, dict[str, float]]:
    """Return each checkpoint's mean of every metric, and its ``final_mean``."""
    means = {
        name: {key: float(_part(values).mean()) for key, values in row.items()}
        for name, row in scores.items()
    }
    return {name: row | {"final_mean": final_mean(row, aggregate)} for name, row in means.items()}


Answers = Mapping[str, list[str]]  # checkpoint -> answer per item


def read_answers(file: Path, labels: list[Item]) -> list[str]:
    """Return the answers of one file in the order of ``labels``; InputError if it answers other questions."""
    texts = {str(item.id): item for item in load_items(file, need_answer=False)}
    wanted = [str(item.id) for item in labels]
    missing = [key for key in wanted if key not in texts]
    foreign = [key for key in texts if key not in set(wanted)]
    if missing or foreign:
        lacks = f"{len(missing)} missing (first: {missing[:1]})"
        other = f"{len(foreign)} not in the labels (first: {foreign[:1]})"
        raise InputError(
            f"{file.name} does not answer the questions of the labels: {lacks}, {other}; see label_path"
        )
    for label in labels:
        if texts[str(label.id)].question != label.question:
            raise InputError(f"{file.name}: id {label.id!r} holds another question than the labels")
    return [texts[key].answer or "" for key in wanted]


def read_folder(
    input_dir: str | Path, labels: list[Item], skipped: list[str] | None = None
) -> dict[str, list[str]]:
    """Return the answers of every ``*.json`` of a folder, by checkpoint, in training order; ``labels`` are the items.

    A file that cannot be used is left out where ``skipped`` is given, and what is wrong with it goes there; without
    ``skipped`` it is an InputError. So is a folder with no answer file that can be used.
    """
    answers: dict[str, list[str]] = {}
    for file in sorted(
        resolve_path(input_dir).glob("*.json"), key=lambda file: checkpoint_order(file.stem)
    ):
        try:
            name, texts = checkpoint_of(file), read_answers(file, labels)
            if name in answers:
                raise InputError(f"{file.name}: another file answers for {name} already")
            answers[name] = texts
        except InputError as error:
            if skipped is None:
                raise
            skipped.append(str(error))
    if not answers:
        told = f" that can be used ({skipped[0]})" if skipped else ""
        expected = "expected the inference_*.json of a run's infer_results folder"
        raise InputError(f"no *.json{told} in {input_dir}: {expected}")
    return answers


def evaluate_json(
    input_dir: str | Path,
    label_path: str | Path,
    encoder: str = ENCODER,
    encoder_layers: int = ENCODER_LAYERS,
) -> dict[str, dict[str, list[float]]]:
    """Return the per-item scores of every ``*.json`` in ``input_dir``, by checkpoint, in training order.

    ``label_path`` is the contest file with the gold answers; ``encoder`` is BERTScore's, a local folder or a hub id,
    and ``encoder_layers`` the layer of it that is compared. InputError where there is no answer file, or one that
    answers other questions than the labels hold.
    """
    labels = load_items(label_path)
    return score_all(read_folder(input_dir, labels), labels, encoder, encoder_layers)


def score_all(
    answers: Answers,
    labels: list[Item],
    encoder: str = ENCODER,
    encoder_layers: int = ENCODER_LAYERS,
):
    """Return the per-item scores of every checkpoint's answers, with a progress bar where there are thousands."""
    from tqdm.auto import tqdm

    shown = tqdm(
        answers.items(), unit="file", leave=False, disable=len(answers) * len(labels) < 2000
    )
    return {name: score_answers(texts, labels, encoder, encoder_layers) for name, texts in shown}


def scores_table(scores: Scores, aggregate: str = "article") -> pd.DataFrame:
    """Return one row per checkpoint with the mean of every metric, in training order."""
    import pandas as pd

    rows = [
        {"checkpoint": name, **means} for name, means in checkpoint_means(scores, aggregate).items()
    ]
    return pd.DataFrame(rows).sort_values(
        "checkpoint", key=lambda names: names.map(checkpoint_order)
    )


def item_table(scores: Scores, labels: list[Item]) -> pd.DataFrame:
    """Return one row per checkpoint and item: ids, types, categories and every metric."""
    import pandas as pd

    about = {
        "id": [item.id for item in labels],
        "question_type": [item.question_type for item in labels],
    }
    about["category"] = [item.extra.get("category", "") for item in labels]
    frames = [
        pd.DataFrame({"checkpoint": name, **about, **by_metric})
        for name, by_metric in scores.items()
    ]
    return pd.concat(frames, ignore_index=True)


def write_tables(scores: Scores, labels: list[Item], output_dir: str | Path) -> list[Path]:
    """Write ``scores.csv`` and ``item_scores.csv`` to ``output_dir``, atomically; return their paths."""
    tables = {"scores.csv": scores_table(scores), "item_scores.csv": item_table(scores, labels)}
    files = [
        (Path(output_dir) / name, partial(table.to_csv, index=False))
        for name, table in tables.items()
    ]
    return [write_atomically(path, write) for path, write in files]
