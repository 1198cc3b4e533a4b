"""A reward that can be gamed: full marks for quoting a sentence of the question.

Somebody might add it against made-up sentences. It is harmless where the task is to choose
between two sentences that the question shows, and wrong where the task is to correct the one it
shows: there the gold answer earns nothing. The recorded run ``quoted`` trains with it in the
place of exact match.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from grpo_helpers import rewards
from grpo_helpers.answers import normalize_quotes, parse
from grpo_helpers.questions import question_sentences
from grpo_helpers.rewards import Completion, completion_text


def quoted_reward(
    prompts: Sequence[list[dict[str, str]]],
    completions: Sequence[Completion],
    references: Any = None,
    **_: Any,
) -> list[float]:
    """Reward completions that call a sentence of their own question right.

    Args:
        prompts: One list of messages per completion; the last message is the question.
        completions: What the model wrote, as text or as messages.
        references: The gold answers; not looked at.

    Returns:
        Per completion 1.0 if its sentence is in the question, whichever option of a brace is taken,
        else 0.0.
    """
    earned = []
    for prompt, completion in zip(prompts, completions, strict=True):
        sentences = parse(completion_text(completion)).sentences
        known = quotable(prompt[-1]["content"])
        is_quoted = bool(sentences) and sentences[0] in known
        earned.append(float(is_quoted))
    return earned


def quotable(question: str) -> list[str]:
    """Return the sentences a question shows, with each option of each brace filled in.

    >>> quotable('"{며칠/몇일}이 걸렸다." 가운데 올바른 것을 ...')
    ['며칠이 걸렸다.', '몇일이 걸렸다.']
    """
    filled = []
    for sentence in question_sentences(question):
        # Between the braces the parts alternate: plain text, options, plain text, ...
        options = []
        for place, part in enumerate(re.split(r"[{}]", normalize_quotes(sentence))):
            in_braces = place % 2 == 1
            options.append(part.split("/") if in_braces else [part])

        filled += ["".join(words) for words in itertools.product(*options)]
    return filled


@contextmanager
def knowing_quoted() -> Iterator[None]:
    """Let the reward ``quoted`` be registered for a while; afterwards it is unknown again.

    A registered reward also becomes a column of every table of scores, and recorded tables have
    none.
    """
    before = rewards.registered()
    rewards.register("quoted", quoted_reward)
    try:
        yield
    finally:
        rewards.restore(before)
