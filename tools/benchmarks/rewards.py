"""The rewards against the article's way of computing them: ``python -m tools.benchmarks.rewards``.

In: a finished run of notebook 04. Out: seconds and largest differences, and the targets; exit 1 if
one is missed. Part of ``make bench``.

The article computes one pair at a time: it calls BERTScore for each, and ROUGE-1, -2 and -L
although only ROUGE-1 is used, splitting the text into tokens for each of them. Ours computes in
batches with one scorer, and remembers tokens and repeated pairs. Both run here on the same
completions and must give the same values.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from grpo_helpers import metrics
from grpo_helpers.answers import parse, parse_gold
from grpo_helpers.command_line import run_command
from grpo_helpers.data import load_items
from grpo_helpers.files import InputError, show_path
from grpo_helpers.metrics import (
    BertScore,
    KoreanTokenizer,
    exact_match,
    format_score,
    rouge1_reasons,
)
from grpo_helpers.questions import Item
from grpo_helpers.rewards import completion_text, registered
from grpo_helpers.run_folder import RunFolder, read_log, series
from tools.benchmarks.targets import Target, add_record_option, record, report

REASONS = ("data/train.json", "data/test_unseen_norms.json")

Scores = dict[str, list[float]]  # reward -> one score per completion
Result = TypeVar("Result")


@dataclass(frozen=True)
class RecordedStep:
    """One step of a finished run, with what is needed to score it again.

    Attributes:
        run: The name of the run.
        completions: The texts that were sampled.
        references: Their gold answers.
        settings: The run's parameters.
        step_seconds: How long each step of the run took.
    """

    run: str
    completions: list[str]
    references: list[str]
    settings: Mapping[str, Any]
    step_seconds: list[float]

    @property
    def reasons(self) -> list[tuple[str, str]]:
        """The reason of each completion and of its gold answer."""
        pairs = []
        for completion, gold in zip(self.completions, self.references, strict=True):
            pairs.append((parse(completion).reason, parse_gold(gold).reason))
        return pairs


def recorded_step(folder: str | Path) -> RecordedStep:
    """Return the middle step of a run.

    Args:
        folder: The run's folder.

    Raises:
        InputError: The folder has no recorded completions.
    """
    run = RunFolder(folder)
    files = sorted((run.path / "completions").glob("*.parquet"))
    if not files:
        raise InputError(
            f"{show_path(run.path)}/completions has no recorded step: "
            "run `make run` (notebook 04) first"
        )

    settings = run.settings
    golds = {}
    for item in load_items(settings["train_data_path"]):
        golds[item.question] = item.answer or ""

    step = pd.read_parquet(files[len(files) // 2])
    references = []
    for prompt in step["prompt"]:
        question = prompt[-1]["content"]
        references.append(golds[question])

    _, step_seconds = series(read_log(run.log.path), "step_time")
    return RecordedStep(
        run=run.path.name,
        completions=[completion_text(list(messages)) for messages in step["completion"]],
        references=references,
        settings=settings,
        step_seconds=step_seconds,
    )


# -- the two ways -----------------------------------------------------------------------------


class ArticleWay:
    """The four rewards as the article computes them: pair by pair, nothing remembered."""

    def __init__(self, encoder: str, layers: int) -> None:
        """Load the encoder, and a tokenizer without its memory."""
        self.scorer = BertScore(encoder, layers)._scorer
        tokenizer: Any = KoreanTokenizer()
        tokenizer._morphs = tokenizer._morphs.__wrapped__
        self.tokenizer = tokenizer

    def rouge(self, prediction: str, reference: str) -> float:
        """Return ROUGE-1 of a pair of reasons, after computing ROUGE-1, -2 and -L."""
        from rouge_score.rouge_scorer import RougeScorer

        if not prediction.strip() or not reference.strip():
            return 0.0

        scores = {}
        for name in ("rouge1", "rouge2", "rougeL"):
            scorer = RougeScorer([name], tokenizer=self.tokenizer)
            scores[name] = scorer.score(reference, prediction)[name].fmeasure
        return scores["rouge1"]

    def bertscore(self, prediction: str, reference: str) -> float:
        """Return the BERTScore of a pair of reasons."""
        if not prediction or not reference:
            return 0.0
        _, _, f1 = self.scorer.score([prediction], [reference])
        return float(f1)

    def __call__(self, completions: Sequence[str], references: Sequence[str]) -> Scores:
        """Return every reward of every completion."""
        scores: Scores = {"format": [], "em": [], "rouge1": [], "bertscore": []}
        for completion, gold in zip(completions, references, strict=True):
            reason = parse(completion).reason
            gold_reason = parse_gold(gold).reason
            scores["format"].append(format_score(completion, Item("", "", "", gold)))
            scores["em"].append(exact_match(completion, gold))
            scores["rouge1"].append(self.rouge(reason, gold_reason))
            scores["bertscore"].append(self.bertscore(reason, gold_reason))
        return scores


class OurWay:
    """The four rewards as the course computes them."""

    def __init__(self, encoder: str, layers: int) -> None:
        """Forget all scores and load the scorers: loading is not computing."""
        self.options = {"encoder": encoder, "encoder_layers": layers}
        rouge1_reasons.cache_clear()
        metrics._rouge_scorer.cache_clear()
        metrics.bert_scorer.cache_clear()
        metrics.bert_scorer(encoder, layers)
        metrics._rouge_scorer()

    def __call__(self, completions: Sequence[str], references: Sequence[str]) -> Scores:
        """Return every reward of every completion."""
        scores: Scores = {}
        for name, reward in registered().items():
            if reward.is_built_in:
                values = reward.function(None, completions, references=references, **self.options)
                scores[name] = list(map(_as_number, values))
        return scores


def _as_number(value: float | None) -> float:
    """Return the value of a reward; a built-in reward always has one."""
    assert value is not None
    return float(value)


# -- the comparison ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """The same scores computed in two ways.

    Attributes:
        article_seconds: How long the article's way took.
        our_seconds: How long ours took.
        difference: The largest difference between two scores.
    """

    article_seconds: float
    our_seconds: float
    difference: float

    @property
    def speed_up(self) -> float:
        """How many times faster ours is."""
        return self.article_seconds / self.our_seconds


def timed(function: Callable[..., Result], *arguments: Any) -> tuple[float, Result]:
    """Return the seconds that a call took, and its result."""
    started = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - started, result


def largest_difference(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the largest absolute difference between two lists of scores."""
    return float(np.abs(np.subtract(ours, theirs)).max())


def compare_rewards(step: RecordedStep, article: ArticleWay, ours: OurWay) -> Comparison:
    """Compute all four rewards of a step in both ways."""
    article(step.completions[:4], step.references[:4])  # the encoder's first batch is slow
    article_seconds, article_scores = timed(article, step.completions, step.references)
    our_seconds, our_scores = timed(ours, step.completions, step.references)

    differences = []
    for name, scores in our_scores.items():
        differences.append(largest_difference(scores, article_scores[name]))
    return Comparison(article_seconds, our_seconds, max(differences))


def unique_reasons() -> list[tuple[str, str]]:
    """Return pairs of reasons of the corpus; no text occurs twice."""
    reasons: dict[str, None] = {}
    for path in REASONS:
        for item in load_items(path):
            reasons[parse_gold(item.answer or "").reason] = None

    unique = list(reasons)
    half = len(unique) // 2
    return list(zip(unique[:half], unique[half : 2 * half], strict=True))


def compare_rouge(pairs: Sequence[tuple[str, str]], article: ArticleWay) -> Comparison:
    """Compute ROUGE of pairs of reasons in both ways."""

    def score_all(rouge: Callable[[str, str], float]) -> list[float]:
        return [rouge(prediction, reference) for prediction, reference in pairs]

    article_seconds, article_scores = timed(score_all, article.rouge)
    our_seconds, our_scores = timed(score_all, rouge1_reasons)
    return Comparison(article_seconds, our_seconds, largest_difference(our_scores, article_scores))


def bench_rewards(folder: str | Path) -> list[Target]:
    """Print the timings of a run's rewards and return the targets.

    Raises:
        InputError: The folder has no recorded completions.
    """
    step = recorded_step(folder)
    encoder = step.settings["bertscore_model"]
    layers = step.settings["bertscore_layers"]
    article = ArticleWay(encoder, layers)

    all_four = compare_rewards(step, article, OurWay(encoder, layers))
    count = len(step.completions)
    unique = len(set(step.reasons)) / count
    print(f"{count} completions of one step of {step.run}, {unique:.0%} unique pairs")
    print(
        f"  the article's way {all_four.article_seconds:.3f} s, ours {all_four.our_seconds:.3f} s; "
        f"largest difference {all_four.difference:.1e}; encoder {encoder}"
    )

    pairs = unique_reasons()
    OurWay(encoder, layers)  # forgets what it has scored
    rouge = compare_rouge(pairs, article)
    print(
        f"ROUGE on {len(pairs)} unique pairs: "
        f"{rouge.article_seconds:.3f} s, ours {rouge.our_seconds:.3f} s"
    )

    batch = step.settings["per_device_train_batch_size"]
    per_step = batch * step.settings["gradient_accumulation_steps"]
    step_seconds = float(np.median(step.step_seconds))
    share = all_four.our_seconds * per_step / count / step_seconds
    print(f"a step has {per_step} completions and takes {step_seconds:.1f} s\n")

    return [
        Target("all four rewards, times faster", all_four.speed_up, ">=", 5),
        Target("ROUGE on unique pairs, times faster", rouge.speed_up, ">=", 3),
        Target("largest difference", all_four.difference, "<=", 1e-6),
        Target("largest difference of ROUGE", rouge.difference, "<=", 1e-9),
        Target("the rewards' share of a training step", share, "<=", 0.1),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 if a target is missed, 2 without a run."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmarks.rewards", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--run", default="runs/default", help="a finished run folder of notebook 04"
    )
    add_record_option(parser)
    args = parser.parse_args(argv)

    def body() -> int:
        targets = bench_rewards(args.run)
        if args.record:
            record("rewards", targets)
        return report(targets)

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
