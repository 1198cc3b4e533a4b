"""The rewards against the article's way of computing them: ``python -m tools.benchmarks.rewards`` (``make bench``).

The article's way: one pair at a time, BERTScore called for each, ROUGE-1, -2 and -L computed although only ROUGE-1 is
used, the tokens anew for each of them. Ours: batches, one scorer, tokens and repeated pairs remembered. Both run here,
on the same completions, and must give the same values. Needs a finished run of notebook 04; exit 1 below a target.
"""

from __future__ import annotations

import argparse
import datetime
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from grpo_helpers import metrics, rewards
from grpo_helpers.answers import parse, parse_gold
from grpo_helpers.data import load_items
from grpo_helpers.files import InputError, project_root, read_json, resolve_path, write_json
from grpo_helpers.metrics import (
    BertScore,
    KoreanTokenizer,
    exact_match,
    format_score,
    rouge1_reasons,
)
from grpo_helpers.run_folder import read_log, series

Lines = list[tuple[str, float, bool]]  # target, figure, whether it is reached
REASONS = ("data/train.json", "data/test_unseen_norms.json")


def recorded_step(run: Path) -> tuple[list[str], list[str], dict, list[float]]:
    """Return (completions, their gold answers, settings, seconds of each step) of a run; the step is its middle one.

    Raises:
        InputError: The folder holds no recorded completions.
    """
    files = sorted((run / "completions").glob("*.parquet"))
    if not files:
        raise InputError(
            f"{run}/completions holds no recorded step: run `make run` (notebook 04) first"
        )
    frame = pd.read_parquet(files[len(files) // 2])
    settings = read_json(run / "settings.json", "run settings")["parameters"]
    golds = {item.question: item.answer or "" for item in load_items(settings["train_data_path"])}
    completions = [rewards.completion_text(list(completion)) for completion in frame["completion"]]
    references = [golds[prompt[-1]["content"]] for prompt in frame["prompt"]]
    return completions, references, settings, series(read_log(run / "log.jsonl"), "step_time")[1]


class ArticleWay:
    """The four rewards as the article computes them: pair by pair, nothing remembered."""

    def __init__(self, encoder: str, layers: int):
        self.scorer = BertScore(encoder, layers)._scorer
        self.tokenizer = KoreanTokenizer()
        self.tokenizer._morphs = self.tokenizer._morphs.__wrapped__  # without the memory

    def rouge(self, prediction: str, reference: str) -> float:
        """Return ROUGE-1 of a pair, after ROUGE-1, -2 and -L have all been computed."""
        from rouge_score.rouge_scorer import RougeScorer

        names = ("rouge1", "rouge2", "rougeL")
        if not prediction.strip() or not reference.strip():
            return 0.0
        scorers = {name: RougeScorer([name], tokenizer=self.tokenizer) for name in names}
        found = {
            name: scorer.score(reference, prediction)[name].fmeasure
            for name, scorer in scorers.items()
        }
        return found["rouge1"]

    def __call__(
        self, completions: Sequence[str], references: Sequence[str]
    ) -> dict[str, list[float]]:
        """Return every reward of every completion."""
        found: dict[str, list[float]] = {name: [] for name in rewards.registered()}
        for said, gold in zip(completions, references, strict=True):
            reason, asked = parse(said).reason, parse_gold(gold).reason
            found["format"].append(format_score(said))
            found["em"].append(exact_match(said, gold))
            found["rouge1"].append(self.rouge(reason, asked))
            found["bertscore"].append(
                float(self.scorer.score([reason], [asked])[2]) if reason and asked else 0.0
            )
        return found


def our_way(
    encoder: str, layers: int
) -> Callable[[Sequence[str], Sequence[str]], dict[str, list[float]]]:
    """Return a function that computes every reward with nothing remembered from before."""
    rouge1_reasons.cache_clear()
    metrics._rouge_scorer.cache_clear()
    metrics.bert_scorer.cache_clear()
    metrics.bert_scorer(encoder, layers)  # loading is not computing
    metrics._rouge_scorer()
    return lambda completions, references: {
        name: reward.function(
            None, completions, references=references, encoder=encoder, encoder_layers=layers
        )
        for name, reward in rewards.registered().items()
    }


def timed(function: Callable, *arguments):
    """Return (seconds, result) of a call."""
    started = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - started, result


def unique_reasons() -> tuple[list[str], list[str]]:
    """Return two equally long lists of reasons of the corpus; no text is in them twice."""
    items = [item for path in REASONS for item in load_items(path)]
    reasons = list(dict.fromkeys(parse_gold(item.answer or "").reason for item in items))
    half = len(reasons) // 2
    return reasons[:half], reasons[half : 2 * half]


def bench_rewards(run: Path) -> Lines:
    """Print the timings; return (target, figure, whether it is reached)."""
    completions, references, settings, step_times = recorded_step(run)
    encoder, layers = settings["bertscore_model"], settings["bertscore_layers"]
    article = ArticleWay(encoder, layers)
    article(completions[:4], references[:4])  # both warm
    slow, theirs = timed(article, completions, references)
    fast, ours = timed(our_way(encoder, layers), completions, references)
    apart = max(float(np.abs(np.subtract(ours[name], theirs[name])).max()) for name in ours)
    pairs = {
        (parse(c).reason, parse_gold(r).reason)
        for c, r in zip(completions, references, strict=True)
    }
    print(
        f"{len(completions)} completions of one step of {run.name}, {len(pairs) / len(completions):.0%} unique pairs"
    )
    print(
        f"  the article's way {slow:.3f} s, ours {fast:.3f} s; largest difference {apart:.1e}; encoder {encoder}"
    )
    said, asked = unique_reasons()
    our_way(encoder, layers)
    rouge_slow, first = timed(
        lambda: [article.rouge(p, r) for p, r in zip(said, asked, strict=True)]
    )
    rouge_fast, second = timed(
        lambda: [rouge1_reasons(p, r) for p, r in zip(said, asked, strict=True)]
    )
    print(f"ROUGE on {len(said)} unique pairs: {rouge_slow:.3f} s, ours {rouge_fast:.3f} s")
    per_step = settings["per_device_train_batch_size"] * settings["gradient_accumulation_steps"]
    share = fast * per_step / len(completions) / float(np.median(step_times))
    print(f"a step has {per_step} completions and takes {np.median(step_times):.1f} s\n")
    return [
        ("all four rewards, times faster >= 5", slow / fast, slow / fast >= 5),
        (
            "ROUGE on unique pairs, times faster >= 3",
            rouge_slow / rouge_fast,
            rouge_slow / rouge_fast >= 3,
        ),
        ("largest difference <= 1e-6", apart, apart <= 1e-6),
        (
            "largest difference of ROUGE <= 1e-9",
            float(np.abs(np.subtract(first, second)).max()),
            first == second,
        ),
        ("the rewards' share of a training step <= .1", share, share <= 0.1),
    ]


def report(part: str, lines: Lines, facts: dict[str, float], record: bool) -> int:
    """Print the targets; keep them and ``facts`` as ``part`` of ``reference_runs/bench.json``; 1 for a miss."""
    for text, figure, reached in lines:
        print(f"{'reached' if reached else 'MISSED '}  {text}: {figure:.3g}")
    if record:
        file = project_root() / "data" / "reference_runs" / "bench.json"
        rows = [
            {"target": text, "figure": float(f"{figure:.3g}"), "reached": bool(ok)}
            for text, figure, ok in lines
        ]
        kept = read_json(file) if file.is_file() else {}
        found = {
            "date": datetime.date.today().isoformat(),
            "cores": os.cpu_count(),
            **facts,
            "targets": rows,
        }
        write_json(file, kept | {part: found})
    return 0 if all(reached for *_, reached in lines) else 1


def main() -> int:
    """Run the bench; return 1 where a target is missed, 2 without a run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--run", default="runs/default", help="a finished run folder of notebook 04"
    )
    parser.add_argument(
        "--record", action="store_true", help="keep the figures in data/reference_runs/bench.json"
    )
    args = parser.parse_args()
    try:
        lines = bench_rewards(resolve_path(args.run))
    except InputError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    return report("rewards", lines, {}, args.record)


if __name__ == "__main__":
    sys.exit(main())
