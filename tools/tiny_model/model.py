"""The embedded model's parts: its alphabet, tokenizer, chat template and network.

In: the course's data, for the characters; an earlier model to widen. Out: a tokenizer with one
token per character and a Llama of about 2 million parameters.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from grpo_helpers.files import project_root, sha256
from tools.corpus.cards import is_syllable

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

SPECIAL = ["<pad>", "<unk>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
END = "<|end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "<|{{ message['role'] }}|>{{ message['content'] }}<|end|>"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
MAX_LENGTH = 1024
OWN_SPLITS = ("train", "dev", "test", "few_shot")


def alphabet(letters: str = "all") -> list[str]:
    """Return the characters that the model can write, sorted.

    Args:
        letters: ``all``: every character of the splits, the instructions and the cards, plus
            printable ASCII. ``own``: of the splits only the embedded model's own.
    """
    root = project_root() / "data"
    if letters == "all":
        files = [*root.glob("*.json"), *root.glob("embedded/*.json"), *root.glob("norms/*.yaml")]
    else:
        files = [root / "embedded" / f"{split}.json" for split in OWN_SPLITS]

    chars = {chr(code) for code in range(32, 127)} | {"\n"}
    for file in files:
        chars.update(file.read_text(encoding="utf-8"))
    return sorted(chars)


def syllables(letters: str = "all") -> list[str]:
    """Return the Hangul syllables of :func:`alphabet`, from which words are made up."""
    return list(filter(is_syllable, alphabet(letters)))


def build_tokenizer(chars: Sequence[str]) -> PreTrainedTokenizerFast:
    """Return a tokenizer with one token per character, and the chat template."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocab = {token: number for number, token in enumerate([*SPECIAL, *chars])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    special = [AddedToken(token, special=True, normalized=False) for token in SPECIAL]
    tokenizer.add_special_tokens(special)

    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token=END,
        model_max_length=MAX_LENGTH,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def build_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Return a freshly initialised 4-layer Llama of width 192 for a tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=MAX_LENGTH,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        dtype="float32",
    )
    return LlamaForCausalLM(config)


def widen(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> str:
    """Give ``model`` the weights of an earlier embedded model, and new tokens a random row.

    The rows of new tokens have the usual size. Tokens may have other numbers than before.

    Args:
        model: The model that gets the weights.
        tokenizer: Its tokenizer.
        folder: The folder of the earlier model.

    Returns:
        The SHA-256 of the earlier weights.
    """
    import torch
    from safetensors.torch import load_file

    earlier = load_file(folder / "model.safetensors")
    earlier_tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    earlier_vocab = earlier_tokenizer["model"]["vocab"]
    vocab = tokenizer.get_vocab()

    name = "model.embed_tokens.weight"
    rows = earlier[name]
    table = rows.mean(dim=0) + rows.std(dim=0) * torch.randn(len(vocab), rows.shape[1])
    for token, number in vocab.items():
        if token in earlier_vocab:
            table[number] = rows[earlier_vocab[token]]

    missing, unexpected = model.load_state_dict(earlier | {name: table}, strict=False)
    # The head is the embedding, so it is not among the saved weights.
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    return sha256([folder / "model.safetensors"])
