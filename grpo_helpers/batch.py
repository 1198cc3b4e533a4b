"""Batch arithmetic of TRL 1.16: what B, G, A, D and S mean together, and which settings are legal.

In: six whole numbers. Out: a :class:`BatchPlan` that counts completions, prompts, rounds and steps, or an
:class:`InputError` in TRL's words with the nearest settings that TRL accepts. B counts completions, not prompts, and
the one rule is ``B*D*S % G == 0``. The article's counts are those of TRL 0.14, where B still counted prompts; its
rule "B must be a multiple of G" is that of TRL 0.15 and 0.16. Neither holds in 1.16.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, gcd, inf, lcm

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
    """Raise InputError, with ``name`` and the value, for anything but a whole number from 1 up."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name} must be a whole number from 1 up, got {value!r}")


@dataclass(frozen=True)
class BatchPlan:
    """One legal batch setting, its names short for :data:`TRL_NAMES`.

    Raises InputError for anything but whole numbers from 1 up, and where TRL 1.16 refuses the setting.

    >>> plan = BatchPlan(B=2, G=8, A=16, S=4)
    >>> plan.completions_per_step, plan.prompts_per_step, plan.generation_batch_size, plan.rounds_per_step
    (32, 4.0, 8, 4.0)
    """

    B: int  # completions (not prompts) per device in one forward and backward pass
    G: int  # completions of one prompt, compared with one another
    A: int = 1  # micro-batches per optimizer step
    D: int = 1  # devices
    S: int | None = None  # micro-batches fed by one round of sampling; None means A, as in TRL
    num_iterations: int = 1  # how often a round is trained on

    def __post_init__(self) -> None:
        given = self.S
        object.__setattr__(
            self, "S", self.A if given is None else given
        )  # frozen: TRL's default, resolved once
        for key, name in TRL_NAMES.items():
            need_whole_number(name, getattr(self, key))
        size = self.generation_batch_size
        if size % self.G:
            problem = (
                f"generation_batch_size ({size}) must be divisible by num_generations ({self.G})."
            )
        elif self.G < 2:
            problem = (
                "GRPO requires at least 2 generations per prompt to calculate the advantages. "
            )
            problem += f"You provided {self.G}, which is less than the minimum required."
        else:
            return
        options = nearest_legal(self.B, self.G, self.A, self.D, given)
        told = [
            " with ".join(f"{name} {value}" for name, value in option.items()) for option in options
        ]
        raise InputError(f"{problem} Nearest legal: {', or '.join(told)}")

    @classmethod
    def from_trl(cls, **names: int | None) -> BatchPlan:
        """Return the plan of TRL's own argument names (the values of :data:`TRL_NAMES`); TypeError for another name.

        >>> BatchPlan.from_trl(per_device_train_batch_size=1, num_generations=8, gradient_accumulation_steps=8)
        BatchPlan(B=1, G=8, A=8, D=1, S=8, num_iterations=1)
        """
        letters = {key: names.pop(name) for key, name in TRL_NAMES.items() if name in names}
        if names:
            raise TypeError(f"from_trl() got an unexpected argument {next(iter(names))!r}")
        return cls(**letters)

    @property
    def completions_per_step(self) -> int:
        """Completions whose gradient enters one optimizer step, all devices together: B*A*D."""
        return self.B * self.A * self.D

    @property
    def prompts_per_step(self) -> float:
        """Prompts per optimizer step, on average: B*A*D/G (a fraction where a step ends inside a round)."""
        return self.completions_per_step / self.G

    @property
    def generation_batch_size(self) -> int:
        """Completions sampled in one round, all devices together: B*D*S. TRL's own name."""
        return self.B * self.D * self.S

    @property
    def sequences_per_generate(self) -> int:
        """Sequences one device holds in its one ``generate()`` call of a round: B*S. What the KV cache pays for."""
        return self.B * self.S

    @property
    def prompts_per_round(self) -> int:
        """Different prompts sampled in one round: B*D*S/G, a whole number in every legal plan."""
        return self.generation_batch_size // self.G

    @property
    def rounds_per_step(self) -> float:
        """Rounds of sampling per optimizer step: A/(S*num_iterations); 1.0 by TRL's defaults."""
        return self.A / (self.S * self.num_iterations)

    @property
    def on_policy(self) -> bool:
        """Whether every completion is trained on by the very weights that sampled it: A % (S*num_iterations) == 0.

        Where not, TRL runs one more pass over each round for the log-probabilities under the sampling weights.
        """
        return self.A % (self.S * self.num_iterations) == 0

    def steps_per_epoch(self, n_prompts: int) -> int:
        """Return the optimizer steps of one epoch over ``n_prompts`` prompts; 0 if they do not fill one round.

        >>> BatchPlan(B=2, G=8, A=16, S=4).steps_per_epoch(102)
        26
        """
        return ceil(n_prompts // self.prompts_per_round * self.S * self.num_iterations / self.A)

    def dropped_prompts(self, n_prompts: int) -> int:
        """Return how many prompts an epoch leaves out: TRL drops the last round if it is not full.

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
    """Return every on-policy plan with so many completions per optimizer step (B*A*D) that stays within ``limit``.

    Cheapest first: few micro-batches, then few rounds, since each pass and each round has a fixed cost. Memory limits
    both: ``peak`` says what a plan needs (:func:`grpo_helpers.memory.plans_that_fit` hands in the prediction in bytes),
    ``limit`` what there is. Raises InputError, with the nearest numbers that work, if no legal plan has so many.

    >>> [(plan.B, plan.A, plan.S) for plan in propose(16, G=4)][:4]
    [(16, 1, 1), (8, 2, 2), (8, 2, 1), (4, 4, 4)]
    """
    for name, value in (
        ("effective_completions", effective_completions),
        ("num_generations", G),
        ("world_size", D),
    ):
        need_whole_number(name, value)
    if G < 2:
        raise InputError("num_generations must be 2 or more")
    step = lcm(G, D)
    if effective_completions % step:
        below = effective_completions // step * step
        known = " or ".join(str(number) for number in (below, below + step) if number)
        reason = f"a step of {effective_completions} completions holds no whole groups of {G} on {D} devices"
        raise InputError(f"{reason}: try {known} completions")
    per_device = effective_completions // D
    legal = [
        (A, S)
        for A in _divisors(per_device)
        for S in _divisors(A)
        if per_device // A * D * S % G == 0
    ]
    plans = [BatchPlan(B=per_device // A, G=G, A=A, D=D, S=S) for A, S in legal]
    fit = [plan for plan in plans if peak is None or peak(plan) <= limit]
    return sorted(fit, key=lambda plan: (plan.A, plan.rounds_per_step))


def _divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]


def nearest_legal(
    B: int, G: int, A: int = 1, D: int = 1, S: int | None = None
) -> list[dict[str, int]]:
    """Return changes, each of which alone makes the setting legal.

    Turned are G, then B, then S (or A, where S follows it): the next value down, where there is one, and the next up.
    G below 2 is mended by G alone where that is possible.

    >>> nearest_legal(B=2, G=6, A=4)[:2]
    [{'num_generations': 4}, {'num_generations': 8}]
    """
    size = B * D * (A if S is None else S)
    divisors = _divisors(size)[1:]  # from 2 up
    below, above = [g for g in divisors if g < G], [g for g in divisors if g > G]
    options = [{"num_generations": g} for g in below[-1:] + above[:1]]
    if G < 2 and options:
        return options
    group = max(G, 2)
    fixed = {"num_generations": group} if group != G else {}
    rounds = ("gradient_accumulation_steps", A) if S is None else ("steps_per_generation", S)
    for name, value in (("per_device_train_batch_size", B), rounds):
        step = group // gcd(group, size // value)  # the knob must be a multiple of this
        down = value // step * step
        found = [v for v in (down, down + step) if v > 0 and v != value]
        options += [{**fixed, name: v} for v in found if size // value * v % group == 0]
    return options
