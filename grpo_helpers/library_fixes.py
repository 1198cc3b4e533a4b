"""Every patch of somebody else's code, in one place."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from trl import GRPOTrainer


def quiet_libraries() -> None:
    """Keep progress bars out of notebooks and logs, and a warning: TRL 1.16 still passes ``gradient_checkpointing``."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    warnings.filterwarnings(
        "ignore", message=".*gradient_checkpointing.* is deprecated", category=FutureWarning
    )


def keep_gradients_on_cpu(model: PreTrainedModel) -> None:
    """Stop bitsandbytes from repacking 4-bit weights for inference on CPUs with AVX512-BF16.

    It does so at the first forward in evaluation mode, in place; gradients through those layers are lost from then
    on, with a warning only (seen with bitsandbytes 0.50).
    """
    import bitsandbytes as bnb

    for module in model.modules():
        if isinstance(module, bnb.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False


def count_equal_groups(trainer: GRPOTrainer) -> None:
    """Mend TRL's ``frac_reward_zero_std``: in float32 sums, equal rewards differ by rounding and count as spread."""
    score, weights = trainer._generate_and_score_completions, trainer.reward_weights.tolist()

    def scored(inputs: Any) -> Any:
        output = score(inputs)
        if trainer.model.training:  # an evaluation may have groups of another size
            parts = [
                trainer._logs["rewards"][name] for name in trainer.reward_func_names
            ]  # this round, all processes
            groups = np.dot(weights, parts).reshape(-1, trainer.num_generations)
            trainer._metrics["train"]["frac_reward_zero_std"][-1] = float(
                (np.ptp(groups, axis=1) < 1e-6).mean()
            )
        return output

    trainer._generate_and_score_completions = scored


def require_grads_once(model: PreTrainedModel) -> None:
    """Mend transformers 5.23: each round, when checkpointing is on again, one more hook stays at the embeddings."""
    enable = model.enable_input_require_grads
    model.enable_input_require_grads = lambda: (model.disable_input_require_grads(), enable())
