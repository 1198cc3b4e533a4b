"""The four rewards of GRPO training, and their weighted sum.

In: TRL's ``(prompts, completions, references, **columns)``; completions are strings or lists of messages. Out: one
float per completion. Each reward is a metric of :mod:`grpo_helpers.metrics`, nothing else. The article sums them in
one function; here they stay four, so that TRL logs each, and the sum is a named mapping of weights. The article's
text and its author's code weigh them differently; both are presets, and both have the maximum 4/3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from grpo_helpers.answers import parse, parse_gold
from grpo_helpers.data import InputError
from grpo_helpers.metrics import ENCODER, ENCODER_LAYERS, bert_scorer, exact_match, format_score, rouge1_reasons

Completion = str | list[dict[str, Any]]

PRESETS: dict[str, dict[str, float]] = {
    # (BERT + EM + (Format + 3 ROUGE)/2)/3, as printed in the article
    "article": {"format": 1 / 6, "em": 1 / 3, "rouge1": 1 / 2, "bertscore": 1 / 3},
    # (EM + Format + (BERT + 3 ROUGE)/2)/3, as its author's code computes it: BERT and Format change places
    "code": {"format": 1 / 3, "em": 1 / 3, "rouge1": 1 / 2, "bertscore": 1 / 6},
}


def completion_text(completion: Completion) -> str:
    """Return the text of a completion: itself, or the content of the messages TRL wraps it in."""
    if isinstance(completion, str):
        return completion
    return "".join(str(message.get("content") or "") for message in completion)


def format_reward(prompts: Any, completions: Sequence[Completion], references: Any = None, **_: Any) -> list[float]:
    """Return 1.0 where the completion has the asked form ``"sentence"가 옳다. reason``, else 0.0.

    Example:
        >>> format_reward(None, ['"며칠이 걸렸다."가 옳다. 소리대로 적는다.', "며칠"])
        [1.0, 0.0]
    """
    return [format_score(completion_text(c)) for c in completions]


def em_reward(prompts: Any, completions: Sequence[Completion], references: Sequence[str], **_: Any) -> list[float]:
    """Return 1.0 where the sentence called right is a gold sentence, else 0.0.

    Example:
        >>> em_reward(None, [[{"role": "assistant", "content": '"봄이다."가 옳다.'}]], ['"봄이다."가 옳다. 까닭.'])
        [1.0]
    """
    return [exact_match(completion_text(c), gold) for c, gold in zip(completions, references, strict=True)]


def rouge1_reward(prompts: Any, completions: Sequence[Completion], references: Sequence[str], **_: Any) -> list[float]:
    """Return the ROUGE-1 F1 between the completion's reason and the gold reason, 0.0 without a reason."""
    return [rouge1_reasons(said, asked) for said, asked in _reasons(completions, references)]


def bertscore_reward(
    prompts: Any,
    completions: Sequence[Completion],
    references: Sequence[str],
    encoder: str = ENCODER,
    encoder_layers: int = ENCODER_LAYERS,
    **_: Any,
) -> list[float]:
    """Return the BERTScore F1 between the completion's reason and the gold reason, 0.0 without a reason."""
    pairs = _reasons(completions, references)
    return bert_scorer(encoder, encoder_layers)([said for said, _ in pairs], [asked for _, asked in pairs])


def _reasons(completions: Sequence[Completion], references: Sequence[str]) -> list[tuple[str, str]]:
    texts = [completion_text(completion) for completion in completions]
    return [(parse(t).reason, parse_gold(gold).reason) for t, gold in zip(texts, references, strict=True)]


REWARDS = {"format": format_reward, "em": em_reward, "rouge1": rouge1_reward, "bertscore": bertscore_reward}


def reward_weights(weights: str | dict[str, float]) -> dict[str, float]:
    """Return the weight of each reward, in the order of :data:`REWARDS`, from a preset's name or a mapping.

    Raises:
        InputError: An unknown preset or reward name.

    Example:
        >>> reward_weights({"em": 1.0})
        {'format': 0.0, 'em': 1.0, 'rouge1': 0.0, 'bertscore': 0.0}
    """
    if isinstance(weights, str):
        if weights not in PRESETS:
            raise InputError(f"unknown reward preset {weights!r}; known are {', '.join(PRESETS)}, or give a mapping")
        weights = PRESETS[weights]
    unknown = [name for name in weights if name not in REWARDS]
    if unknown or not weights:
        raise InputError(f"reward_weights names {unknown[:1] or 'nothing'}; known rewards are {', '.join(REWARDS)}")
    return {name: float(weights.get(name, 0.0)) for name in REWARDS}


def multi_reward(
    prompts: Any,
    completions: Sequence[Completion],
    references: Sequence[str],
    weights: str | dict[str, float] = "article",
    **columns: Any,
) -> list[float]:
    """Return the weighted sum of the four rewards, 0 to 4/3 with either preset.

    The same as handing the four functions and the weights to TRL, except that TRL then cannot log the parts.
    """
    named = reward_weights(weights)
    parts = {
        name: REWARDS[name](prompts, completions, references=references, **columns)
        for name, weight in named.items()
        if weight
    }
    return [sum(named[name] * parts[name][i] for name in parts) for i in range(len(completions))]


def reward_functions(
    weights: str | dict[str, float], encoder: str = ENCODER, encoder_layers: int = ENCODER_LAYERS
) -> tuple[list, list[float]]:
    """Return (functions, weights) for ``GRPOTrainer(reward_funcs=...)`` and ``GRPOConfig(reward_weights=...)``.

    A reward of weight 0 stays in the list, so that TRL logs it all the same.
    """

    def encoded_bertscore_reward(prompts, completions, references, **columns):
        return bertscore_reward(prompts, completions, references, encoder=encoder, encoder_layers=encoder_layers)

    encoded_bertscore_reward.__name__ = bertscore_reward.__name__  # the name TRL logs it under
    functions = {**REWARDS, "bertscore": encoded_bertscore_reward}
    named = reward_weights(weights)
    return [functions[name] for name in named], list(named.values())
