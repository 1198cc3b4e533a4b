"""Batch arithmetic of TRL 1.16: what B, G, A, D and S mean together, and which settings are legal.

In: six whole numbers. Out: a :class:`BatchPlan` that counts completions, prompts, rounds and steps,
or an :class:`InputError` in TRL's words with the nearest settings that TRL accepts. B counts
completions, not prompts, and the one rule is ``B*D*S % G == 0``. The article's counts are those of
TRL 0.14, where B still counted prompts; its rule "B must be a multiple of G" is that of TRL 0.15
and 0.16. Neither applies to 1.16. :func:`train_and_count` counts the same in a real trainer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, gcd, inf, lcm
from typing import Any

from grpo_helpers.files import InputError

TRL_NAMES = {
    "B": "per_device_train_batch_size",
    "G": "num_generations",
    "A": "gradient_accumulation_steps",
    "D": "world_size",
    "S": "steps_per_generation",
    "num_iterations": "num_iterations",
}


def need_whole_number(name: str, value: object) -> None:
    """Refuse anything but a whole number from 1 up.

    Args:
        name: What the number is, for the error message.
        value: What was given.

    Raises:
        InputError: It names ``name`` and the value.

    >>> need_whole_number("num_generations", 8)
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError(f"{name} must be a whole number from 1 up, got {value!r}")


@dataclass(frozen=True)
class BatchPlan:
    """One legal batch setting, refused on construction where TRL 1.16 refuses it.

    Attributes:
        B: ``per_device_train_batch_size``: completions (not prompts) per device in one forward and
            backward pass.
        G: ``num_generations``: completions of one prompt, compared with one another.
        A: ``gradient_accumulation_steps``: micro-batches per optimizer step.
        D: ``world_size``: devices.
        S: ``steps_per_generation``: micro-batches fed by one round of sampling; None means A, as in
            TRL, and is replaced by it.
        num_iterations: How often a round is trained on.

    Raises:
        InputError: Something is not a whole number from 1 up, or TRL refuses the setting.

    >>> plan = BatchPlan(B=2, G=8, A=16, S=4)
    >>> plan.completions_per_step, plan.prompts_per_step
    (32, 4.0)
    >>> plan.generation_batch_size, plan.rounds_per_step
    (8, 4.0)
    """

    B: int
    G: int
    A: int = 1
    D: int = 1
    S: int = None  # type: ignore[assignment]  # None only until __post_init__
    num_iterations: int = 1

    def __post_init__(self) -> None:
        follows_a = self.S is None
        if follows_a:
            object.__setattr__(self, "S", self.A)  # frozen: TRL's default is filled in once

        for key, name in TRL_NAMES.items():
            need_whole_number(name, getattr(self, key))

        problem = self._problem()
        if problem:
            rounds = None if follows_a else self.S
            options = nearest_legal(self.B, self.G, self.A, self.D, S=rounds)
            hints = ", or ".join(map(_describe, options))
            raise InputError(f"{problem} Nearest legal: {hints}")

    def _problem(self) -> str:
        """Return why TRL refuses the setting, in its own words, or an empty text."""
        size = self.generation_batch_size
        if size % self.G:
            return (
                f"generation_batch_size ({size}) must be divisible by num_generations ({self.G})."
            )
        if self.G < 2:
            return (
                "GRPO requires at least 2 generations per prompt to calculate the advantages. "
                f"You provided {self.G}, which is less than the minimum required."
            )
        return ""

    @classmethod
    def from_trl(
        cls,
        per_device_train_batch_size: int,
        num_generations: int,
        gradient_accumulation_steps: int = 1,
        world_size: int = 1,
        steps_per_generation: int | None = None,
        num_iterations: int = 1,
    ) -> BatchPlan:
        """Return the plan of TRL's own argument names.

        Args:
            per_device_train_batch_size: B.
            num_generations: G.
            gradient_accumulation_steps: A.
            world_size: D; TRL takes it from the launcher.
            steps_per_generation: S; None means A.
            num_iterations: How often a round is trained on.

        >>> BatchPlan.from_trl(per_device_train_batch_size=8, num_generations=8)
        BatchPlan(B=8, G=8, A=1, D=1, S=1, num_iterations=1)
        """
        return cls(
            B=per_device_train_batch_size,
            G=num_generations,
            A=gradient_accumulation_steps,
            D=world_size,
            S=steps_per_generation,  # type: ignore[arg-type]
            num_iterations=num_iterations,
        )

    @property
    def completions_per_step(self) -> int:
        """Completions whose gradient enters one optimizer step, all devices together: B*A*D."""
        return self.B * self.A * self.D

    @property
    def prompts_per_step(self) -> float:
        """Prompts per optimizer step, on average: B*A*D/G (a step may end inside a round)."""
        return self.completions_per_step / self.G

    @property
    def generation_batch_size(self) -> int:
        """Completions sampled in one round, all devices together: B*D*S. TRL's own name."""
        return self.B * self.D * self.S

    @property
    def sequences_per_generate(self) -> int:
        """Sequences of one device in its one ``generate()`` call of a round: B*S.

        This is what the KV cache pays for.
        """
        return self.B * self.S

    @property
    def prompts_per_round(self) -> int:
        """Different prompts sampled in one round: B*D*S/G, a whole number in every legal plan."""
        return self.generation_batch_size // self.G

    @property
    def rounds_per_step(self) -> float:
        """Rounds of sampling per optimizer step: A/(S*num_iterations); 1.0 by TRL's defaults."""
        return self.A / (self.S * self.num_iterations)

    def steps_per_epoch(self, n_prompts: int) -> int:
        """Return the optimizer steps of one epoch; 0 if the prompts do not fill one round.

        >>> BatchPlan(B=2, G=8, A=16, S=4).steps_per_epoch(102)
        26
        """
        rounds = n_prompts // self.prompts_per_round
        micro_batches = rounds * self.S * self.num_iterations
        return ceil(micro_batches / self.A)

    def dropped_prompts(self, n_prompts: int) -> int:
        """Return how many prompts an epoch leaves out: TRL drops a last round that is not full.

        >>> BatchPlan(B=8, G=2, A=4).dropped_prompts(102)
        6
        """
        return n_prompts % self.prompts_per_round


def propose(
    effective_completions: int,
    G: int,
    D: int = 1,
    peak: Callable[[BatchPlan], float] | None = None,
    limit: float = inf,
) -> list[BatchPlan]:
    """Return every plan with so many completions per optimizer step that stays within ``limit``.

    Only on-policy plans, in which no round of sampling outlives an optimizer step. Cheapest first:
    few micro-batches, then few rounds, since each pass and each round has a fixed cost. Memory
    limits both.

    Args:
        effective_completions: Completions per optimizer step, all devices together: B*A*D.
        G: Completions of one prompt.
        D: Devices.
        peak: Returns the bytes a plan needs, as :func:`grpo_helpers.memory.plans_that_fit` predicts
            them; None asks nothing.
        limit: Bytes there are.

    Raises:
        InputError: No legal plan has so many completions; it names the nearest numbers that work.

    >>> [(plan.B, plan.A, plan.S) for plan in propose(16, G=4)][:4]
    [(16, 1, 1), (8, 2, 2), (8, 2, 1), (4, 4, 4)]
    """
    _check_completions(effective_completions, G, D)
    per_device = effective_completions // D

    plans = []
    for A in _divisors(per_device):
        B = per_device // A
        for S in _divisors(A):  # a divisor of A: the rounds of a step end with it
            if B * D * S % G == 0:
                plans.append(BatchPlan(B=B, G=G, A=A, D=D, S=S))

    if peak is not None:
        plans = [plan for plan in plans if peak(plan) <= limit]
    return sorted(plans, key=lambda plan: (plan.A, plan.rounds_per_step))


def _check_completions(effective_completions: int, G: int, D: int) -> None:
    """Raise InputError where no legal plan has so many completions per optimizer step."""
    need_whole_number("effective_completions", effective_completions)
    need_whole_number("num_generations", G)
    need_whole_number("world_size", D)
    if G < 2:
        raise InputError("num_generations must be 2 or more")

    unit = lcm(G, D)
    if effective_completions % unit:
        below = effective_completions // unit * unit
        nearest = f"{below} or {below + unit}" if below else f"{unit}"
        raise InputError(
            f"{effective_completions} completions per step are no whole groups of {G} "
            f"on {D} devices: try {nearest} completions"
        )


def _divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]


def nearest_legal(
    B: int,
    G: int,
    A: int = 1,
    D: int = 1,
    S: int | None = None,
) -> list[dict[str, int]]:
    """Return changes, each of which alone makes the setting legal.

    G is changed, then B, then S (or A, where S follows it): to the next value down, where there is
    one, and to the next up. G below 2 is fixed by changing G alone where that is possible.

    Args:
        B: Completions per device in one pass.
        G: Completions of one prompt.
        A: Micro-batches per optimizer step.
        D: Devices.
        S: Micro-batches per round of sampling; None means A.

    Returns:
        Changes as TRL's name -> value; most hold one name.

    >>> nearest_legal(B=2, G=6, A=4)[:2]
    [{'num_generations': 4}, {'num_generations': 8}]
    """
    size = B * D * (A if S is None else S)  # completions of a round
    options = [{"num_generations": group} for group in _nearest_groups(G, size)]
    if G < 2 and options:
        return options

    # The other knobs cannot make a group of one legal, so they come with a group of two.
    group = max(G, 2)
    fixed = {"num_generations": group} if group != G else {}

    if S is None:
        rounds = _nearest_knobs("gradient_accumulation_steps", A, size, group)
    else:
        rounds = _nearest_knobs("steps_per_generation", S, size, group)
    batches = _nearest_knobs("per_device_train_batch_size", B, size, group)
    return options + [{**fixed, **change} for change in batches + rounds]


def _nearest_groups(G: int, size: int) -> list[int]:
    """Return the divisors of ``size``, 2 or more, next below and next above G."""
    divisors = _divisors(size)[1:]
    below = [group for group in divisors if group < G]
    above = [group for group in divisors if group > G]
    return below[-1:] + above[:1]


def _nearest_knobs(name: str, value: int, size: int, group: int) -> list[dict[str, int]]:
    """Return the values of one knob, next below and next above, that fill whole groups."""
    rest = size // value  # completions of a round per unit of the knob
    unit = group // gcd(group, rest)  # the knob must be a multiple of this
    below = value // unit * unit

    options = []
    for candidate in (below, below + unit):
        if candidate > 0 and candidate != value and rest * candidate % group == 0:
            options.append({name: candidate})
    return options


def _describe(option: dict[str, int]) -> str:
    """Return a change in words: ``{'num_generations': 4}`` -> ``num_generations 4``."""
    return " with ".join(f"{name} {value}" for name, value in option.items())


@dataclass(frozen=True)
class CountedSteps:
    """What a trainer did on one device, in all its optimizer steps together.

    Attributes:
        steps: Optimizer steps.
        passes: Forward and backward passes.
        completions: Completions in these passes.
        calls: ``generate()`` calls, one per round of sampling.
        sequences: Sequences that these calls returned.
        prompts: Different prompts in the passes.
    """

    steps: int
    passes: int
    completions: int
    calls: int
    sequences: int
    prompts: int


def train_and_count(trainer: Any) -> CountedSteps:
    """Train, and count what really happens, to compare it with a :class:`BatchPlan`.

    Args:
        trainer: A ``GRPOTrainer`` that has not trained yet; its ``max_steps`` sets how long it
            trains.

    Returns:
        The counts. The callbacks of the trainer run as usual; what they generate is counted, too.
    """
    generate = trainer.model.generate
    compute_loss = trainer.compute_loss
    sequences_of_calls = []
    completions_of_passes = []
    prompts: set[tuple[int, ...]] = set()

    def counted_generate(*args: Any, **kwargs: Any) -> Any:
        sequences = generate(*args, **kwargs)
        sequences_of_calls.append(len(sequences))
        return sequences

    def counted_loss(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        completions_of_passes.append(len(inputs["prompt_ids"]))
        prompts.update(tuple(ids) for ids in inputs["prompt_ids"].tolist())
        return compute_loss(model, inputs, *args, **kwargs)

    trainer.model.generate = counted_generate
    trainer.compute_loss = counted_loss
    trainer.train()

    return CountedSteps(
        steps=trainer.state.global_step,
        passes=len(completions_of_passes),
        completions=sum(completions_of_passes),
        calls=len(sequences_of_calls),
        sequences=sum(sequences_of_calls),
        prompts=len(prompts),
    )
