"""③ Rollouts from a server: TRL's ``rollout_func``, and the correction that TRL leaves to it.

In: what ``GRPOTrainer`` takes, and a :class:`grpo_helpers.rollout_server.RolloutServer`. Out: the
same training, with completions that another process has sampled. The article samples in the process
that trains. Two things differ from it here:

* **Rollouts.** Before a round of a new step, :class:`ServerRollouts` saves the adapter to a folder
  and lets the server read it, under a new name; the adapter of the step before is unloaded. Prompts
  are tokenised by TRL and sent as token ids, so both sides read the same tokens.
* **Importance sampling.** The server computes with other kernels, and rounds a quantised base in
  another way: it samples from a slightly different policy than the one that is trained. TRL 1.16
  corrects that for its own vLLM only (``use_vllm``), not for a ``rollout_func``, although it keeps
  the log-probabilities that one returns. :class:`ServerTrainer` does it by hand, with TRL's
  options (``vllm_importance_sampling_mode`` and its neighbours in ``extra_grpo_args``).

All else stays: rewards, loss, log, saves; the dev set is answered by the model in training.
"""

from __future__ import annotations

import math
import tempfile
import uuid
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import GRPOTrainer
from trl.models.utils import disable_gradient_checkpointing

from grpo_helpers.files import InputError
from grpo_helpers.rollout_server import RolloutServer, ServerError
from grpo_helpers.shared_prefix import SharedPrefixTrainer

Batch = dict[str, Any]  # TRL's tensors of a round, by name


# -- rollouts --------------------------------------------------------------------------------------


class ServerRollouts:
    """TRL's ``rollout_func``: completions from a server that has the adapter of the current step.

    Attributes:
        server: The server.
        adapter: The name of the adapter that the server has; empty before the first round.
        step: The optimizer step that the adapter is of.
    """

    def __init__(self, server: RolloutServer, run_name: str) -> None:
        """Take the server, and the run's name, with which its adapters' names begin."""
        self.server = server
        self.adapter = ""
        self.step: int | None = None
        # Another run, or an earlier part of this one, may have left adapters on the server.
        self._prefix = f"{run_name}-{uuid.uuid4().hex[:8]}"
        self._folder = tempfile.TemporaryDirectory(prefix="grpo-rollouts-")

    def __call__(self, prompts: Sequence[Any], trainer: Any) -> dict[str, Any]:
        """Return a completion of each prompt, in TRL's form; TRL repeats the prompts of a group.

        Raises:
            InputError: The server fails; the message says how the run goes on.
        """
        prompt_ids, _, _ = trainer._tokenize_prompts(prompts)
        try:
            self.send_adapter(trainer)
            completions = self.server.sample(self.adapter, prompt_ids, sampling_of(trainer))
        except ServerError as error:
            raise InputError(
                f"{error}; once the server can sample again, resume=auto goes on from the last "
                "checkpoint, also with another rollout_server or with none"
            ) from error

        return {
            "prompt_ids": prompt_ids,
            "completion_ids": completions.ids,
            "logprobs": completions.log_probs,
        }

    def send_adapter(self, trainer: Any) -> None:
        """Let the server have the adapter as it is now, unless it has it already.

        Raises:
            ServerError: The server does not take it.
        """
        step = trainer.state.global_step
        if step == self.step:
            return

        name = f"{self._prefix}-step-{step}"
        folder = Path(self._folder.name) / name
        policy = trainer.accelerator.unwrap_model(trainer.model)
        policy.save_pretrained(
            str(folder),
            selected_adapters=["default"],
            save_embedding_layers=False,  # else PEFT asks the hub for the base's configuration
        )

        self._unload()
        self.server.load_adapter(name, folder)
        self.adapter, self.step = name, step

    def close(self) -> None:
        """Let the server forget the adapter, and remove its files."""
        with suppress(ServerError):  # a server that has gone has forgotten it
            self._unload()
        self._folder.cleanup()

    def _unload(self) -> None:
        """Unload the adapter that the server has, if any."""
        if self.adapter:
            name, self.adapter, self.step = self.adapter, "", None
            self.server.unload_adapter(name)


def sampling_of(trainer: Any) -> dict[str, Any]:
    """Return how a trainer samples, under the names of vLLM.

    All of them are set: what a request leaves out, vLLM takes from the model's
    ``generation_config.json``.
    """
    own = {
        "temperature": trainer.temperature,
        "top_p": trainer.top_p,
        "top_k": trainer.top_k,
        "min_p": 0.0 if trainer.min_p is None else trainer.min_p,
        "repetition_penalty": trainer.repetition_penalty,
        "max_tokens": trainer.max_completion_length,
        "stop_token_ids": list(trainer.eos_token_ids),
    }
    return own | (trainer.args.generation_kwargs or {})


class ReleaseCallback(TrainerCallback):
    """Frees the place of the adapter on the server at the end of a run."""

    def __init__(self, rollouts: ServerRollouts) -> None:
        """Take what has sent adapters to the server."""
        self.rollouts = rollouts

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Unload the last adapter."""
        self.rollouts.close()


# -- importance sampling ---------------------------------------------------------------------------


@dataclass(frozen=True)
class RatioLimits:
    """How far the importance ratio may go, as in TRL's options for vLLM.

    Attributes:
        mode: ``token_`` or ``sequence_``: whether each token has a ratio or a completion has one;
            then ``truncate`` or ``mask``: whether a ratio beyond the limits becomes the limit or 0.
        least: The lower limit; None for none.
        most: The upper limit; None for none.
    """

    mode: str
    least: float | None
    most: float | None


def importance_ratio(current: Tensor, sampled: Tensor, mask: Tensor, limits: RatioLimits) -> Tensor:
    """Return how much more likely the trained policy is to write completions than the sampler was.

    Args:
        current: Log-probabilities of the tokens under the policy that is trained, [B, T].
        sampled: The same under the policy that sampled; NaN where it is not known, [B, T].
        mask: 1 for tokens of the completion, 0 for padding, [B, T].
        limits: How far the ratio may go.

    Returns:
        The ratio of each token, [B, T], or of each completion, [B, 1].
    """
    difference = torch.nan_to_num((current - sampled) * mask, nan=0.0)
    if limits.mode.startswith("sequence"):
        difference = difference.sum(dim=-1, keepdim=True)
    ratio = torch.exp(difference)

    if limits.mode.endswith("truncate"):
        return ratio.clamp(min=limits.least, max=limits.most)

    least = -math.inf if limits.least is None else limits.least
    most = math.inf if limits.most is None else limits.most
    return ratio.masked_fill((ratio < least) | (ratio > most), 0.0)


class ServerTrainer(GRPOTrainer):
    """``GRPOTrainer`` that corrects for a ``rollout_func`` that samples a little off the policy."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Build TRL's trainer; its warning that ``rollout_func`` is new is left out."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="You are using 'rollout_func'")
            super().__init__(*args, **kwargs)

    def _generate_and_score_completions(self, inputs: Any) -> Batch:
        """Return a round as TRL does, its advantages multiplied by the importance ratio.

        TRL multiplies the loss of each token instead. That is the same: except for vespo, which is
        refused, the losses are proportional to the advantage as long as its sign stays.
        """
        batch: Batch = super()._generate_and_score_completions(inputs)
        if not self.vllm_importance_sampling_correction:
            return batch

        current = batch.get("old_per_token_logps")
        if current is None:
            current = self._log_probs_now(batch)
        sampled, mask = batch["sampling_per_token_logps"], batch["completion_mask"]

        ratio = importance_ratio(current, sampled, mask, self._limits())
        batch["advantages"] = batch["advantages"].unsqueeze(1) * ratio
        self._log_correction(ratio, (current - sampled).abs(), mask)
        return batch

    def _limits(self) -> RatioLimits:
        return RatioLimits(
            self.vllm_importance_sampling_mode,
            self.vllm_importance_sampling_clip_min,
            self.vllm_importance_sampling_clip_max,
        )

    def _log_probs_now(self, batch: Batch) -> Tensor:
        """Return the log-probabilities of the completions under the policy, without gradients."""
        completions = batch["completion_ids"]
        ids = torch.cat([batch["prompt_ids"], completions], dim=1)
        mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
        model: Any = self.model
        size = self.args.per_device_eval_batch_size
        if model.training:
            size = self.args.per_device_train_batch_size

        how: Any = self.args.gradient_checkpointing_kwargs
        with torch.no_grad(), disable_gradient_checkpointing(model, how):
            log_probs, _, _ = self._get_per_token_logps_and_entropies(
                model, ids, mask, completions.shape[1], batch_size=size
            )
        return log_probs

    def _log_correction(self, ratio: Tensor, difference: Tensor, mask: Tensor) -> None:
        """Log ratio and difference under the names that TRL has for them."""
        model: Any = self.model
        metrics = self._metrics["train" if model.training else "eval"]
        is_token = mask.bool()
        known = difference[is_token & ~torch.isnan(difference)]
        ratios = ratio[is_token] if ratio.shape == mask.shape else ratio

        if known.numel():
            metrics["sampling/sampling_logp_difference/mean"].append(known.mean().item())
            metrics["sampling/sampling_logp_difference/max"].append(known.max().item())
        for name in ("min", "mean", "max"):
            value = getattr(torch, name)(ratios).item()
            metrics[f"sampling/importance_sampling_ratio/{name}"].append(value)


class SharedPrefixServerTrainer(ServerTrainer, SharedPrefixTrainer):
    """The same, with each prompt computed once in the loss (:mod:`grpo_helpers.shared_prefix`)."""

    def _report(self) -> None:
        """Say what keeps prompts from being shared; of rollouts there is nothing to say here."""
        if self.why_not or not self.args.gradient_checkpointing:
            super()._report()
