"""③ What is still wrong with GRPO by hand: one check for each of the five functions of notebook 08.

In: a reader's function, and what it works on. Out: an empty text if the function does what it
should, else one line that says what is missing and, for the mistakes that are made most often, why.
Every way of writing a function that has the same effect passes; the yardsticks are plain loops and
:mod:`grpo_helpers.by_hand`. A check may train a copy of the model, never the model itself.
"""

from __future__ import annotations

import copy
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from grpo_helpers import by_hand
from grpo_helpers.by_hand import Batch, Question
from grpo_helpers.settings import ByHandSettings

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Function = Callable[..., Any]  # what a reader has written

HOT = 50.0  # a temperature at which all tokens are about equally likely
COLD = 0.001  # a temperature at which the likeliest token is always drawn
USUAL_TOP_K = 50  # what transformers keeps unless told otherwise
TOLERANCE = 1e-4  # of a loss, and of a gradient in parts of its length
ADVANTAGE_TOLERANCE = 1e-3  # lets pass what is divided by the bare standard deviation
RATE = 1e-3  # of the optimizer with which a step is checked

GOLD = "\"회의까지 며칠밖에 남지 않았다.\"가 옳다. '며칠'은 소리대로 적는다."
RIGHT = '"회의까지 며칠밖에 남지 않았다."'
WRONG = '"회의까지 몇일밖에 남지 않았다."'
# What an answer is, the answer, and the reward that it should earn.
SCORED = (
    ("the gold answer", GOLD, 1.0),
    ("the right sentence with another reason", f"{RIGHT}가 옳다. 그냥 그렇다.", 1.0),
    ("the wrong form", f"{WRONG}가 옳다. '며칠'은 소리대로 적는다.", 0.0),
    ("both sentences", f"{RIGHT} 혹은 {WRONG}가 옳다.", 0.0),
    ("an answer without the verdict", "며칠이 맞아요", 0.0),
    ("an empty answer", "", 0.0),
)

# What may be missing in a loss, and what the check says then.
FORGOTTEN = {
    "nothing": "",
    "clipping": "no ratio is clipped: take the smaller of ratio * A and clipped ratio * A",
    "temperature": "divide the logits by the temperature, as the sampling did",
    "mask": "padding counts: multiply the losses of the tokens with completion_mask",
    "tokens": "tokens count alike, not answers: divide by the number of all tokens, once",
}

# Rewards in groups of four: one right, all alike, two right.
REWARDS = (1.0, 0.0, 0.0, 0.0, 0.3, 0.3, 0.3, 0.3, 1.0, 1.0, 0.0, 0.0)
GROUP = 4


# -- sample ----------------------------------------------------------------------------------------


def fault_of_sample(
    sample: Function, model: PreTrainedModel, prompts: dict[str, Tensor], settings: ByHandSettings
) -> str:
    """Return what is wrong with ``sample``, or an empty text.

    Args:
        sample: The function.
        model: Samples.
        prompts: Two or more of them, of different lengths.
        settings: G, temperature and longest completion.
    """
    import torch

    torch.manual_seed(settings.seed)
    batch = sample(model, prompts, settings)
    if batch is None:
        return "sample() returns None"
    if not isinstance(batch, Batch):
        return f"sample() should return a Batch, not {type(batch).__name__}"

    return (
        _fault_of_rows(batch, prompts, settings)
        or _fault_of_masks(batch, prompts, model)
        or _fault_of_drawing(sample, model, prompts, settings)
    )


def _fault_of_rows(batch: Batch, prompts: dict[str, Tensor], settings: ByHandSettings) -> str:
    """Return what is wrong with the rows of ``input_ids``."""
    import torch

    G = settings.num_generations
    repeated = prompts["input_ids"].repeat_interleave(G, dim=0)
    rows, prompt_length = repeated.shape

    if batch.input_ids.shape[0] != rows:
        return f"{rows // G} prompts with G = {G} make {rows} rows, not {batch.input_ids.shape[0]}"
    if not torch.equal(batch.input_ids[:, :prompt_length], repeated):
        return "each row begins with its prompt, and the G rows of a prompt follow one another"

    length = batch.input_ids.shape[1] - prompt_length
    if length > settings.max_completion_length:
        return f"completions have {length} tokens; {settings.max_completion_length} is the limit"
    return ""


def _fault_of_masks(batch: Batch, prompts: dict[str, Tensor], model: PreTrainedModel) -> str:
    """Return what is wrong with the two masks."""
    import torch

    prompt_length = prompts["input_ids"].shape[1]
    completions = batch.input_ids[:, prompt_length:]
    if batch.completion_mask.shape != completions.shape:
        shape = tuple(batch.completion_mask.shape)
        return f"completion_mask should have the shape {tuple(completions.shape)}, not {shape}"

    rows = zip(completions.tolist(), batch.completion_mask.tolist(), strict=True)
    for number, (tokens, mask) in enumerate(rows, 1):
        length = _length(tokens, model.config.eos_token_id)
        if mask != [1] * length + [0] * (len(tokens) - length):
            return (
                f"row {number} of completion_mask should have {length} ones: up to the first end "
                f"token and with it, or all tokens if there is none; it has {sum(mask)}"
            )

    groups = len(completions) // len(prompts["attention_mask"])
    prompt_mask = prompts["attention_mask"].repeat_interleave(groups, dim=0)
    expected = torch.cat([prompt_mask, batch.completion_mask], dim=1)
    if batch.attention_mask.shape != expected.shape or (batch.attention_mask != expected).any():
        return "attention_mask should be the mask of the prompt, then completion_mask"
    return ""


def _length(tokens: Sequence[int], end: Any) -> int:
    """Return the number of tokens up to the first end token, itself included."""
    for number, token in enumerate(tokens, 1):
        if token == end:
            return number
    return len(tokens)


def _fault_of_drawing(
    sample: Function, model: PreTrainedModel, prompts: dict[str, Tensor], settings: ByHandSettings
) -> str:
    """Return what is wrong with the way in which tokens are drawn: too few of them are."""
    import torch

    hot = replace(settings, temperature=HOT, max_completion_length=2)
    torch.manual_seed(settings.seed)
    first_tokens = sample(model, prompts, hot).completion_ids[:, 0]
    if len(first_tokens.unique()) < len(first_tokens) / 2:
        return f"at a temperature of {HOT:g} most completions begin alike: is it passed on?"

    policy: Any = model
    with torch.no_grad():
        logits = policy(**prompts).logits[:, -1]
    likeliest = logits.topk(USUAL_TOP_K).indices.repeat_interleave(settings.num_generations, dim=0)
    if (first_tokens.unsqueeze(1) == likeliest).any(dim=1).all():
        return f"only the {USUAL_TOP_K} likeliest tokens are ever drawn: top_k=0 lets all in"
    return ""


# -- score and advantage ---------------------------------------------------------------------------


def fault_of_score(score: Function) -> str:
    """Return what is wrong with ``score``, or an empty text."""
    answers = [answer for _, answer, _ in SCORED]
    rewards = score(answers, [GOLD] * len(answers))
    if rewards is None:
        return "score() returns None"
    if fault := _fault_of_vector(rewards, "score()", len(answers)):
        return fault

    for (what, _, expected), reward in zip(SCORED, rewards.tolist(), strict=True):
        if abs(reward - expected) > TOLERANCE:
            return f"{what} should earn {expected:g}, not {reward:g}"
    return ""


def fault_of_advantage(advantage: Function) -> str:
    """Return what is wrong with ``advantage``, or an empty text."""
    import torch

    advantages = advantage(torch.tensor(REWARDS), GROUP)
    if advantages is None:
        return "advantage() returns None"
    if fault := _fault_of_vector(advantages, "advantage()", len(REWARDS)):
        return fault

    values = advantages.tolist()
    for start in range(0, len(REWARDS), GROUP):
        rewards = REWARDS[start : start + GROUP]
        mine = values[start : start + GROUP]
        expected = _advantages(rewards)
        pairs = zip(mine, expected, strict=True)
        if not all(math.isclose(one, other, abs_tol=ADVANTAGE_TOLERANCE) for one, other in pairs):
            return f"rewards {_listed(rewards)} give {_listed(expected)}, not {_listed(mine)}"
    return ""


def _advantages(rewards: Sequence[float]) -> list[float]:
    """Return the advantages of one group, by the book."""
    mean = statistics.mean(rewards)
    std = statistics.stdev(rewards)
    return [(reward - mean) / (std + by_hand.NEVER_BY_ZERO) for reward in rewards]


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3g}" for value in values)


def _fault_of_vector(values: Any, name: str, length: int) -> str:
    """Return why ``values`` is not a tensor of one number for each answer."""
    import torch

    if not isinstance(values, torch.Tensor):
        return f"{name} should return a tensor, not {type(values).__name__}"
    if tuple(values.shape) != (length,):
        return f"{name} should return the shape ({length},), not {tuple(values.shape)}"
    return ""


# -- loss ------------------------------------------------------------------------------------------


def fault_of_loss(
    loss: Function, model: PreTrainedModel, batch: Batch, settings: ByHandSettings
) -> str:
    """Return what is wrong with ``loss``, or an empty text.

    Args:
        loss: The function.
        model: The policy; its gradients are cleared afterwards.
        batch: Completions of it.
        settings: G and the temperature.
    """
    import torch

    temperature = settings.temperature
    advantages = made_up_advantages(batch, settings.num_generations)
    old = moved(model, batch, temperature)

    mine = loss(model, batch, advantages, temperature, old=old)
    if mine is None:
        return "loss() returns None"
    if not isinstance(mine, torch.Tensor) or mine.numel() != 1:
        return "loss() should return a tensor with one number"
    if not mine.requires_grad:
        return "the loss has no gradient: was something detached, or computed under no_grad?"

    values = _values_of_loss(model, batch, advantages, old, temperature=temperature)
    for name, value in values.items():
        if math.isclose(mine.item(), value, abs_tol=TOLERANCE):
            fault = FORGOTTEN[name]
            return fault or _fault_of_gradient(loss, model, batch, settings)
    return f"a batch has the loss {values['nothing']:.5f}, not {mine.item():.5f}"


def made_up_advantages(batch: Batch, num_generations: int) -> Tensor:
    """Return advantages for a batch, (N,), as if each answer had earned more than the one before.

    No group is silent, whatever the model has written.
    """
    import torch

    rewards = torch.arange(len(batch.input_ids)) % num_generations
    return by_hand.advantage(rewards.float(), num_generations)


def moved(model: PreTrainedModel, batch: Batch, temperature: float) -> Tensor:
    """Return old log-probabilities, (N, T), as if the policy had changed since.

    In every other answer, the first tokens have become less likely and the last ones likelier, in
    the rest it is the other way round; the farther from the middle, the more, until ratios are
    clipped.
    """
    import torch

    with torch.no_grad():
        now = by_hand.log_probabilities(model, batch, temperature)
    rows, length = now.shape
    signs = 1 - 2 * (torch.arange(rows) % 2)
    return now - signs.unsqueeze(1) * torch.linspace(-0.5, 0.5, length)


def _values_of_loss(
    model: PreTrainedModel, batch: Batch, advantages: Tensor, old: Tensor, temperature: float
) -> dict[str, float]:
    """Return the loss as it should be, and with each part of :data:`FORGOTTEN` forgotten."""
    import torch

    def value(of: Batch = batch, heat: float = temperature, epsilon: float = 0.2) -> float:
        with torch.no_grad():
            return by_hand.loss(model, of, advantages, heat, old=old, epsilon=epsilon).item()

    unmasked = replace(batch, completion_mask=torch.ones_like(batch.completion_mask))
    means = []  # of each answer
    for row in range(len(advantages)):
        one = slice(row, row + 1)
        masks = (batch.attention_mask[one], batch.completion_mask[one])
        answer = Batch(batch.input_ids[one], *masks)
        with torch.no_grad():
            of_answer = by_hand.loss(model, answer, advantages[one], temperature, old=old[one])
        means.append(of_answer.item())

    return {
        "nothing": value(),
        "clipping": value(epsilon=math.inf),
        "temperature": value(heat=1.0),
        "mask": value(unmasked),
        "tokens": statistics.mean(means),
    }


def _fault_of_gradient(
    loss: Function, model: PreTrainedModel, batch: Batch, settings: ByHandSettings
) -> str:
    """Return what is wrong with the gradient where no old log-probabilities are given."""
    temperature = settings.temperature
    advantages = made_up_advantages(batch, settings.num_generations)
    mine = gradients(model, loss(model, batch, advantages, temperature))
    expected = gradients(model, by_hand.loss(model, batch, advantages, temperature))
    model.zero_grad()

    if mine.keys() != expected.keys() or relative_difference(mine, expected) > TOLERANCE:
        return "where old is None, it is new.detach(): the ratio is 1, but it must have a gradient"
    return ""


def gradients(model: PreTrainedModel, loss: Tensor) -> dict[str, Tensor]:
    """Return the gradient of a loss, by the name of each of the model's weights."""
    model.zero_grad()
    loss.backward()
    found = {}
    for name, weight in model.named_parameters():
        if weight.grad is not None:
            found[name] = weight.grad.clone()
    return found


def relative_difference(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    """Return the length of the difference of two gradients, in parts of the length of ``theirs``.

    All weights of the model count as one long vector.
    """
    difference = 0.0
    whole = 0.0
    for name, expected in theirs.items():
        difference += (ours[name] - expected).double().square().sum().item()
        whole += expected.double().square().sum().item()
    return math.sqrt(difference / whole)


# -- step ------------------------------------------------------------------------------------------


def fault_of_step(
    step: Function,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    settings: ByHandSettings,
) -> str:
    """Return what is wrong with ``step``, or an empty text.

    Args:
        step: The function.
        model: Copies of it are trained.
        tokenizer: Its tokenizer.
        questions: Three or more.
        settings: G, temperature and longest completion.
    """
    import torch

    def rewards_of(of: Sequence[Question], heat: float, policy: Any) -> Any:
        torch.manual_seed(settings.seed)
        optimizer = torch.optim.Adam(policy.parameters(), lr=RATE)
        changed = replace(settings, temperature=heat)
        return step(policy, optimizer, tokenizer, of, settings=changed)

    answered = _with_its_own_answers(model, tokenizer, questions, settings)
    rewards = rewards_of(answered, COLD, copy.deepcopy(model))
    if rewards is None:
        return "step() returns None; it should return the rewards"
    rows = len(questions) * settings.num_generations
    if fault := _fault_of_vector(rewards, "step()", rows):
        return fault
    if not (rewards == 1).all():
        return "each completion is to be scored against the gold answer of its own question"

    trained = copy.deepcopy(model)
    for weight in trained.parameters():
        weight.grad = torch.full_like(weight, math.nan)  # what an earlier step might have left
    rewards_of(answered, 1.0, trained)
    return _fault_of_update(model, trained)


def _with_its_own_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    settings: ByHandSettings,
) -> list[Question]:
    """Return the questions with what the model itself answers, greedily, in the place of gold.

    Whatever the model knows, a cold sample then earns 1 by the right question, and 0 by another.
    """
    cold = replace(settings, temperature=COLD)
    batch = by_hand.sample(model, by_hand.encode(tokenizer, questions), cold)
    answers = by_hand.decode(tokenizer, batch)[:: settings.num_generations]

    answered = []
    for question, answer in zip(questions, answers, strict=True):
        answered.append(replace(question, gold=answer))
    return answered


def _fault_of_update(before: PreTrainedModel, after: PreTrainedModel) -> str:
    """Return what is wrong with the weights after a step."""
    pairs = list(zip(before.parameters(), after.parameters(), strict=True))

    if any(weight.isnan().any() for _, weight in pairs):
        return "gradients of the step before are still there: call optimizer.zero_grad() first"
    if all((old == new).all() for old, new in pairs):
        return "no weight has changed: call backward() on the loss, then optimizer.step()"
    return ""
