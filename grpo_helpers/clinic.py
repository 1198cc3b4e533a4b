"""The clinic: recorded runs that went wrong, and the check of what a reader says is their cause.

In: a folder of cases, ``data/clinic``. Each case has ``log.jsonl``, in the form of a run's log but
without what gives a setting away (learning rate, seconds, rewards of somebody's own), and
``completions.json``, two completions of a few groups of every step. ``keys.json`` holds a salted
hash of each cause instead of its name: a notebook can tell a right diagnosis from a wrong one, and
shows neither. Out: a :class:`Case`, its completions as text, and what is wrong with a diagnosis.
The article shows the one run that went well; most of what can be learned about a log is in those
that did not.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grpo_helpers.files import read_json, show_path
from grpo_helpers.run_folder import LOG_FILE, RECORDED_COMPLETIONS, Row, RunLog
from grpo_helpers.settings import CLINIC_KEYS_FILE

COMMAND = "python -m tools.experiments.clinic"
HEALTHY = 0  # the number of the case that lacks nothing; it has no key
NUMBERS = range(1, 9)  # of the cases that are to be diagnosed
DIGITS = 16  # of a key, in hexadecimal
SCORES = {"em": "exact match", "format": "format", "rouge1": "ROUGE-1"}


@dataclass(frozen=True)
class Cause:
    """What may be wrong with a run.

    Attributes:
        meaning: What it is, for the list to choose from.
        sign: What a log or its completions would show, for those who named it wrongly.
    """

    meaning: str
    sign: str


# More than there are cases: the last one is not found by elimination.
CAUSES = {
    "cut_off": Cause(
        "max_completion_length is too small: answers are cut off",
        "every completion would end at the same length, in the middle of what it was saying",
    ),
    "end_token": Cause(
        "the tokenizer names the wrong token as the end of an answer",
        "completions would say what they have to say, and then go on up to the limit",
    ),
    "rate_too_high": Cause(
        "the learning rate is much too high",
        "the first step would look like that of a healthy run, and the damage would come later",
    ),
    "rate_too_low": Cause(
        "the learning rate is much too low",
        "groups would have a signal and gradients a norm, as in a healthy run, and yet no part of "
        "the reward would move",
    ),
    "too_cold": Cause(
        "the temperature is close to 0",
        "the completions of a group would be the same, letter for letter",
    ),
    "group_of_two": Cause(
        "num_generations is 2: a completion is compared with one other",
        "of two rewards, either both have the advantage 0, or one has +0.71 and the other -0.71",
    ),
    "gamed": Cause(
        "the reward pays for something else than a right answer",
        "the reward would rise while exact match falls",
    ),
    "format_only": Cause(
        "the reward pays for the format only",
        "completions of the same format would have the same reward, right or wrong",
    ),
    "pays_for_length": Cause(
        "the reward pays for length",
        "completions would get longer from step to step",
    ),
    "wrong_references": Cause(
        "the gold answers belong to other questions",
        "exact match would be 0 even in groups that have both spellings of a word, one of which "
        "must be right, and ROUGE-1, which compares reasons, would be low",
    ),
    "unfamiliar_prompts": Cause(
        "prompts have more worked examples, and are longer, than any that the model was made with",
        "completions would be bad in the first step already, before any weight has changed",
    ),
    "held_back": Cause(
        "beta is so high that the KL term allows no change",
        "a KL divergence would be logged; beta 0 logs none",
    ),
}


@dataclass(frozen=True)
class Completion:
    """A sampled completion: its text, its advantage, and its scores by the names of rewards."""

    text: str
    advantage: float
    scores: dict[str, float]


@dataclass(frozen=True)
class Example:
    """A worked example of a prompt."""

    question: str
    answer: str


@dataclass(frozen=True)
class Group:
    """Two completions of a prompt; the group that they were compared with may be larger.

    Attributes:
        step: The optimizer step, from 1.
        question: The last message of the prompt.
        gloss: The right sentence in English, or nothing.
        examples: The worked examples of the prompt.
        completions: Two of the group's completions.
    """

    step: int
    question: str
    gloss: str
    examples: Sequence[Example]
    completions: Sequence[Completion]


@dataclass(frozen=True)
class Case:
    """A recorded case.

    Attributes:
        number: 0 for the healthy run, else one of :data:`NUMBERS`.
        rows: The rows of its log, one for each optimizer step.
        groups: Some groups of each step.
    """

    number: int
    rows: list[Row]
    groups: list[Group]

    def groups_of_step(self, step: int) -> list[Group]:
        """Return the recorded groups of an optimizer step."""
        return [group for group in self.groups if group.step == step]


# -- reading ---------------------------------------------------------------------------------------


def case_folder(folder: Path, number: int) -> Path:
    """Return the folder of a case: ``data/clinic/case_3``."""
    return folder / f"case_{number}"


def is_recorded(folder: Path, number: int) -> bool:
    """Return whether a case is recorded; its completions are the last file that is written."""
    return (case_folder(folder, number) / RECORDED_COMPLETIONS).is_file()


def load_case(folder: Path, number: int) -> Case | None:
    """Return a recorded case; print how to record it if it is not there.

    Args:
        folder: The folder of cases.
        number: Which one.

    Returns:
        The case, or None.
    """
    path = case_folder(folder, number)
    if not is_recorded(folder, number):
        print(f"not recorded: {show_path(path)}; to record: {COMMAND} {number}")
        return None

    rows = RunLog(path / LOG_FILE).step_rows()
    groups = [_group_of(written) for written in read_json(path / RECORDED_COMPLETIONS)]
    return Case(number, rows, groups)


def _group_of(written: dict[str, Any]) -> Group:
    """Return a group as it was written to ``completions.json``."""
    return Group(
        step=written["step"],
        question=written["question"],
        gloss=written["gloss"],
        examples=[Example(**example) for example in written["examples"]],
        completions=[Completion(**completion) for completion in written["completions"]],
    )


def completions_text(groups: Sequence[Group]) -> str:
    """Return groups as text: question, worked examples, and each completion with its scores.

    >>> wrote = Completion('"며칠이 걸렸다."가 옳다. ...', 0.71, {"em": 1.0, "format": 1.0})
    >>> print(completions_text([Group(2, '"몇일이 걸렸다."', "It took days.", [], [wrote])]))
    step 2: "몇일이 걸렸다."
      (It took days.)
      advantage +0.71, exact match 1.00, format 1.00
        "며칠이 걸렸다."가 옳다. ...
    """
    lines = []
    for group in groups:
        lines.append(f"step {group.step}: {_in_one_line(group.question)}")
        if group.gloss:
            lines.append(f"  ({group.gloss})")
        for example in group.examples:
            lines.append(f"  worked example: {_in_one_line(example.question)}")
            lines.append(f"    {_in_one_line(example.answer)}")

        for completion in group.completions:
            lines.append(f"  {_scores_text(completion)}")
            lines.append(f"    {_in_one_line(completion.text)}")

    return "\n".join(lines)


def _scores_text(completion: Completion) -> str:
    """Return the advantage of a completion and its scores."""
    parts = [f"advantage {completion.advantage:+z.2f}"]
    for name, label in SCORES.items():
        if name in completion.scores:
            parts.append(f"{label} {completion.scores[name]:.2f}")
    return ", ".join(parts)


def _in_one_line(text: str) -> str:
    return " ".join(text.split())


# -- diagnoses -------------------------------------------------------------------------------------


def key_of(salt: str, number: int, cause: str) -> str:
    """Return what stands for the cause of a case in ``keys.json``.

    >>> len(key_of("salt", 1, "gamed"))
    16
    """
    text = f"{salt}/{number}/{cause}"
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def fault_of_diagnosis(folder: Path, number: int, diagnosis: str) -> str:
    """Return what is wrong with a diagnosis.

    Args:
        folder: The folder of cases, which has their keys.
        number: The case.
        diagnosis: A name of :data:`CAUSES`.

    Returns:
        Nothing if the diagnosis is right; else what to do or, for a wrong one, what would be seen
        if it were right.

    Raises:
        InputError: There are no keys in ``folder``.
    """
    if not diagnosis:
        return f"look at the case, and write the name of a cause into diagnosis_{number}"

    if diagnosis not in CAUSES:
        closest = difflib.get_close_matches(diagnosis, CAUSES, n=1)
        known = f"did you mean {closest[0]}?" if closest else f"known are {', '.join(CAUSES)}"
        return f"no cause is called {diagnosis!r}: {known}"

    keys = read_json(folder / CLINIC_KEYS_FILE, "keys of the clinic")
    if key_of(keys["salt"], number, diagnosis) == keys["keys"][str(number)]:
        return ""
    return f"it is not {diagnosis}: {CAUSES[diagnosis].sign}"
