"""The embedded model's card: what was measured, and how the model was made.

In: the trained model. Out: shares on dev and test, and ``README.md`` beside the weights, filled
into ``templates/README.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from grpo_helpers.prompts import PromptSource, load_prompted
from grpo_helpers.questions import SELECTION
from tools.tiny_model.copying import copy_share
from tools.tiny_model.teacher import P_BAD_FORMAT, P_MADE_UP_WORD, P_OTHER_REASON

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

EMBEDDED = "data/embedded"  # the part of the data that this model can learn within minutes
TEMPLATES = Path(__file__).parent / "templates"

Figures = dict[str, dict[str, float]]  # split -> what was measured -> share, 0 to 1


@dataclass(frozen=True)
class Making:
    """How the model was made, for its card.

    Attributes:
        seed: The seed of the weights and of the lessons.
        steps: Steps of the warm start; for a copy of an earlier model including that model's.
        last: Steps of the last phase.
        minutes: How long the training took.
        start: The SHA-256 of the weights it started from, or None for a fresh model.
        parameters: The number of parameters.
        vocabulary: The number of tokens.
        items: Questions in each split that was measured.
    """

    seed: int
    steps: int
    last: int
    minutes: float
    start: str | None
    parameters: int
    vocabulary: int
    items: int


def measure(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> Figures:
    """Measure the greedy answers to dev and test.

    Returns:
        For each split the shares of answers that are copied, in the required format, and right.
    """
    from grpo_helpers.inference import generate_answers
    from grpo_helpers.metrics import choice_accuracy, exact_match, format_score

    figures = {}
    source = PromptSource(few_shot_data_path=f"{EMBEDDED}/few_shot.json")
    for split in ("dev", "test"):
        items, prompts = load_prompted(f"{EMBEDDED}/{split}.json", source)
        answers = generate_answers(model, tokenizer, prompts)

        matches, formats, choices, choices_of_two = [], [], [], []
        for answer, item in zip(answers, items, strict=True):
            choice = choice_accuracy(answer, item)
            matches.append(exact_match(answer, item.answer or ""))
            formats.append(format_score(answer, item))
            choices.append(choice)
            if item.question_type == SELECTION:
                choices_of_two.append(choice)

        figures[split] = {
            "unseen sentences copied outside the chosen word": copy_share(answers, items),
            "answers in the required format": float(np.mean(formats)),
            "exact match": float(np.mean(matches)),
            "choice accuracy": float(np.mean(choices)),
            "choice accuracy on two-option items": float(np.mean(choices_of_two)),
        }
    return figures


def card_text(figures: Figures, making: Making) -> str:
    """Return the model card.

    Args:
        figures: What :func:`measure` returned.
        making: How the model was made.
    """
    command, started = "make tiny-model", ""
    if making.start:
        command = "python -m tools.tiny_model.train --start FOLDER"
        started = _template("started.md").format(start=making.start[:16], last=making.last)

    rows = []
    for name, dev in figures["dev"].items():
        rows.append(f"| {name} | {dev:.3f} | {figures['test'][name]:.3f} |")

    return _template("README.md").format(
        parameters=making.parameters,
        vocabulary=making.vocabulary,
        command=command,
        minutes=making.minutes,
        seed=making.seed,
        started=started,
        steps=making.steps,
        p_format=P_BAD_FORMAT,
        p_reason=P_OTHER_REASON,
        p_made_up=P_MADE_UP_WORD,
        items=making.items,
        rows="\n".join(rows),
    )


def _template(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")
