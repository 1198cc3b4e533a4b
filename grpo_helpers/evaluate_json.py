"""⑥⑦ Score every answer file of a folder and choose a checkpoint, from the command line.

``python -m grpo_helpers.evaluate_json --input_dir DIR --label_path FILE``

In: the ``inference_*.json`` of a run and the file with the gold answers. Out: the article's block
(ROUGE-1, BERTScore, EM and Final Mean per file, the best file at the end), the choice and how
certain it is, and four files: ``scores.csv``, ``item_scores.csv``, ``best_checkpoint.json`` and
``report.html``. The article keeps means only. The work is done in :mod:`grpo_helpers.scoring`,
:mod:`grpo_helpers.selection` and :mod:`grpo_helpers.report`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from grpo_helpers.command_line import FAILURE, SUCCESS, program_name, run_command
from grpo_helpers.data import load_items
from grpo_helpers.files import check_output_folder, resolve_path, show_path
from grpo_helpers.inspector import inspect_run
from grpo_helpers.metrics import AGGREGATES, ENCODER, ENCODER_LAYERS
from grpo_helpers.report import (
    ReportSplit,
    article_block,
    choice_lines,
    write_choice,
    write_report,
)
from grpo_helpers.reward_module import load_reward_module, recorded_reward_module
from grpo_helpers.run_folder import RunFolder
from grpo_helpers.scoring import evaluate_json as evaluate_json  # may be imported from here
from grpo_helpers.scoring import require_answers, scan_folder, score_all, write_tables
from grpo_helpers.selection import RULES, describe_choice


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, 1 if a file was skipped, or 2 on bad input."""
    args = _parser().parse_args(argv)
    return run_command(partial(_evaluate, args))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program_name("evaluate_json"), description=__doc__.splitlines()[0]
    )
    add = parser.add_argument
    add("--input_dir", required=True, help="folder with the inference_*.json of a run")
    add("--label_path", required=True, help="contest JSON with the gold answers")
    add("--output_dir", help="where tables and report go (default: beside input_dir)")
    add("--aggregate", default="article", choices=AGGREGATES, help="formula of the Final Mean")
    add("--rule", default="highest", choices=RULES, help="how the checkpoint is chosen")
    add("--encoder", default=ENCODER, help="BERTScore's encoder: a folder or a hub id")
    add("--encoder_layers", type=int, default=ENCODER_LAYERS, help="the layer that is compared")
    add("--reward_module", default="", help="rewards of your own (default: those of the run)")
    return parser


def _evaluate(args: argparse.Namespace) -> int:
    """Score, choose, print and write; return the exit code."""
    run_dir = resolve_path(args.input_dir).parent
    load_reward_module(args.reward_module or recorded_reward_module(run_dir))

    output_dir = Path(args.output_dir or run_dir)
    check_output_folder(output_dir)

    labels = load_items(args.label_path)
    folder = scan_folder(args.input_dir, labels)
    require_answers(folder, args.input_dir)
    scores = score_all(folder.answers, labels, args.encoder, args.encoder_layers)
    choice = describe_choice(scores, rule=args.rule, aggregate=args.aggregate)
    print(f"{article_block(scores, args.aggregate)}\n\n{choice_lines(choice)}")

    chosen = write_choice(
        output_dir,
        choice,
        input_dir=args.input_dir,
        label_path=args.label_path,
        encoder=args.encoder,
        encoder_layers=args.encoder_layers,
    )
    tables = write_tables(scores, labels, output_dir)
    dev = ReportSplit(labels, folder.answers, scores)
    page = write_report(
        output_dir / "report.html",
        {"dev": dev},
        choice.best_checkpoint,
        inspector=inspect_run(RunFolder(run_dir)),
    )

    for path in (*tables, chosen, page):
        print(f"written: {show_path(path)}")

    for problem in folder.problems:
        print(f"skipped: {problem}", file=sys.stderr)
    if folder.problems:
        return FAILURE
    return SUCCESS


if __name__ == "__main__":
    sys.exit(main())
