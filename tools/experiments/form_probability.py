"""P(right form) against P(wrong form) from the logits of a model, for many questions at once.

In: a model, as it is at this moment of its training, and :class:`EncodedProbe` objects. Out: a
:class:`Measurement`. Nothing is sampled. Given the prompt and the answer up to where the right and
the wrong sentence part,

    P(right) = product of P(token | what is before it) over the tokens of the right form,
    P(wrong) = the same over those of the wrong form,
    share    = P(right) / (P(right) + P(wrong)).

The two forms begin with different tokens, so they exclude each other, and the share is the
probability of the right one among answers that come so far and state either. It is at temperature
1: sampling at temperature T raises the odds to the power of about 1/T, and a greedy answer is right
where the share is above one half. What the share leaves out is the *mass* P(right) + P(wrong): the
rest are answers that damage the word.

A prompt goes through the model once, as in :mod:`grpo_helpers.shared_prefix`, and what many prompts
begin with goes through once for all of them: instruction and worked example, then question and
common beginning, then, where a form has several tokens, those but the last.

Measuring leaves a training as it was: no gradient, the same mode, and every random number generator
is put back (:func:`untouched_randomness`).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from tools.experiments.probes import EncodedProbe, Tokens

BATCH_SIZE = 64  # probes at once


@dataclass(frozen=True)
class Measurement:
    """How probable the two forms of each probe are.

    Attributes:
        shares: P(right) / (P(right) + P(wrong)), (probes,).
        masses: P(right) + P(wrong), (probes,).
    """

    shares: np.ndarray
    masses: np.ndarray


@dataclass(frozen=True)
class LongForm:
    """A form of several tokens: whose it is, and whether it is the right (0) or the wrong one."""

    probe: int
    side: int
    tokens: Tokens


class CachedRows:
    """Rows of tokens that a model has read so far; some of them can be chosen and read on."""

    def __init__(self, model: Any, pad: int) -> None:
        """Begin with nothing read.

        Args:
            model: A causal language model, with or without an adapter.
            pad: The token that fills up shorter rows, on their left; nobody attends to it.
        """
        self.model = model
        self.pad = pad
        self.cache = DynamicCache(config=model.config.get_text_config())
        self.mask: Tensor | None = None

    def selected(self, places: Sequence[int]) -> CachedRows:
        """Return some of the rows, to read on; a row may be there several times."""
        chosen = CachedRows(self.model, self.pad)
        indices = torch.tensor(places, device=self.model.device)
        for number, each in enumerate(self.cache.layers):
            layer = cast(DynamicLayer, each)
            keys, values = cast(Tensor, layer.keys), cast(Tensor, layer.values)
            chosen.cache.update(keys[indices], values[indices], number)

        if self.mask is not None:
            chosen.mask = self.mask[indices]
        return chosen

    def read(self, rows: Sequence[Tokens], keep: int = 1) -> Tensor:
        """Read more tokens of every row.

        Args:
            rows: The next tokens of each row, one or more.
            keep: For how many of the last tokens logits are computed.

        Returns:
            Log-probabilities of what follows each of the last ``keep`` tokens, (rows, keep,
            vocabulary); those of padding mean nothing.
        """
        width = max(len(tokens) for tokens in rows)
        ids = torch.full((len(rows), width), self.pad)
        mask = torch.zeros_like(ids)
        for number, tokens in enumerate(rows):
            start = width - len(tokens)
            ids[number, start:] = torch.tensor(tokens)
            mask[number, start:] = 1

        ids, mask = ids.to(self.model.device), mask.to(self.model.device)
        self.mask = mask if self.mask is None else torch.cat([self.mask, mask], dim=1)
        positions = (self.mask.cumsum(-1) - 1).clamp(min=0)  # padding takes no position

        outputs = self.model(
            input_ids=ids,
            attention_mask=self.mask,
            position_ids=positions[:, -width:],
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=keep,
        )
        log_probs: Tensor = outputs.logits.float().log_softmax(-1)
        return log_probs


def measure(model: Any, probes: Sequence[EncodedProbe], pad: int) -> Measurement:
    """Return how probable the forms of each probe are to a model.

    Args:
        model: A causal language model; it is asked in training mode, in which rollouts are sampled.
        probes: What it is asked.
        pad: Its token for padding.
    """
    was_training = model.training
    model.train()
    try:
        with untouched_randomness(), torch.no_grad():
            logs = _log_probabilities(model, probes, pad)
    finally:
        model.train(was_training)

    both = np.logaddexp(logs[:, 0], logs[:, 1])
    return Measurement(shares=np.exp(logs[:, 0] - both), masses=np.exp(both))


def _log_probabilities(model: Any, probes: Sequence[EncodedProbe], pad: int) -> np.ndarray:
    """Return the log-probabilities of the right and the wrong form, (probes, 2)."""
    heads = list(dict.fromkeys(probe.head for probe in probes))
    shared = CachedRows(model, pad)
    shared.read(heads)

    # What has about the same length is asked together, so that little is padding.
    order = sorted(range(len(probes)), key=lambda place: len(probes[place].middle))
    logs = np.zeros((len(probes), 2))
    for start in range(0, len(order), BATCH_SIZE):
        places = order[start : start + BATCH_SIZE]
        batch = [probes[place] for place in places]
        rows = shared.selected([heads.index(probe.head) for probe in batch])
        logs[places] = _of_batch(rows, batch)
    return logs


def _of_batch(rows: CachedRows, probes: Sequence[EncodedProbe]) -> np.ndarray:
    """Return the log-probabilities of the forms of some probes whose heads are read."""
    next_token = rows.read([probe.middle for probe in probes])[:, -1]

    logs = np.zeros((len(probes), 2))
    longer = []  # forms of several tokens
    for number, probe in enumerate(probes):
        for side, form in enumerate((probe.right, probe.wrong)):
            logs[number, side] = float(next_token[number, form[0]])
            if len(form) > 1:
                longer.append(LongForm(number, side, form))

    if longer:
        read_on = rows.selected([long_form.probe for long_form in longer])
        for long_form, rest in zip(longer, _of_the_rest(read_on, longer), strict=True):
            logs[long_form.probe, long_form.side] += rest
    return logs


def _of_the_rest(rows: CachedRows, forms: Sequence[LongForm]) -> list[float]:
    """Return the log-probability of each form's tokens after its first."""
    rests = [form.tokens[1:] for form in forms]
    width = max(map(len, rests))
    log_probs = rows.read([form.tokens[:-1] for form in forms], keep=width)
    return sums_of(log_probs, rests)


def sums_of(log_probs: Tensor, texts: Sequence[Sequence[int]]) -> list[float]:
    """Return the log-probability of the last tokens of each row.

    Args:
        log_probs: What :meth:`CachedRows.read` returned for the rows, which are padded on the left.
        texts: The tokens that end each row, one further on than what was read.
    """
    width = log_probs.shape[1]
    sums = []
    for row, tokens in zip(log_probs, texts, strict=True):
        targets = torch.tensor(tokens, device=log_probs.device)
        of_text = row[width - len(tokens) :]
        sums.append(float(of_text.gather(1, targets[:, None]).sum()))
    return sums


@contextmanager
def untouched_randomness() -> Iterator[None]:
    """Put the random number generators of torch, numpy and Python back where they were."""
    of_python = random.getstate()
    of_numpy = np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)
