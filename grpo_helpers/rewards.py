"""④ The four rewards of GRPO training, and their weighted sum.

In: TRL's ``(prompts, completions, references, **columns)``; completions are strings or lists of messages. Out: one
float per completion. Each reward is a metric of :mod:`grpo_helpers.metrics`, nothing else. The article sums them in
one function; here they stay four, so that TRL logs each, and the sum is a named mapping of weights. The article's
text and its author's code weigh them differently; both are presets, and both have the maximum 4/3.

``python -m grpo_helpers.rewards check FILE`` tells which gold answers of a contest file do not earn the most that each
reward can give: such a one would teach the model to answer otherwise than the data.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial, update_wrapper
from typing import Any

from grpo_helpers.answers import parse, parse_gold
from grpo_helpers.data import load_items
from grpo_helpers.files import InputError
from grpo_helpers.metrics import (
    ENCODER,
    ENCODER_LAYERS,
    bert_scorer,
    exact_match,
    format_score,
    rouge1_reasons,
)
from grpo_helpers.questions import Item

Completion = str | list[dict[str, Any]]
PRESETS: dict[str, dict[str, float]] = {
    # (BERT + EM + (Format + 3 ROUGE)/2)/3, as printed in the article
    "article": {"format": 1 / 6, "em": 1 / 3, "rouge1": 1 / 2, "bertscore": 1 / 3},
    # (EM + Format + (BERT + 3 ROUGE)/2)/3, as its author's code computes it: BERT and Format change places
    "code": {"format": 1 / 3, "em": 1 / 3, "rouge1": 1 / 2, "bertscore": 1 / 6},
}


def completion_text(completion: Completion) -> str:
    """Return the text of a completion: itself, or the content of the messages TRL wraps it in."""
    return (
        completion
        if isinstance(completion, str)
        else "".join(str(m.get("content") or "") for m in completion)
    )


def format_reward(
    prompts: Any, completions: Sequence[Completion], references: Any = None, **_: Any
) -> list[float]:
    """Return 1.0 where the completion has the asked form ``"sentence"가 옳다. reason``, else 0.0.

    >>> format_reward(None, ['"며칠이 걸렸다."가 옳다. 소리대로 적는다.', "며칠"])
    [1.0, 0.0]
    """
    return [format_score(completion_text(c)) for c in completions]


def em_reward(
    prompts: Any, completions: Sequence[Completion], references: Sequence[str], **_: Any
) -> list[float]:
    """Return 1.0 where the sentence called right is a gold sentence, else 0.0.

    >>> em_reward(None, [[{"role": "assistant", "content": '"봄이다."가 옳다.'}]], ['"봄이다."가 옳다. 까닭.'])
    [1.0]
    """
    return [
        exact_match(completion_text(c), gold)
        for c, gold in zip(completions, references, strict=True)
    ]


def rouge1_reward(
    prompts: Any, completions: Sequence[Completion], references: Sequence[str], **_: Any
) -> list[float]:
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
    return bert_scorer(encoder, encoder_layers)(
        [said for said, _ in pairs], [asked for _, asked in pairs]
    )


def _reasons(completions: Sequence[Completion], references: Sequence[str]) -> list[tuple[str, str]]:
    texts = [completion_text(completion) for completion in completions]
    return [
        (parse(t).reason, parse_gold(gold).reason)
        for t, gold in zip(texts, references, strict=True)
    ]


REWARDS = {
    "format": format_reward,
    "em": em_reward,
    "rouge1": rouge1_reward,
    "bertscore": bertscore_reward,
}


def reward_weights(weights: str | dict[str, float]) -> dict[str, float]:
    """Return the weight of each reward of :data:`REWARDS`, from a preset's name or a mapping; InputError if unknown.

    >>> reward_weights({"em": 1.0})
    {'format': 0.0, 'em': 1.0, 'rouge1': 0.0, 'bertscore': 0.0}
    """
    if isinstance(weights, str):
        if weights not in PRESETS:
            raise InputError(
                f"unknown reward preset {weights!r}; known are {', '.join(PRESETS)}, or give a mapping"
            )
        weights = PRESETS[weights]
    unknown = [name for name in weights if name not in REWARDS]
    if unknown or not weights:
        raise InputError(
            f"reward_weights names {unknown[:1] or 'nothing'}; known rewards are {', '.join(REWARDS)}"
        )
    return {name: float(weights.get(name, 0.0)) for name in REWARDS}


def multi_reward(
    prompts: Any,
    completions: Sequence[Completion],
    references: Sequence[str],
    weights: str | dict[str, float] = "article",
    **columns: Any,
) -> list[float]:
    """Return the weighted sum of the four rewards, 0 to 4/3 with either preset; TRL, given one sum, logs no parts."""
    named = {name: weight for name, weight in reward_weights(weights).items() if weight}
    parts = {
        name: REWARDS[name](prompts, completions, references=references, **columns)
        for name in named
    }
    return [sum(named[name] * parts[name][i] for name in named) for i in range(len(completions))]


def reward_functions(
    weights: str | dict[str, float], encoder: str = ENCODER, encoder_layers: int = ENCODER_LAYERS
) -> tuple[list, list[float]]:
    """Return (functions, weights) for ``GRPOTrainer(reward_funcs=...)`` and ``GRPOConfig(reward_weights=...)``.

    A reward of weight 0 stays in the list, so that TRL logs it all the same.
    """
    encoded = partial(bertscore_reward, encoder=encoder, encoder_layers=encoder_layers)
    functions = {
        **REWARDS,
        "bertscore": update_wrapper(encoded, bertscore_reward),
    }  # keeps the name TRL logs it under
    named = reward_weights(weights)
    return [functions[name] for name in named], list(named.values())


def gold_offenders(
    items: Sequence[Item], encoder: str = ENCODER, encoder_layers: int = ENCODER_LAYERS
) -> list[tuple[str, str, float]]:
    """Return (id, reward, value) of every gold answer that earns less than 1 of a reward (1e-5 less: float32).

    Each alternative of a gold answer (``#``) is handed in on its own, as a model would say it.

    >>> gold_offenders([Item("1", "교정형", "...", "며칠이 맞다.")])[0]
    ('1', 'format', 0.0)
    """
    pairs = [(item, said) for item in items for said in (item.answer or "").split("#")]
    answers, golds = [said for _, said in pairs], [item.answer or "" for item, _ in pairs]
    offenders = []
    for name, reward in REWARDS.items():
        earned = reward(
            None, answers, references=golds, encoder=encoder, encoder_layers=encoder_layers
        )
        scored = zip(pairs, earned, strict=True)
        offenders += [
            (str(item.id), name, value) for (item, _), value in scored if value < 1 - 1e-5
        ]
    return offenders


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``check FILE``; return 0 if every gold answer earns full marks, 1 if not, 2 if the file cannot be read."""
    parser = argparse.ArgumentParser(
        prog="grpo_helpers.rewards", description="Check gold answers against the rewards."
    )
    parser.add_argument("command", choices=["check"])
    parser.add_argument("file", help="contest JSON or JSONL with answers")
    parser.add_argument(
        "--encoder", default=ENCODER, help="BERTScore's encoder: a folder or a hub id"
    )
    parser.add_argument(
        "--encoder_layers", type=int, default=ENCODER_LAYERS, help="the layer that is compared"
    )
    args = parser.parse_args(argv)
    try:
        items = load_items(args.file)
        offenders = gold_offenders(items, args.encoder, args.encoder_layers)
    except InputError as error:
        print(f"rewards check: {error}", file=sys.stderr)
        return 2
    for item in items:
        if missed := [
            f"{value:.3f} of {name}" for key, name, value in offenders if key == str(item.id)
        ]:
            print(f"{args.file}: id {item.id} earns {', '.join(missed)}: {item.answer}")
    count = len({key for key, *_ in offenders})
    print(
        f"{args.file}: {count} of {len(items)} gold answers miss a reward (encoder {args.encoder})"
    )
    return 1 if offenders else 0


if __name__ == "__main__":
    sys.exit(main())
