"""The article's block, the choice in words, and report.html."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from grpo_helpers.files import write_atomically
from grpo_helpers.questions import Item
from grpo_helpers.run_folder import BASE, _file_name, checkpoint_order
from grpo_helpers.scoring import Answers, Scores, checkpoint_means
from grpo_helpers.selection import choose

PARTS = ("em", "choice", "format", "rouge1", "bertscore")  # shown beside an answer


def article_block(scores: Scores, aggregate: str = "article") -> str:
    """Return the report in the article's form."""
    shown = (
        ("ROUGE-1", "rouge1"),
        ("BERTScore", "bertscore"),
        ("EM", "em"),
        ("Final Mean", "final_mean"),
    )
    means, best, lines = (
        checkpoint_means(scores, aggregate),
        choose(scores, "highest", aggregate),
        [],
    )
    for name, row in means.items():
        lines += [
            f"File: {_file_name(name)}",
            *(f"   - {label:<15}: {row[key]:.4f}" for label, key in shown),
            "",
        ]
    final = f"   Final Mean : {means[best]['final_mean']:.4f}"
    return "\n".join([*lines, "Best Final Mean:", f"   File       : {_file_name(best)}", final])


def choice_lines(report: Mapping[str, Any]) -> str:
    """Return in two lines how sure a choice is; ``report`` is :func:`grpo_helpers.selection.describe_choice`'s."""
    chosen, highest, rows = report["best_checkpoint"], report["highest"], report["checkpoints"]
    others = [name for name in report["tied"] if name != highest]
    tied = (
        f"cannot be told from it: {', '.join(others)}."
        if others
        else "every other one is lower for sure."
    )
    row, probability = rows[chosen], rows[highest]["probability_best"]
    level = [
        name
        for name in others
        if abs(rows[name]["final_mean"] - rows[highest]["final_mean"]) < 1e-12
    ]
    found = (
        f"level with {', '.join(level)}"
        if level
        else f"on {probability:.0%} of resampled question sets, too"
    )
    first = f"Highest: {highest} (of {len(rows)}; {found}); {tied}"
    second = f"Chosen ({report['rule']}): {chosen}, Final Mean {row['final_mean']:.3f} "
    second += f"[{row['low']:.3f}, {row['high']:.3f}]"
    if gain := row["versus_base"]:
        difference, low, high = (100 * gain[key] for key in ("difference", "low", "high"))
        verdict = f"p = {gain['p_holm']:.2g}: {'better' if report['better_than_base'] else 'not better for sure'}"
        second += (
            f"; against the base {difference:+.1f} points [{low:+.1f}, {high:+.1f}], {verdict}"
        )
    return f"{first}\n{second}."


def write_report(
    path: str | Path,
    splits: Mapping[str, tuple[list[Item], Answers, Scores]],
    best: str,
    title: str = "answers",
) -> Path:
    """Write ``report.html``: every answer beside the gold one, in one file for a browser that needs no network.

    ``splits`` holds by name: items, answers by checkpoint, scores by checkpoint. ``best`` is the chosen checkpoint; a
    question is *flipped* where it and the base differ in exact match. Answers are put into the page as text, never as
    HTML, and the page's policy runs no script but its own.
    """
    rows: list[dict[str, Any]] = []
    for split, (items, answers, scores) in splits.items():
        for i, item in enumerate(items):
            extra = {key: str(item.extra.get(key, "")) for key in ("category", "gloss")}
            row = {"split": split, "id": str(item.id), "type": item.question_type, **extra}
            row |= {"question": item.question, "gold": item.answer or "", "answers": {}}
            for name, texts in answers.items():
                parts = {part: round(scores[name][part][i], 3) for part in PARTS}
                row["answers"][name] = {"text": texts[i], **parts}
            rows.append(row)
    names = sorted(
        {name for _, answers, _ in splits.values() for name in answers}, key=checkpoint_order
    )
    data = {
        "title": title,
        "base": BASE,
        "best": best,
        "checkpoints": names,
        "parts": PARTS,
        "items": rows,
    }
    page = (Path(__file__).parent / "report.html").read_text(encoding="utf-8")
    script = page.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    text = json.dumps(data, ensure_ascii=False).replace(
        "<", "\\u003c"
    )  # no tag can end or begin in it
    text = text.encode("utf-8", "replace").decode("utf-8")  # half of a surrogate pair is no text
    page = page.replace("SCRIPT_DIGEST", digest).replace("PAGE_DATA", text)
    return write_atomically(Path(path), lambda file: file.write(page))
