"""Score every answer file of a folder at once: ``python -m grpo_helpers.evaluate_json --input_dir D --label_path F``.

In: the ``inference_*.json`` of a run and the file with the gold answers. Out: the article's block (ROUGE-1,
BERTScore, EM and Final Mean per file, the best file at the end), ``scores.csv`` (a row per checkpoint) and
``item_scores.csv`` (a row per checkpoint and item). The article keeps means only; without per-item scores no two
checkpoints can be compared.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from grpo_helpers.data import InputError, Item, load_items, resolve_path, write_atomically
from grpo_helpers.metrics import ENCODER, ENCODER_LAYERS, score_answers
from grpo_helpers.selection import Scores, checkpoint_means, checkpoint_order, choose

if TYPE_CHECKING:
    import pandas as pd


def checkpoint_of(file: Path) -> str:
    """Return the checkpoint an answer file belongs to.

    Example:
        >>> checkpoint_of(Path("inference_epoch3.json"))
        'epoch_3'
    """
    stem = file.stem.removeprefix("inference_")
    letters = stem.rstrip("0123456789")
    return f"{letters.rstrip('_')}_{stem[len(letters) :]}" if letters != stem else stem


def read_answers(file: Path, labels: list[Item]) -> list[str]:
    """Return the answers of one file in the order of ``labels``.

    Raises:
        InputError: The file answers other questions than the labels hold.
    """
    texts = {str(item.id): item for item in load_items(file, need_answer=False)}
    wanted = [str(item.id) for item in labels]
    missing = [key for key in wanted if key not in texts]
    foreign = [key for key in texts if key not in set(wanted)]
    if missing or foreign:
        raise InputError(
            f"{file.name} does not answer the questions of the labels: "
            f"{len(missing)} missing (first: {missing[:1]}), {len(foreign)} not in the labels (first: {foreign[:1]})"
        )
    for label in labels:
        if texts[str(label.id)].question != label.question:
            raise InputError(f"{file.name}: id {label.id!r} holds another question than the labels")
    return [texts[key].answer or "" for key in wanted]


def evaluate_json(
    input_dir: str | Path, label_path: str | Path, encoder: str = ENCODER, encoder_layers: int = ENCODER_LAYERS
) -> dict[str, dict[str, list[float]]]:
    """Return the per-item scores of every ``*.json`` in ``input_dir``, by checkpoint, in training order.

    Args:
        input_dir: A folder of answer files.
        label_path: The contest file with the gold answers.
        encoder: BERTScore's encoder: a local folder or a hub id.
        encoder_layers: The layer of it that is compared.

    Raises:
        InputError: No answer file, or one that answers other questions than the labels hold.
    """
    labels = load_items(label_path)
    files = sorted(resolve_path(input_dir).glob("*.json"), key=lambda file: checkpoint_order(file.stem))
    if not files:
        raise InputError(f"no *.json in {input_dir}: expected the inference_*.json of a run's infer_results folder")
    answers = {checkpoint_of(file): read_answers(file, labels) for file in files}
    return {name: score_answers(texts, labels, encoder, encoder_layers) for name, texts in answers.items()}


def article_block(scores: Scores) -> str:
    """Return the report in the article's form."""
    lines = []
    for name, means in checkpoint_means(scores).items():
        lines += [f"File: {_file_name(name)}", *_rows(means), ""]
    best = choose(scores)
    final = checkpoint_means(scores)[best]["final_mean"]
    lines += ["Best Final Mean:", f"   File       : {_file_name(best)}", f"   Final Mean : {final:.4f}"]
    return "\n".join(lines)


def _file_name(checkpoint: str) -> str:
    return f"inference_{checkpoint.replace('_', '')}.json"


def _rows(means: dict[str, float]) -> list[str]:
    shown = (("ROUGE-1", "rouge1"), ("BERTScore", "bertscore"), ("EM", "em"), ("Final Mean", "final_mean"))
    return [f"   - {label:<15}: {means[key]:.4f}" for label, key in shown]


def scores_table(scores: Scores) -> pd.DataFrame:
    """Return one row per checkpoint with the mean of every metric, in training order."""
    import pandas as pd

    rows = [{"checkpoint": name, **means} for name, means in checkpoint_means(scores).items()]
    return pd.DataFrame(rows).sort_values("checkpoint", key=lambda names: names.map(checkpoint_order))


def item_table(scores: Scores, labels: list[Item]) -> pd.DataFrame:
    """Return one row per checkpoint and item: ids, types, categories and every metric."""
    import pandas as pd

    frames = []
    for name, by_metric in scores.items():
        frame = pd.DataFrame({
            "checkpoint": name,
            "id": [item.id for item in labels],
            "question_type": [item.question_type for item in labels],
            "category": [item.extra.get("category", "") for item in labels],
        })  # fmt: skip
        frames.append(frame.assign(**by_metric))
    return pd.concat(frames, ignore_index=True)


def write_tables(scores: Scores, labels: list[Item], output_dir: str | Path) -> list[Path]:
    """Write ``scores.csv`` and ``item_scores.csv`` to ``output_dir``, atomically; return their paths."""
    tables = {"scores.csv": scores_table(scores), "item_scores.csv": item_table(scores, labels)}
    return [
        write_atomically(Path(output_dir) / name, lambda file, table=table: table.to_csv(file, index=False))
        for name, table in tables.items()
    ]


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(prog="grpo_helpers.evaluate_json", description=__doc__.splitlines()[0])
    parser.add_argument("--input_dir", required=True, help="folder with the inference_*.json of a run")
    parser.add_argument("--label_path", required=True, help="contest JSON with the gold answers")
    parser.add_argument("--output_dir", help="where scores.csv and item_scores.csv go (default: beside input_dir)")
    parser.add_argument("--encoder", default=ENCODER, help="BERTScore's encoder: a folder or a hub id")
    parser.add_argument("--encoder_layers", type=int, default=ENCODER_LAYERS, help="the layer that is compared")
    args = parser.parse_args(argv)
    try:
        scores = evaluate_json(args.input_dir, args.label_path, args.encoder, args.encoder_layers)
    except InputError as error:
        print(f"evaluate_json: {error}", file=sys.stderr)
        return 2
    print(article_block(scores))
    output_dir = args.output_dir or resolve_path(args.input_dir).parent
    for path in write_tables(scores, load_items(args.label_path), output_dir):
        print(f"written: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
