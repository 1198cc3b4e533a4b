"""Publish the default run: ``python -m tools.course.publish [RUN]`` (the end of ``make outputs``).

In: a finished run folder, and the recorded seeds. Out: ``docs/results.json``, the short form of the
run's ``best_checkpoint.json``; the tables between the marks of ``README.md`` and ``README.ko.md``,
which are made of that file alone, so that a test can compare them; and ``docs/learning_curve.png``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from grpo_helpers.carry_over import without_shortcuts
from grpo_helpers.command_line import run_command
from grpo_helpers.course_summary import comparisons_on_tests
from grpo_helpers.files import project_root, read_json, write_atomically, write_json
from grpo_helpers.run_folder import BASE, BEST_FILE, ITEM_SCORES_FILE, RunFolder
from grpo_helpers.scoring import scores_from_table
from grpo_helpers.selection import compare
from grpo_helpers.splits import TEST, TEST_NONCE, TEST_UNSEEN_NORMS, TEST_UNSEEN_WORDS
from grpo_helpers.statistics import Comparison
from tools.experiments.recorded_runs import curves_on_dev
from tools.pages.markdown import fill_template

RESULTS = project_root() / "docs" / "results.json"
CURVE = project_root() / "docs" / "learning_curve.png"
BEGIN = "<!-- results:begin -->"
END = "<!-- results:end -->"
RULE = "choice between two spellings"  # of invented words, where only a rule helps
FIGURES = (
    "metric",
    "items",
    "reference_mean",
    "mean",
    "difference",
    "low",
    "high",
    "wins",
    "losses",
    "p_value",
)


@dataclass(frozen=True)
class Wording:
    """How one README words the results.

    Attributes:
        template: The file in ``tools/pages/templates``.
        metrics: The name of each metric.
        unseen: The name of a row of unseen words or norms, with ``{split}`` and ``{items}``.
        rule: The name of the row on invented words that only a rule answers, with ``{items}``.
        splits: The name of each unseen split, by its title.
        interval: An interval, with ``{low}`` and ``{high}``.
    """

    template: str
    metrics: dict[str, str]
    unseen: str
    rule: str
    splits: dict[str, str]
    interval: str


WORDINGS = {
    "README.md": Wording(
        template="readme_results.md",
        metrics={
            "em": "correct sentence (exact match)",
            "choice": "correct choice, format ignored",
            "format": "required answer format",
        },
        unseen="correct sentence on {split} ({items} questions)",
        rule="the right one of two spellings of invented words ({items} questions; a guess: 0.5)",
        splits={
            TEST_UNSEEN_WORDS.title: "unseen words",
            TEST_NONCE.title: "invented words",
            TEST_UNSEEN_NORMS.title: "unseen norms",
        },
        interval="[{low:+.1f}, {high:+.1f}]",
    ),
    "README.ko.md": Wording(
        template="readme_results.ko.md",
        metrics={
            "em": "정답 문장 일치(EM)",
            "choice": "형식을 따지지 않은 선택 정확도",
            "format": "형식 준수",
        },
        unseen="정답 문장 일치, {split} ({items}문항)",
        rule="지어낸 단어의 두 표기 가운데 옳은 것을 고른 비율 ({items}문항, 찍으면 0.5)",
        splits={
            TEST_UNSEEN_WORDS.title: "처음 보는 단어",
            TEST_NONCE.title: "지어낸 단어",
            TEST_UNSEEN_NORMS.title: "처음 보는 규범",
        },
        interval="({low:+.1f}~{high:+.1f})",
    ),
}


def results(run_dir: Path) -> dict[str, Any]:
    """Return what is published of a finished run: choice, cost, gains on the test sets."""
    report = read_json(run_dir / BEST_FILE)

    rows = []
    for split, comparison in comparisons_on_tests(report):
        figures = {name: comparison[name] for name in FIGURES}
        rows.append({"split": split, **figures})

    rule = asdict(choice_between_two(run_dir, report["best_checkpoint"])) | {"metric": RULE}
    rows.append({"split": TEST_NONCE.title, **{name: rule[name] for name in FIGURES}})

    seconds = max(row["seconds"] for row in RunFolder(run_dir).log.rows())
    return {
        "best_checkpoint": report["best_checkpoint"],
        "minutes": round(seconds / 60, 1),
        "test": rows,
    }


def choice_between_two(run_dir: Path, best: str) -> Comparison:
    """Compare the choices of a checkpoint with the base's, where only a rule helps.

    These are 선택형 questions about invented words of two-way families.
    """
    items = pd.read_csv(TEST_NONCE.answer_folder(run_dir) / ITEM_SCORES_FILE)
    return compare(scores_from_table(without_shortcuts(items)), best, BASE, "choice")


def block(published: dict[str, Any], page: str) -> str:
    """Return the results as a README shows them, with their marks.

    Args:
        published: The content of ``docs/results.json``.
        page: A key of :data:`WORDINGS`.
    """
    wording = WORDINGS[page]
    rows = [_row(row, wording) for row in published["test"]]
    text = fill_template(
        wording.template,
        minutes=published["minutes"],
        best=published["best_checkpoint"],
        items=published["test"][0]["items"],
        rows="\n".join(rows),
    )
    return f"{BEGIN}\n{text}{END}"


def _row(row: dict[str, Any], wording: Wording) -> str:
    if row["metric"] == RULE:
        name = wording.rule.format(items=row["items"])
    elif row["split"] == TEST.title:
        name = wording.metrics[row["metric"]]
    else:
        split = wording.splits[row["split"]]
        name = wording.unseen.format(split=split, items=row["items"])

    gain = 100 * row["difference"]
    interval = wording.interval.format(low=100 * row["low"], high=100 * row["high"])
    return f"| {name} | {row['reference_mean']:.3f} | {row['mean']:.3f} | {gain:+.1f} {interval} |"


def write_block(published: dict[str, Any], page: str) -> None:
    """Put the results between the marks of a README."""
    file = project_root() / page
    before, rest = file.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    text = before + block(published, page) + after
    write_atomically(file, lambda opened: opened.write(text))


def draw_curve() -> None:
    """Draw exact match on dev, epoch by epoch, for every recorded seed of the default run."""
    import matplotlib.pyplot as plt

    from grpo_helpers.plots import COLORS, use_course_style

    use_course_style()
    curves = curves_on_dev()
    mean = curves.mean(axis=1)
    epochs = [name.replace("_", " ") for name in curves.index[1:]]
    names = ["untrained", *epochs]

    fig, ax = plt.subplots(figsize=(7, 2.8))
    ax.plot(names, curves, color=COLORS["em"], alpha=0.3, linewidth=1)
    ax.plot(names, mean, color=COLORS["em"], marker="o")
    ax.set(ylabel="exact match on dev", ylim=(0.4, 1.0))

    gain = f"From {mean.iloc[0]:.2f} to {mean.iloc[-1]:.2f}"
    ax.set_title(f"{gain} on sentences never trained on, mean of {curves.shape[1]} seeds")
    fig.savefig(CURVE, dpi=110, bbox_inches="tight", metadata={"Software": None})


def publish(run_dir: Path) -> None:
    """Write the results of a run, and everything that is made of them."""
    published = results(run_dir)
    write_json(RESULTS, published)
    for page in WORDINGS:
        write_block(published, page)
    draw_curve()


def main(argv: Sequence[str] | None = None) -> int:
    """Publish a run; return 0, or 2 if there is no such run."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.course.publish", description=__doc__.splitlines()[0]
    )
    parser.add_argument("run", nargs="?", default="default", help="a finished run in runs/")
    args = parser.parse_args(argv)

    def body() -> int:
        publish(project_root() / "runs" / args.run)
        return 0

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
