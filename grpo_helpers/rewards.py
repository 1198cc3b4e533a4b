"""④ The rewards of GRPO training: four built in, any number of your own, and their weighted sum.

In: TRL's ``(prompts, completions, references, **columns)``; completions are strings or lists of
messages. Out: one float per completion. Each built-in reward is a metric of
:mod:`grpo_helpers.metrics`, nothing else. The article sums them in one function; here they stay
apart, so that TRL logs each, and the sum is a mapping of weights. The article's text and its
author's code weigh them differently; both are presets, and both have the maximum 4/3.

A reward of your own joins by one call. Put it into a file, say ``my_rewards.py``::

    from grpo_helpers import rewards

    def brevity(prompts, completions, references, **_):
        texts = [rewards.completion_text(completion) for completion in completions]
        return [1.0 if len(text) < 60 else 0.0 for text in texts]

    rewards.register("brevity", brevity, label="brevity")

and give the file and the weight in the parameters of notebook 04, in a YAML profile, or with
``-p reward_module my_rewards.py -p reward_weights "em 1 format 0.2 brevity 0.1"``. TRL logs it as
``brevity_reward``, scoring adds a column ``brevity``, and the figures draw it in a colour of its
own. A registered reward that has no weight is logged all the same. Give notebook 05 the same
``reward_module``.

A thought before the answer (``<think>...</think>``) is never rewarded: the built-in rewards judge
what stands outside of it, and a reward of your own is not even shown it, unless you register it
with ``sees_thought=True``.

``python -m grpo_helpers.rewards check FILE`` lists the gold answers of a contest file that do not
earn full marks: such an answer would teach the model something else than the data says.
"""

from __future__ import annotations

import argparse
import inspect
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, update_wrapper
from typing import Any

from grpo_helpers.answers import (
    UNCLOSED,
    ThoughtSplit,
    gold_reason,
    parse,
    split_thought,
    with_opening_tag,
    without_thought,
)
from grpo_helpers.command_line import program_name, run_command
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
RewardFunction = Callable[..., Sequence[float | None]]
Weights = str | Mapping[str, float]

PRESETS: dict[str, dict[str, float]] = {
    # (BERT + EM + (Format + 3 ROUGE)/2)/3, as printed in the article
    "article": {"format": 1 / 6, "em": 1 / 3, "rouge1": 1 / 2, "bertscore": 1 / 3},
    # (EM + Format + (BERT + 3 ROUGE)/2)/3, as in its author's code: BERT and Format change places
    "code": {"format": 1 / 3, "em": 1 / 3, "rouge1": 1 / 2, "bertscore": 1 / 6},
}
EXAMPLE = '"em 1 format 0.2"'  # what error messages recommend

# Where TRL puts a thought beside the content of a message, for a tokenizer that says how to parse
# what its model writes (``response_template``).
THOUGHT_FIELDS = ("reasoning_content", "thinking")

# Colours of Okabe and Ito, then of Paul Tol, that no built-in quantity has (grpo_helpers.plots).
EXTRA_COLORS = ("#F0E442", "#882255", "#664422", "#332288")
# Columns of the score tables and names of plotted quantities that are no rewards.
RESERVED = (
    "checkpoint",
    "id",
    "question_type",
    "category",
    "kind",
    "card",
    "split",
    "choice",
    "em_seed",
    "em_official",
    "rouge1_official",
    "bertscore_official",
    "thinks",
    "thought_characters",
    "final_mean",
    "reward",
    "other",
)


# -- completions -----------------------------------------------------------------------------------


def completion_text(completion: Completion) -> str:
    """Return the text of a completion: itself, or the content of the messages TRL wraps it in.

    >>> completion_text([{"role": "assistant", "content": "며칠"}])
    '며칠'
    """
    if isinstance(completion, str):
        return completion
    return "".join(str(message.get("content") or "") for message in completion)


def split_completion(completion: Completion) -> ThoughtSplit:
    """Return what a completion thinks and what it answers.

    >>> message = {"role": "assistant", "content": "며칠", "reasoning_content": "음..."}
    >>> split_completion([message])
    ThoughtSplit(thoughts=('음...',), answer='며칠', fault='')
    """
    split = split_thought(completion_text(completion))
    if isinstance(completion, str):
        return split

    parsed = [str(message.get(key) or "") for message in completion for key in THOUGHT_FIELDS]
    thoughts = tuple(thought.strip() for thought in parsed if thought.strip())
    if not thoughts:
        return split

    fault = split.fault
    if not split.answer.strip():  # whoever has parsed it does not say that it was cut off
        fault = fault or UNCLOSED
    return replace(split, thoughts=(*thoughts, *split.thoughts), fault=fault)


def answer_alone(completion: Completion) -> Completion:
    """Return a completion without its thoughts; itself, if it has none.

    >>> answer_alone([{"role": "assistant", "content": "<think>음...</think>며칠"}])
    [{'role': 'assistant', 'content': '며칠'}]
    """
    if isinstance(completion, str):
        return without_thought(completion)

    messages = []
    for message in completion:
        visible = {key: value for key, value in message.items() if key not in THOUGHT_FIELDS}
        if isinstance(visible.get("content"), str):
            visible["content"] = without_thought(visible["content"])
        messages.append(visible)

    return completion if messages == completion else messages


def with_open_thought(completion: Completion) -> Completion:
    """Return a completion with the tag that the chat template has written before it.

    >>> with_open_thought([{"role": "assistant", "content": "음..."}])
    [{'role': 'assistant', 'content': '<think>음...'}]
    """
    if isinstance(completion, str):
        return with_opening_tag(completion)

    first, *others = completion
    if any(first.get(field) for field in THOUGHT_FIELDS):  # it is apart already
        return completion
    text = with_opening_tag(str(first.get("content") or ""))
    return [first | {"content": text}, *others]


# -- the four built-in rewards ---------------------------------------------------------------------


def format_reward(
    prompts: Any,
    completions: Sequence[Completion],
    references: Sequence[str] | None = None,
    question: Sequence[str] | None = None,
    question_type: Sequence[str] | None = None,
    **_: Any,
) -> list[float]:
    """Return 1.0 where the completion has the form ``"sentence"가 옳다. reason``, else 0.0.

    Args:
        prompts: Not looked at.
        completions: Text, or lists of messages as TRL passes them.
        references: Gold answers. They and the next two decide what else belongs to the format (see
            :func:`grpo_helpers.metrics.format_score`).
        question: Questions as the contest words them.
        question_type: 선택형 or 교정형.

    >>> format_reward(None, ['"며칠이 걸렸다."가 옳다. 소리대로 적는다.', "며칠"])
    [1.0, 0.0]
    """
    unknown = [""] * len(completions)
    columns = zip(
        completions,
        references or unknown,
        question or unknown,
        question_type or unknown,
        strict=True,
    )
    scores = []

    for completion, gold, text, kind in columns:
        item = Item(id="", question_type=kind, question=text, answer=gold)
        scores.append(format_score(completion_text(completion), item))

    return scores


def em_reward(
    prompts: Any,
    completions: Sequence[Completion],
    references: Sequence[str],
    **_: Any,
) -> list[float]:
    """Return 1.0 where the sentence called right is a gold sentence, else 0.0.

    >>> completion = [{"role": "assistant", "content": '"봄이다."가 옳다.'}]
    >>> em_reward(None, [completion], ['"봄이다."가 옳다. 까닭.'])
    [1.0]
    """
    matches = []

    for completion, gold in zip(completions, references, strict=True):
        matches.append(exact_match(completion_text(completion), gold))

    return matches


def rouge1_reward(
    prompts: Any,
    completions: Sequence[Completion],
    references: Sequence[str],
    **_: Any,
) -> list[float]:
    """Return the ROUGE-1 F1 of the completion's reason and the gold one; 0.0 without a reason."""
    predicted, gold = _reasons(completions, references)
    return list(map(rouge1_reasons, predicted, gold))


def bertscore_reward(
    prompts: Any,
    completions: Sequence[Completion],
    references: Sequence[str],
    encoder: str = ENCODER,
    encoder_layers: int = ENCODER_LAYERS,
    **_: Any,
) -> list[float]:
    """Return the BERTScore F1 of the completion's reason and the gold one; 0.0 without a reason.

    Args:
        prompts: Not looked at.
        completions: Text, or lists of messages as TRL passes them.
        references: Gold answers.
        encoder: BERTScore's encoder, a local folder or a hub id.
        encoder_layers: The layer of it that is compared.
    """
    predicted, gold = _reasons(completions, references)
    return bert_scorer(encoder, encoder_layers)(predicted, gold)


def _reasons(
    completions: Sequence[Completion],
    references: Sequence[str],
) -> tuple[list[str], list[str]]:
    """Return the reasons of the completions, and those of the gold alternatives they match."""
    predicted = []
    gold = []

    for completion, reference in zip(completions, references, strict=True):
        text = completion_text(completion)
        predicted.append(parse(text).reason)
        gold.append(gold_reason(reference, text))

    return predicted, gold


# -- the registry ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reward:
    """A registered reward.

    Attributes:
        name: Its key in ``reward_weights``, and its column in the score tables.
        function: Called as TRL calls a reward, see :func:`register`.
        label: What figures call it.
        color: What figures draw it in, as a hex code.
        is_built_in: Whether it is one of the course's four.
        sees_thought: Whether the function is given what the model thought before it answered. The
            built-in ones are, because the format decides where a thought may stand.
    """

    name: str
    function: RewardFunction
    label: str
    color: str
    is_built_in: bool = False
    sees_thought: bool = False

    @property
    def trl_name(self) -> str:
        """The name TRL logs it under: the mean of a step is ``rewards/<trl_name>/mean``."""
        return f"{self.name}_reward"

    @property
    def trl_function(self) -> RewardFunction:
        """The function, named so that TRL logs it as :attr:`trl_name`."""
        if self.is_built_in and getattr(self.function, "__name__", "") == self.trl_name:
            return self.function

        # TRL looks through a functools.partial, so only a real function can bear another name.
        def named(
            prompts: Any, completions: Sequence[Completion], **columns: Any
        ) -> Sequence[float | None]:
            return self.values(prompts, completions, **columns)

        named.__name__ = self.trl_name
        return named

    def values(
        self, prompts: Any, completions: Sequence[Completion], **columns: Any
    ) -> Sequence[float | None]:
        """Return what the function gives each completion, or the answer alone of each.

        Args:
            prompts: Lists of messages, as TRL passes them.
            completions: Text, or lists of messages.
            **columns: ``references`` and further columns of the dataset.
        """
        if not self.sees_thought:
            completions = list(map(answer_alone, completions))
        return self.function(prompts=prompts, completions=completions, **columns)


def _built_in(name: str, function: RewardFunction, label: str, color: str) -> Reward:
    return Reward(name, function, label, color=color, is_built_in=True, sees_thought=True)


_BUILT_IN = (
    _built_in("format", format_reward, "format", "#CC79A7"),
    _built_in("em", em_reward, "exact match", "#0072B2"),
    _built_in("rouge1", rouge1_reward, "ROUGE-1", "#E69F00"),
    _built_in("bertscore", bertscore_reward, "BERTScore", "#009E73"),
)
_registry: dict[str, Reward] = {reward.name: reward for reward in _BUILT_IN}


def register(
    name: str,
    function: RewardFunction,
    *,
    label: str | None = None,
    color: str | None = None,
    sees_thought: bool = False,
) -> Reward:
    """Add a reward of your own; registering the same name again replaces it.

    From then on, and until the process ends, ``reward_weights`` knows the name, TRL logs the reward
    as ``<name>_reward`` (with weight 0 where it has none), scoring adds a column ``<name>``, and
    figures use its label and colour.

    Args:
        name: Lower-case letters, digits and ``_``, such as ``brevity``.
        function: Called by TRL with ``prompts``, ``completions`` (lists of messages) and the
            columns of the dataset (``references``, ``question``, ``question_type``, ``id``), all by
            name; take what you do not need as ``**_``. Scoring passes the same, but nothing that
            only training has (``completion_ids``, ``trainer_state``). Returns one number per
            completion, or None for a completion that it does not judge.
        label: What figures call it; the name, if you give none.
        color: A hex code such as ``"#882255"``; one that is still free, if you give none.
        sees_thought: Leave the thought in the completions that the function is given, as for a
            reward that judges the thought itself (:func:`split_completion`). ``completion_ids``
            hold it in any case.

    Returns:
        The registered reward.

    Raises:
        InputError: The name is not such a word or is taken, or the function cannot be called.

    >>> before = registered()
    >>> reward = register("shout", lambda completions, **_: [1.0 for _ in completions])
    >>> reward.trl_name, list(registered())
    ('shout_reward', ['format', 'em', 'rouge1', 'bertscore', 'shout'])
    >>> restore(before)
    """
    _check_name(name)
    if not callable(function):
        raise InputError(f"reward {name}: {function!r} is not a function")
    if inspect.iscoroutinefunction(function):
        raise InputError(f"reward {name}: the function must not be async")

    reward = Reward(
        name=name,
        function=function,
        label=label or name,
        color=color or _free_color(name),
        sees_thought=sees_thought,
    )
    _registry[name] = reward
    return reward


def registered() -> dict[str, Reward]:
    """Return every reward by name: the four built-in ones first, then your own in their order."""
    return dict(_registry)


def restore(rewards: Mapping[str, Reward]) -> None:
    """Make the registry what it was when :func:`registered` returned ``rewards``."""
    _registry.clear()
    _registry.update(rewards)


def extra_rewards() -> list[Reward]:
    """Return the rewards that are not built in, in the order in which they were registered."""
    return [reward for reward in _registry.values() if not reward.is_built_in]


def _check_name(name: str) -> None:
    if not isinstance(name, str) or not re.fullmatch("[a-z][a-z0-9_]*", name):
        raise InputError(
            f"reward name {name!r} must be lower-case letters, digits and _, such as brevity"
        )
    is_built_in = name in _registry and _registry[name].is_built_in
    if is_built_in or name in RESERVED or name in PRESETS:
        raise InputError(f"reward name {name!r} is taken; choose another, such as my_{name}")


def _free_color(name: str) -> str:
    if name in _registry:
        return _registry[name].color

    used = [reward.color for reward in extra_rewards()]
    for color in EXTRA_COLORS:
        if color not in used:
            return color

    return EXTRA_COLORS[len(used) % len(EXTRA_COLORS)]


# -- weights ---------------------------------------------------------------------------------------


def reward_weights(weights: Weights) -> dict[str, float]:
    """Return the weight of every registered reward.

    Args:
        weights: A preset of :data:`PRESETS`, a mapping of reward to weight, or the same as text:
            ``"em 1 format 0.2"`` or ``"em=1, format=0.2"``. What is not named weighs 0.

    Returns:
        Reward name -> weight, in the order of :func:`registered`.

    Raises:
        InputError: An unknown preset or reward, or a weight that is not a number.

    >>> reward_weights({"em": 1.0})
    {'format': 0.0, 'em': 1.0, 'rouge1': 0.0, 'bertscore': 0.0}
    >>> reward_weights("em=1, format=0.2") == reward_weights({"em": 1, "format": 0.2})
    True
    """
    if isinstance(weights, str):
        weights = _weights_from_text(weights)
    if not isinstance(weights, Mapping) or not weights:
        raise InputError(
            f"reward_weights is {weights!r}; give a preset or weights such as {EXAMPLE}"
        )

    for name in weights:
        if name not in _registry:
            raise InputError(
                f"reward_weights names {name!r}; known rewards are {', '.join(_registry)} "
                "(reward_module adds your own)"
            )

    named = {}
    for name in _registry:
        named[name] = _weight(name, weights.get(name, 0.0))
    return named


def _weights_from_text(text: str) -> dict[str, Any]:
    """Return the mapping that a preset's name, or text such as ``em 1 format 0.2``, stands for."""
    if text.strip() in PRESETS:
        return dict(PRESETS[text.strip()])

    # Separators are blanks, "=", ":" and ","; braces and quotes are those of a mapping as text.
    words = re.sub(r"[\s=:,{}'\"]+", " ", text).split()
    if len(words) == 1:
        raise InputError(
            f"unknown reward preset {text!r}; known are {', '.join(PRESETS)}, "
            f"or give weights such as {EXAMPLE}"
        )
    if len(words) % 2:
        raise InputError(
            f"reward_weights {text!r}: every reward needs one weight, such as {EXAMPLE}"
        )
    return dict(zip(words[::2], words[1::2], strict=True))


def _weight(name: str, value: Any) -> float:
    try:
        weight = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        weight = math.nan

    if not math.isfinite(weight):
        raise InputError(f"reward_weights: the weight of {name} is {value!r}; it must be a number")
    return weight


# -- what training and scoring take ----------------------------------------------------------------


def multi_reward(
    prompts: Any,
    completions: Sequence[Completion],
    references: Sequence[str],
    weights: Weights = "article",
    **columns: Any,
) -> list[float]:
    """Return the weighted sum of the rewards as one function, as the article has it.

    0 to 4/3 with either preset. TRL, which is then given one sum, logs no parts.

    Args:
        prompts: Lists of messages, as TRL passes them.
        completions: Text, or lists of messages.
        references: Gold answers.
        weights: As for :func:`reward_weights`.
        **columns: Further columns of the dataset, passed on to each reward.
    """
    sums = [0.0] * len(completions)

    for name, weight in reward_weights(weights).items():
        if weight == 0:
            continue
        values = _registry[name].values(prompts, completions, references=references, **columns)
        for i, value in enumerate(values):
            if value is not None:
                sums[i] += weight * value

    return sums


def reward_functions(
    weights: Weights,
    encoder: str = ENCODER,
    encoder_layers: int = ENCODER_LAYERS,
    *,
    thought_is_open: bool = False,
) -> tuple[list[RewardFunction], list[float]]:
    """Return the functions for ``GRPOTrainer`` and the weights for ``GRPOConfig``.

    A reward of weight 0 stays in the list, so that TRL logs it all the same.

    Args:
        weights: As for :func:`reward_weights`.
        encoder: BERTScore's encoder, a local folder or a hub id.
        encoder_layers: The layer of it that is compared.
        thought_is_open: Whether every prompt ends inside a thought, see
            :func:`grpo_helpers.answers.opens_thought`.

    Returns:
        ``reward_funcs`` and ``reward_weights``, in the order of :func:`registered`.
    """
    named = reward_weights(weights)
    with_encoder = partial(bertscore_reward, encoder=encoder, encoder_layers=encoder_layers)
    update_wrapper(with_encoder, bertscore_reward)

    functions: list[RewardFunction] = []
    for name in named:
        is_bertscore = name == "bertscore"
        functions.append(with_encoder if is_bertscore else _registry[name].trl_function)
    if thought_is_open:
        functions = list(map(_after_open_thought, functions))

    return functions, list(named.values())


def _after_open_thought(function: RewardFunction) -> RewardFunction:
    """Return a reward that is given completions with the tag that the prompt has opened."""

    def reward(
        prompts: Any, completions: Sequence[Completion], **columns: Any
    ) -> Sequence[float | None]:
        opened = list(map(with_open_thought, completions))
        return function(prompts=prompts, completions=opened, **columns)

    reward.__name__ = getattr(function, "__name__", "reward")
    return reward


def extra_scores(predictions: Sequence[str], items: Sequence[Item]) -> dict[str, list[float]]:
    """Return what the answers of one file earn of each reward that is not built in.

    Args:
        predictions: One answer per item.
        items: The questions with their gold answers.

    Returns:
        Reward name -> one value per item; NaN where a reward does not judge an answer.

    Raises:
        InputError: A reward did not return one value per answer.
    """
    inputs: dict[str, Any] = {
        "prompts": [[{"role": "user", "content": item.question}] for item in items],
        "completions": [[{"role": "assistant", "content": text}] for text in predictions],
        "references": [item.answer or "" for item in items],
        "question": [item.question for item in items],
        "question_type": [item.question_type for item in items],
        "id": [str(item.id) for item in items],
    }

    scores = {}
    for reward in extra_rewards():
        values = reward.values(**inputs)
        if len(values) != len(predictions):
            raise InputError(
                f"reward {reward.name} returned {len(values)} values for {len(predictions)} answers"
            )
        scores[reward.name] = [math.nan if value is None else float(value) for value in values]
    return scores


# -- the check of gold answers ---------------------------------------------------------------------


@dataclass(frozen=True)
class Offender:
    """A gold answer that earns less than 1 of a built-in reward."""

    id: str
    reward: str
    value: float


def gold_offenders(
    items: Sequence[Item],
    encoder: str = ENCODER,
    encoder_layers: int = ENCODER_LAYERS,
) -> list[Offender]:
    """Return every gold answer that earns less than 1 of a built-in reward (1e-5 less: float32).

    Each alternative of a gold answer (``#``) is handed in on its own, as a model would write it.

    >>> gold_offenders([Item("1", "교정형", "...", "며칠이 맞다.")])[0]
    Offender(id='1', reward='format', value=0.0)
    """
    answers = []
    answered = []
    for item in items:
        for alternative in (item.answer or "").split("#"):
            answers.append(alternative)
            answered.append(item)

    columns = {
        "references": [item.answer or "" for item in answered],
        "question": [item.question for item in answered],
        "question_type": [item.question_type for item in answered],
    }
    options = {"encoder": encoder, "encoder_layers": encoder_layers}
    offenders = []

    for reward in _BUILT_IN:
        earned = reward.function(None, answers, **columns, **options)
        for item, value in zip(answered, earned, strict=True):
            if value is not None and value < 1 - 1e-5:
                offenders.append(Offender(str(item.id), reward.name, value))

    return offenders


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program_name("rewards"),
        description="Check gold answers against the rewards.",
    )
    add = parser.add_argument
    add("command", choices=["check"])
    add("file", help="contest JSON or JSONL with answers")
    add("--encoder", default=ENCODER, help="BERTScore's encoder: a folder or a hub id")
    add("--encoder_layers", type=int, default=ENCODER_LAYERS, help="the layer that is compared")
    return parser


def check_file(path: str, encoder: str, encoder_layers: int) -> int:
    """Print the gold answers of a file that miss a reward; return 0 if there is none, else 1."""
    items = load_items(path)
    offenders = gold_offenders(items, encoder, encoder_layers)

    missed: dict[str, list[str]] = {}
    for offender in offenders:
        part = f"{offender.value:.3f} of {offender.reward}"
        missed.setdefault(offender.id, []).append(part)

    for item in items:
        if str(item.id) in missed:
            parts = ", ".join(missed[str(item.id)])
            print(f"{path}: id {item.id} earns {parts}: {item.answer}")

    print(f"{path}: {len(missed)} of {len(items)} gold answers miss a reward (encoder {encoder})")
    return 1 if offenders else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``check FILE``: 0 if all gold answers earn full marks, 1 if not, 2 on bad input."""
    args = _parser().parse_args(argv)
    return run_command(lambda: check_file(args.file, args.encoder, args.encoder_layers))


if __name__ == "__main__":
    sys.exit(main())
