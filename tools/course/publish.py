"""The default run's results in the READMEs: numbers, table and learning curve, from one committed file.

``make outputs`` ends here. ``docs/results.json`` is the short form of the run's ``best_checkpoint.json``; the blocks
between the marks of ``README.md`` and ``README.ko.md`` are made of it alone, so a test can hold them to it.
``docs/learning_curve.png`` shows the recorded seeds.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pandas as pd

from grpo_helpers.files import project_root, read_json, write_json
from tools.course.run import unseen_choice
from tools.experiments.record import SEEDS, dev, log_rows

RESULTS = project_root() / "docs" / "results.json"
CURVE = project_root() / "docs" / "learning_curve.png"
WORDS = {
    "README.md": {
        "head": "The default run ({minutes:.0f} minutes of training on 2 CPU cores), {best} chosen on dev, measured "
        "once on {items} test questions whose sentences were never trained on:",
        "columns": "| on test | base | best | points (95 % interval) |",
        "em": "exact match",
        "choice": "choice accuracy, format ignored",
        "format": "format",
        "unseen": "choice accuracy on {split} ({items} questions)",
        "to": "to",
    },
    "README.ko.md": {
        "head": "기본 실행(CPU 코어 2개로 {minutes:.0f}분 학습). dev에서 {best}를 고른 뒤, 학습에 쓰지 않은 "
        "문장으로 된 test {items}문항을 한 번만 풀었다.",
        "columns": "| test | 학습 전 | 선택된 체크포인트 | 차이, 점 (95 % 구간) |",
        "em": "정답 문장 일치(EM)",
        "choice": "형식을 따지지 않은 선택 정확도",
        "format": "형식 준수",
        "unseen": "선택 정확도, {split} ({items}문항)",
        "unseen words": "처음 보는 단어",
        "unseen norms": "처음 보는 규범",
        "to": "~",
    },
}
MARKS = "<!-- results:begin -->", "<!-- results:end -->"


def results(run_dir: Path) -> dict[str, Any]:
    """Return what is told of a finished run: choice, test figures against the base, dev curve, cost."""
    report = read_json(run_dir / "best_checkpoint.json")
    kept = (
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
    rows = [("test", row) for row in report["test_versus_base"]] + unseen_choice(report)
    return {
        "best_checkpoint": report["best_checkpoint"],
        "minutes": round(max(row["seconds"] for row in log_rows(run_dir)) / 60, 1),
        "test": [{"split": split, **{key: row[key] for key in kept}} for split, row in rows],
    }


def block(found: dict[str, Any], page: str) -> str:
    """Return the head and the table of ``page``, with its marks."""
    words = WORDS[page]
    head = words["head"].format(
        minutes=found["minutes"], best=found["best_checkpoint"], items=found["test"][0]["items"]
    )
    lines = [MARKS[0], head, "", words["columns"], "|---|---|---|---|"]
    for row in found["test"]:
        split = words.get(row["split"], row["split"])
        name = (
            words[row["metric"]]
            if row["split"] == "test"
            else words["unseen"].format(split=split, items=row["items"])
        )
        gain, low, high = (f"{100 * row[key]:+.1f}" for key in ("difference", "low", "high"))
        lines.append(
            f"| {name} | {row['reference_mean']:.3f} | {row['mean']:.3f} | {gain} ({low} {words['to']} {high}) |"
        )
    return "\n".join([*lines, MARKS[1]])


def write_block(found: dict[str, Any], page: str) -> None:
    """Put the block between the marks of ``page``."""
    file = project_root() / page
    before, rest = file.read_text(encoding="utf-8").split(MARKS[0])
    file.write_text(before + block(found, page) + rest.split(MARKS[1])[1], encoding="utf-8")


def draw_curve() -> None:
    """Draw exact match on dev, epoch by epoch, of every recorded seed of the default run, and their mean."""
    import matplotlib.pyplot as plt

    from grpo_helpers.plots import COLORS, use_course_style

    use_course_style()
    curves = pd.DataFrame({seed: dev(f"seed_{seed}")["em"] for seed in SEEDS})
    mean, names = (
        curves.mean(axis=1),
        ["untrained", *(name.replace("_", " ") for name in curves.index[1:])],
    )
    fig, ax = plt.subplots(figsize=(7, 2.8))
    ax.plot(names, curves, color=COLORS["em"], alpha=0.3, linewidth=1)
    ax.plot(names, mean, color=COLORS["em"], marker="o")
    ax.set(ylabel="exact match on dev", ylim=(0.4, 1.0))
    ax.set_title(
        f"From {mean.iloc[0]:.2f} to {mean.iloc[-1]:.2f} on sentences never trained on, mean of {len(SEEDS)} seeds"
    )
    fig.savefig(CURVE, dpi=110, bbox_inches="tight", metadata={"Software": None})


def write_outputs(run_dir: Path) -> None:
    """Write the results file, and everything that is made of it."""
    write_json(RESULTS, found := results(run_dir))
    for page in WORDS:
        write_block(found, page)
    draw_curve()


if __name__ == "__main__":
    write_outputs(project_root() / "runs" / (sys.argv[1] if len(sys.argv) > 1 else "default"))
