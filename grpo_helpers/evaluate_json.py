"""⑥ Score every answer file of a folder at once: ``python -m grpo_helpers.evaluate_json --input_dir D --label_path F``.

In: the ``inference_*.json`` of a run and the file with the gold answers. Out: the article's block (ROUGE-1,
BERTScore, EM and Final Mean per file, the best file at the end) and how sure the choice is, ``scores.csv`` (a row per
checkpoint), ``item_scores.csv`` (a row per checkpoint and item), ``best_checkpoint.json`` and ``report.html``, in which
every answer can be read beside the gold one. The article keeps means only.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grpo_helpers.data import (
    InputError,
    Item,
    load_items,
    read_json,
    resolve_path,
    show_path,
    write_atomically,
    write_json,
)
from grpo_helpers.metrics import AGGREGATES, ENCODER, ENCODER_LAYERS, score_answers
from grpo_helpers.selection import BASE, RULES, Scores, checkpoint_means, checkpoint_order, choose, describe_choice

if TYPE_CHECKING:
    import pandas as pd

PARTS = ("em", "choice", "format", "rouge1", "bertscore")  # shown beside an answer
Answers = Mapping[str, list[str]]  # checkpoint -> answer per item


def checkpoint_of(file: Path) -> str:
    """Return the checkpoint an answer file belongs to.

    >>> checkpoint_of(Path("inference_epoch3.json"))
    'epoch_3'
    """
    stem = file.stem.removeprefix("inference_")
    letters = stem.rstrip("0123456789")
    return f"{letters.rstrip('_')}_{stem[len(letters) :]}" if letters != stem else stem


def read_answers(file: Path, labels: list[Item]) -> list[str]:
    """Return the answers of one file in the order of ``labels``; InputError if it answers other questions."""
    texts = {str(item.id): item for item in load_items(file, need_answer=False)}
    wanted = [str(item.id) for item in labels]
    missing = [key for key in wanted if key not in texts]
    foreign = [key for key in texts if key not in set(wanted)]
    if missing or foreign:
        lacks = f"{len(missing)} missing (first: {missing[:1]})"
        other = f"{len(foreign)} not in the labels (first: {foreign[:1]})"
        raise InputError(f"{file.name} does not answer the questions of the labels: {lacks}, {other}; see label_path")
    for label in labels:
        if texts[str(label.id)].question != label.question:
            raise InputError(f"{file.name}: id {label.id!r} holds another question than the labels")
    return [texts[key].answer or "" for key in wanted]


def read_folder(input_dir: str | Path, labels: list[Item], skipped: list[str] | None = None) -> dict[str, list[str]]:
    """Return the answers of every ``*.json`` of a folder, by checkpoint, in training order; ``labels`` are the items.

    A file that cannot be used is left out where ``skipped`` is given, and what is wrong with it goes there; without
    ``skipped`` it is an InputError. So is a folder with no answer file that can be used.
    """
    answers: dict[str, list[str]] = {}
    for file in sorted(resolve_path(input_dir).glob("*.json"), key=lambda file: checkpoint_order(file.stem)):
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
    input_dir: str | Path, label_path: str | Path, encoder: str = ENCODER, encoder_layers: int = ENCODER_LAYERS
) -> dict[str, dict[str, list[float]]]:
    """Return the per-item scores of every ``*.json`` in ``input_dir``, by checkpoint, in training order.

    ``label_path`` is the contest file with the gold answers; ``encoder`` is BERTScore's, a local folder or a hub id,
    and ``encoder_layers`` the layer of it that is compared. InputError where there is no answer file, or one that
    answers other questions than the labels hold.
    """
    labels = load_items(label_path)
    return score_all(read_folder(input_dir, labels), labels, encoder, encoder_layers)


def score_all(answers: Answers, labels: list[Item], encoder: str = ENCODER, encoder_layers: int = ENCODER_LAYERS):
    """Return the per-item scores of every checkpoint's answers, with a progress bar where there are thousands."""
    from tqdm.auto import tqdm

    shown = tqdm(answers.items(), unit="file", leave=False, disable=len(answers) * len(labels) < 2000)
    return {name: score_answers(texts, labels, encoder, encoder_layers) for name, texts in shown}


def article_block(scores: Scores, aggregate: str = "article") -> str:
    """Return the report in the article's form."""
    shown = (("ROUGE-1", "rouge1"), ("BERTScore", "bertscore"), ("EM", "em"), ("Final Mean", "final_mean"))
    means, best, lines = checkpoint_means(scores, aggregate), choose(scores, "highest", aggregate), []
    for name, row in means.items():
        lines += [f"File: {_file_name(name)}", *(f"   - {label:<15}: {row[key]:.4f}" for label, key in shown), ""]
    final = f"   Final Mean : {means[best]['final_mean']:.4f}"
    return "\n".join([*lines, "Best Final Mean:", f"   File       : {_file_name(best)}", final])


def choice_lines(report: Mapping[str, Any]) -> str:
    """Return in two lines how sure a choice is; ``report`` is :func:`grpo_helpers.selection.describe_choice`'s."""
    chosen, highest, rows = report["best_checkpoint"], report["highest"], report["checkpoints"]
    others = [name for name in report["tied"] if name != highest]
    tied = f"cannot be told from it: {', '.join(others)}." if others else "every other one is lower for sure."
    row, probability = rows[chosen], rows[highest]["probability_best"]
    level = [name for name in others if abs(rows[name]["final_mean"] - rows[highest]["final_mean"]) < 1e-12]
    found = f"level with {', '.join(level)}" if level else f"on {probability:.0%} of resampled question sets, too"
    first = f"Highest: {highest} (of {len(rows)}; {found}); {tied}"
    second = f"Chosen ({report['rule']}): {chosen}, Final Mean {row['final_mean']:.3f} "
    second += f"[{row['low']:.3f}, {row['high']:.3f}]"
    if gain := row["versus_base"]:
        difference, low, high = (100 * gain[key] for key in ("difference", "low", "high"))
        verdict = f"p = {gain['p_holm']:.2g}: {'better' if report['better_than_base'] else 'not better for sure'}"
        second += f"; against the base {difference:+.1f} points [{low:+.1f}, {high:+.1f}], {verdict}"
    return f"{first}\n{second}."


def _file_name(checkpoint: str) -> str:
    return f"inference_{checkpoint.replace('_', '')}.json"


def scores_table(scores: Scores, aggregate: str = "article") -> pd.DataFrame:
    """Return one row per checkpoint with the mean of every metric, in training order."""
    import pandas as pd

    rows = [{"checkpoint": name, **means} for name, means in checkpoint_means(scores, aggregate).items()]
    return pd.DataFrame(rows).sort_values("checkpoint", key=lambda names: names.map(checkpoint_order))


def item_table(scores: Scores, labels: list[Item]) -> pd.DataFrame:
    """Return one row per checkpoint and item: ids, types, categories and every metric."""
    import pandas as pd

    about = {"id": [item.id for item in labels], "question_type": [item.question_type for item in labels]}
    about["category"] = [item.extra.get("category", "") for item in labels]
    frames = [pd.DataFrame({"checkpoint": name, **about, **by_metric}) for name, by_metric in scores.items()]
    return pd.concat(frames, ignore_index=True)


def write_tables(scores: Scores, labels: list[Item], output_dir: str | Path) -> list[Path]:
    """Write ``scores.csv`` and ``item_scores.csv`` to ``output_dir``, atomically; return their paths."""
    tables = {"scores.csv": scores_table(scores), "item_scores.csv": item_table(scores, labels)}
    files = [(Path(output_dir) / name, partial(table.to_csv, index=False)) for name, table in tables.items()]
    return [write_atomically(path, write) for path, write in files]


def write_report(
    path: str | Path, splits: Mapping[str, tuple[list[Item], Answers, Scores]], best: str, title: str = "answers"
) -> Path:
    """Write ``report.html``: every answer beside the gold one, in one file for a browser that needs no network.

    ``splits`` holds by name: items, answers by checkpoint, scores by checkpoint. ``best`` is the chosen checkpoint; a
    question is *flipped* where it and the base differ in exact match. Answers are put into the page as text, never as
    HTML, and the page's policy runs no script but its own.
    """
    rows: list[dict[str, Any]] = []
    for split, (items, answers, scores) in splits.items():
        for i, item in enumerate(items):
            extra = {key: str(item.extra.get(key, "")) for key in ("category", "gloss")}
            row = {"split": split, "id": str(item.id), "type": item.question_type, **extra}
            row |= {"question": item.question, "gold": item.answer or "", "answers": {}}
            for name, texts in answers.items():
                parts = {part: round(scores[name][part][i], 3) for part in PARTS}
                row["answers"][name] = {"text": texts[i], **parts}
            rows.append(row)
    names = sorted({name for _, answers, _ in splits.values() for name in answers}, key=checkpoint_order)
    data = {"title": title, "base": BASE, "best": best, "checkpoints": names, "parts": PARTS, "items": rows}
    page = (Path(__file__).parent / "report.html").read_text(encoding="utf-8")
    script = page.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    text = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")  # no tag can end or begin in it
    text = text.encode("utf-8", "replace").decode("utf-8")  # half of a surrogate pair is no text
    page = page.replace("SCRIPT_DIGEST", digest).replace("PAGE_DATA", text)
    return write_atomically(Path(path), lambda file: file.write(page))


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return 0, 1 where a file was skipped, or 2 on bad input."""
    parser = argparse.ArgumentParser(prog="grpo_helpers.evaluate_json", description=__doc__.splitlines()[0])
    parser.add_argument("--input_dir", required=True, help="folder with the inference_*.json of a run")
    parser.add_argument("--label_path", required=True, help="contest JSON with the gold answers")
    parser.add_argument("--output_dir", help="where the tables and the report go (default: beside input_dir)")
    parser.add_argument("--aggregate", default="article", choices=list(AGGREGATES), help="how the Final Mean is made")
    parser.add_argument("--rule", default="highest", choices=list(RULES), help="how the checkpoint is chosen")
    parser.add_argument("--encoder", default=ENCODER, help="BERTScore's encoder: a folder or a hub id")
    parser.add_argument("--encoder_layers", type=int, default=ENCODER_LAYERS, help="the layer that is compared")
    args = parser.parse_args(argv)
    skipped: list[str] = []
    try:
        labels = load_items(args.label_path)
        answers = read_folder(args.input_dir, labels, skipped)
        scores = score_all(answers, labels, args.encoder, args.encoder_layers)
        folder = Path(args.output_dir or resolve_path(args.input_dir).parent)
        kept = read_json(folder / "best_checkpoint.json") if (folder / "best_checkpoint.json").is_file() else {}
    except InputError as error:
        print(f"evaluate_json: {error}", file=sys.stderr)
        return 2
    report = describe_choice(scores, rule=args.rule, aggregate=args.aggregate)
    print(f"{article_block(scores, args.aggregate)}\n\n{choice_lines(report)}")
    best, asked = report["best_checkpoint"], f"--input_dir {args.input_dir} --label_path {args.label_path}"
    report["command"] = f"python -m grpo_helpers.evaluate_json {asked} --rule {args.rule} --aggregate {args.aggregate}"
    if kept.get("best_checkpoint") == best:
        report = kept | report  # what notebook 05 wrote of the test splits stays
    written = [*write_tables(scores, labels, folder), write_json(folder / "best_checkpoint.json", report)]
    written.append(write_report(folder / "report.html", {"dev": (labels, answers, scores)}, best))
    print("\n".join(f"written: {show_path(path)}" for path in written))
    for told in skipped:
        print(f"evaluate_json: skipped: {told}", file=sys.stderr)
    return 1 if skipped else 0


if __name__ == "__main__":
    sys.exit(main())
