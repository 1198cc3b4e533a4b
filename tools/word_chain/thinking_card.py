"""The thinking model's card: how often it thinks, how true its thoughts are, how often it is right.

In: a model of the word-chain game. Out: ``figures.json`` and ``README.md`` beside its weights.

Its habits show in answers that are *sampled*, as in training: a greedy model that thinks in .49 of
its samples may never think at all. So both kinds of answers are measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from grpo_helpers.data import load_items
from grpo_helpers.files import read_json, write_json
from grpo_helpers.prompts import PromptSource, load_prompted, prompt_texts
from grpo_helpers.splits import DEV, TEST, TEST_UNSEEN_WORDS, Split
from grpo_helpers.thinking_runs import GREEDY, SAMPLED, judge_answers, thinking_shares
from tools.pages.markdown import table
from tools.tiny_model.card import CARD_FILE, FIGURES_FILE, Making, Row
from tools.tiny_model.copying import copy_share
from tools.word_chain.build import FOLDER
from tools.word_chain.teacher import Habits

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

SPLITS = (DEV, TEST, TEST_UNSEEN_WORDS)
SAMPLES = 4  # of each question
TEMPERATURE = 0.7  # as in the course's training
NOT_MEASURED = "not measured yet for this model (`python -m tools.experiments.thinking`)"
COPIED = "sentence copied"
LONGEST = 96  # tokens of an answer with its thought
PROMPTS = PromptSource(
    few_shot_data_path=f"{FOLDER}/few_shot.json",
    instruct_path=f"{FOLDER}/instruct.json",
    num_few_shot=0,
)
TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Gate:
    """Is thinking necessary? Right greedy answers to unseen words, means over seeds, 0 to 1.

    Attributes:
        gold: After supervised training on gold answers, which hold no thoughts.
        taught: After supervised training on gold answers with the true chain before them.
        seeds: The number of seeds.
    """

    gold: float
    taught: float
    seeds: int

    @property
    def text(self) -> str:
        """The two figures, for the card."""
        return (
            f"of the answers to unseen words, {self.gold:.3f} are right after the first "
            f"(a guess: 0.5), {self.taught:.3f} after the second (means of {self.seeds} seeds)"
        )


# -- measuring --------------------------------------------------------------------------------


def measure(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> list[Row]:
    """Return one row for each split and way of answering: greedy, and sampled."""
    from transformers import set_seed

    set_seed(0)
    rows: list[Row] = []
    for split in SPLITS:
        for kind in (GREEDY, SAMPLED):
            answers = answer_table(model, tokenizer, split, kind)
            shares = thinking_shares(answers) | {COPIED: copied_share(answers, split)}
            rows.append({"split": split.title, "answers": kind} | rounded(shares))
    return rows


def copied_share(answers: pd.DataFrame, split: Split) -> float:
    """Return the share of answers that repeat the question's sentence with either option."""
    items = {item.id: item for item in load_items(f"{FOLDER}/{split.file}")}
    asked = [items[number] for number in answers["id"]]
    return copy_share(list(answers["text"]), asked)


def rounded(shares: Mapping[str, float]) -> Row:
    """Return shares to three digits; empty where there was nothing to count.

    >>> rounded({"thinks": 0.12345, "right with a thought": float("nan")})
    {'thinks': 0.123, 'right with a thought': ''}
    """
    return {name: "" if isnan(share) else round(share, 3) for name, share in shares.items()}


def answer_table(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, split: Split, kind: str = GREEDY
) -> pd.DataFrame:
    """Return one row per answer to the questions of a split.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        split: The split.
        kind: ``greedy``, one answer to each question, or ``sampled``, :data:`SAMPLES` answers.
    """
    from grpo_helpers.inference import generate_answers, sample_groups

    items, prompts = load_prompted(f"{FOLDER}/{split.file}", PROMPTS)
    if kind == GREEDY:
        answers = generate_answers(model, tokenizer, prompts, max_new_tokens=LONGEST)
        groups = [[answer] for answer in answers]
        return judge_answers(groups, items)

    texts = prompt_texts(prompts, tokenizer)
    groups = []
    for start in range(0, len(texts), 32):
        groups += sample_groups(
            model,
            tokenizer,
            texts[start : start + 32],
            group_size=SAMPLES,
            temperature=TEMPERATURE,
            max_new_tokens=LONGEST,
        )
    return judge_answers(groups, items)


# -- writing ----------------------------------------------------------------------------------


def write_card(folder: Path, figures: list[Row], making: Making, gate: Gate | None = None) -> None:
    """Write the figures and the card into the folder of the model."""
    content: Row = {"making": asdict(making), "answers": figures}
    if gate:
        content["gate"] = asdict(gate)
    write_json(folder / FIGURES_FILE, content)
    (folder / CARD_FILE).write_text(card_text(figures, making, gate), encoding="utf-8")


def add_gate(folder: Path, gate: Gate) -> None:
    """Write the figures of the gate into the card of a model that has one."""
    content = read_json(folder / FIGURES_FILE)
    write_card(folder, content["answers"], Making(**content["making"]), gate)


def card_text(figures: list[Row], making: Making, gate: Gate | None = None) -> str:
    """Return the model card."""
    template = (TEMPLATES / CARD_FILE).read_text(encoding="utf-8")
    habits = Habits()
    return template.format(
        **asdict(making),
        direct=1 - habits.thinks,
        keeps=habits.keeps,
        samples=SAMPLES,
        temperature=TEMPERATURE,
        answers=table(figures),
        gate=gate.text if gate else NOT_MEASURED,
    )
