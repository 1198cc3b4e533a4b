"""A small reward model, learned from pairs, and what becomes of an answer that is chosen by it.

In: the gold answers of the embedded train file, and the recorded completions of
``data/reward_lab``. Out: for best-of-n, the score by the model that chooses (the *proxy*) and by
exact match (the *gold* score). The page on rewards shows both; nothing is recorded, since all of it
takes seconds.

A pair is a gold answer and the same answer with the other form of its word, as if somebody had been
asked which spelling is right. The model has two layers over counts of characters, pairs and triples
of them, and is trained as reward models are (Bradley and Terry): the difference of the two scores
is the logit of the preference. The reward models of large systems begin from a language model
instead; what is shown here, that the proxy is trusted where it never saw a comparison, they share.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import comb

import numpy as np
import pandas as pd

from grpo_helpers.data import load_items
from grpo_helpers.files import read_json
from grpo_helpers.questions import Item, choice_forms
from grpo_helpers.rewards import em_reward
from tools.experiments.reward_lab import FOLDER

TRAIN_FILE = "data/embedded/train.json"
PAIRS = (25, 100, 397)  # how many comparisons a model sees; the last number is all there are
SEEDS = (0, 1, 2)  # each draws other pairs and other initial weights
CHOICES = (1, 2, 4, 8, 16, 32)  # n of best-of-n

N_GRAMS = (1, 2, 3)
FEATURES = 1024  # n-grams share them by a hash, as words share the weights of a small model
HIDDEN = 16
STEPS = 100
LEARNING_RATE = 3e-3


@dataclass(frozen=True)
class Pair:
    """Two answers to a question, of which the first is the better one."""

    chosen: str
    rejected: str


@dataclass(frozen=True)
class Pool:
    """The recorded answers to each question, those of all checkpoints together.

    Attributes:
        items: The questions.
        answers: One list for each question, all of the same length.
        gold: 1.0 for an answer with an exact match, else 0.0; shape (questions, answers).
    """

    items: list[Item]
    answers: list[list[str]]
    gold: np.ndarray


def comparisons(items: Sequence[Item]) -> list[Pair]:
    """Return a pair for each item: its gold answer, and that answer with the other form."""
    pairs = []
    for item in items:
        forms = choice_forms(item)
        if forms and forms[1]:
            right, wrong = forms
            pairs.append(Pair(item.answer or "", (item.answer or "").replace(right, wrong[0])))
    return pairs


@cache
def recorded_pool() -> Pool:
    """Return the completions of ``data/reward_lab`` by question."""
    recorded = read_json(FOLDER / "completions.json")
    by_id = {item.id: item for item in load_items(recorded["eval_data_path"])}
    items = [by_id[key] for key in recorded["questions"]]

    answers: list[list[str]] = [[] for _ in items]
    for groups in recorded["completions"].values():
        for of_question, group in zip(answers, groups, strict=True):
            of_question += group

    gold = []
    for item, of_question in zip(items, answers, strict=True):
        gold.append(em_reward(None, of_question, references=[item.answer or ""] * len(of_question)))
    return Pool(items, answers, np.array(gold))


@cache
def _counts(text: str) -> np.ndarray:
    """Return how often each hashed n-gram occurs in a text."""
    counts = np.zeros(FEATURES)
    for length in N_GRAMS:
        for start in range(len(text) - length + 1):
            gram = text[start : start + length].encode()
            counts[zlib.crc32(gram) % FEATURES] += 1
    return counts


def features(texts: Sequence[str]) -> np.ndarray:
    """Return how often each hashed n-gram occurs in each text; shape (texts, FEATURES)."""
    return np.stack([_counts(text) for text in texts])


def proxy_scores(pairs: Sequence[Pair], answers: Sequence[str], seed: int) -> np.ndarray:
    """Train a reward model on pairs and return what it gives each answer.

    Args:
        pairs: What it learns from.
        answers: What it scores.
        seed: Of its initial weights.

    Returns:
        One score for each answer, in standard deviations from the mean of all of them. (The scale
        of a reward model means nothing: only differences are trained.)
    """
    import torch

    torch.manual_seed(seed)
    double = torch.float64  # so that another machine ranks the answers alike
    model = torch.nn.Sequential(
        torch.nn.Linear(FEATURES, HIDDEN, dtype=double),
        torch.nn.ReLU(),
        torch.nn.Linear(HIDDEN, 1, dtype=double),
    )
    chosen = torch.tensor(features([pair.chosen for pair in pairs]))
    rejected = torch.tensor(features([pair.rejected for pair in pairs]))

    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    for _ in range(STEPS):
        loss = -torch.nn.functional.logsigmoid(model(chosen) - model(rejected)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    with torch.no_grad():
        scores = model(torch.tensor(features(answers))).numpy().ravel()
    return (scores - scores.mean()) / scores.std()


def best_of_n(scores: np.ndarray, values: np.ndarray, n: int) -> np.ndarray:
    """Return the expected value of the answer that scores highest among n drawn ones.

    Args:
        scores: What the answers are chosen by, shape (questions, answers).
        values: What is wanted of the chosen one, same shape.
        n: How many answers are drawn, without replacement.

    Returns:
        One expectation for each question, over all draws.

    >>> best_of_n(np.array([[1.0, 3.0, 2.0]]), np.array([[0.0, 0.0, 1.0]]), n=2)
    array([0.33333333])
    """
    answers = scores.shape[1]
    order = np.argsort(scores, axis=1, kind="stable")
    ranked = np.take_along_axis(values, order, axis=1)

    # An answer is chosen if the other n - 1 drawn ones are all ranked below it.
    ways = [comb(rank, n - 1) for rank in range(answers)]
    return ranked @ (np.array(ways) / comb(answers, n))


@cache
def pool_scores(count: int, seed: int) -> np.ndarray:
    """Return what a model trained on ``count`` pairs gives the pool; shape (questions, answers)."""
    pool = recorded_pool()
    pairs = comparisons(load_items(TRAIN_FILE))
    drawn = np.random.default_rng(seed).permutation(len(pairs))[:count]
    every_answer = [text for of_question in pool.answers for text in of_question]

    scores = proxy_scores([pairs[place] for place in drawn], every_answer, seed=seed)
    return scores.reshape(pool.gold.shape)


def gold_of(count: int, n: int) -> np.ndarray:
    """Return the gold score of best-of-n by question, as the mean over the seeds.

    Args:
        count: How many pairs the models learned from that choose.
        n: How many answers they choose from.
    """
    gold = recorded_pool().gold
    of_seeds = [best_of_n(pool_scores(count, seed), gold, n) for seed in SEEDS]
    return np.mean(of_seeds, axis=0)


def curves() -> pd.DataFrame:
    """Return proxy and gold score of best-of-n for every number of pairs, seed and n.

    Returns:
        Columns ``pairs``, ``seed``, ``n``, ``proxy`` and ``gold``; means over the questions.
    """
    gold = recorded_pool().gold
    rows = []
    for count in PAIRS:
        for seed in SEEDS:
            scores = pool_scores(count, seed)
            for n in CHOICES:
                row = {"pairs": count, "seed": seed, "n": n}
                row["proxy"] = best_of_n(scores, scores, n).mean()
                row["gold"] = best_of_n(scores, gold, n).mean()
                rows.append(row)
    return pd.DataFrame(rows)


def pass_at(n: int) -> float:
    """Return the gold score of best-of-n if the gold score itself chooses (*pass@n*)."""
    gold = recorded_pool().gold
    return float(best_of_n(gold, gold, n).mean())


@dataclass(frozen=True)
class Fooled:
    """A wrong answer that a reward model prefers to all others of its question."""

    item: Item
    answer: str
    proxy: float


def fooled_by(count: int, seed: int) -> list[Fooled]:
    """Return the wrong answers that a model ranks first, the highest score first."""
    pool = recorded_pool()
    scores = pool_scores(count, seed)

    wrong = []
    for place, best in enumerate(scores.argmax(axis=1)):
        if pool.gold[place, best] == 0:
            answer = pool.answers[place][best]
            wrong.append(Fooled(pool.items[place], answer, scores[place, best]))
    return sorted(wrong, key=lambda found: -found.proxy)
