"""Who thinks, and does it help? Answers to questions whose way to the answer can be checked.

In: answers of a model that may think before it answers, or the tables that
``python -m tools.experiments.thinking`` recorded in ``data/reference_runs/thinking``. Out: one row
for each answer, and the shares that notebook 07 compares. The article's model does not think.

An answer is judged twice: as everywhere, by its sentence, and by its thought: whether it is the
true chain of words (``chain`` of the item), which no reward looks at.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from grpo_helpers.answers import split_thought
from grpo_helpers.files import InputError, show_path
from grpo_helpers.metrics import exact_match, format_score
from grpo_helpers.statistics import Interval, paired_bootstrap

if TYPE_CHECKING:
    import pandas as pd

    from grpo_helpers.questions import Item

FOLDER = "thinking"  # in the folder of recorded runs
COMMAND = "python -m tools.experiments.thinking"
BASE = "base"  # the model before any training
BASE_SEED = -1  # it has been trained under none
WAYS = {  # how a model was trained, and what tables call it
    BASE: "before training",
    "grpo": "GRPO, rewards for the answer",
    "gold": "supervised, gold answers",
    "rejection": "rejection sampling",
    "taught": "supervised, true thoughts",
    "brevity": "GRPO, paid for brevity",
    "per-answer": "GRPO, each answer counts the same",
    "constant": "GRPO, divided by a constant",
    "astray-base": "astray, before training",
    "astray": "astray, GRPO",
}
GREEDY = "greedy"
SAMPLED = "sampled"
FORBIDDEN = "forbidden"  # greedy, and no thought can come before the answer
MISLED = "misled"  # greedy, after a thought that is the other chain of the question
LOG_ENDING = "_log"
ANSWER_COLUMNS = ["split", "answers", "id", "hops", "thinks", "is_chain", "format", "em"]


# -- judging -----------------------------------------------------------------------------------


def judge_answers(groups: Sequence[Sequence[str]], items: Sequence[Item]) -> pd.DataFrame:
    """Return one row for each answer: whether it thinks, whether truly, whether it is right.

    Args:
        groups: The answers to each item.
        items: The items, with ``chain`` and ``hops`` among their further fields.

    Returns:
        A table with ``id``, ``hops``, ``thinks``, ``is_chain``, ``format``, ``em`` and ``text``.
    """
    import pandas as pd

    rows = []
    for answers, item in zip(groups, items, strict=True):
        for answer in answers:
            thought = split_thought(answer).thought
            row = {
                "id": item.id,
                "hops": item.extra.get("hops"),
                "thinks": bool(thought),
                "is_chain": bool(thought) and thought == item.extra.get("chain"),
                "format": format_score(answer, item),
                "em": exact_match(answer, item.answer or ""),
                "text": answer,
            }
            rows.append(row)
    return pd.DataFrame(rows)


def thinking_shares(answers: pd.DataFrame) -> dict[str, float]:
    """Return the shares of a table of answers, from 0 to 1; NaN where there is no such answer.

    Args:
        answers: Rows of :func:`judge_answers`.
    """
    thinking = answers[answers["thinks"].astype(bool)]
    direct = answers[~answers["thinks"].astype(bool)]
    means = {
        "thinks": answers["thinks"].mean(),
        "right": answers["em"].mean(),
        "right with a thought": thinking["em"].mean(),
        "right without": direct["em"].mean(),
        "thought is the chain": thinking["is_chain"].mean(),
        "required format": answers["format"].mean(),
    }
    return {name: float(mean) for name, mean in means.items()}


def shares_by_seed(ways: pd.DataFrame, way: str, split: str, kind: str) -> pd.DataFrame:
    """Return the shares of each training in one way, the seeds as index.

    Args:
        ways: The table of :func:`load_ways`.
        way: A key of :data:`WAYS`.
        split: The key of a test set.
        kind: How it was answered: :data:`GREEDY`, :data:`SAMPLED`, :data:`FORBIDDEN` or
            :data:`MISLED`.

    Returns:
        One row for each seed with the shares of :func:`thinking_shares`; none if the way is not
        recorded.
    """
    import pandas as pd

    is_asked = (ways["split"] == split) & (ways["answers"] == kind)
    answers = ways[is_asked & (ways["way"] == way)]
    of_seeds = {seed: thinking_shares(of_seed) for seed, of_seed in answers.groupby("seed")}
    return pd.DataFrame.from_dict(of_seeds, orient="index")


def compare_ways(ways: pd.DataFrame, names: Sequence[str], split: str, kind: str) -> pd.DataFrame:
    """Return how often some ways think and how often they are right.

    Args:
        ways: The table of :func:`load_ways`.
        names: The ways to compare, keys of :data:`WAYS`; one that is not recorded is left out.
        split: The key of a test set.
        kind: How it was answered, as for :func:`shares_by_seed`.

    Returns:
        One row for each way, by what :data:`WAYS` calls it: ``seeds``, the means of ``thinks`` and
        ``right`` over them (0 to 1), and the ``lowest`` and ``highest`` of ``right``.
    """
    import pandas as pd

    rows = {}
    for name in names:
        means = shares_by_seed(ways, name, split, kind)
        if means.empty:
            continue

        rows[WAYS[name]] = {
            "seeds": len(means),
            "thinks": means["thinks"].mean(),
            "right": means["right"].mean(),
            "lowest": means["right"].min(),
            "highest": means["right"].max(),
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    return table.astype({"seeds": int}) if rows else table


def paired_gains(
    ways: pd.DataFrame, way: str, reference: str, split: str, kind: str
) -> dict[int, Interval]:
    """Return what a way gains over another on the same questions, by seed.

    Args:
        ways: The table of :func:`load_ways`.
        way: The way that is judged.
        reference: The way it is compared with; the base is compared with every seed.
        split: The key of a test set.
        kind: ``greedy`` or ``sampled``; of several answers to a question the mean counts.

    Returns:
        The 95 % interval of the difference of exact match, 0 to 1 (paired bootstrap).
    """
    asked = ways[(ways["split"] == split) & (ways["answers"] == kind)]
    by_question = asked.groupby(["way", "seed", "id"])["em"].mean()

    gains = {}
    for seed in by_question.loc[way].index.unique("seed"):
        other = BASE_SEED if reference == BASE else seed
        ours = by_question.loc[way, seed]
        theirs = by_question.loc[reference, other].reindex(ours.index)
        gains[int(seed)] = paired_bootstrap(ours.to_numpy(), theirs.to_numpy())
    return gains


# -- reading -----------------------------------------------------------------------------------


def load_ways(folder: str | Path) -> pd.DataFrame:
    """Return the recorded answers of every training, one row for each answer.

    Args:
        folder: The folder with the tables; it may lack any of them, or not exist.

    Returns:
        A table with ``way``, ``seed`` (:data:`BASE_SEED` for the base) and
        :data:`ANSWER_COLUMNS`; without rows if there is no file.

    Raises:
        InputError: A file has another name or lacks a column.
    """
    import pandas as pd

    tables = []
    for file in sorted(Path(folder).glob("*.csv")):
        if file.stem.endswith(LOG_ENDING):
            continue
        table = pd.read_csv(file)
        lacking = [column for column in ANSWER_COLUMNS if column not in table]
        if lacking:
            raise InputError(f"{show_path(file)} has no column {lacking[0]}: made with {COMMAND}?")
        way, seed = _way_of(file)
        tables.append(table.assign(way=way, seed=seed))

    if not tables:
        return pd.DataFrame(columns=["way", "seed", *ANSWER_COLUMNS])
    return pd.concat(tables, ignore_index=True)


def load_logs(folder: str | Path, way: str) -> dict[int, pd.DataFrame]:
    """Return what the log said of each step, by seed, of one of the two ways of GRPO."""
    import pandas as pd

    logs = {}
    for file in sorted(Path(folder).glob(f"{way}_*{LOG_ENDING}.csv")):
        _, seed = _way_of(file)
        logs[seed] = pd.read_csv(file)
    return logs


def _way_of(file: Path) -> tuple[str, int]:
    """Return the way and the seed in a file's name."""
    way, _, seed = file.stem.removesuffix(LOG_ENDING).partition("_")
    if way == BASE and not seed:
        return way, BASE_SEED
    if way in WAYS and seed.isdecimal():
        return way, int(seed)

    raise InputError(
        f"{show_path(file)} is no <way>_<seed>.csv such as grpo_0.csv; ways are {', '.join(WAYS)}"
    )


def missing_ways(answers: pd.DataFrame) -> str:
    """Return a line that names the ways without a recorded training; empty if there is none.

    Args:
        answers: The table of :func:`load_ways`.
    """
    recorded = set(answers["way"])
    missing = [way for way in WAYS if way not in recorded]
    if not missing:
        return ""
    return f"not recorded: {', '.join(missing)}; to record: {COMMAND}"
