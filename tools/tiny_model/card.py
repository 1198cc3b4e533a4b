"""A model's card: what was measured, and how the model was made.

In: the trained model. Out: ``figures.json`` and ``README.md`` beside the weights: shares by split
and by family, filled into ``templates/README.md``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from grpo_helpers.files import resolve_path, write_json
from grpo_helpers.prompts import PromptSource, load_prompted
from grpo_helpers.questions import SELECTION
from grpo_helpers.splits import DEV, TEST_SPLITS, TEST_UNSEEN_NORMS, Split
from tools.corpus.families import KINDS
from tools.pages.markdown import table
from tools.tiny_model.copying import copied
from tools.tiny_model.teacher import P_BAD_FORMAT, P_NONCE, P_OTHER_REASON

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

FAMILIES = "data/families"  # the part of the data that the model is made for
TEMPLATES = Path(__file__).parent / "templates"
FIGURES_FILE = "figures.json"
CARD_FILE = "README.md"
OF_TWO = "choice between two options"

Row = dict[str, Any]


@dataclass(frozen=True)
class Making:
    """How the model was made, for its card.

    Attributes:
        seed: The seed of the weights and of the lessons.
        steps: Steps of the warm start.
        minutes: How long the training took.
        parameters: The number of parameters.
        vocabulary: The number of tokens.
    """

    seed: int
    steps: int
    minutes: int
    parameters: int
    vocabulary: int


@dataclass(frozen=True)
class Figures:
    """What was measured: shares of greedy answers, 0 to 1, to three digits.

    Attributes:
        splits: One row for each split.
        families: One row for each family: its choice accuracy in each split of its words.
    """

    splits: list[Row]
    families: list[Row]


# -- measuring --------------------------------------------------------------------------------


def measure(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: str = FAMILIES
) -> Figures:
    """Measure the model's greedy answers to all question splits of a folder."""
    tables = []
    for split in (DEV, *TEST_SPLITS):
        if resolve_path(f"{folder}/{split.file}").is_file():
            tables.append(answer_table(model, tokenizer, folder, split))
    answers = pd.concat(tables)

    splits: list[Row] = []
    for title, rows in answers.groupby("split", sort=False):
        splits.append({"split": title, "questions": len(rows)} | _shares(rows))

    of_families = answers[answers.kind.isin(KINDS) & (answers.split != TEST_UNSEEN_NORMS.title)]
    families: list[Row] = []
    for (kind, card), rows in of_families.groupby(["kind", "card"], sort=False):
        choices = rows.groupby("split", sort=False).choice.mean().round(3)
        row: Row = {"family": card, "kind": kind}
        families.append(row | {str(split): choice for split, choice in choices.items()})
    return Figures(splits, families)


def answer_table(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: str, split: Split
) -> pd.DataFrame:
    """Return one row per question of a split: what it is about, and how it was answered."""
    from grpo_helpers.inference import generate_answers
    from grpo_helpers.metrics import choice_accuracy, exact_match, format_score

    source = PromptSource(few_shot_data_path=f"{folder}/few_shot.json")
    items, prompts = load_prompted(f"{folder}/{split.file}", source)
    answers = generate_answers(model, tokenizer, prompts)

    rows = []
    for answer, item in zip(answers, items, strict=True):
        row: Row = {name: item.extra.get(name, "") for name in ("kind", "card", "word", "form")}
        row |= {
            "id": item.id,
            "split": split.title,
            "question_type": item.question_type,
            "copied": copied(answer, item),
            "format": format_score(answer, item),
            "em": exact_match(answer, item.answer or ""),
            "choice": choice_accuracy(answer, item),
        }
        rows.append(row)
    return pd.DataFrame(rows)


def _shares(rows: pd.DataFrame) -> Row:
    """Return the shares of a split's answers."""
    of_two = rows[rows.question_type == SELECTION]
    shares = {
        "copied outside the chosen word": rows.copied.mean(),
        "required format": rows.format.mean(),
        "exact match": rows.em.mean(),
        "choice accuracy": rows.choice.mean(),
        OF_TWO: of_two.choice.mean(),
    }
    return {name: round(float(share), 3) for name, share in shares.items()}


# -- writing ----------------------------------------------------------------------------------


def write_card(folder: Path, figures: Figures, making: Making) -> None:
    """Write the figures and the card into the folder of the model."""
    write_json(folder / FIGURES_FILE, {"making": asdict(making), **asdict(figures)})
    (folder / CARD_FILE).write_text(card_text(figures, making), encoding="utf-8")


def card_text(figures: Figures, making: Making) -> str:
    """Return the model card.

    Args:
        figures: What :func:`measure` returned.
        making: How the model was made.
    """
    template = (TEMPLATES / CARD_FILE).read_text(encoding="utf-8")
    return template.format(
        **asdict(making),
        p_format=P_BAD_FORMAT,
        p_reason=P_OTHER_REASON,
        p_nonce=P_NONCE,
        splits=table(figures.splits),
        families=table(figures.families),
    )
