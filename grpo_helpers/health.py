"""Is a run still well? Rules over ``log.jsonl``, each with what to do: ``python -m grpo_helpers.health RUN``.

In: the rows that training logs. Out: a finding per rule; exit 1 on an alarm. The article looks at the reward curve and
the loss; a run can go wrong with both looking well. A rule compares the mean of the last logged steps with that of the
first ones, so that a single bad step is no alarm. The limits are rules of thumb, tried on the runs of
``data/reference_runs``: the default run trips none, each of those that go wrong on purpose trips at least one.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from grpo_helpers.files import resolve_path
from grpo_helpers.run_folder import Rows, read_log, series

WINDOW = 5  # logged steps at either end that are compared
EM, LENGTH = "rewards/em_reward/mean", "completions/mean_length"


@dataclass(frozen=True)
class Finding:
    """What a rule says: ``alarm`` with a diagnosis and an action, or that all is well, or that it cannot say yet."""

    rule: str
    told: str
    alarm: bool | None  # None: it cannot say yet
    action: str = ""


@dataclass(frozen=True)
class Rule:
    """One rule: the fields it needs, when it is an alarm, what that means and what to do about it."""

    name: str
    keys: tuple[str, ...]
    broken: Callable[..., bool]  # of (first, last) of each key in turn
    diagnosis: str
    action: str


def _apart(least: float, most: float) -> Callable[[float, float], bool]:
    return lambda first, last: first > 0 and not least <= last / first <= most


RULES = (
    Rule("reward", ("reward",), lambda first, last: last < first - 0.1 * abs(first),
         "the reward falls: the policy gets worse at what it is paid for",
         "lower the learning rate or the temperature; see whether the base answers well at this temperature"),
    Rule("exact match", (EM,), lambda first, last: last < first - 0.1,
         "fewer sampled sentences are right than at the start",
         "stop and use an earlier checkpoint; lower the learning rate or the temperature"),
    Rule("reward and exact match", ("reward", EM), lambda r0, r1, e0, e1: r1 > r0 + 0.05 * abs(r0) and e1 < e0 - 0.05,
         "the reward rises while exact match falls: the reward is being gamed",
         "read the completions of the last steps; take away weight from the part that rises, or mend it"),
    Rule("completion length", (LENGTH,), _apart(0.5, 2.0),
         "completions are twice or half as long as at the start",
         "look for a part of the reward that pays for length or for saying nothing"),
    Rule("clipped completions", ("completions/clipped_ratio",), lambda first, last: last > 0.2,
         "many completions are cut off before their end and earn little, whatever they would have said",
         "raise max_completion_length, or find out why answers do not end"),
    Rule("groups without a signal", ("frac_reward_zero_std",), lambda first, last: last > 0.8,
         "nearly all groups have equal rewards: most of the sampling is in vain",
         "take harder questions, raise the temperature or G; if exact match is high, the run is simply done"),
    Rule("entropy", ("entropy",), _apart(0.1, 3.0),
         "the policy has become certain of one answer, or has come apart",
         "falling: raise the temperature or lower the rate; rising: lower the rate"),
    Rule("KL divergence", ("kl",), lambda first, last: last > 1.0,
         "the policy is far from the reference model", "raise beta or lower the learning rate"),
    Rule("gradient norm", ("grad_norm",), lambda first, last: last > 20 * first > 0,
         "gradients have grown twentyfold", "lower the learning rate or max_grad_norm"),
    Rule("seconds per step", ("step_time",), lambda first, last: last > 2 * first,
         "steps take twice as long as at the start",
         "see whether something else uses the machine, or whether completions have grown"),
)  # fmt: skip


def examine(rows: Rows) -> list[Finding]:
    """Return what every rule says of the logged ``rows``; fields that were not logged (KL with beta 0) are left out.

    >>> rows = [{"step": i, "reward": 1 + i / 10, "rewards/em_reward/mean": 0.9 - i / 20} for i in range(10)]
    >>> [finding.rule for finding in examine(rows) if finding.alarm]
    ['exact match', 'reward and exact match']
    """
    logged = {key for row in rows for key, value in row.items() if isinstance(value, int | float)}
    lost = sorted(
        k
        for k in logged
        if any(not math.isfinite(row[k]) for row in rows if isinstance(row.get(k), float))
    )
    told = f"not a number: {', '.join(lost)}" if lost else "all values are finite"
    action = "lower the learning rate; in half precision, try bf16 instead of fp16" if lost else ""
    findings = [Finding("finite numbers", told, bool(lost), action)]
    for rule in RULES:
        if not logged.issuperset(rule.keys):
            continue
        logs = [series(rows, key)[1] for key in rule.keys]
        if len(logs[0]) < 2 * WINDOW:
            findings.append(Finding(rule.name, f"not before {2 * WINDOW} logged steps", None))
            continue
        ends = [
            float(np.mean(part)) for values in logs for part in (values[:WINDOW], values[-WINDOW:])
        ]
        names = [key.removeprefix("rewards/").removesuffix("/mean") for key in rule.keys]
        moves = zip(names, ends[::2], ends[1::2], strict=True)
        told = ", ".join(f"{name} {first:.3g} -> {last:.3g}" for name, first, last in moves)
        alarm = bool(rule.broken(*ends))
        findings.append(
            Finding(
                rule.name,
                f"{told}: {rule.diagnosis}" if alarm else told,
                alarm,
                rule.action * alarm,
            )
        )
    return findings


def panel_text(findings: Sequence[Finding]) -> str:
    """Return the findings as lines of text, an alarm with its action below it."""
    lines = []
    for finding in findings:
        sign = {True: "ALARM", False: "ok   ", None: "-    "}[finding.alarm]
        lines.append(f"{sign}  {finding.rule}: {finding.told}")
        if finding.action:
            lines.append(f"       what to do: {finding.action}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Examine a run folder from the shell; return 0, 1 on an alarm, or 2 on bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m grpo_helpers.health", description="Is a run still well?"
    )
    parser.add_argument("run", help="a run folder, or its log.jsonl")
    path = resolve_path(parser.parse_args(argv).run)
    path = path / "log.jsonl" if path.is_dir() else path
    rows = read_log(path) if path.is_file() else []
    if not rows:
        print(
            f"error: no logged step in {path}: expected the log.jsonl of a run of notebook 04",
            file=sys.stderr,
        )
        return 2
    findings = examine(rows)
    print(f"{len(rows)} logged steps\n{panel_text(findings)}")
    return int(any(finding.alarm for finding in findings))


if __name__ == "__main__":
    sys.exit(main())
