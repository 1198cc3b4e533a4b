"""Generate from shared prompts: each different prompt is read once, and no cache grows by copying.

In: a model and prompts, some of them the same. Out: what the model's own ``generate`` returns. In
transformers, as in the article's script, every row of a batch reads its own prompt, and its cache
is copied whenever a token is added. Here the prompts that differ are read once; the rows attend to
that one copy (:class:`PromptAttention`) and write their own tokens into room that is reserved
(:class:`SharedPromptLayer`). The loop over tokens stays that of transformers, so samples are drawn
from the same logits with the same random numbers.

Used for rollouts (:mod:`grpo_helpers.shared_prefix`) and for answers
(:mod:`grpo_helpers.inference`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import Cache, DynamicLayer
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

ATTENTION = "shared_prompt"  # the name under which transformers finds our attention

Generate = Callable[..., Tensor]


# -- which rows have the same prompt ---------------------------------------------------------------


@dataclass(frozen=True)
class SharedPrompts:
    """The different prompts of a batch.

    Attributes:
        ids: Their tokens, (prompts, length), in the order in which they first appear.
        mask: 1 for a token and 0 for padding, (prompts, length).
        prompt_of: The number of each row's prompt, (rows,).
    """

    ids: Tensor
    mask: Tensor
    prompt_of: Tensor

    @classmethod
    def of(cls, ids: Tensor, mask: Tensor) -> SharedPrompts:
        """Find the different prompts among rows.

        Args:
            ids: Tokens of every row's prompt, (rows, length).
            mask: 1 for a token and 0 for padding, (rows, length).

        >>> ids = torch.tensor([[5, 6], [7, 8], [5, 6]])
        >>> SharedPrompts.of(ids, torch.ones_like(ids)).prompt_of
        tensor([0, 1, 0])
        """
        numbers: dict[tuple[Any, ...], int] = {}
        first_rows = []
        prompt_of = []

        for row, prompt in enumerate(zip(ids.tolist(), mask.tolist(), strict=True)):
            key = tuple(map(tuple, prompt))
            if key not in numbers:
                numbers[key] = len(numbers)
                first_rows.append(row)
            prompt_of.append(numbers[key])

        return cls(ids[first_rows], mask[first_rows], torch.tensor(prompt_of, device=ids.device))

    @property
    def count(self) -> int:
        """The number of different prompts."""
        return self.ids.shape[0]

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self.prompt_of.numel()


# -- one copy of the prompt for all rows -------------------------------------------------


class SharedPromptLayer(DynamicLayer):
    """One layer's cache: the keys and values of each prompt once, and room for the rows' own.

    To transformers it looks as if every row had its prompt in it.
    """

    def __init__(self, prompt: DynamicLayer, rows: int, room: int) -> None:
        """Take over a layer of the prompts' cache.

        Args:
            prompt: Keys and values of the prompts, (prompts, heads, length, size).
            rows: Rows that are sampled.
            room: Tokens that a row may add.
        """
        super().__init__()
        self.prompt_keys = cast(Tensor, prompt.keys)
        self.prompt_values = cast(Tensor, prompt.values)
        _, heads, self.prompt_length, size = self.prompt_keys.shape
        self.added = 0

        self.own_keys = self.prompt_keys.new_empty((rows, heads, room, size))
        self.own_values = torch.empty_like(self.own_keys)
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Add tokens; return the keys and values of all tokens that the rows have added."""
        start = self.added
        self.added += key_states.shape[2]

        self.own_keys[:, :, start : self.added] = key_states
        self.own_values[:, :, start : self.added] = value_states
        return self.own_keys[:, :, : self.added], self.own_values[:, :, : self.added]

    def get_seq_length(self) -> int:
        """Return the tokens that a row has seen."""
        return self.prompt_length + self.added


class PromptAttention:
    """Attention of one new token per row to its prompt, of which there is one copy, and to its own.

    The rows of a prompt ask their questions together: one product of matrices for each prompt
    instead of one for each row. Scores of both parts go through one softmax, so the result is that
    of ordinary attention.
    """

    def __init__(self, layers: Sequence[SharedPromptLayer], shared: SharedPrompts) -> None:
        """Prepare to sample.

        Args:
            layers: The cache, layer by layer.
            shared: Which row has which prompt; the last token of the prompts is not in the cache.
        """
        self.layers = layers
        self.prompts = shared.count

        counts = torch.bincount(shared.prompt_of, minlength=shared.count)
        self.width = int(counts.max())  # places per prompt; a smaller group leaves some empty

        self.place_of_row = shared.prompt_of * self.width + _numbers_within_groups(shared.prompt_of)
        self.row_of_place = self.place_of_row.new_zeros(self.prompts * self.width)
        self.row_of_place[self.place_of_row] = torch.arange(
            shared.rows, device=self.place_of_row.device
        )

        is_padding = shared.mask[:, :-1] == 0
        self.padding = is_padding[:, None, None, :] if bool(is_padding.any()) else None

    def __call__(
        self,
        module: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        scaling: float | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, None]:
        """Return the attention's output, (rows, 1, heads, size), as transformers expects it.

        Args:
            module: The attention layer.
            query: (rows, heads, 1, size).
            key: Keys of the tokens that the rows have added, (rows, key heads, added, size).
            value: Their values.
            attention_mask: Not looked at: every row sees its prompt and all its own tokens.
            scaling: What scores are multiplied with.
            **kwargs: What this attention does not know must be absent.
        """
        _refuse_variants(kwargs)
        layer = self.layers[module.layer_idx]
        rows, heads, _, size = query.shape
        key_heads = key.shape[1]
        per_key_head = heads // key_heads
        if scaling is None:
            scaling = size**-0.5

        questions = (query * scaling).reshape(rows, key_heads, per_key_head, size)
        own_scores = questions @ key.transpose(2, 3)
        prompt_scores = self._by_prompt(questions) @ layer.prompt_keys.transpose(2, 3)
        if self.padding is not None:
            prompt_scores = prompt_scores.masked_fill(self.padding, float("-inf"))

        scores = torch.cat([self._by_row(prompt_scores), own_scores], dim=-1)
        weights = scores.softmax(dim=-1, dtype=torch.float32).to(query.dtype)
        prompt_weights, own_weights = weights.split([layer.prompt_length, key.shape[2]], dim=-1)

        from_prompt = self._by_row(self._by_prompt(prompt_weights) @ layer.prompt_values)
        output = from_prompt + own_weights @ value
        return output.reshape(rows, heads, 1, size).transpose(1, 2), None

    def _by_prompt(self, of_rows: Tensor) -> Tensor:
        """Return (rows, key heads, n, size) as (prompts, key heads, width * n, size)."""
        _, key_heads, n, size = of_rows.shape
        shape = (self.prompts, self.width, key_heads, n, size)
        places = of_rows[self.row_of_place].view(shape)
        return places.transpose(1, 2).reshape(self.prompts, key_heads, self.width * n, size)

    def _by_row(self, of_prompts: Tensor) -> Tensor:
        """Return (prompts, key heads, width * n, size) as (rows, key heads, n, size)."""
        _, key_heads, all_n, size = of_prompts.shape
        n = all_n // self.width
        shape = (self.prompts, key_heads, self.width, n, size)
        places = of_prompts.view(shape).transpose(1, 2)
        return places.reshape(-1, key_heads, n, size)[self.place_of_row]


def _numbers_within_groups(prompt_of: Tensor) -> Tensor:
    """Return for each row how many rows before it have the same prompt, (rows,)."""
    seen: dict[int, int] = {}
    numbers = []

    for prompt in prompt_of.tolist():
        numbers.append(seen.get(prompt, 0))
        seen[prompt] = numbers[-1] + 1

    return torch.tensor(numbers, device=prompt_of.device)


def _refuse_variants(arguments: Mapping[str, Any]) -> None:
    """Raise if a model's attention asks for more than plain attention."""
    for name in ("softcap", "s_aux", "sliding_window", "position_bias"):
        if arguments.get(name) is not None:
            raise NotImplementedError(f"{ATTENTION} attention does not know {name}")


def _no_mask(*args: Any, **kwargs: Any) -> None:
    """Return no attention mask: :class:`PromptAttention` needs none."""


@contextmanager
def _attention_of(model: PreTrainedModel, attention: PromptAttention) -> Iterator[None]:
    """Let a model attend with ``attention`` for a while."""
    config = model.config.get_text_config()
    usual = config._attn_implementation
    ALL_ATTENTION_FUNCTIONS[ATTENTION] = attention
    ALL_MASK_ATTENTION_FUNCTIONS[ATTENTION] = _no_mask
    config._attn_implementation = ATTENTION

    try:
        yield
    finally:
        config._attn_implementation = usual
        del ALL_ATTENTION_FUNCTIONS[ATTENTION]
        del ALL_MASK_ATTENTION_FUNCTIONS[ATTENTION]


def generate_from_shared_prompts(
    model: PreTrainedModel,
    generate: Generate,
    input_ids: Tensor,
    attention_mask: Tensor,
    **options: Any,
) -> Tensor:
    """Return what ``generate`` returns, with each different prompt read once.

    Args:
        model: The model, with or without an adapter; :func:`why_not_shared` has nothing against it.
        generate: Its own ``generate``.
        input_ids: Prompts, padded on the left, (rows, length).
        attention_mask: 1 for a token and 0 for padding.
        **options: How to generate; either ``max_new_tokens`` or a ``generation_config`` with it.

    Returns:
        Prompts and completions, (rows, length + new tokens).
    """
    inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
    config = options.get("generation_config")
    new_tokens = options.get("max_new_tokens") or getattr(config, "max_new_tokens", None)
    uses_cache = getattr(config, "use_cache", None) is not False
    has_prompt = input_ids.shape[1] > 1
    if not (new_tokens and uses_cache and has_prompt):
        return generate(**inputs, **options)

    shared = SharedPrompts.of(input_ids, attention_mask)
    cache = read_prompts(model, shared, count_tokens_only=True)
    room = new_tokens + 1  # the last token of the prompt is one of them
    layers = []
    for layer in cache.layers:
        layers.append(SharedPromptLayer(cast(DynamicLayer, layer), shared.rows, room))

    with _attention_of(model, PromptAttention(layers, shared)):
        return generate(**inputs, past_key_values=Cache(layers=list(layers)), **options)


@contextmanager
def sharing_generate(model: Any) -> Iterator[None]:
    """Let ``model.generate`` read each different prompt once, for a while."""
    usual = model.generate
    of_instance = vars(model).get("generate")  # somebody else may have wrapped it

    def generate(**options: Any) -> Tensor:
        return generate_from_shared_prompts(model, usual, **options)

    model.generate = generate
    try:
        yield
    finally:
        del model.generate
        if of_instance is not None:
            model.generate = of_instance


def read_prompts(
    model: PreTrainedModel, shared: SharedPrompts, count_tokens_only: bool
) -> DynamicCache:
    """Return the cache of the prompts without their last token.

    Args:
        model: The model.
        shared: The prompts.
        count_tokens_only: Whether positions leave out padding, as ``generate`` counts them, or
            count every place, as a forward pass does that is given no positions.
    """
    mask = shared.mask[:, :-1]
    positions = None
    if count_tokens_only:
        positions = (mask.cumsum(-1) - 1).clamp(min=0)

    outputs = model(
        input_ids=shared.ids[:, :-1],
        attention_mask=mask,
        position_ids=positions,
        use_cache=True,
        logits_to_keep=1,
    )
    return outputs.past_key_values


# -- what can be shared ----------------------------------------------------------------------------


def why_not_shared(model: PreTrainedModel | PeftModel) -> str:
    """Return why a model's prompts cannot be shared; empty if they can.

    The cache must hold every token in every layer: with a sliding window, linear attention or a
    recurrent state, a prompt's cache is not a list of its tokens. The attention must be plain, and
    transformers must be able to replace it.
    """
    config = model.config.get_text_config()
    name = type(model).__name__

    if getattr(model.config, "is_encoder_decoder", False):
        return f"{name} has an encoder"
    if any(type(layer) is not DynamicLayer for layer in DynamicCache(config=config).layers):
        return f"not every layer of {name} remembers every token"
    if getattr(config, "attn_logit_softcapping", None):
        return f"the attention of {name} caps its scores"
    if not getattr(model, "_supports_attention_backend", False):
        return f"transformers cannot replace the attention of {name}"
    return ""
