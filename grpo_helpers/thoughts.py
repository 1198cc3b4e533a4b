"""How much of what a model writes is thought: shares and lengths, for the log and the score tables.

In: answers, or the completions of a round. Out: a column per answer, or a mean per round; both only
where there is a thought at all, so that the tables and the log of a model that does not think stay
as they are. What a thought is, :func:`grpo_helpers.answers.split_thought` decides. The article's
model does not think.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from grpo_helpers.answers import UNCLOSED, split_thought
from grpo_helpers.rewards import Completion, split_completion, with_open_thought

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# What the log calls them, in the manner of TRL. The shares are of all completions and 0 before the
# first thought; the length is in tokens and the mean over completions that think.
THOUGHT_RATIO = "completions/thought_ratio"
UNFINISHED_RATIO = "completions/unfinished_thought_ratio"
THOUGHT_LENGTH = "completions/mean_thought_length"
SHARES = (THOUGHT_RATIO, UNFINISHED_RATIO)


# -- answers on disk -------------------------------------------------------------------------------


def any_thinks(answers: Iterable[str]) -> bool:
    """Return whether one of some answers holds a thought that is not empty."""
    return any(split_thought(answer).thought for answer in answers)


def thought_scores(answers: Sequence[str]) -> dict[str, list[float]]:
    """Return which answers hold a thought, and how long it is; no tokenizer is at hand here.

    Args:
        answers: The answers of one file.

    Returns:
        ``thinks`` (1 or 0) and ``thought_characters``, one value per answer.

    >>> thought_scores(["<think>음...</think>며칠", "며칠"])
    {'thinks': [1.0, 0.0], 'thought_characters': [4.0, 0.0]}
    """
    lengths = [float(len(split_thought(answer).thought)) for answer in answers]
    return {
        "thinks": [float(length > 0) for length in lengths],
        "thought_characters": lengths,
    }


# -- completions of a round ------------------------------------------------------------------------


class RoundThoughts:
    """Measures the thoughts of each round of sampling, from the first one on.

    Called with the completions of a round, it returns what the log gets of them; nothing as long as
    no completion of the run has held a thought.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, thought_is_open: bool = False) -> None:
        """Take what counts tokens, and whether every prompt ends inside a thought."""
        self.tokenizer = tokenizer
        self.thought_is_open = thought_is_open
        self.has_begun = False

    def __call__(self, completions: Sequence[Completion]) -> dict[str, float]:
        """Return the shares and the length of the thoughts of a round, by their name in the log.

        Args:
            completions: Those of all processes; at least one.
        """
        if self.thought_is_open:
            completions = list(map(with_open_thought, completions))
        splits = list(map(split_completion, completions))
        thoughts = [split.thought for split in splits if split.thought]
        unfinished = sum(split.fault == UNCLOSED for split in splits)

        self.has_begun = self.has_begun or bool(thoughts or unfinished)
        if not self.has_begun:
            return {}

        measured = {
            THOUGHT_RATIO: len(thoughts) / len(splits),
            UNFINISHED_RATIO: unfinished / len(splits),
        }
        if thoughts:  # a mean over none would be no number
            measured[THOUGHT_LENGTH] = self._tokens(thoughts) / len(thoughts)
        return measured

    def _tokens(self, texts: list[str]) -> int:
        """Return how many tokens some texts have together."""
        encoded = self.tokenizer(texts, add_special_tokens=False, verbose=False)
        return sum(map(len, encoded["input_ids"]))
