"""Record the cases of the clinic (notebook 09): ``python -m tools.experiments.clinic [CASE ...]``.

Do not read on if you want to diagnose them: this module says what is wrong with each.

In: the default settings, in which each case changes one thing. Out: ``data/clinic/case_N`` with a
shortened log and some completions of every step, without any setting. A case has 20 optimizer
steps: two to five minutes on one CPU core. A recorded case is not made again (``--again`` does);
a case that was interrupted starts anew. Afterwards it is checked that the symptom from which the
cause is to be told does show.

``--keys`` writes ``data/clinic/keys.json``, without which no diagnosis can be checked.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import secrets
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from grpo_helpers.clinic import (
    HEALTHY,
    NUMBERS,
    Case,
    case_folder,
    is_recorded,
    key_of,
    load_case,
)
from grpo_helpers.command_line import run_command
from grpo_helpers.data import load_items
from grpo_helpers.files import (
    InputError,
    project_root,
    read_json,
    show_path,
    write_atomically,
    write_json,
)
from grpo_helpers.health import CLIPPED, EXACT_MATCH, GRADIENT_NORM, WINDOW, Change, change_of
from grpo_helpers.rewards import completion_text
from grpo_helpers.run_folder import (
    COMPLETIONS_FOLDER,
    LOG_FILE,
    RECORDED_COMPLETIONS,
    RunFolder,
    series,
)
from grpo_helpers.settings import CLINIC_KEYS_FILE, TrainSettings
from grpo_helpers.training import train
from tools.experiments.quoted import knowing_quoted
from tools.experiments.recorded_runs import QUOTED_WEIGHTS
from tools.tiny_model.copying import EMBEDDED

FOLDER = project_root() / "data" / "clinic"
WORK = "runs/clinic"  # where cases are trained
STEPS = 20  # optimizer steps of a case
GROUPS = 4  # recorded of each step
COMPLETIONS = 2  # recorded of each group, whatever its size
DEV = "data/smoke/dev.json"  # dev answers are not recorded: the fewer the better
NEVER_WRITTEN = "<|system|>"  # a token of the embedded model that no answer contains
REWARDS = ("em", "format", "rouge1", "bertscore")
SILENT = "frac_reward_zero_std"
FORMAT = "rewards/format_reward/mean"
LONGEST = "completions/max_length"
SHORT, LONG = 40, 90  # tokens; an answer of the healthy run lies between them

# What is kept of a log row. The learning rate is a setting, seconds say how many completions there
# were and what else the machine did, and a reward of its own would give the gamed run away.
LOGGED = (
    "step",
    "loss",
    GRADIENT_NORM,
    "completions/mean_length",
    "completions/min_length",
    LONGEST,
    CLIPPED,
    *(f"rewards/{name}_reward/mean" for name in REWARDS),
    "reward",
    "reward_std",
    SILENT,
    "entropy",
)


# -- what is changed -------------------------------------------------------------------------------


def with_shuffled_answers(folder: Path) -> dict[str, Any]:
    """Write the train file with each answer at another question; return the changed parameter."""
    rows = read_json(f"{EMBEDDED}/train.json")
    answers = [row["output"] for row in rows]
    random.Random(0).shuffle(answers)

    shuffled = []
    for row, answer in zip(rows, answers, strict=True):
        shuffled.append(row | {"output": answer})

    path = write_json(folder / "train.json", shuffled)
    return {"train_data_path": str(path)}


def with_another_end(folder: Path) -> dict[str, Any]:
    """Copy the embedded model with another end token; return the changed parameters."""
    source = project_root() / "data" / "tiny_model"
    model = folder / "model"
    shutil.copytree(source, model, dirs_exist_ok=True)

    tokenizer = read_json(source / "tokenizer_config.json")
    write_json(model / "tokenizer_config.json", tokenizer | {"eos_token": NEVER_WRITTEN})

    tokens = read_json(source / "tokenizer.json")["added_tokens"]
    (number,) = [token["id"] for token in tokens if token["content"] == NEVER_WRITTEN]
    for name in ("config.json", "generation_config.json"):
        config = read_json(source / name)
        write_json(model / name, config | {"eos_token_id": number})

    return {"model_name": str(model)}


def unchanged(_: Path) -> dict[str, Any]:
    """Write nothing, and change no parameter."""
    return {}


# -- what is to be seen ----------------------------------------------------------------------------


def ends_of(case: Case, key: str) -> Change:
    """Return a quantity at both ends of a case."""
    _, values = series(case.rows, key)
    return change_of(values)


def _learns(case: Case) -> bool:
    exact_match = ends_of(case, EXACT_MATCH)
    return exact_match.last > exact_match.first + 0.05


def _is_cut_off(case: Case) -> bool:
    return _is_never_finished(case) and ends_of(case, LONGEST).last < SHORT


def _goes_on_to_the_limit(case: Case) -> bool:
    return _is_never_finished(case) and ends_of(case, LONGEST).first > LONG


def _is_never_finished(case: Case) -> bool:
    clipped = ends_of(case, CLIPPED)
    return min(clipped.first, clipped.last) > 0.9


def _breaks_down_later(case: Case) -> bool:
    _, exact_match = series(case.rows, EXACT_MATCH)
    return exact_match[0] > 0.3 and ends_of(case, EXACT_MATCH).last < exact_match[0] - 0.2


def _has_silent_groups_of_equals(case: Case) -> bool:
    pairs = [group.completions for group in case.groups]
    alike = [pair[0].text == pair[1].text for pair in pairs]
    return ends_of(case, SILENT).first > 0.8 and float(np.mean(alike)) > 0.9


def _has_advantages_of_pairs(case: Case) -> bool:
    sizes = []
    for group in case.groups:
        sizes += [abs(completion.advantage) for completion in group.completions]

    is_of_pair = [size < 1e-3 or math.isclose(size, math.sqrt(0.5), abs_tol=0.02) for size in sizes]
    return float(np.mean(is_of_pair)) > 0.9


def _is_gamed(case: Case) -> bool:
    reward = ends_of(case, "reward")
    exact_match = ends_of(case, EXACT_MATCH)
    return reward.last > reward.first and exact_match.last < exact_match.first - 0.05


def _is_compared_with_something_else(case: Case) -> bool:
    exact_match = ends_of(case, EXACT_MATCH)
    return max(exact_match.first, exact_match.last) < 0.05 and ends_of(case, FORMAT).first > 0.8


def _is_bad_from_the_start(case: Case) -> bool:
    _, exact_match = series(case.rows, EXACT_MATCH)
    return exact_match[0] < 0.1 and len(case.groups[0].examples) > 1


# -- the cases -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PlannedCase:
    """What a case changes in the default run, and how that shows.

    Attributes:
        cause: A name of :data:`grpo_helpers.clinic.CAUSES`; empty for the healthy run.
        shows: Returns whether a recorded case has the symptom from which the cause is to be told.
        changed: Parameters of notebook 04.
        prepare: Writes files into a folder and returns further parameters.
    """

    cause: str
    shows: Callable[[Case], bool]
    changed: Mapping[str, Any] = field(default_factory=dict)
    prepare: Callable[[Path], dict[str, Any]] = unchanged


CASES = {
    HEALTHY: PlannedCase("", _learns),
    1: PlannedCase("too_cold", _has_silent_groups_of_equals, {"temperature": 0.01}),
    2: PlannedCase("end_token", _goes_on_to_the_limit, prepare=with_another_end),
    3: PlannedCase("gamed", _is_gamed, {"reward_weights": QUOTED_WEIGHTS}),
    4: PlannedCase(
        "group_of_two",
        _has_advantages_of_pairs,
        {"num_generations": 2, "gradient_accumulation_steps": 2},  # as many prompts as else
    ),
    5: PlannedCase("rate_too_high", _breaks_down_later, {"learning_rate": 0.1}),
    6: PlannedCase(
        "wrong_references", _is_compared_with_something_else, prepare=with_shuffled_answers
    ),
    7: PlannedCase("cut_off", _is_cut_off, {"max_completion_length": 24}),
    8: PlannedCase("unfamiliar_prompts", _is_bad_from_the_start, {"num_few_shot": 3}),
}


def settings_of(number: int, steps: int = STEPS, threads: int = 2) -> TrainSettings:
    """Return the settings of a case; the files that it needs are written to ``runs/clinic``.

    Args:
        number: A case whose rewards are known (:func:`knowing_rewards_of`).
        steps: Its optimizer steps.
        threads: CPU threads.
    """
    plan = CASES[number]
    files = project_root() / WORK / f"files_{number}"
    files.mkdir(parents=True, exist_ok=True)

    return TrainSettings(
        run_name=f"case_{number}",
        output_dir=WORK,
        eval_data_path=DEV,
        max_steps=steps,
        save_strategy="no",
        num_threads=threads,
        **(dict(plan.changed) | plan.prepare(files)),
    )


# -- recording -------------------------------------------------------------------------------------


def make_case(number: int, steps: int = STEPS, threads: int = 2) -> RunFolder:
    """Train a case from its start to its end; return its run folder."""
    with knowing_rewards_of(number):
        settings = settings_of(number, steps, threads)
        train(settings)
    return RunFolder(settings.run_dir)


def knowing_rewards_of(number: int) -> AbstractContextManager[None]:
    """Let the reward of its own that a case may have be known for a while."""
    weights = CASES[number].changed.get("reward_weights", {})
    return knowing_quoted() if "quoted" in weights else nullcontext()


def record_case(number: int, run: RunFolder, folder: Path = FOLDER) -> Path:
    """Write log and completions of a run as a case; return its folder."""
    target = case_folder(folder, number)
    target.mkdir(parents=True, exist_ok=True)

    lines = [json.dumps(_shortened(row)) + "\n" for row in run.log.step_rows()]
    write_atomically(target / LOG_FILE, lambda file: file.writelines(lines))
    write_json(target / RECORDED_COMPLETIONS, sampled_groups(run))
    return target


def _shortened(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is kept of a log row, its numbers rounded to 5 digits."""
    kept = {}
    for key in LOGGED:
        if key in row:
            kept[key] = round(row[key], 5)
    return kept


def sampled_groups(run: RunFolder) -> list[dict[str, Any]]:
    """Return some groups of each step, as ``completions.json`` has them.

    Args:
        run: A finished run; its settings name the files from which the glosses are taken.
    """
    glosses = glosses_of(run.settings)
    groups = []
    for file in sorted((run.path / COMPLETIONS_FOLDER).glob("*.parquet")):
        frame = pd.read_parquet(file)
        size = run.settings["num_generations"]
        starts = range(0, len(frame), size)
        for start in starts[:GROUPS]:
            rows = [frame.iloc[place] for place in range(start, start + COMPLETIONS)]
            groups.append(_group_of(rows, glosses))
    return groups


def glosses_of(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the English of every question that a run may have asked or shown."""
    glosses = {}
    for path in (settings["train_data_path"], settings["few_shot_data_path"]):
        for item in load_items(path):
            glosses[item.question] = item.extra.get("gloss", "")
    return glosses


def _group_of(rows: Sequence[pd.Series], glosses: Mapping[str, str]) -> dict[str, Any]:
    """Return completions of one prompt as one dictionary."""
    messages = [dict(message) for message in rows[0]["prompt"]]
    question = messages[-1]["content"]
    shown = messages[1:-1]  # after the instruction: worked examples, question and answer in turn

    examples = []
    for asked, answered in zip(shown[::2], shown[1::2], strict=True):
        examples.append({"question": asked["content"], "answer": answered["content"]})

    return {
        "step": int(rows[0]["step"]),
        "question": question,
        "gloss": glosses.get(question, ""),
        "examples": examples,
        "completions": [_completion_of(row) for row in rows],
    }


def _completion_of(row: pd.Series) -> dict[str, Any]:
    scores = {name: round(float(row[f"{name}_reward"]), 3) for name in REWARDS}
    return {
        "text": completion_text(list(row["completion"])),
        "advantage": round(float(row["advantage"]), 3),
        "scores": scores,
    }


def symptom_text(number: int, folder: Path = FOLDER) -> str:
    """Return a line that says whether a recorded case shows what it is meant to show."""
    case = load_case(folder, number)
    if case is None or len(case.rows) < 2 * WINDOW:
        return f"case {number}: too short to say whether its symptom shows"
    if CASES[number].shows(case):
        return f"case {number}: its symptom shows"
    return f"case {number}: ITS SYMPTOM DOES NOT SHOW, change what the case changes"


def write_keys(folder: Path = FOLDER) -> Path:
    """Write the keys of all cases with a new salt; return their file."""
    salt = secrets.token_hex(8)
    keys = {str(number): key_of(salt, number, CASES[number].cause) for number in NUMBERS}
    return write_json(folder / CLINIC_KEYS_FILE, {"salt": salt, "keys": keys})


# -- from the shell --------------------------------------------------------------------------------


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.experiments.clinic", description=__doc__.splitlines()[0]
    )
    add = parser.add_argument
    add("cases", nargs="*", type=int, choices=[[], *CASES], help="default: all that are missing")
    add("--again", action="store_true", help="record cases anew that are recorded already")
    add("--steps", type=int, default=STEPS, help=f"optimizer steps (default: {STEPS})")
    add("--threads", type=int, default=2, help="CPU threads (default: 2)")
    add("--folder", default=str(FOLDER), help="where cases are recorded (default: data/clinic)")
    add("--keys", action="store_true", help="write the keys of the causes, and record nothing")
    return parser


def record_all(args: argparse.Namespace) -> None:
    """Make and record the cases that a command line names.

    Raises:
        InputError: Shorter cases than those of the course would take their place.
    """
    folder = Path(args.folder)
    if args.steps != STEPS and folder.resolve() == FOLDER:
        raise InputError(f"--steps {args.steps}: give --folder, too; those of the course: {STEPS}")

    for number in args.cases or CASES:
        if args.again or not is_recorded(folder, number):
            target = record_case(number, make_case(number, args.steps, args.threads), folder)
            print(f"recorded {show_path(target)}", flush=True)
        print(symptom_text(number, folder), flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Record cases, or write their keys; return 0, or 2 on bad input."""
    args = build_parser().parse_args(argv)

    def body() -> int:
        if args.keys:
            print(show_path(write_keys(Path(args.folder))))
        else:
            record_all(args)
        return 0

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
