"""Embeddings that see letters: while the model is made, a syllable is the sum of its letters.

In: a Llama with one token per character. Out: the same Llama, whose embedding table is computed
from 68 vectors (19 initials, 21 medials, 28 finals, none among them) and one vector for each other
character; afterwards, an ordinary table.

One token per syllable hides what most norms depend on: 합 and 할 are two unrelated numbers. With
sums, all syllables that end in ㄴ have something in common, each lesson teaches all syllables of
its letters, and a syllable that no lesson contains can be read and written. When the model is
finished the sums are written out, and transformers, PEFT and TRL see a Llama like any other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn
from torch.nn.utils import parametrize

from grpo_helpers.letters import FINALS, INITIALS, MEDIALS, all_syllables

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

SIZES = (len(INITIALS), len(MEDIALS), len(FINALS))
LETTERS = sum(SIZES)
SYLLABLES = math.prod(SIZES)


class Head(Protocol):
    """What turns the last hidden states of a model into the loss of its next tokens."""

    def cross_entropy(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy.

        Args:
            hidden: Final hidden states, shape (places, width).
            targets: The tokens that follow, shape (places,).
        """
        ...


class TableHead:
    """The head of a model whose embedding table is an ordinary one: letters stay unseen.

    Args:
        model: A Llama with tied embeddings.
    """

    def __init__(self, model: LlamaForCausalLM):
        table = model.get_input_embeddings().weight
        assert isinstance(table, nn.Parameter)
        self.table = table

    def cross_entropy(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy; see :class:`Head`."""
        logits = hidden @ self.table.T
        return nn.functional.cross_entropy(logits, targets)


class SumOfLetters(nn.Module):
    """Computes an embedding table from the vectors of letters and of other characters.

    Args:
        first: The number of the token 가; the other syllables follow it in Unicode's order.
        tokens: The number of all tokens.
    """

    def __init__(self, first: int, tokens: int):
        super().__init__()
        self.first = first
        self.tokens = tokens

    def forward(self, vectors: Tensor) -> Tensor:
        """Return the table, shape (tokens, width).

        Args:
            vectors: Letters, then other characters in the order of their tokens, shape
                (letters + other characters, width).
        """
        letters, others = vectors.split([LETTERS, len(vectors) - LETTERS])
        initials, medials, finals = letters.split(SIZES)

        sums = initials[:, None, None] + medials[None, :, None] + finals[None, None, :]
        syllables = sums.flatten(end_dim=2)
        return torch.cat([others[: self.first], syllables, others[self.first :]])

    def right_inverse(self, table: Tensor) -> Tensor:
        """Return random vectors to start from, of a size that gives the table its usual one."""
        others = self.tokens - SYLLABLES
        spread = table.std()
        letters = torch.randn(LETTERS, table.shape[1]) * spread / math.sqrt(3)
        characters = torch.randn(others, table.shape[1]) * spread
        return torch.cat([letters, characters])


class LetterHead:
    """The head of a model whose embedding table is a sum of letters.

    The logit of a syllable is the sum of the logits of its letters, so the sum over all syllables
    in a softmax is a product of three small sums. That gives the loss over 11,172 syllables for the
    price of 68 letters.

    Args:
        sums: How the table is computed.
        vectors: What it is computed from; see :meth:`SumOfLetters.forward`.
    """

    def __init__(self, sums: SumOfLetters, vectors: Tensor):
        self.sums = sums
        self.vectors = vectors

    def cross_entropy(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy, as with the logits of the whole table.

        Args:
            hidden: Final hidden states, shape (places, width).
            targets: The tokens that follow, shape (places,).
        """
        logits = hidden @ self.vectors.T
        letters, others = logits.split([LETTERS, logits.shape[1] - LETTERS], dim=1)
        by_letter = letters.split(SIZES, dim=1)

        of_syllables = torch.stack([part.logsumexp(dim=1) for part in by_letter]).sum(dim=0)
        normaliser = torch.logaddexp(of_syllables, others.logsumexp(dim=1))
        return (normaliser - self._target_logits(by_letter, others, targets)).mean()

    def _target_logits(
        self, by_letter: Sequence[Tensor], others: Tensor, targets: Tensor
    ) -> Tensor:
        """Return the logit of each target, shape (places,)."""
        first = self.sums.first
        number = targets - first
        is_syllable = (number >= 0) & (number < SYLLABLES)

        # Of a token that is no syllable, any letters will do: they are not used.
        number = number.clamp(0, SYLLABLES - 1)
        finals = number % SIZES[2]
        medials = number // SIZES[2] % SIZES[1]
        initials = number // (SIZES[2] * SIZES[1])
        of_initial, of_medial, of_final = by_letter
        of_syllable = (
            _picked(of_initial, initials) + _picked(of_medial, medials) + _picked(of_final, finals)
        )

        place = torch.where(targets < first, targets, targets - SYLLABLES)
        of_other = _picked(others, place.clamp(0, others.shape[1] - 1))
        return torch.where(is_syllable, of_syllable, of_other)


def _picked(logits: Tensor, places: Tensor) -> Tensor:
    """Return one logit of each row."""
    return logits.gather(1, places[:, None])[:, 0]


@contextmanager
def letters_seen(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> Iterator[LetterHead]:
    """Let the model's embedding table be the sum of letters inside the ``with`` block.

    The head is the same table; the block's value computes a loss with it. Afterwards both are an
    ordinary parameter again, with the last sums.

    Args:
        model: A Llama with tied embeddings; its table gets new random values.
        tokenizer: Its tokenizer, which has all Hangul syllables as neighbours.
    """
    embedding = model.get_input_embeddings()
    first = tokenizer.get_vocab()[all_syllables()[0]]
    sums = SumOfLetters(first, len(tokenizer))
    parametrize.register_parametrization(embedding, "weight", sums)
    vectors: Any = embedding.get_parameter("parametrizations.weight.original")
    try:
        yield LetterHead(sums, vectors)
    finally:
        parametrize.remove_parametrizations(embedding, "weight", leave_parametrized=True)
        model.tie_weights()
