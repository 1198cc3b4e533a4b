"""Write ``docs/article.md``, a close reading: ``python -m tools.pages.article``.

In: our data, the recorded runs, and ``templates/article.md``. Out: the page, every figure of
which is computed here; a test compares the page with what this module writes.
"""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from grpo_helpers.batch import BatchPlan
from grpo_helpers.data import load_items
from grpo_helpers.files import project_root, read_json
from grpo_helpers.memory import GIB, predict_params
from grpo_helpers.metrics import final_mean
from grpo_helpers.questions import SELECTION
from grpo_helpers.rewards import format_reward, reward_weights
from tools.experiments.recorded_runs import (
    FOLDER,
    curves_on_dev,
    is_recorded,
    means_on_dev,
    recorded_folder,
    recorded_of_arm,
)
from tools.pages.command import page_command
from tools.pages.markdown import fill_template

PAGE = project_root() / "docs" / "article.md"
ARTICLES_FORMAT = re.compile(r'^"[^"]+"[이가] 옳다[.]?')  # of its author's code
GROUP_SIZE = 8
RUNS_BY_GROUP_SIZE = {2: "generations_2", 4: "generations_4", 8: "seed_0", 16: "generations_16"}


@dataclass(frozen=True)
class Rejections:
    """How many gold answers of train the two formats reject.

    Attributes:
        by_article: Rejected by the article's regular expression.
        by_ours: Rejected by our format reward.
        golds: How many gold answers there are.
    """

    by_article: int
    by_ours: int
    golds: int


def same_choices() -> int:
    """Return in how many recorded default runs the two Final Means choose the same checkpoint."""
    same = 0
    for name in recorded_of_arm("seed"):
        means = means_on_dev(name)
        chosen = set()
        for aggregate in ("article", "code"):
            finals = means.apply(final_mean, axis=1, aggregate=aggregate)
            chosen.add(finals.idxmax())
        same += len(chosen) == 1
    return same


def rejections() -> Rejections:
    """Count the gold answers of train that each format rejects."""
    items = load_items("data/train.json")
    by_article = 0
    by_ours = 0

    for item in items:
        gold = item.answer or ""
        if not ARTICLES_FORMAT.match(gold):
            by_article += 1

        first_alternative = gold.split("#")[0]
        if format_reward(None, [first_alternative], [gold]) != [1.0]:
            by_ours += 1

    return Rejections(by_article, by_ours, len(items))


def examples_in_a_group(group_size: int = GROUP_SIZE) -> int:
    """Return how many different examples one group gets if each completion draws its own."""
    items = load_items("data/few_shot.json")
    pool = [item for item in items if item.question_type == SELECTION]

    rng = random.Random(0)
    drawn = set()
    for _ in range(group_size):
        drawn.add(rng.choice(pool).id)

    return len(drawn)


def peaks_sentence() -> str:
    """Return a sentence with the peak memory of the recorded runs that differ in G alone.

    It begins with a space; it is empty if there are not several such runs.
    """
    peaks = []
    for group_size, name in RUNS_BY_GROUP_SIZE.items():
        if is_recorded(name):
            log = pd.DataFrame(recorded_folder(name).log.step_rows())
            gib = log["peak_memory_gib"].max()
            peaks.append(f"G = {group_size}: {gib:.2f} GiB")

    if len(peaks) < 2:
        return ""

    figures = ", ".join(peaks)
    return f" Peak memory of recorded runs with the same number of completions per step: {figures}."


def gains() -> str:
    """Return base and best exact match on dev of the recorded default runs."""
    texts = []
    for _, em in curves_on_dev().items():
        texts.append(f"{em.iloc[0]:.3f} -> {em.max():.3f}")
    return ", ".join(texts)


def weights_in_words(preset: str) -> str:
    """Return the weights of a preset, rounded.

    >>> weights_in_words("code")
    'format 0.333, em 0.333, rouge1 0.500, bertscore 0.167'
    """
    weights = reward_weights(preset)
    return ", ".join(f"{name} {weight:.3f}" for name, weight in weights.items())


def second_model_gib() -> float:
    """Return the predicted memory of a second base model, for the 11.5B model in 4 bits."""
    prediction = predict_params("params/gpu_24gb/04_train.yaml", 1024)
    return prediction.made_of["callback"].second_model / GIB


def page() -> str:
    """Return the whole page."""
    rejected = rejections()
    authors_run = BatchPlan(B=1, G=4, A=4)
    return fill_template(
        "article.md",
        article=weights_in_words("article"),
        code=weights_in_words("code"),
        same=same_choices(),
        runs=len(recorded_of_arm("seed")),
        authors=f"{authors_run.prompts_per_step:g}",
        peaks=peaks_sentence(),
        golds=rejected.golds,
        regex=rejected.by_article,
        ours=rejected.by_ours,
        prompts=examples_in_a_group(),
        second=f"{second_model_gib():.1f}",
        gains=gains(),
        **read_json(FOLDER / "bench.json")["training"],
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    return page_command("tools.pages.article", page, PAGE, argv=argv)


if __name__ == "__main__":
    sys.exit(main())
