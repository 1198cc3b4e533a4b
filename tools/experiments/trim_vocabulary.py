"""Cut a language model's vocabulary to the writing a task needs; the model computes as before on what is left.

A small multilingual model is mostly vocabulary: of the 268 million numbers of Gemma 3 270M, 168 million are rows for
262,144 tokens, most of them in other scripts, and every sampled token is a product with all of them. Korean text uses
none of those rows. What is kept: Hangul, digits, punctuation, single Latin letters, bytes (anything else can still be
spelled with them), the special tokens, and the words a chat template is made of.

Since every part of a kept token is kept, text in kept characters is split as before, and every kept token's logit is
the same. A dropped token can no longer be said.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

KOREAN = re.compile(r"[▁\s!-~가-힣ㄱ-ㆎ‐-‧「-』·×÷°]+")
LATIN_WORD = re.compile(r"[A-Za-z]{2}")
BYTE = re.compile(r"<0x[0-9A-F]{2}>")


def kept_tokens(
    vocabulary: dict[str, int], special: set[str], words: tuple[str, ...] = ()
) -> list[str]:
    """Return the tokens that Korean text needs, in the order of their ids.

    Args:
        vocabulary: Id by token.
        special: Special tokens that stay.
        words: Latin words that stay, each with all its parts.

    >>> kept_tokens({"<eos>": 0, "가": 1, "the": 2, "us": 3, "<0x0A>": 4, "あ": 5}, {"<eos>"}, ("user",))
    ['<eos>', '가', 'us', '<0x0A>']
    """

    def is_kept(token: str) -> bool:
        if token in special or BYTE.fullmatch(token) or any(token in word for word in words):
            return True
        return bool(KOREAN.fullmatch(token)) and not LATIN_WORD.search(token)

    return sorted(filter(is_kept, vocabulary), key=vocabulary.__getitem__)


def trim_tokenizer(state: dict[str, Any], kept: list[str]) -> dict[str, Any]:
    """Return a BPE ``tokenizer.json`` with the tokens ``kept``, which get new ids in their order."""
    ids = {token: place for place, token in enumerate(kept)}
    model = state["model"]
    merges = [
        pair
        for pair in model["merges"]
        if pair[0] in ids and pair[1] in ids and "".join(pair) in ids
    ]
    added = [
        row | {"id": ids[row["content"]]} for row in state["added_tokens"] if row["content"] in ids
    ]
    post = state.get("post_processor")
    if post and "special_tokens" in post:
        for name, row in post["special_tokens"].items():
            row["ids"] = [ids[name]]
    return state | {
        "model": model | {"vocab": ids, "merges": merges},
        "added_tokens": added,
        "post_processor": post,
    }


def trim(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    words: tuple[str, ...],
    special: tuple[str, ...],
) -> PreTrainedTokenizerFast:
    """Cut the rows of ``model`` in place and return the tokenizer that goes with them.

    Args:
        model: Its input and output rows may be tied.
        tokenizer: A BPE tokenizer.
        words: Latin words of its chat template.
        special: Special tokens to keep beside those the tokenizer has names for.
    """
    import torch
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    state = json.loads(tokenizer.backend_tokenizer.to_str())
    named = {
        name: str(token)
        for name, token in tokenizer.special_tokens_map.items()
        if isinstance(token, str)
    }
    kept = kept_tokens(state["model"]["vocab"], {*named.values(), *special}, words)
    rows = torch.tensor([state["model"]["vocab"][token] for token in kept])
    tables = [model.get_input_embeddings(), model.get_output_embeddings()]
    cut = [table.weight.detach()[rows].clone() for table in tables]
    model.resize_token_embeddings(len(kept), mean_resizing=False)
    with torch.no_grad():
        for table, weight in zip(
            [model.get_input_embeddings(), model.get_output_embeddings()], cut, strict=True
        ):
            table.weight.copy_(weight)
    small = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(trim_tokenizer(state, kept))),
        chat_template=tokenizer.chat_template,
        padding_side=tokenizer.padding_side,
        model_max_length=tokenizer.model_max_length,
        **named,
    )
    for name in ("bos", "eos", "pad"):
        setattr(model.config, f"{name}_token_id", getattr(small, f"{name}_token_id"))
    return small
