"""From memory to rule: what training on a few words of each norm taught about other words.

In: ``data/reference_runs/words_per_norm/<way>_<words>_<seed>.csv``, one table for each training
(``python -m tools.experiments.words_per_norm`` makes them), with one row for each question about a
word of a family. Out: one table of all, and the shares of right choices that a figure draws.

Right answers to new sentences of trained words show memory. Right answers about invented words
(뎝률 or 뎝율?) show a rule, but only if nothing simpler gives them, and two simpler things might:

- *preferring a form*: always to choose 률 is right for half of the words of a two-way family, and
  for all words of a one-way family. So only two-way families count, and of each family the mean
  over its right forms is taken (:func:`form_balanced`).
- *swapping*: every sentence of a 교정형 question contains the wrong form, so writing the other form
  is always right. So only 선택형 questions count, which offer both forms; a guess is right half of
  the time there (:data:`CHANCE`).
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from grpo_helpers.files import InputError, show_path
from grpo_helpers.questions import SELECTION
from grpo_helpers.splits import TEST, TEST_NONCE, UNSEEN_SPLITS
from grpo_helpers.statistics import LEVEL, Interval

if TYPE_CHECKING:
    import pandas as pd

FOLDER = "words_per_norm"  # in the folder of recorded runs
HIDDEN_FOLDER = "words_per_norm_hidden"  # the same with a model that sees no letters
COMMAND = "python -m tools.experiments.words_per_norm"
WAYS = {  # how a point was trained, and what figures call it
    "grpo": "GRPO, four rewards",
    "gold": "supervised, gold answers",
    "rejection": "rejection sampling",
}
WORDS = (1, 2, 4, 8)  # train words of each family
TWO_WAY = "two-way"
SHORTCUT_KINDS = ("one-way", "lexical")  # a preference answers the first, only memory the second
CHANCE = 0.5  # of a guess at a 선택형 question with two options
NAMED = 3  # missing points that are named; the others are counted

POINT_COLUMNS = ["way", "words", "seed"]
QUESTION_COLUMNS = [
    "split",
    "id",
    "card",
    "kind",
    "form",
    "question_type",
    "is_trained",
    "em",
    "choice",
]


# -- reading -------------------------------------------------------------------------------------


def load_points(folder: str | Path) -> pd.DataFrame:
    """Return the answers of every training, one row for each question.

    Args:
        folder: The folder with the tables; it may lack any of them, or not exist.

    Returns:
        A table with :data:`POINT_COLUMNS` (from the names of the files), :data:`QUESTION_COLUMNS`
        and the other columns of the files, sorted by them; without rows if there is no file.

    Raises:
        InputError: A file has another name or lacks a column.
    """
    import pandas as pd

    tables = []
    for file in Path(folder).glob("*.csv"):
        table = pd.read_csv(file, keep_default_na=False)
        lacking = [column for column in QUESTION_COLUMNS if column not in table]
        if lacking:
            raise InputError(f"{show_path(file)} has no column {lacking[0]}: made with {COMMAND}?")

        way, words, seed = _point_of(file)
        tables.append(table.assign(way=way, words=words, seed=seed))

    if not tables:
        return pd.DataFrame(columns=[*POINT_COLUMNS, *QUESTION_COLUMNS])

    points = pd.concat(tables, ignore_index=True)
    order = {way: place for place, way in enumerate(WAYS)}
    return points.sort_values(
        POINT_COLUMNS, key=lambda column: column.replace(order), kind="stable", ignore_index=True
    )


def _point_of(file: Path) -> tuple[str, int, int]:
    """Return the way, the number of words and the seed in a file's name."""
    parts = file.stem.split("_")
    if len(parts) == 3 and parts[0] in WAYS and parts[1].isdecimal() and parts[2].isdecimal():
        return parts[0], int(parts[1]), int(parts[2])

    example = f"{next(iter(WAYS))}_8_0.csv"
    raise InputError(
        f"{show_path(file)} is no <way>_<words>_<seed>.csv such as {example}; "
        f"ways are {', '.join(WAYS)}"
    )


def missing_points(points: pd.DataFrame) -> str:
    """Return one line that says which points are missing and how to make them, or an empty text.

    Every way is expected with every number of words of :data:`WORDS`, with every seed that occurs.

    Args:
        points: What :func:`load_points` returned.
    """
    if points.empty:
        return f"no point is recorded; {COMMAND} makes all of them"

    there = set(points[POINT_COLUMNS].itertuples(index=False, name=None))
    seeds = sorted({seed for _, _, seed in there})
    missing = [point for point in product(WAYS, WORDS, seeds) if point not in there]
    if not missing:
        return ""

    names = [f"{way}_{words}_{seed}" for way, words, seed in missing[:NAMED]]
    others = len(missing) - len(names)
    if others:
        names.append(f"{others} more")
    return f"not recorded yet: {', '.join(names)}; {COMMAND} makes what is missing"


# -- shares --------------------------------------------------------------------------------------


def form_balanced(rows: pd.DataFrame, metric: str = "choice") -> float:
    """Return the mean of a metric over families, and in each family over its right forms.

    Always preferring one form of a two-way family gives exactly one half.

    Args:
        rows: Questions with ``card`` (the family), ``form`` (which of its forms is right) and the
            metric.
        metric: The column whose mean is taken.

    Returns:
        A share from 0 to 1; NaN without rows.

    >>> import pandas as pd
    >>> rows = pd.DataFrame({"card": "ryul-yul", "form": ["률", "률", "율"], "choice": [1, 1, 0]})
    >>> form_balanced(rows)
    0.5
    """
    by_form = rows.groupby(["card", "form"])[metric].mean()
    by_family = by_form.groupby("card").mean()
    return float(by_family.mean())


def without_shortcuts(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the questions that neither preferring a form, swapping nor knowing a word answers.

    These are 선택형 questions about words of two-way families and of held-out norms. A table that
    does not say what kind its words are keeps all its 선택형 questions.

    Args:
        rows: Rows of an item table.
    """
    of_two = rows[rows["question_type"] == SELECTION]
    if "kind" not in of_two:
        return of_two
    return of_two[~of_two["kind"].isin(SHORTCUT_KINDS)]


def match_and_choices(answers: pd.DataFrame) -> dict[str, float]:
    """Return exact match on test and, on each unseen split, the choices that show a rule.

    Args:
        answers: Rows of item tables with their ``split``.

    Returns:
        Shares from 0 to 1 by what they are called in a table: ``exact match on test``, ``choose on
        unseen words`` and so on, of the splits that ``answers`` has.
    """
    of_test = answers[answers["split"] == TEST.key]
    shares = {"exact match on test": float(of_test["em"].mean())}

    by_split = without_shortcuts(answers).groupby("split")["choice"].mean()
    for split in UNSEEN_SPLITS:
        if split.key in by_split:
            shares[f"choose on {split.title}"] = float(by_split[split.key])
    return shares


def one_sided_families(rows: pd.DataFrame) -> list[str]:
    """Return the two-way families of which only one right form is asked about.

    There, preferring that form cannot be told from a rule.

    Args:
        rows: Questions with ``card``, ``kind`` and ``form``.
    """
    two_way = rows[rows["kind"] == TWO_WAY]
    forms = two_way.groupby("card")["form"].nunique()
    return sorted(forms[forms < 2].index)


def about_memory(points: pd.DataFrame) -> pd.DataFrame:
    """Return the questions about new sentences of trained words, of two-way families."""
    is_memory = (points["split"] == TEST.title) & points["is_trained"].astype(bool)
    return points[is_memory & (points["kind"] == TWO_WAY)]


def about_rule(points: pd.DataFrame) -> pd.DataFrame:
    """Return the questions about invented words of two-way families."""
    is_invented = points["split"] == TEST_NONCE.title
    return points[is_invented & (points["kind"] == TWO_WAY)]


def memory_and_rule(points: pd.DataFrame, question_type: str = SELECTION) -> pd.DataFrame:
    """Return what each training reached: memory and rule, form-balanced choice accuracy.

    Args:
        points: What :func:`load_points` returned.
        question_type: The questions that count.

    Returns:
        One row per training, with :data:`POINT_COLUMNS`, ``memory``, ``memory_questions``, ``rule``
        and ``rule_questions``.
    """
    import pandas as pd

    of_type = points[points["question_type"] == question_type]
    rows = []
    for (way, words, seed), answers in of_type.groupby(POINT_COLUMNS, sort=False):
        row = {"way": way, "words": words, "seed": seed}
        for name, questions in (
            ("memory", about_memory(answers)),
            ("rule", about_rule(answers)),
        ):
            row |= {name: form_balanced(questions), f"{name}_questions": len(questions)}
        rows.append(row)

    measured = ["memory", "memory_questions", "rule", "rule_questions"]
    return pd.DataFrame(rows, columns=[*POINT_COLUMNS, *measured])


def rule_by_family(points: pd.DataFrame, words: int) -> pd.DataFrame:
    """Return choice accuracy on the invented words of each family, one-way families too.

    Args:
        points: What :func:`load_points` returned.
        words: The number of train words; the seeds are put together.

    Returns:
        One row per family, two-way families first: ``kind``, ``family``, ``questions``, and a
        column of form-balanced 선택형 accuracy for each way, by its title.
    """
    import pandas as pd

    is_asked = (points["words"] == words) & (points["split"] == TEST_NONCE.title)
    asked = points[is_asked & (points["question_type"] == SELECTION)]

    rows = []
    for (kind, family), answers in asked.groupby(["kind", "card"]):
        row = {"kind": kind, "family": family, "questions": answers["id"].nunique()}
        for way, of_way in answers.groupby("way"):
            row[WAYS[str(way)]] = form_balanced(of_way)
        rows.append(row)

    table = pd.DataFrame(rows, columns=["kind", "family", "questions", *WAYS.values()])
    return table.sort_values(["kind", "family"], ascending=[False, True], ignore_index=True)


def chance_range(questions: int) -> Interval:
    """Return the shares between which a guesser ends in at least 95 % of cases.

    Args:
        questions: How many questions with two options are guessed at.

    >>> chance_range(100)
    Interval(low=0.4, high=0.6)
    """
    from scipy.stats import binom

    if questions == 0:
        return Interval(0.0, 1.0)

    low, high = binom.interval(1 - LEVEL, questions, CHANCE)
    return Interval(float(low / questions), float(high / questions))
