"""③ The prompt of a group is computed once: TRL's trainer without the repetition.

In: what ``GRPOTrainer`` takes. Out: the same rollouts, losses and gradients, to rounding. The G
completions of a group have the same prompt, and here prompts are long and answers short. TRL 1.16,
like the article's script, computes the prompt once for every completion: in the rollout, and forth
and back in the loss. :class:`SharedPrefixTrainer` changes three things:

* **Rollouts** are generated from shared prompts (:mod:`grpo_helpers.shared_prompts`).
* **Log-probabilities.** Each different prompt of a micro-batch goes through the model once, into a
  cache; every completion continues from its row of it. The selection passes gradients on.
* **Micro-batches.** TRL shuffles the rows of a round before it cuts them. Where that changes no
  optimizer step, :func:`keep_groups_together` brings the rows of a prompt together again.

Where a model or a setting does not allow this, one line says why, and TRL's own way is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from trl import GRPOTrainer

from grpo_helpers.shared_prompts import (
    SharedPrompts,
    read_prompts,
    sharing_generate,
    why_not_shared,
)

if TYPE_CHECKING:
    from trl import GRPOConfig

Batch = dict[str, Any]  # TRL's tensors of a micro-batch, by name


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

        with sharing_generate(self._plain_model()):
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

        An optimizer step must take whole rounds, and nothing must be a mean or a quantile over the
        tokens of a micro-batch: the loss ``bnpo``, a bonus for entropy, a choice of tokens by it.
        """
        args = cast("GRPOConfig", self.args)
        round_batches = cast(int, args.steps_per_generation)  # TRL fills in a missing one
        whole_rounds = args.gradient_accumulation_steps % round_batches == 0
        looks_at_entropy = self._entropy_bonus_enabled or self.top_entropy_quantile < 1.0
        takes_token_means = self.loss_type == "bnpo" or looks_at_entropy
        return whole_rounds and not takes_token_means and not self.why_not

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
            cache = read_prompts(plain_model, shared, count_tokens_only=False)
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
