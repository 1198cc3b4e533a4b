"""Write ``docs/rewards.md``, what the rewards measure: ``python -m tools.pages.rewards``.

In: the rewards themselves, the recorded completions and the recorded encoders of
``data/reward_lab``, and ``templates/rewards.md``. Out: the page, every figure of which is computed
here, and ``docs/goodhart.png``; a test compares the page with what this module writes. The figures
of BERTScore are those of the embedded model: make the page again when that model changes.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from grpo_helpers.answers import format_answer
from grpo_helpers.data import load_items
from grpo_helpers.files import project_root, read_json
from grpo_helpers.metrics import KoreanTokenizer, rouge1_reasons
from grpo_helpers.rewards import (
    PRESETS,
    bertscore_reward,
    em_reward,
    format_reward,
    reward_weights,
    rouge1_reward,
)
from grpo_helpers.run_folder import BASE
from tools.experiments.reward_lab import FOLDER
from tools.pages import goodhart
from tools.pages.command import page_command
from tools.pages.markdown import fill_template, table

PAGE = project_root() / "docs" / "rewards.md"
FUNCTIONS = {
    "format": format_reward,
    "em": em_reward,
    "rouge1": rouge1_reward,
    "bertscore": bertscore_reward,
}

RIGHT = "회의까지 며칠밖에 남지 않았다."
WRONG = "회의까지 몇일밖에 남지 않았다."
REASON = "'며칠'은 어원이 분명하지 않아 소리대로 적는다."
GOLD = format_answer(RIGHT, REASON)
TRICKS = {
    "gold answer": GOLD,
    "wrong form, the reason to match": format_answer(WRONG, REASON.replace("며칠", "몇일")),
    "both forms at once": GOLD.replace("며칠밖에", "며칠/몇일밖에"),
    "both sentences (혹은: *or*)": GOLD.replace(f'"{RIGHT}"', f'"{RIGHT}" 혹은 "{WRONG}"'),
    "braces left in": GOLD.replace("며칠밖에", "{며칠/몇일}밖에"),
    "no reason": f'"{RIGHT}"가 옳다.',
    "the answer twice": f"{GOLD} {GOLD}",
    "polite style (옳습니다)": GOLD.replace("옳다", "옳습니다"),
}
APART = "의존 명사는 앞말과 띄어 쓴다."  # is written apart from the word before it
TOGETHER = "의존 명사는 앞말과 붙여 쓴다."  # is written together with it

Parts = dict[str, np.ndarray]


def score(texts: Sequence[str], references: Sequence[str]) -> Parts:
    """Return what each text earns from each built-in reward: reward -> one value per text."""
    earned = {}
    for name, function in FUNCTIONS.items():
        earned[name] = np.array(function(None, texts, references=references))
    return earned


def weighted_sum(parts: Parts, preset: str) -> np.ndarray:
    """Return the sum of rewards under the weights of a preset."""
    total = np.zeros_like(parts["em"])
    for name, values in parts.items():
        total = total + reward_weights(preset)[name] * values
    return total


def weights_table() -> str:
    """Return the weights of both presets, and their sum, as a table."""
    rows = []
    for preset in PRESETS:
        weights = reward_weights(preset)
        row = {"preset": f"`{preset}`"}
        for name in FUNCTIONS:
            row[name] = f"{weights[name]:.3f}"
        rows.append(row | {"maximum": f"{sum(weights.values()):.3f}"})
    return table(rows)


def own_tokenizer_on_korean() -> float:
    """Return what ``rouge-score`` gives two identical Korean sentences, with its own tokenizer."""
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rouge1"]).score(REASON, REASON)["rouge1"].fmeasure


def bertscore_of_the_opposite() -> float:
    """Return the BERTScore of two reasons that say the opposite of each other."""
    sentence = "노력한 만큼 얻는다."
    completion = format_answer(sentence, TOGETHER)
    reference = format_answer(sentence, APART)
    return bertscore_reward(None, [completion], [reference])[0]


@cache
def earned_by_tricks() -> pd.DataFrame:
    """Return what each trick earns: one row per trick, one column per reward and preset."""
    parts = score(list(TRICKS.values()), [GOLD] * len(TRICKS))
    earned = pd.DataFrame(parts, index=list(TRICKS))
    for preset in PRESETS:
        earned[preset] = weighted_sum(parts, preset)
    return earned


def tricks_table() -> str:
    """Return what each trick earns as a table."""
    rows = []
    for trick, values in earned_by_tricks().iterrows():
        row: dict[str, Any] = {"answer": trick}
        for name, value in values.items():
            row[str(name)] = f"{value:.2f}"
        rows.append(row)
    return table(rows)


def golds_of(recorded: Mapping[str, Any], group_size: int) -> list[str]:
    """Return the gold answer of each recorded completion, in order."""
    by_id = {item.id: item for item in load_items(recorded["eval_data_path"])}
    golds = []
    for key in recorded["questions"]:
        golds += [by_id[key].answer or ""] * group_size
    return golds


def run_table(recorded: Mapping[str, Any]) -> str:
    """Return each checkpoint of the recorded run as both formulas see it, as a table."""
    group_size = len(recorded["completions"][BASE][0])
    golds = golds_of(recorded, group_size)
    rows = []

    for checkpoint, groups in recorded["completions"].items():
        texts = [text for group in groups for text in group]
        parts = score(texts, golds)
        row: dict[str, Any] = {"checkpoint": checkpoint}
        for preset in PRESETS:
            row[f"mean reward, `{preset}`"] = f"{weighted_sum(parts, preset).mean():.3f}"

        by_group = weighted_sum(parts, "article").reshape(-1, group_size)
        spread = by_group.std(axis=1, ddof=1)
        row["spread in a group"] = f"{spread.mean():.3f}"
        row["groups without spread"] = f"{(spread < 1e-8).mean():.0%}"
        right = parts["em"].reshape(-1, group_size)
        row["pass@1"] = f"{right.mean():.3f}"
        row[f"pass@{group_size}"] = f"{right.max(axis=1).mean():.3f}"
        row["Final Mean on dev"] = f"{recorded['dev'][checkpoint]['article']:.3f}"
        rows.append(row)

    return table(rows)


def encoders_table() -> str:
    """Return the recorded comparison of BERTScore's encoders as a table."""
    rows = []
    for recorded in read_json(FOLDER / "encoders.json")["rows"]:
        by_kind = recorded["by_kind"]
        rows.append(
            {
                "encoder": recorded["encoder"].removeprefix("runs/encoders/"),
                "layer": recorded["layer"],
                "ms a pair": f"{recorded['ms_per_pair']:.1f}",
                "separation": f"{recorded['separation']:.2f}",
                "words shuffled": f"{by_kind['words shuffled']:.2f}",
                "the opposite rule": f"{by_kind['the opposite rule']:.2f}",
            }
        )
    return table(rows)


def page() -> str:
    """Return the whole page."""
    recorded = read_json(FOLDER / "completions.json")
    fooled = goodhart.most_fooling()
    return fill_template(
        "rewards.md",
        weights=weights_table(),
        latin=f"{own_tokenizer_on_korean():.1f}",
        korean=f"{rouge1_reasons(REASON, REASON):.1f}",
        morphemes=" · ".join(KoreanTokenizer().tokenize(REASON)),
        rouge=f"{rouge1_reasons(TOGETHER, APART):.2f}",
        bertscore=f"{bertscore_of_the_opposite():.2f}",
        tricks=tricks_table(),
        questions=len(recorded["questions"]),
        samples=len(recorded["completions"][BASE][0]),
        run=run_table(recorded),
        one_question=100 / len(recorded["questions"]),
        encoders=encoders_table(),
        curves=goodhart.curves_table(),
        changes=goodhart.changes_table(),
        fooled=fooled.answer,
        fooled_gloss=fooled.item.extra["gloss"],
        shown=goodhart.SHOWN,
    )


def page_and_figure() -> str:
    """Draw the figure and return the whole page."""
    goodhart.draw()
    return page()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    return page_command("tools.pages.rewards", page_and_figure, PAGE, argv=argv)


if __name__ == "__main__":
    sys.exit(main())
