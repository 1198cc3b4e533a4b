"""⑥ Score every answer file of a folder at once: ``python -m grpo_helpers.evaluate_json --input_dir D --label_path F``.

In: the ``inference_*.json`` of a run and the file with the gold answers. Out: the article's block (ROUGE-1,
BERTScore, EM and Final Mean per file, the best file at the end) and how sure the choice is, ``scores.csv`` (a row per
checkpoint), ``item_scores.csv`` (a row per checkpoint and item), ``best_checkpoint.json`` and ``report.html``, in which
every answer can be read beside the gold one. The article keeps means only.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from grpo_helpers.data import load_items
from grpo_helpers.files import InputError, read_json, resolve_path, show_path, write_json
from grpo_helpers.metrics import AGGREGATES, ENCODER, ENCODER_LAYERS
from grpo_helpers.report import article_block, choice_lines, write_report
from grpo_helpers.scoring import read_folder, score_all, write_tables
from grpo_helpers.selection import RULES, describe_choice


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return 0, 1 where a file was skipped, or 2 on bad input."""
    parser = argparse.ArgumentParser(
        prog="grpo_helpers.evaluate_json", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--input_dir", required=True, help="folder with the inference_*.json of a run"
    )
    parser.add_argument("--label_path", required=True, help="contest JSON with the gold answers")
    parser.add_argument(
        "--output_dir", help="where the tables and the report go (default: beside input_dir)"
    )
    parser.add_argument(
        "--aggregate",
        default="article",
        choices=list(AGGREGATES),
        help="how the Final Mean is made",
    )
    parser.add_argument(
        "--rule", default="highest", choices=list(RULES), help="how the checkpoint is chosen"
    )
    parser.add_argument(
        "--encoder", default=ENCODER, help="BERTScore's encoder: a folder or a hub id"
    )
    parser.add_argument(
        "--encoder_layers", type=int, default=ENCODER_LAYERS, help="the layer that is compared"
    )
    args = parser.parse_args(argv)
    skipped: list[str] = []
    try:
        labels = load_items(args.label_path)
        answers = read_folder(args.input_dir, labels, skipped)
        scores = score_all(answers, labels, args.encoder, args.encoder_layers)
        folder = Path(args.output_dir or resolve_path(args.input_dir).parent)
        kept = (
            read_json(folder / "best_checkpoint.json")
            if (folder / "best_checkpoint.json").is_file()
            else {}
        )
    except InputError as error:
        print(f"evaluate_json: {error}", file=sys.stderr)
        return 2
    report = describe_choice(scores, rule=args.rule, aggregate=args.aggregate)
    print(f"{article_block(scores, args.aggregate)}\n\n{choice_lines(report)}")
    best, asked = (
        report["best_checkpoint"],
        f"--input_dir {args.input_dir} --label_path {args.label_path}",
    )
    report["command"] = (
        f"python -m grpo_helpers.evaluate_json {asked} --rule {args.rule} --aggregate {args.aggregate}"
    )
    if kept.get("best_checkpoint") == best:
        report = kept | report  # what notebook 05 wrote of the test splits stays
    written = [
        *write_tables(scores, labels, folder),
        write_json(folder / "best_checkpoint.json", report),
    ]
    written.append(write_report(folder / "report.html", {"dev": (labels, answers, scores)}, best))
    print("\n".join(f"written: {show_path(path)}" for path in written))
    for told in skipped:
        print(f"evaluate_json: skipped: {told}", file=sys.stderr)
    return 1 if skipped else 0


if __name__ == "__main__":
    sys.exit(main())
