"""③ The shared prompt is computed once: TRL's trainer without the repetition.

In: what ``GRPOTrainer`` takes. Out: the same rollouts, losses and gradients, to rounding. The G
completions of a group have the same prompt, and here prompts are long and answers short. TRL 1.16,
like the article's script, computes the prompt once for every completion: in the rollout, where the
cache of every row also grows by copying itself at each token, and forth and back in the loss.
:class:`SharedPrefixTrainer` changes three things:

* **Rollouts.** Each different prompt is read once. While the rows are sampled, they attend to that
  one copy (:class:`PromptAttention`) and write their own tokens into room that is reserved
  (:class:`SharedPromptLayer`). ``generate`` itself is that of transformers, so samples are drawn
  from the same logits with the same random numbers.
* **Log-probabilities.** Each different prompt of a micro-batch goes through the model once, into a
  cache; every completion continues from its row of it. The selection passes gradients on.
* **Micro-batches.** TRL shuffles the rows of a round before it cuts them. Where that changes no
  optimizer step, :func:`keep_groups_together` brings the rows of a prompt together again.

Where a model or a setting does not allow this, :func:`why_not_shared` says why, and TRL's own way
is taken.
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
from trl import GRPOTrainer

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel
    from trl import GRPOConfig

ATTENTION = "shared_prompt"  # the name under which transformers finds our attention

Batch = dict[str, Any]  # TRL's tensors of a micro-batch, by name
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


# -- rollouts: one copy of the prompt for all rows -------------------------------------------------


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
    generation_config: GenerationConfig,
    **kwargs: Any,
) -> Tensor:
    """Return what ``generate`` returns, with each different prompt read once.

    Args:
        model: The model, with or without an adapter.
        generate: Its own ``generate``.
        input_ids: Prompts, padded on the left, (rows, length).
        attention_mask: 1 for a token and 0 for padding.
        generation_config: How to sample; it must set ``max_new_tokens``.
        **kwargs: Passed on.

    Returns:
        Prompts and completions, (rows, length + new tokens).
    """
    shared = SharedPrompts.of(input_ids, attention_mask)
    inputs = {"input_ids": input_ids, "attention_mask": attention_mask}

    has_prompt = input_ids.shape[1] > 1
    if has_prompt and generation_config.use_cache is not False:
        cache = _read_prompts(model, shared, count_tokens_only=True)
        room = generation_config.max_new_tokens + 1  # the last token of the prompt is one of them
        layers = []
        for layer in cache.layers:
            layers.append(SharedPromptLayer(cast(DynamicLayer, layer), shared.rows, room))
        attention = PromptAttention(layers, shared)

        with _attention_of(model, attention):
            return generate(
                **inputs,
                past_key_values=Cache(layers=list(layers)),
                generation_config=generation_config,
                **kwargs,
            )

    return generate(**inputs, generation_config=generation_config, **kwargs)


def _read_prompts(
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


# -- micro-batches: the rows of a prompt together --------------------------------------------------


def keep_groups_together(batches: Sequence[Batch]) -> list[Batch]:
    """Return the micro-batches of a round with the rows of each prompt next to each other.

    Args:
        batches: TRL's micro-batches, all of the same size.

    Returns:
        As many micro-batches of that size. Groups keep the order in which they first appear.
    """
    prompts = torch.cat([batch["prompt_ids"] for batch in batches])
    masks = torch.cat([batch["prompt_mask"] for batch in batches])
    order = torch.argsort(SharedPrompts.of(prompts, masks).prompt_of, stable=True)

    whole = {}
    for name, first in batches[0].items():
        if isinstance(first, Tensor) and first.ndim > 0:
            whole[name] = torch.cat([batch[name] for batch in batches])[order]
        else:
            whole[name] = first  # one for all, such as the tokens of the whole batch

    size = len(order) // len(batches)
    return [_rows_of(whole, slice(i * size, (i + 1) * size)) for i in range(len(batches))]


def _rows_of(batch: Batch, rows: slice) -> Batch:
    """Return some rows of every tensor that has rows."""
    chosen = {}

    for name, value in batch.items():
        has_rows = isinstance(value, Tensor) and value.ndim > 0
        chosen[name] = value[rows] if has_rows else value

    return chosen


# -- what can be shared ----------------------------------------------------------------------------


def why_not_shared(model: PreTrainedModel) -> str:
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


# -- the trainer -----------------------------------------------------------------------------------


class SharedPrefixTrainer(GRPOTrainer):
    """``GRPOTrainer`` that computes each prompt once; see the module.

    Attributes:
        why_not: Why this model is trained in TRL's own way; empty if prompts are shared.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Build TRL's trainer and look at its model; one line says what is not shared."""
        super().__init__(*args, **kwargs)
        self.why_not = why_not_shared(self._plain_model())
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            self.why_not = "the weights are spread over several processes"

        if self.accelerator.is_main_process:
            self._report()

    def _report(self) -> None:
        """Print a line if the prompts are not shared, or in the rollouts only."""
        if self.why_not:
            print(f"shared_prefix has no effect: {self.why_not}")
        elif self.args.gradient_checkpointing:
            print("shared_prefix: in the rollouts only, because of gradient_checkpointing")

    def _plain_model(self) -> Any:
        """Return the model without what accelerate has wrapped around it."""
        return self.accelerator.unwrap_model(self.model)

    # -- rollouts --

    def _generate_single_turn(
        self, prompt_ids: Any, images: Any, multimodal_fields: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """Generate as TRL does, from prompts that are read once."""
        by_generate = not (self.use_vllm or self.use_transformers_continuous_batching)
        if self.why_not or images or multimodal_fields or not by_generate:
            return super()._generate_single_turn(
                prompt_ids, images, multimodal_fields, *args, **kwargs
            )

        with _sharing_generate(self._plain_model()):
            return super()._generate_single_turn(
                prompt_ids, images, multimodal_fields, *args, **kwargs
            )

    # -- micro-batches --

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """Prepare as TRL does; a new round's rows are sorted by prompt where that is harmless."""
        before = self._buffered_inputs
        inputs = super()._prepare_inputs(generation_batch)

        is_new_round = self._buffered_inputs is not before
        if not is_new_round or not self._may_sort_rows():
            return inputs

        batches = keep_groups_together(cast(list[Batch], self._buffered_inputs))
        self._buffered_inputs = cast(Any, batches)
        return batches[self._step % len(batches)]

    def _may_sort_rows(self) -> bool:
        """Return whether it makes no difference which micro-batch of a round a row is in.

        An optimizer step must take whole rounds, and the loss must not be a mean over the tokens of
        a micro-batch (``bnpo``).
        """
        args = cast("GRPOConfig", self.args)
        round_batches = cast(int, args.steps_per_generation)  # TRL fills in a missing one
        whole_rounds = args.gradient_accumulation_steps % round_batches == 0
        return whole_rounds and self.loss_type != "bnpo" and not self.why_not

    # -- log-probabilities --

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
        **of_images: Any,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return the log-probabilities of the completions, as TRL does, each prompt read once."""
        has_images = any(value is not None for value in of_images.values())
        if self.why_not or has_images or compute_aux_loss or _is_checkpointed(model):
            return super()._get_per_token_logps_and_entropies(
                model,
                input_ids,
                attention_mask,
                logits_to_keep,
                batch_size=batch_size,
                compute_entropy=compute_entropy,
                compute_aux_loss=compute_aux_loss,
                **of_images,
            )

        size = batch_size or len(input_ids)
        log_probs = []
        entropies = []
        for ids, mask in zip(input_ids.split(size), attention_mask.split(size), strict=True):
            outputs = self._continue_from_prompts(model, ids, mask, logits_to_keep)
            log_probs.append(outputs.log_probs[:, -logits_to_keep:])
            if compute_entropy:
                entropies.append(outputs.entropy[:, -logits_to_keep:])

        return torch.cat(log_probs), torch.cat(entropies) if compute_entropy else None, None

    def _continue_from_prompts(
        self, model: Any, ids: Tensor, mask: Tensor, completion_length: int
    ) -> Any:
        """Return the model's outputs for the completions and the last token of their prompts."""
        prompt_length = ids.shape[1] - completion_length
        shared = SharedPrompts.of(ids[:, :prompt_length], mask[:, :prompt_length])
        start = prompt_length - 1
        labels = ids[:, start:].masked_fill(mask[:, start:] == 0, -100)
        labels[:, 0] = -100  # the last token of the prompt

        with self.accelerator.autocast():
            # Several processes add up gradients in the wrapped model, once a step: the prompts go
            # through the plain one.
            plain_model = self.accelerator.unwrap_model(model)
            cache = _read_prompts(plain_model, shared, count_tokens_only=False)
            cache.batch_select_indices(shared.prompt_of)
            return model(
                input_ids=ids[:, start:],
                attention_mask=mask,
                past_key_values=cache,
                labels=labels,
                fused_lm_head=True,
            )


def _is_checkpointed(model: Any) -> bool:
    """Return whether activations are recomputed, which leaves no cache to continue from."""
    return bool(getattr(model, "is_gradient_checkpointing", False)) and model.training


@contextmanager
def _sharing_generate(model: Any) -> Iterator[None]:
    """Let ``model.generate`` read each different prompt once, for a while."""
    plain_generate = model.generate

    def generate(**kwargs: Any) -> Tensor:
        return generate_from_shared_prompts(model, plain_generate, **kwargs)

    model.generate = generate
    try:
        yield
    finally:
        del model.generate
