"""Is a run healthy? Rules over its log, each with advice: ``python -m grpo_helpers.health RUN``.

In: the rows of ``log.jsonl``. Out: a finding per rule; the command exits with 1 on an alarm. The
article looks at the reward curve and the loss; a run can go wrong while both look fine. A rule
compares the mean of the last logged steps with the mean of the first ones, so that a single bad
step is no alarm. The limits are rules of thumb, tried on the runs of ``data/reference_runs``: the
default run trips none, and each of the runs that go wrong on purpose trips at least one. Where
completions hold thoughts, two rules look at more: a thought may grow as long as the reward does,
and it must come to its end.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from grpo_helpers.command_line import program_name, run_command
from grpo_helpers.files import InputError, resolve_path
from grpo_helpers.run_folder import LOG_FILE, Rows, RunLog, series
from grpo_helpers.thoughts import THOUGHT_RATIO, UNFINISHED_RATIO

WINDOW = 5  # logged steps at either end that are compared
EXACT_MATCH = "rewards/em_reward/mean"
LENGTH = "completions/mean_length"
GRADIENT_NORM = "grad_norm"
CLIPPED = "completions/clipped_ratio"


@dataclass(frozen=True)
class Finding:
    """The result of one rule.

    Attributes:
        rule: The name of the rule.
        summary: The values it compared and, on an alarm, what they mean.
        alarm: True on an alarm, False if all is well, None if it is too early to say.
        action: What to do about an alarm; empty if there is none.
        measured_per_process: Whether each process of a run may come to a different finding.
    """

    rule: str
    summary: str
    alarm: bool | None
    action: str = ""
    measured_per_process: bool = False


class Change(NamedTuple):
    """How a logged quantity has changed: its means over the first and the last logged steps."""

    first: float
    last: float


def change_of(values: Sequence[float], window: int = WINDOW) -> Change:
    """Return the means of a quantity over the first and over the last logged steps.

    Args:
        values: What was logged, at least one value.
        window: How many steps there are at either end.

    >>> change_of([1.0, 2.0, 6.0], window=2)
    Change(first=1.5, last=4.0)
    """
    return Change(float(np.mean(values[:window])), float(np.mean(values[-window:])))


@dataclass(frozen=True)
class Rule:
    """One rule over the log.

    Attributes:
        name: What reports and figures call it.
        keys: The logged quantities it needs.
        is_broken: Takes one :class:`Change` per key; returns whether this is an alarm.
        diagnosis: What an alarm means.
        action: What to do about it.
        more_keys: Further quantities it needs, of another unit: figures do not draw them.
        measured_per_process: Whether each process measures its own value, so that the processes
            of one run may disagree. Such an alarm never stops a run.
    """

    name: str
    keys: tuple[str, ...]
    is_broken: Callable[..., bool]
    diagnosis: str
    action: str
    more_keys: tuple[str, ...] = ()
    measured_per_process: bool = False

    @property
    def all_keys(self) -> tuple[str, ...]:
        """Every logged quantity that the rule needs."""
        return (*self.keys, *self.more_keys)


# -- the rules -------------------------------------------------------------------------------------


def _reward_falls(reward: Change) -> bool:
    return reward.last < reward.first - 0.1 * abs(reward.first)


def _exact_match_falls(exact_match: Change) -> bool:
    return exact_match.last < exact_match.first - 0.1


def _reward_rises_alone(reward: Change, exact_match: Change) -> bool:
    rises = reward.last > reward.first + 0.05 * abs(reward.first)
    falls = exact_match.last < exact_match.first - 0.05
    return rises and falls


def _length_halves_or_doubles(length: Change) -> bool:
    return _leaves_range(length, lowest=0.5, highest=2.0)


def _length_changes_for_nothing(length: Change, reward: Change) -> bool:
    rises = reward.last > reward.first + 0.05 * abs(reward.first)
    return _length_halves_or_doubles(length) and not rises


def _many_are_clipped(clipped: Change) -> bool:
    return clipped.last > 0.2


def _many_are_unfinished(clipped: Change, unfinished: Change) -> bool:
    return max(clipped.last, unfinished.last) > 0.2


def _most_groups_are_equal(equal_groups: Change) -> bool:
    return equal_groups.last > 0.8


def _entropy_collapses_or_explodes(entropy: Change) -> bool:
    return _leaves_range(entropy, lowest=0.1, highest=3.0)


def _is_far_from_reference(kl: Change) -> bool:
    return kl.last > 1.0


def _gradients_explode(norm: Change) -> bool:
    return norm.first > 0 and norm.last > 20 * norm.first


def _steps_slow_down(seconds: Change) -> bool:
    return seconds.last > 2 * seconds.first


def _leaves_range(change: Change, lowest: float, highest: float) -> bool:
    """Return whether a quantity has left a range of multiples of what it was at the start."""
    if not change.first > 0:  # nor a number that is none
        return False

    ratio = change.last / change.first
    return not lowest <= ratio <= highest


RULES = (
    Rule(
        name="reward",
        keys=("reward",),
        is_broken=_reward_falls,
        diagnosis="the reward is falling: the policy is getting worse at what it is rewarded for",
        action="lower the learning rate or the temperature; "
        "check whether the base model answers well at this temperature",
    ),
    Rule(
        name="exact match",
        keys=(EXACT_MATCH,),
        is_broken=_exact_match_falls,
        diagnosis="fewer sampled sentences are right than at the start",
        action="stop and use an earlier checkpoint; lower the learning rate or the temperature",
    ),
    Rule(
        name="reward and exact match",
        keys=("reward", EXACT_MATCH),
        is_broken=_reward_rises_alone,
        diagnosis="the reward rises while exact match falls: the policy is gaming the reward",
        action="read the completions of the last steps; "
        "lower the weight of the part that rises, or fix it",
    ),
    Rule(
        name="completion length",
        keys=(LENGTH,),
        is_broken=_length_halves_or_doubles,
        diagnosis="completions are more than twice or less than half as long as at the start",
        action="look for a part of the reward that pays for length or for saying nothing",
    ),
    Rule(
        name="clipped completions",
        keys=(CLIPPED,),
        is_broken=_many_are_clipped,
        diagnosis="many completions are cut off, and earn little whatever they would have said",
        action="raise max_completion_length, or find out why answers do not end",
    ),
    Rule(
        name="groups without a signal",
        keys=("frac_reward_zero_std",),
        is_broken=_most_groups_are_equal,
        diagnosis="nearly all groups have equal rewards: most of the sampling is wasted",
        action="use harder questions, raise the temperature or G; "
        "if exact match is high, the run is simply done",
    ),
    Rule(
        name="entropy",
        keys=("entropy",),
        is_broken=_entropy_collapses_or_explodes,
        diagnosis="the policy always gives the same answer, or answers almost at random",
        action="if it falls, raise the temperature or lower the learning rate; "
        "if it rises, lower the learning rate",
    ),
    Rule(
        name="KL divergence",
        keys=("kl",),
        is_broken=_is_far_from_reference,
        diagnosis="the policy is far from the reference model",
        action="raise beta or lower the learning rate",
    ),
    Rule(
        name="gradient norm",
        keys=(GRADIENT_NORM,),
        is_broken=_gradients_explode,
        diagnosis="gradients are more than twenty times as large as at the start",
        action="lower the learning rate or max_grad_norm",
    ),
    Rule(
        name="seconds per step",
        keys=("step_time",),
        is_broken=_steps_slow_down,
        diagnosis="steps take more than twice as long as at the start",
        action="check whether something else uses the machine, or whether completions have grown",
        measured_per_process=True,
    ),
)

# What takes the place of a rule, by its name, once completions hold thoughts.
RULES_FOR_THOUGHTS = {
    "completion length": Rule(
        name="completion length",
        keys=(LENGTH,),
        more_keys=("reward",),
        is_broken=_length_changes_for_nothing,
        diagnosis="completions, thoughts included, are more than twice or less than half as long "
        "as at the start, and the reward has not risen with that",
        action="read the thoughts of the last steps: is it the same again and again, or nothing?",
    ),
    "clipped completions": Rule(
        name="clipped completions",
        keys=(CLIPPED, UNFINISHED_RATIO),
        is_broken=_many_are_unfinished,
        diagnosis="many completions are cut off, or end inside a thought: there is no answer that "
        "could earn anything",
        action="raise max_completion_length, or find out why thoughts do not end",
    ),
}


# -- examining a log -------------------------------------------------------------------------------


def examine(rows: Rows) -> list[Finding]:
    """Return the finding of every rule.

    Args:
        rows: The rows of training steps, as :meth:`RunLog.step_rows` returns them. Rules whose
            quantities were not logged (KL with beta 0) are left out.

    >>> rows = []
    >>> for i in range(10):
    ...     rows.append({"step": i, "reward": 1 + i / 10, "rewards/em_reward/mean": 0.9 - i / 20})
    >>> [finding.rule for finding in examine(rows) if finding.alarm]
    ['exact match', 'reward and exact match']
    """
    logged = _logged_numbers(rows)
    findings = [_check_finite(rows, logged)]

    for rule in rules_for(rows):
        if logged.issuperset(rule.all_keys):
            findings.append(_apply(rule, rows))

    return findings


def rules_for(rows: Rows) -> list[Rule]:
    """Return the rules that a log is judged by: some are others where completions hold thoughts."""
    has_thoughts = any(THOUGHT_RATIO in row for row in rows)
    if not has_thoughts:
        return list(RULES)

    return [RULES_FOR_THOUGHTS.get(rule.name, rule) for rule in RULES]


def _logged_numbers(rows: Rows) -> set[str]:
    """Return the names of the quantities that were logged as numbers."""
    names = set()
    for row in rows:
        for name, value in row.items():
            if isinstance(value, int | float):
                names.add(name)
    return names


def _check_finite(rows: Rows, logged: set[str]) -> Finding:
    """Return an alarm if a logged value is infinite or not a number."""
    lost = sorted(name for name in logged if _is_lost(name, rows))
    if not lost:
        return Finding("finite numbers", "all values are finite", alarm=False)

    return Finding(
        "finite numbers",
        summary=f"not a number: {', '.join(lost)}",
        alarm=True,
        action="lower the learning rate; with dtype=float16, use bfloat16 or float32",
    )


def _is_lost(name: str, rows: Rows) -> bool:
    """Return whether a logged quantity has become infinite or no number.

    With float16, gradients that were scaled too much are infinite, and the step is skipped: that is
    no fault unless it goes on.
    """
    _, values = series(rows, name)
    is_bad = [isinstance(value, float) and not math.isfinite(value) for value in values]

    if name == GRADIENT_NORM:
        return len(is_bad) >= WINDOW and all(is_bad[-WINDOW:])
    return any(is_bad)


def _apply(rule: Rule, rows: Rows) -> Finding:
    """Return the finding of one rule whose quantities were logged."""
    changes = []
    values_text = []

    for key in rule.all_keys:
        _, logged = series(rows, key)
        values = [value for value in logged if math.isfinite(value)]
        if len(values) < 2 * WINDOW:
            return Finding(rule.name, f"too early: needs {2 * WINDOW} logged steps", alarm=None)

        change = change_of(values)
        changes.append(change)

        name = key.removeprefix("rewards/").removesuffix("/mean")
        values_text.append(f"{name} {change.first:.3g} -> {change.last:.3g}")

    summary = ", ".join(values_text)
    per_process = rule.measured_per_process

    if not rule.is_broken(*changes):
        return Finding(rule.name, summary, alarm=False, measured_per_process=per_process)

    return Finding(
        rule.name,
        summary=f"{summary}: {rule.diagnosis}",
        alarm=True,
        action=rule.action,
        measured_per_process=per_process,
    )


def panel_text(findings: Sequence[Finding]) -> str:
    """Return the findings as lines of text, an alarm with its action on the next line."""
    signs = {True: "ALARM", False: "ok   ", None: "-    "}
    lines = []

    for finding in findings:
        lines.append(f"{signs[finding.alarm]}  {finding.rule}: {finding.summary}")
        if finding.action:
            lines.append(f"       what to do: {finding.action}")

    return "\n".join(lines)


# -- from the shell --------------------------------------------------------------------------------


def examine_path(path: str) -> int:
    """Print the findings of a run; return 1 on an alarm, else 0.

    Args:
        path: A run folder, or its ``log.jsonl``.

    Raises:
        InputError: No step was logged there.
    """
    log_path = resolve_path(path)
    if log_path.is_dir():
        log_path = log_path / LOG_FILE

    rows = RunLog(log_path).step_rows()
    if not rows:
        raise InputError(
            f"no logged step in {log_path}: expected the {LOG_FILE} of a run of notebook 04"
        )

    findings = examine(rows)
    print(f"{len(rows)} logged steps")
    print(panel_text(findings))
    return int(any(finding.alarm for finding in findings))


def main(argv: Sequence[str] | None = None) -> int:
    """Examine a run from the shell; return 0, 1 on an alarm, or 2 on bad input."""
    parser = argparse.ArgumentParser(prog=program_name("health"), description="Is a run healthy?")
    parser.add_argument("run", help="a run folder, or its log.jsonl")
    args = parser.parse_args(argv)

    return run_command(lambda: examine_path(args.run))


if __name__ == "__main__":
    sys.exit(main())
