"""Answers whose beginning is given: does a model need its thought, and does it follow it?

In: a model of the word-chain game, a split. Out: its greedy answers in two situations that it
cannot leave, because the first tokens of the answer are written for it:

- ``forbidden``: the answer has begun with its quotation mark, so that no thought can come before;
- ``misled``: a thought is there, but it is the other chain of the question, whose end is wrong.

A model that thinks for show would be as good without its thought, and would not mind another one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from grpo_helpers.prompts import load_prompted, prompt_texts
from grpo_helpers.thinking_runs import FORBIDDEN, MISLED, judge_answers
from tools.word_chain.build import FOLDER
from tools.word_chain.questions import thought
from tools.word_chain.thinking_card import LONGEST, PROMPTS

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from grpo_helpers.questions import Item
    from grpo_helpers.splits import Split

QUOTE = '"'  # every answer of the course begins with it


def beginning(kind: str, item: Item) -> str:
    """Return what an answer to an item begins with.

    Args:
        kind: ``forbidden`` or ``misled``.
        item: A question, with its ``other_chain``.
    """
    beginnings = {FORBIDDEN: QUOTE, MISLED: thought(item.extra["other_chain"].split())}
    return beginnings[kind]


def begun_answers(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, split: Split, kind: str
) -> pd.DataFrame:
    """Return one row per greedy answer to the questions of a split, its beginning included.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        split: The split.
        kind: ``forbidden`` or ``misled``.
    """
    from grpo_helpers.inference import generate_answers

    items, prompts = load_prompted(f"{FOLDER}/{split.file}", PROMPTS)
    beginnings = [beginning(kind, item) for item in items]
    texts = prompt_texts(prompts, tokenizer)
    begun = [text + start for text, start in zip(texts, beginnings, strict=True)]

    rests = generate_answers(model, tokenizer, begun, max_new_tokens=LONGEST)
    answers = [[start + rest] for start, rest in zip(beginnings, rests, strict=True)]
    return judge_answers(answers, items)
