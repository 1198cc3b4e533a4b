"""Cut a language model's vocabulary to the writing a task needs; the rest computes as before.

A small multilingual model is mostly vocabulary: of the 268 million numbers of Gemma 3 270M, 168
million are rows for 262,144 tokens, most of them in other scripts, and every sampled token is a
product with all of them. Korean text uses none of those rows. What stays: Hangul, digits,
punctuation, single Latin letters, bytes (anything else can still be spelled with them), the
special tokens, and the words of the chat template.

Every part of a token that stays also stays, so text in these characters is split as before, and the
logits of the remaining tokens are the same numbers. A removed token can no longer be generated.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

KOREAN = re.compile(r"[▁\s!-~가-힣ㄱ-ㆎ‐-‧「-』·×÷°]+")
LATIN_WORD = re.compile(r"[A-Za-z]{2}")
BYTE = re.compile(r"<0x[0-9A-F]{2}>")


def needed_tokens(
    vocabulary: dict[str, int], special: set[str], words: Sequence[str] = ()
) -> list[str]:
    """Return the tokens that Korean text needs, in the order of their ids.

    Args:
        vocabulary: Id by token.
        special: Special tokens that stay.
        words: Latin words that stay, each with all its parts.

    >>> vocabulary = {"<eos>": 0, "가": 1, "the": 2, "us": 3, "<0x0A>": 4, "あ": 5}
    >>> needed_tokens(vocabulary, {"<eos>"}, ("user",))
    ['<eos>', '가', 'us', '<0x0A>']
    """

    def is_needed(token: str) -> bool:
        if token in special or BYTE.fullmatch(token):
            return True
        if any(token in word for word in words):
            return True
        return bool(KOREAN.fullmatch(token)) and not LATIN_WORD.search(token)

    return sorted(filter(is_needed, vocabulary), key=vocabulary.__getitem__)


def trim_tokenizer(state: dict[str, Any], tokens: Sequence[str]) -> dict[str, Any]:
    """Return a BPE ``tokenizer.json`` with only ``tokens``, which get new ids in their order."""
    ids = {token: place for place, token in enumerate(tokens)}

    merges = []
    for left, right in state["model"]["merges"]:
        if left in ids and right in ids and left + right in ids:
            merges.append([left, right])

    added = []
    for row in state["added_tokens"]:
        if row["content"] in ids:
            added.append(row | {"id": ids[row["content"]]})

    post_processor = state.get("post_processor")
    if post_processor and "special_tokens" in post_processor:
        for name, row in post_processor["special_tokens"].items():
            row["ids"] = [ids[name]]

    return state | {
        "model": state["model"] | {"vocab": ids, "merges": merges},
        "added_tokens": added,
        "post_processor": post_processor,
    }


def trim(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    words: Sequence[str],
    special: Sequence[str],
) -> PreTrainedTokenizerFast:
    """Cut the rows of ``model`` in place and return the tokenizer that goes with them.

    Args:
        model: Its input and output rows may be tied.
        tokenizer: A BPE tokenizer.
        words: Latin words of its chat template.
        special: Special tokens that stay, besides those the tokenizer has names for.
    """
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    state = json.loads(tokenizer.backend_tokenizer.to_str())
    named = {}
    for name, token in tokenizer.special_tokens_map.items():
        if isinstance(token, str):
            named[name] = token

    vocabulary = state["model"]["vocab"]
    tokens = needed_tokens(vocabulary, {*named.values(), *special}, words)
    _cut_rows(model, [vocabulary[token] for token in tokens])

    small = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(trim_tokenizer(state, tokens))),
        chat_template=tokenizer.chat_template,
        padding_side=tokenizer.padding_side,
        model_max_length=tokenizer.model_max_length,
        **named,
    )
    model.config.bos_token_id = small.bos_token_id
    model.config.eos_token_id = small.eos_token_id
    model.config.pad_token_id = small.pad_token_id
    return small


def _cut_rows(model: PreTrainedModel, rows: list[int]) -> None:
    """Leave only ``rows`` of the input and the output table of a model, in their order."""
    import torch

    cut = [table.weight.detach()[rows].clone() for table in _tables(model)]

    model.resize_token_embeddings(len(rows), mean_resizing=False)
    with torch.no_grad():
        for table, weight in zip(_tables(model), cut, strict=True):
            table.weight.copy_(weight)


def _tables(model: PreTrainedModel) -> list[Any]:
    return [model.get_input_embeddings(), model.get_output_embeddings()]
