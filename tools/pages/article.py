"""Write ``docs/article.md``: what the article got wrong or left open, as finds. ``python -m tools.pages.article``.

Every figure is computed here, from our data and our recorded runs; a test holds the page to what this writes.
"""

from __future__ import annotations

import random
import re

from grpo_helpers.batch import BatchPlan
from grpo_helpers.data import load_items
from grpo_helpers.files import project_root, read_json
from grpo_helpers.memory import GIB, predict_params
from grpo_helpers.metrics import final_mean
from grpo_helpers.rewards import PRESETS, format_reward
from grpo_helpers.run_folder import read_log
from tools.experiments.record import KEPT, SEEDS, dev, recorded

PAGE = project_root() / "docs" / "article.md"
ARTICLES_FORMAT = re.compile(r'^"[^"]+"[이가] 옳다[.]?')  # of its author's code


def choices() -> tuple[int, int]:
    """Return in how many recorded default runs the two Final Means choose the same checkpoint, and of how many."""
    same = 0
    for means in (dev(f"seed_{seed}") for seed in SEEDS):
        finals = (means.apply(final_mean, axis=1, aggregate=name) for name in ("article", "code"))
        same += len({final.idxmax() for final in finals}) == 1
    return same, len(SEEDS)


def refused() -> tuple[int, int, int]:
    """Return how many gold answers the article's format refuses, how many ours does, of how many."""
    golds = [item.answer for item in load_items("data/train.json")]
    kept = sum(format_reward(None, [gold.split("#")[0] for gold in golds]))
    return (
        sum(not ARTICLES_FORMAT.match(gold) for gold in golds),
        len(golds) - round(kept),
        len(golds),
    )


def prompts_in_a_group(group: int = 8) -> int:
    """Return how many different examples ``group`` random draws give, as the article's data set would make them."""
    pool = [item for item in load_items("data/few_shot.json") if item.question_type == "선택형"]
    dice = random.Random(0)
    return len({dice.choice(pool).id for _ in range(group)})


def peaks() -> str:
    """Return a sentence with the peak memory of the recorded runs that differ in G alone, if there are several."""
    runs = {2: "generations_2", 4: "generations_4", 8: "seed_0", 16: "generations_16"}
    runs = {g: name for g, name in runs.items() if name in recorded()}
    found = {
        g: max(row["peak_memory_gib"] for row in read_log(KEPT / name / "log.jsonl"))
        for g, name in runs.items()
    }
    told = ", ".join(f"G = {g}: {gib:.2f} GiB" for g, gib in found.items())
    return (
        f" Recorded runs with as many completions a step, peak of the process: {told}."
        if len(found) > 1
        else ""
    )


def gains() -> str:
    """Return base and best exact match on dev of the recorded default runs."""
    found = [dev(f"seed_{seed}")["em"] for seed in SEEDS]
    return ", ".join(f"{em.iloc[0]:.3f} -> {em.max():.3f}" for em in found)


def page() -> str:
    """Return the whole page."""
    same, runs = choices()
    regex, ours, golds = refused()
    made_of = predict_params("params/gpu_24gb/04_train.yaml", 1024)[1]["made_of"]["callback"]
    authors = BatchPlan(B=1, G=4, A=4)
    return PAGE_TEXT.format(
        article=weights_in_words("article"), code=weights_in_words("code"), same=same, runs=runs, regex=regex,
        ours=ours, golds=golds, prompts=prompts_in_a_group(), peaks=peaks(), gains=gains(),
        second=f"{made_of['second_model'] / GIB:.1f}", authors=f"{authors.prompts_per_step:g}",
        **read_json(KEPT / "bench.json")["training"],
    )  # fmt: skip


def weights_in_words(preset: str) -> str:
    """Return the weights of a preset, rounded."""
    return ", ".join(f"{name} {weight:.3f}" for name, weight in PRESETS[preset].items())


PAGE_TEXT = """\
# Reading the article closely

This course follows one report, the contest team's "[AI 말평 대회] 참여기 #11: GRPO 학습 구현" (2025-07-25).
It says what was built, with code, which few reports do, and its loop (an adapter and the dev answers at every save,
all files scored at once, the best one taken) fills a gap that TRL leaves open. Rebuilding it, we found eight things
that it got wrong or left open. Most are easy to miss, and some we would have missed without its code at hand. This
page is written by `python -m tools.pages.article`, every figure in it.

## 1. Two sets of weights under one name

The text prints (BERT + EM + (Format + 3 ROUGE)/2)/3. The code adds the rewards in another order, and BERTScore
and format change places: *article* {article}; *code* {code}. Both are presets (`reward_weights`). Notebook 02
scores a recorded run with both; [experiments.md](experiments.md) has a run trained with each.

## 2. Two final means

The text averages ROUGE-1, BERTScore and exact match; the code gives exact match half of the weight, and so does
the contest, with its own readings of both parts (`aggregate`: article, code, official). In {same} of our {runs}
recorded default runs the first two choose the same checkpoint. The contest has a third likeness, BLEURT; it is
left out here as in the article, since it needs TensorFlow or a port that today's transformers breaks, and no
package registry carries its weights.

## 3. The batch rule

"B must be a multiple of G" was a rule of TRL 0.15 and 0.16 on one device. Since 0.19 a *round* must hold whole
groups: B·D·S must be a multiple of G. The author's own run had B = 1, G = 4, A = 4, which breaks the text's rule
and keeps TRL's ({authors} prompt a step). The text's two counts, of completions and of prompts, are in different
units of B (notebook 03).

## 4. Memory and G

"Memory grows linearly with G": not since B counts completions. G is in no tensor's shape; it decides how many
prompts share the same completions.{peaks} What it does set is a floor: a round holds a whole group at least
(notebook 03).

## 5. A format that refuses gold answers

The regular expression of the format reward allows no quote inside the quoted sentence. Of {golds} gold answers of
our train set it refuses {regex}, ours {ours}: a model is punished for giving them. `python -m
grpo_helpers.rewards check FILE` finds such gold answers before training (notebook 02).

## 6. Random examples inside a group

The data set draws its few-shot examples when an item is read, and TRL reads an item G times. So the G completions
of "one prompt" answer several: {prompts} different examples in a group of 8, played through with our pool. Part
of the advantage is then the luck of the draw. Here they are frozen by the item's id (notebook 01).

## 7. The second model

At every save the callback loads the base model again, beside the one in training, and answers one question at a
time. For the 11.5B model in 4 bits that is {second} GiB more at a moment when the card is full (predicted, notebook
03). In place, in batches, on the live model: {questions} questions of the embedded model in {in_place_seconds} s
instead of {reload_seconds} s (`make bench`).

## 8. No score of the base

The report compares checkpoints with one another, not with the model before training, and without that nobody can
say that GRPO helped. Here checkpoint 0 is the base, answered by the same code with the same prompts. Exact match
on dev, base and best of our default runs: {gains}. With what statistics a best checkpoint can be told from its
neighbours, notebook 05 says.
"""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
