"""A model's card: what was measured, and how the model was made.

In: the trained model. Out: ``figures.json`` and ``README.md`` beside the weights: shares by split
and by family, filled into ``templates/README.md``. ``python -m tools.tiny_model.card`` measures the
committed model again.

Whether the model prefers right forms is measured in two ways. Greedy answers tell what it writes;
but where two forms are almost equally probable, a difference in the third digit decides, and the
questions about a word turn out alike. The probability of the right form has no such threshold.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pandas as pd

from grpo_helpers.command_line import run_command
from grpo_helpers.data import load_items
from grpo_helpers.files import project_root, read_json, resolve_path, write_json
from grpo_helpers.prompts import PromptSource, load_prompted
from grpo_helpers.questions import SELECTION
from grpo_helpers.splits import DEV, TEST_SPLITS, TEST_UNSEEN_NORMS, Split
from tools.corpus.families import KINDS
from tools.pages.markdown import table
from tools.tiny_model.copying import EMBEDDED, copied
from tools.tiny_model.teacher import P_BAD_FORMAT, P_NONCE, P_OTHER_REASON

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

TEMPLATES = Path(__file__).parent / "templates"
FIGURES_FILE = "figures.json"
CARD_FILE = "README.md"
OF_TWO = "choice between two options"
P_RIGHT = "P(right form)"  # of the two forms in a 선택형 question

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
        families: One row for each family: its choice accuracy in each split of its words, and
            over all of them the mean probability of the right form.
    """

    splits: list[Row]
    families: list[Row]


# -- measuring --------------------------------------------------------------------------------


def measure(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: str = EMBEDDED
) -> Figures:
    """Measure the model's greedy answers to all question splits of a folder."""
    answer_tables, share_tables = [], []
    for split in (DEV, *TEST_SPLITS):
        if resolve_path(f"{folder}/{split.file}").is_file():
            answer_tables.append(answer_table(model, tokenizer, folder, split))
            share_tables.append(right_shares(model, tokenizer, folder, split))
    answers, right = pd.concat(answer_tables), pd.concat(share_tables)

    by_split = _means(right, "split")
    splits: list[Row] = []
    for title, rows in answers.groupby("split", sort=False):
        row: Row = {"split": title, "questions": len(rows)} | _shares(rows)
        splits.append(row | {P_RIGHT: by_split[str(title)]})

    of_families = answers[answers.kind.isin(KINDS) & (answers.split != TEST_UNSEEN_NORMS.title)]
    by_family = _means(right[right.split != TEST_UNSEEN_NORMS.title], "card")
    families: list[Row] = []
    for (kind, card), rows in of_families.groupby(["kind", "card"], sort=False):
        choices = rows.groupby("split", sort=False).choice.mean().round(3)
        row = {"family": card, "kind": kind}
        row |= {str(split): choice for split, choice in choices.items()}
        families.append(row | {P_RIGHT: by_family[str(card)]})
    return Figures(splits, families)


def _means(shares: pd.DataFrame, column: str) -> dict[str, float]:
    """Return the mean share of each value of a column, to three digits."""
    means = shares.groupby(column)["share"].mean()
    return {str(value): round(float(mean), 3) for value, mean in means.items()}


def right_shares(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: str, split: Split
) -> pd.DataFrame:
    """Return, for each question with two options, how probable the model finds the right one.

    Returns:
        One row per question: ``split``, ``card``, and ``share``, P(right) / (P(right) + P(wrong)).
    """
    from grpo_helpers.settings import TrainSettings
    from tools.experiments.form_probability import measure as measure_forms
    from tools.experiments.probes import choice_probes, encode_probes

    settings = TrainSettings(few_shot_data_path=f"{folder}/few_shot.json")
    items = load_items(f"{folder}/{split.file}")
    probes = choice_probes(items)
    encoded = encode_probes(probes, tokenizer, settings)
    measured = measure_forms(model, encoded, cast(int, tokenizer.pad_token_id))

    rows = []
    for probe, share in zip(probes, measured.shares, strict=True):
        rows.append({"split": split.title, "card": probe.item.extra["card"], "share": share})
    return pd.DataFrame(rows, columns=["split", "card", "share"])


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


def write_card(folder: Path, figures: Figures, making: Making, template: str = CARD_FILE) -> None:
    """Write the figures and the card into the folder of the model."""
    write_json(folder / FIGURES_FILE, {"making": asdict(making), **asdict(figures)})
    (folder / CARD_FILE).write_text(card_text(figures, making, template), encoding="utf-8")


def card_text(figures: Figures, making: Making, template: str = CARD_FILE) -> str:
    """Return the model card.

    Args:
        figures: What :func:`measure` returned.
        making: How the model was made.
        template: A file in ``templates/``.
    """
    text = (TEMPLATES / template).read_text(encoding="utf-8")
    return text.format(
        **asdict(making),
        p_format=P_BAD_FORMAT,
        p_reason=P_OTHER_REASON,
        p_nonce=P_NONCE,
        splits=table(figures.splits),
        families=table(figures.families),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the committed model again and rewrite its card; return 0."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.tiny_model.card", description=__doc__.splitlines()[0]
    )
    parser.parse_args(argv)

    def body() -> int:
        from grpo_helpers.models import load_model, load_tokenizer

        folder = project_root() / "data" / "tiny_model"
        making = Making(**read_json(folder / FIGURES_FILE)["making"])
        model, tokenizer = load_model(str(folder)).eval(), load_tokenizer(str(folder))
        write_card(folder, measure(model, cast(Any, tokenizer)), making)
        print(f"written: {folder / CARD_FILE}")
        return 0

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
