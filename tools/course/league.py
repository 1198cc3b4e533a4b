"""A league of rewards: ``python -m tools.course.league FOLDER`` ranks what each of them teaches.

In: a folder of Python files. Each registers one reward of its own, as ``reward_module`` takes it
(:mod:`grpo_helpers.rewards` shows such a file). Out: a table, as Markdown and as CSV, and a run
folder for each entry.

Every entry trains the same model for the same number of steps with the settings of notebook 00
(about three minutes on two cores), in a process of its own. An entry that fails gets one line, and
the others go on. What is complete is not trained again, so a league that was stopped continues, and
a file that was edited is a new entry. Once all are trained, each adapter answers the questions, and
what counts is exact match.

**What an entry cannot change:** answers and scores. They are computed in this process, which loads
no student's file, with the league's own settings; of an entry it takes the weights of the adapter
and nothing else (:mod:`tools.course.league_answers`). **What it can:** those weights. They are
written by the process that runs the student's file, which could train longer, or on other
questions, even on those of the ranking if it finds them. It has your rights: what you may write, it
may write, other entries and this program included. Read the files before you run them.

Dev is for the weeks in which students hand in again and again. Whoever does that long enough learns
the questions, and the answers to ``data/embedded/test.json`` are in everybody's hands, too. So the
last round is for questions that nobody has (``python -m tools.corpus.private_questions``). Train
first, then put that file here and rank, so that no student's file runs while it is there:

    python -m tools.course.league submissions/
    python -m tools.course.league submissions/ --rank-only --questions private.json
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from grpo_helpers.command_line import FAILURE, SUCCESS, run_command
from grpo_helpers.data import load_items
from grpo_helpers.files import (
    InputError,
    check_output_folder,
    project_root,
    resolve_path,
    show_path,
    write_atomically,
)
from grpo_helpers.questions import Item
from grpo_helpers.run_folder import RunFolder, is_finished
from grpo_helpers.scoring import Scores, score_all
from grpo_helpers.selection import compare
from grpo_helpers.statistics import LEVEL, holm, mcnemar, paired_bootstrap
from tools.course.league_answers import UNTRAINED, LeagueAnswers, answer_questions
from tools.course.league_entry import Rules
from tools.pages.markdown import table

WARNING = (
    "Each file is run as it is, with your rights on this machine: read them first, or run the "
    "league where nothing can be lost."
)


@dataclass(frozen=True)
class Entry:
    """What became of one file.

    Attributes:
        name: The file without its ending.
        run: Its run folder.
        fault: Why there is nothing to rank, in one line; empty if there is.
    """

    name: str
    run: RunFolder
    fault: str = ""


# -- training --------------------------------------------------------------------------------------


def find_files(folder: str) -> list[Path]:
    """Return the Python files of a folder by name, without those that begin with ``_``.

    Raises:
        InputError: There is no such folder, or nothing in it.
    """
    place = resolve_path(folder)
    files = sorted(file for file in place.glob("*.py") if not file.name.startswith("_"))
    if not files:
        raise InputError(f"no Python file in {folder}: an entry is a file that registers a reward")
    return files


def is_complete(run: RunFolder) -> bool:
    """Return whether a run has come to its end, its answers included."""
    try:
        last = run.last_complete()
        return last is not None and is_finished(last) and not run.unanswered(last)
    except (InputError, KeyError, TypeError, ValueError):  # of a file that an entry has changed
        return False


def train_files(files: Sequence[Path], rules: Rules, minutes: float) -> list[Entry]:
    """Train with the reward of each file, one after the other.

    Args:
        files: The entries.
        rules: What they have in common.
        minutes: After how long an entry is ended.

    Returns:
        An entry for each file, in their order.
    """
    entries = []
    for number, file in enumerate(files, start=1):
        run = RunFolder(Path(rules.output_dir) / rules.run_name(file))
        position = f"{file.name} ({number} of {len(files)})"

        if is_complete(run):
            print(f"{position}: trained already", flush=True)
            entries.append(Entry(file.stem, run))
            continue

        log = Path(rules.output_dir) / "logs" / f"{run.path.name}.log"
        print(f"{position}: training; see {show_path(log)}", flush=True)
        fault = _train(file, rules, log, 60 * minutes)
        if not fault and not is_complete(run):
            fault = "was stopped before its end"
        if fault:
            print(f"{position}: {fault}", flush=True)
        entries.append(Entry(file.stem, run, fault))
    return entries


def trained_files(files: Sequence[Path], rules: Rules) -> list[Entry]:
    """Return an entry for each file, in their order, as it was trained before."""
    entries = []
    for file in files:
        run = RunFolder(Path(rules.output_dir) / rules.run_name(file))
        entries.append(Entry(file.stem, run, "" if is_complete(run) else "is not trained"))
    return entries


def _train(file: Path, rules: Rules, log: Path, seconds: float) -> str:
    """Train one entry in a process of its own; return what went wrong, in one line."""
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tools.course.league_entry"]
    command += [str(file), json.dumps(asdict(rules))]

    with log.open("w", encoding="utf-8") as written:
        try:
            done = subprocess.run(
                command,
                cwd=project_root(),
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=subprocess.STDOUT,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"took longer than {seconds / 60:g} minutes"

    if done.returncode == SUCCESS:
        return ""
    printed = log.read_text(encoding="utf-8", errors="replace")
    errors = [line for line in printed.splitlines() if "error: " in line]
    if not errors:
        return f"its process ended with exit code {done.returncode}"
    return errors[-1].removeprefix("error: ")


# -- ranking ---------------------------------------------------------------------------------------


def rank(scores: Scores) -> pd.DataFrame:
    """Return the table of a league, the best first.

    Args:
        scores: For each entry and for :data:`UNTRAINED`: metric -> one score per question.

    Returns:
        One row for each, with exact match and its 95 % interval, the points gained over the model
        before training with theirs, and the p-value against the first (McNemar, with Holm's
        correction for the number of comparisons). Places are those of exact match; ``tied`` says
        whether these questions can tell an entry from the first.
    """
    rows = [_row(scores, name) for name in scores]
    ranked = pd.DataFrame(rows).sort_values("exact match", ascending=False, kind="stable")
    is_entry = ranked["entry"] != UNTRAINED
    places = ranked.loc[is_entry, "exact match"].rank(method="min", ascending=False)
    ranked.insert(0, "place", places.astype(int))
    ranked["place"] = ranked["place"].astype("Int64")

    first, *others = ranked.loc[is_entry, "entry"]
    tests = [mcnemar(scores[first]["em"], scores[other]["em"]).p_value for other in others]
    corrected = dict(zip(others, holm(tests) if tests else [], strict=True))
    ranked["p against the first"] = ranked["entry"].map(corrected)
    ranked["tied"] = ranked["p against the first"] > LEVEL
    ranked.loc[ranked["entry"] == first, "tied"] = True
    return ranked.reset_index(drop=True)


def _row(scores: Scores, name: str) -> dict[str, Any]:
    em = scores[name]["em"]
    alone = paired_bootstrap(em, [0.0] * len(em))
    gain = compare(scores, name, UNTRAINED, "em")
    return {
        "entry": name,
        "questions": gain.items,
        "exact match": gain.mean,
        "low": alone.low,
        "high": alone.high,
        "points": 100 * gain.difference,
        "points low": 100 * gain.low,
        "points high": 100 * gain.high,
        "format": sum(scores[name]["format"]) / gain.items,
    }


def answers_of(
    entries: Sequence[Entry], rules: Rules, questions: str, items: Sequence[Item]
) -> LeagueAnswers:
    """Return the answers of all entries that have been trained.

    Args:
        entries: All entries.
        rules: What they have in common.
        questions: The contest file.
        items: What is in it.

    Raises:
        InputError: There is nothing to rank.
    """
    runs = {entry.name: entry.run for entry in entries if not entry.fault}
    if not runs:
        raise InputError("no entry has come to its end, so there is nothing to rank")

    answers = answer_questions(runs, rules.settings(), questions, items)
    if len(answers.faults) == len(runs):
        name, fault = next(iter(answers.faults.items()))
        raise InputError(f"no entry could answer, so there is nothing to rank ({name}: {fault})")
    return answers


def write_table(ranked: pd.DataFrame, entries: Sequence[Entry], folder: Path) -> str:
    """Write ``league.md`` and ``league.csv``; return the Markdown."""
    faults = [entry for entry in entries if entry.fault]
    lines = [table([_shown(dict(row)) for _, row in ranked.iterrows()])]
    lines += [f"\n{entry.name}: {entry.fault}" for entry in faults]
    text = "\n".join(lines) + "\n"

    write_atomically(folder / "league.md", lambda file: file.write(text))
    failed = pd.DataFrame([{"entry": entry.name, "fault": entry.fault} for entry in faults])
    both = pd.concat([ranked, failed]) if faults else ranked
    write_atomically(folder / "league.csv", lambda file: both.to_csv(file, index=False))
    return text


def _shown(row: Mapping[Any, Any]) -> dict[str, str]:
    """Return a row of the table as it is read."""
    p_value = row["p against the first"]
    tied = "yes" if row["tied"] else "no"
    return {
        "place": "-" if pd.isna(row["place"]) else str(row["place"]),
        "entry": row["entry"],
        "exact match [95 %]": f"{row['exact match']:.3f} [{row['low']:.3f}, {row['high']:.3f}]",
        "points gained [95 %]": (
            f"{row['points']:+.1f} [{row['points low']:+.1f}, {row['points high']:+.1f}]"
        ),
        "format": f"{row['format']:.3f}",
        "tied with the first": "-" if row["entry"] == UNTRAINED else tied,
        "p (Holm)": "-" if pd.isna(p_value) else f"{p_value:.2g}",
    }


# -- the command -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Round:
    """What a teacher asks for once.

    Attributes:
        questions: The contest file whose answers are ranked.
        minutes: After how long the training of an entry is ended.
        rank_only: Whether nothing is trained, so that no student's file runs.
    """

    questions: str
    minutes: float
    rank_only: bool = False


def run_league(folder: str, rules: Rules, this: Round) -> int:
    """Train and rank the entries of a folder; return 1 if one of them failed, else 0."""
    files = find_files(folder)
    check_output_folder(rules.output_dir)
    items = load_items(this.questions)
    settings = rules.settings()

    if this.rank_only:
        entries = trained_files(files, rules)
    else:
        print(f"{len(files)} entries, {settings.max_steps} steps each. {WARNING}", flush=True)
        entries = train_files(files, rules, this.minutes)

    answers = answers_of(entries, rules, this.questions, items)
    told = [
        replace(entry, fault=entry.fault or answers.faults.get(entry.name, "")) for entry in entries
    ]
    ranked = rank(score_all(answers.texts, items))

    text = write_table(ranked, told, Path(rules.output_dir))
    print(f"\n{text}\nwritten to {show_path(rules.output_dir)}: league.md, league.csv")
    return FAILURE if any(entry.fault for entry in told) else SUCCESS


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.course.league", description=__doc__.splitlines()[0]
    )
    add = parser.add_argument
    add("folder", help="a folder of Python files, each of which registers one reward")
    add("--out", default="runs/league", help="where run folders and tables go")
    add(
        "--questions",
        default="data/embedded/dev.json",
        help="contest JSON whose answers are ranked (default: %(default)s); for the last round, "
        "one that only you have: python -m tools.corpus.private_questions",
    )
    add("--rank-only", action="store_true", help="train nothing: no student's file is run")
    add("--steps", type=int, default=0, help="optimizer steps (default: those of notebook 00)")
    add("--seed", type=int, default=0, help="seed of every training")
    add("--params", default="", help="a profile of notebook 04, for another model or machine")
    add("--minutes", type=float, default=15, help="after how long an entry is ended")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a league; return 0, 1 if an entry failed, or 2 on bad input."""
    args = _parser().parse_args(argv)
    rules = Rules(
        output_dir=str(resolve_path(args.out)),
        steps=args.steps,
        seed=args.seed,
        params=str(resolve_path(args.params)) if args.params else "",
    )
    this = Round(str(resolve_path(args.questions)), args.minutes, args.rank_only)
    return run_command(lambda: run_league(args.folder, rules, this))


if __name__ == "__main__":
    sys.exit(main())
