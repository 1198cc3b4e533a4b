"""The embedded model's parts: its alphabet, tokenizer, chat template and network.

In: the course's data, for the characters. Out: a tokenizer with one token per character and a Llama
of width 192. While it is made it reads and writes all 11,172 Hangul syllables; the finished model
keeps those that Korean text uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from grpo_helpers.files import project_root
from grpo_helpers.letters import all_syllables, is_syllable

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


def corpus_characters() -> set[str]:
    """Return every character of the splits, the instructions and the cards."""
    root = project_root() / "data"
    characters: set[str] = set()
    for pattern in ("*.json", "embedded/*.json", "norms/*.yaml", "norms/families/*.yaml"):
        for file in root.glob(pattern):
            characters.update(file.read_text(encoding="utf-8"))
    return characters


def alphabet() -> list[str]:
    """Return the characters that the model can write while it is made, sorted.

    These are all Hangul syllables, the other characters of the corpus, and printable ASCII.
    """
    ascii_characters = map(chr, range(32, 127))
    return sorted({*all_syllables(), *corpus_characters(), *ascii_characters, "\n"})


def kept_characters() -> list[str]:
    """Return the characters that the finished model can write, sorted.

    These are the alphabet without the syllables that neither the corpus nor the standard KS X 1001
    has; the standard lists the 2,350 that Korean text uses. A table of all 11,172 would be of no
    use to GRPO and would double the time of its steps, most of it in the softmax.
    """
    needed = corpus_characters()
    kept = []
    for character in alphabet():
        if not is_syllable(character) or character in needed or is_common(character):
            kept.append(character)
    return kept


def is_common(syllable: str) -> bool:
    """Return whether a syllable is one of the 2,350 of KS X 1001.

    Examples:
        >>> is_common("률")
        True
        >>> is_common("뎝")
        False
    """
    # Python's codec writes the other syllables, too: as eight bytes, letter by letter.
    return len(syllable.encode("euc-kr")) == 2


def syllables() -> list[str]:
    """Return the Hangul syllables of the corpus, from which words are made up, sorted."""
    return sorted(filter(is_syllable, corpus_characters()))


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


def with_characters(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, chars: Sequence[str]
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """Return a copy of a model that knows only some of its characters, and its tokenizer.

    What stays computes as before.

    Args:
        model: A model of :func:`build_model`.
        tokenizer: Its tokenizer.
        chars: The characters that stay.
    """
    import torch

    fewer = build_tokenizer(chars)
    tokens = fewer.convert_ids_to_tokens(list(range(len(fewer))))
    rows = tokenizer.convert_tokens_to_ids(tokens)

    small = build_model(fewer)
    with torch.no_grad():
        for name, weight in small.named_parameters():
            before = model.get_parameter(name)
            is_table = len(before) == len(tokenizer)
            weight.copy_(before[rows] if is_table else before)
    return small, fewer


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
