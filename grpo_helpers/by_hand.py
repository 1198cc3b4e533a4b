"""③ GRPO by hand: sample, score, advantage, loss, step, in plain PyTorch and transformers.

In: a model, its tokenizer, questions with their gold answers, the parameters of notebook 08. Out:
the same model, with right answers more likely, and the rewards of each step. The notebook lets its
readers write the five functions; these are the ones with which it compares theirs, and with which
it trains as long as theirs are not complete. All other notebooks train with TRL
(:mod:`grpo_helpers.training`).

What differs from there: a step has one pass and one round of sampling, all weights are trained
instead of an adapter, and the only reward is a strict form of exact match. Nothing here is clever
about memory or speed. The loss is TRL's ``loss_type="dapo"`` without a KL term, and so is its
gradient, up to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from grpo_helpers.files import InputError
from grpo_helpers.prompts import PromptSource, load_prompted, prompt_texts, suit_template
from grpo_helpers.settings import ByHandSettings

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

VERDICT = "옳다"  # "is right": in an answer, what stands before it is the sentence
EPSILON = 0.2  # how far a ratio may leave 1
MAX_GRAD_NORM = 1.0  # gradients are clipped to this norm
NEVER_BY_ZERO = 1e-4  # added to a standard deviation before dividing by it, as TRL does


# -- what the five functions work on ---------------------------------------------------------------


@dataclass(frozen=True)
class Question:
    """A question to train on.

    Attributes:
        prompt: The prompt as the model reads it, after its chat template.
        gold: The gold answer.
        gloss: What the sentence means, in English; empty if the file does not say.
    """

    prompt: str
    gold: str
    gloss: str = ""


@dataclass(frozen=True)
class Batch:
    """The completions of some prompts, one row each: G rows for the first prompt, then the next.

    With N rows, prompts of P tokens and completions of T tokens:

    Attributes:
        input_ids: (N, P + T), prompt and completion.
        attention_mask: (N, P + T), 1 on them, 0 on padding.
        completion_mask: (N, T), 1 on the tokens of the completion, its end token included.
    """

    input_ids: Tensor
    attention_mask: Tensor
    completion_mask: Tensor

    @property
    def completion_ids(self) -> Tensor:
        """(N, T), the completions alone."""
        return self.input_ids[:, -self.completion_mask.shape[1] :]


def load_questions(settings: ByHandSettings, tokenizer: PreTrainedTokenizerBase) -> list[Question]:
    """Return the first questions of the train file, with their prompts.

    Raises:
        InputError: A file cannot be used, it has too few questions for a step, or the chat template
            does not show every message.
    """
    items, prompts = load_prompted(settings.train_data_path, PromptSource.from_settings(settings))
    if len(items) < settings.prompts_per_step:
        raise InputError(
            f"{settings.train_data_path} has {len(items)} questions, "
            f"but a step draws {settings.prompts_per_step}: lower prompts_per_step"
        )

    items = items[: settings.num_questions]
    prompts = suit_template(tokenizer, prompts[: settings.num_questions])

    questions = []
    for item, text in zip(items, prompt_texts(prompts, tokenizer), strict=True):
        questions.append(Question(text, item.answer or "", item.extra.get("gloss", "")))
    return questions


def encode(tokenizer: PreTrainedTokenizerBase, questions: Sequence[Question]) -> dict[str, Tensor]:
    """Return ``input_ids`` and ``attention_mask`` of Q prompts, both (Q, P), padded on the left."""
    texts = [question.prompt for question in questions]
    # The chat template has written the special tokens already.
    encoded = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    return {name: encoded[name] for name in ("input_ids", "attention_mask")}


def decode(tokenizer: PreTrainedTokenizerBase, batch: Batch) -> list[str]:
    """Return the completions of a batch as N texts."""
    return tokenizer.batch_decode(batch.completion_ids, skip_special_tokens=True)


# -- the five functions ----------------------------------------------------------------------------


def sample(model: PreTrainedModel, prompts: dict[str, Tensor], settings: ByHandSettings) -> Batch:
    """Draw G completions of each of Q prompts.

    Args:
        model: The policy. It has one end token.
        prompts: What :func:`encode` returns.
        settings: ``num_generations`` (G), ``temperature``, ``max_completion_length``.

    Returns:
        Q * G rows; those of a prompt follow one another.
    """
    import torch

    policy: Any = model
    sequences = policy.generate(
        **prompts,
        do_sample=True,
        top_k=0,
        temperature=settings.temperature,
        num_return_sequences=settings.num_generations,
        max_new_tokens=settings.max_completion_length,
    )

    prompt_length = prompts["input_ids"].shape[1]
    ends = (sequences[:, prompt_length:] == model.config.eos_token_id).int()
    ends_before = ends.cumsum(dim=1) - ends
    completion_mask = (ends_before == 0).long()

    prompt_mask = prompts["attention_mask"].repeat_interleave(settings.num_generations, dim=0)
    attention_mask = torch.cat([prompt_mask, completion_mask], dim=1)
    return Batch(sequences, attention_mask, completion_mask)


def score(answers: Sequence[str], golds: Sequence[str]) -> Tensor:
    """Return a reward for each of N answers, (N,): 1 if it calls the right sentence right, else 0.

    An answer is compared with its gold answer up to the verdict, letter for letter, quotes and
    particle included: this is stricter than the course's exact match.
    """
    import torch

    rewards = []
    for answer, gold in zip(answers, golds, strict=True):
        up_to_verdict = answer.partition(VERDICT)[:2]
        rewards.append(float(up_to_verdict == gold.partition(VERDICT)[:2]))
    return torch.tensor(rewards)


def advantage(rewards: Tensor, num_generations: int) -> Tensor:
    """Return the advantages, (N,): distance from the group's mean, in standard deviations."""
    groups = rewards.view(-1, num_generations)
    mean = groups.mean(dim=1, keepdim=True)
    std = groups.std(dim=1, keepdim=True)
    return ((groups - mean) / (std + NEVER_BY_ZERO)).view(-1)


def log_probabilities(model: PreTrainedModel, batch: Batch, temperature: float) -> Tensor:
    """Return the log-probability of each token of the completions, (N, T), with its gradient."""
    policy: Any = model
    logits = policy(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits

    length = batch.completion_ids.shape[1]
    predicting = logits[:, -length - 1 : -1] / temperature  # logits at a place predict the next one
    chosen = batch.completion_ids.unsqueeze(2)
    return predicting.log_softmax(dim=2).gather(2, chosen).squeeze(2)


def loss(
    model: PreTrainedModel,
    batch: Batch,
    advantages: Tensor,
    temperature: float,
    old: Tensor | None = None,
    epsilon: float = EPSILON,
) -> Tensor:
    """Return GRPO's loss of a batch, one number with a gradient.

    Args:
        model: The policy in training.
        batch: Its completions, or those of an earlier state of it.
        advantages: (N,).
        temperature: At which the completions were sampled.
        old: (N, T), their log-probabilities then; None: the policy has not changed since.
        epsilon: How far a ratio may leave 1.
    """
    import torch

    new = log_probabilities(model, batch, temperature)
    if old is None:
        old = new.detach()

    ratio = torch.exp(new - old)
    clipped = ratio.clamp(1 - epsilon, 1 + epsilon)
    of_answer = advantages.unsqueeze(1)
    token_losses = -torch.minimum(ratio * of_answer, clipped * of_answer)

    mask = batch.completion_mask
    return (token_losses * mask).sum() / mask.sum()


def step(
    model: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    settings: ByHandSettings,
) -> Tensor:
    """Train a model on Q questions, once; return the rewards of its completions, (Q * G,).

    Args:
        model: The policy; its weights change.
        optimizer: Of its weights.
        tokenizer: Its tokenizer.
        questions: Q of them.
        settings: As for :func:`sample`.
    """
    import torch

    batch = sample(model, encode(tokenizer, questions), settings)
    golds = []
    for question in questions:
        golds += [question.gold] * settings.num_generations
    rewards = score(decode(tokenizer, batch), golds)

    advantages = advantage(rewards, settings.num_generations)
    optimizer.zero_grad()
    loss(model, batch, advantages, settings.temperature).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM)
    optimizer.step()
    return rewards
