"""Compare encoders for BERTScore: ``python -m tools.experiments.archive.encoders``.

In: pairs of reasons from an earlier dev set of ours, changed in ways whose effect on a score is
known. Out: ``data/reward_lab/encoders.json`` with one row per layer: time, correlation with other
measures of likeness, how well it separates right reasons from wrong ones, and its mean score by
kind of change.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import random
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from grpo_helpers.command_line import run_command
from grpo_helpers.files import InputError, read_json, resolve_path, write_json
from grpo_helpers.metrics import ENCODER, BertScore, rouge1_reasons
from grpo_helpers.similarity import char_ngrams, jaccard
from tools.experiments.reward_lab import FOLDER

PAIRS = 60  # of each kind
# The reasons of the dev set when the table was made; those of today are others.
RECORDED_REASONS = FOLDER / "encoder_reasons.json"
EMBEDDED_LAYERS = range(5)  # of the embedded model, from the embedding on
RIGHT_KINDS = ("half of it", "words left out")
WRONG_KINDS = ("another reason", "the nearest reason")
OPPOSITES = [
    ("의존 명사는 앞말과 붙여 쓴다.", "의존 명사는 앞말과 띄어 쓴다."),
    ("조사는 앞말과 띄어 쓴다.", "조사는 앞말에 붙여 쓴다."),
    ("어원을 밝혀 적는다.", "소리 나는 대로 적는다."),
    ("사이시옷을 받치어 적지 않는다.", "사이시옷을 받치어 적는다."),
]

Pair = tuple[str, str]  # prediction, reference
Pairs = dict[str, list[Pair]]
Score = Callable[[str, str], float]


class ReasonChanger:
    """Changes gold reasons in ways that a score should notice, or should forgive.

    Args:
        reasons: The gold reasons, each once.
        rng: Source of the random changes.
    """

    def __init__(self, reasons: Sequence[str], rng: random.Random):
        self.reasons = reasons
        self.rng = rng
        self.ngrams = {reason: char_ngrams(reason, 3) for reason in reasons}

    def others(self, reason: str) -> list[str]:
        """Return all reasons but this one."""
        return [other for other in self.reasons if other != reason]

    def another(self, reason: str) -> str:
        """Return the reason of another question."""
        return self.rng.choice(self.others(reason))

    def nearest(self, reason: str) -> str:
        """Return the other reason that shares most character trigrams with this one."""

        def likeness(other: str) -> float:
            return jaccard(self.ngrams[reason], self.ngrams[other])

        return max(self.others(reason), key=likeness)

    def half(self, reason: str) -> str:
        """Return its first half."""
        return reason[: len(reason) // 2]

    def shortened(self, reason: str) -> str:
        """Return it without about a quarter of its words."""
        words = reason.split()
        left = [word for word in words if self.rng.random() > 0.25]
        return " ".join(left) or words[0]

    def shuffled(self, reason: str) -> str:
        """Return its words in another order."""
        words = reason.split()
        return " ".join(self.rng.sample(words, len(words)))

    def unspaced(self, reason: str) -> str:
        """Return it without spaces."""
        return reason.replace(" ", "")


def reason_pairs() -> Pairs:
    """Return pairs of a changed reason and the gold one, by kind of change."""
    rng = random.Random(0)
    recorded = read_json(RECORDED_REASONS)
    reasons = rng.sample(recorded["reasons"], PAIRS)

    changer = ReasonChanger(reasons, rng)
    kinds = {
        "another reason": changer.another,
        "the nearest reason": changer.nearest,
        "half of it": changer.half,
        "words left out": changer.shortened,
        "words shuffled": changer.shuffled,
        "no spaces": changer.unspaced,
    }

    pairs: Pairs = {}
    for kind, change in kinds.items():
        pairs[kind] = [(change(reason), reason) for reason in reasons]
    pairs["the opposite rule"] = OPPOSITES
    return pairs


def mean_by_kind(pairs: Pairs, score: Score) -> dict[str, float]:
    """Return the mean score of each kind of pair, to 3 digits."""
    means = {}
    for kind, of_kind in pairs.items():
        scores = [score(prediction, reference) for prediction, reference in of_kind]
        means[kind] = round(float(np.mean(scores)), 3)
    return means


def separation(pairs: Pairs, score: Score) -> float:
    """Return how often a shortened right reason scores above another reason, to 3 digits.

    This is the area under the ROC curve: 1 always, 0.5 a coin toss.
    """
    from scipy.stats import mannwhitneyu

    right = [score(*pair) for kind in RIGHT_KINDS for pair in pairs[kind]]
    wrong = [score(*pair) for kind in WRONG_KINDS for pair in pairs[kind]]
    statistic = float(mannwhitneyu(right, wrong).statistic)
    return round(statistic / (len(right) * len(wrong)), 3)


def edit_likeness(prediction: str, reference: str) -> float:
    """Return 1 minus the edit distance as a share of the longer text.

    >>> edit_likeness("띄어 쓴다", "붙여 쓴다")
    0.6
    """
    from nltk import edit_distance

    distance = edit_distance(prediction, reference)
    return 1 - distance / max(len(prediction), len(reference))


def encoder_row(
    encoder: str, layer: int, pairs: Pairs, other_scores: dict[str, list[float]]
) -> dict[str, Any]:
    """Measure one layer of an encoder.

    Args:
        encoder: A local model folder.
        layer: The layer that is compared; 0 is the embedding.
        pairs: Pairs of reasons by kind.
        other_scores: Scores of other measures on the same pairs, in the same order, by name.

    Returns:
        Cost, correlations with the other measures, separation, and the mean score by kind.
    """
    flat = list(itertools.chain.from_iterable(pairs.values()))
    predictions = [prediction for prediction, _ in flat]
    references = [reference for _, reference in flat]

    scorer = BertScore(encoder, layer)
    scorer(predictions[:2], references[:2])  # loading and warming up do not count
    started = time.perf_counter()
    scores = scorer(predictions, references)
    seconds = time.perf_counter() - started

    def score(prediction: str, reference: str) -> float:
        return scorer([prediction], [reference])[0]  # remembered, not computed again

    files = resolve_path(encoder).glob("*")
    row: dict[str, Any] = {
        "encoder": encoder,
        "layer": layer,
        "disk_mb": round(sum(file.stat().st_size for file in files) / 1e6),
        "ms_per_pair": round(1000 * seconds / len(flat), 2),
    }
    for name, others in other_scores.items():
        row[f"r_{name}"] = round(float(np.corrcoef(scores, others)[0, 1]), 3)
    row["separation"] = separation(pairs, score)
    row["by_kind"] = mean_by_kind(pairs, score)
    return row


def parse_layer(text: str) -> tuple[str, int]:
    """Return encoder and layer of a ``folder:layer``.

    Raises:
        InputError: The text has another form.

    >>> parse_layer("runs/encoders/multilingual-e5-small:9")
    ('runs/encoders/multilingual-e5-small', 9)
    """
    folder, _, layer = text.rpartition(":")
    if not folder or not layer.isdigit():
        raise InputError(f"--encoder {text!r} must be a folder and a layer, such as my_encoder:9")
    return folder, int(layer)


def compare_encoders(further: Sequence[str]) -> dict[str, Any]:
    """Return the rows of the embedded model's layers and of ``further`` (``folder:layer``)."""
    layers = [(ENCODER, layer) for layer in EMBEDDED_LAYERS]
    layers += [parse_layer(text) for text in further]

    pairs = reason_pairs()
    flat = list(itertools.chain.from_iterable(pairs.values()))
    other_scores = {
        "rouge1": [rouge1_reasons(*pair) for pair in flat],
        "edits": [edit_likeness(*pair) for pair in flat],
    }

    return {
        "command": "python -m tools.experiments.archive.encoders",
        "date": datetime.date.today().isoformat(),
        "pairs": {kind: len(of_kind) for kind, of_kind in pairs.items()},
        "rouge1": {
            "separation": separation(pairs, rouge1_reasons),
            **mean_by_kind(pairs, rouge1_reasons),
        },
        "rows": [encoder_row(encoder, layer, pairs, other_scores) for encoder, layer in layers],
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Write the file; return 0, or 2 on bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.experiments.archive.encoders", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--encoder", action="append", default=[], help="a further folder:layer; may be repeated"
    )
    args = parser.parse_args(argv)

    def body() -> int:
        print(write_json(FOLDER / "encoders.json", compare_encoders(args.encoder)))
        return 0

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
