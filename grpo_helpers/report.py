"""What readers get of an evaluation: the article's block, the choice in words, and two files.

In: scores, and the choice made from them. Out: text for a terminal, ``best_checkpoint.json`` and
``report.html``, in which every answer can be read beside the gold one, and groups of the training
can be looked into. The article's own report is the block; the rest says how certain the choice is.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from grpo_helpers.answers import split_thought
from grpo_helpers.files import read_json, replace_halves, write_atomically, write_json
from grpo_helpers.inspector import Inspector
from grpo_helpers.metrics import ENCODER, ENCODER_LAYERS
from grpo_helpers.questions import Item
from grpo_helpers.rewards import registered
from grpo_helpers.run_folder import BASE, BEST_FILE, answer_file_name, checkpoint_order
from grpo_helpers.scoring import Answers, Scores, checkpoint_means
from grpo_helpers.selection import Choice, choose
from grpo_helpers.statistics import TOLERANCE, Comparison

ARTICLE_ROWS = {  # metric -> its name in the article's block
    "rouge1": "ROUGE-1",
    "bertscore": "BERTScore",
    "em": "EM",
    "final_mean": "Final Mean",
}
PARTS = ("em", "choice", "format", "rouge1", "bertscore")  # scores shown beside an answer
EXTRA = ("category", "gloss")  # what the page shows of an item's extra fields
TRAINING_TITLE = "Training, group by group: drag the weights of the rewards"


# -- text ----------------------------------------------------------------------------------------


def article_block(scores: Scores, aggregate: str = "article") -> str:
    """Return the report in the article's form: a block per file, the best file at the end.

    Args:
        scores: Scores per checkpoint, metric and item.
        aggregate: How the Final Mean is computed, one of ``metrics.AGGREGATES``.
    """
    means = checkpoint_means(scores, aggregate)
    best = choose(scores, "highest", aggregate)
    lines = []

    for name, row in means.items():
        lines.append(f"File: {answer_file_name(name)}")
        for metric, label in ARTICLE_ROWS.items():
            lines.append(f"   - {label:<15}: {row[metric]:.4f}")
        lines.append("")

    lines.append("Best Final Mean:")
    lines.append(f"   File       : {answer_file_name(best)}")
    lines.append(f"   Final Mean : {means[best]['final_mean']:.4f}")
    return "\n".join(lines)


def choice_lines(choice: Choice) -> str:
    """Return two lines: which checkpoint is highest, which was chosen, and how certain that is.

    Where the base alone was scored, one line says that there is nothing to choose.
    """
    if set(choice.checkpoints) == {BASE}:
        return (
            f"Only the base model ({BASE}) was scored: there is no checkpoint to choose, "
            "and nothing to say about a training."
        )
    return f"{_highest_line(choice)}\n{_chosen_line(choice)}"


def _highest_line(choice: Choice) -> str:
    highest = choice.checkpoints[choice.highest]
    others = [name for name in choice.tied if name != choice.highest]
    equal = []
    for name in others:
        distance = abs(choice.checkpoints[name].final_mean - highest.final_mean)
        if distance < TOLERANCE:
            equal.append(name)

    # Of checkpoints with equal scores, the first gets all the probability: that would mislead.
    if equal:
        certainty = f"same Final Mean as {', '.join(equal)}"
    else:
        share = f"{highest.probability_best:.0%}"
        certainty = f"also highest on {share} of resampled question sets"

    if others:
        rivals = f"statistically tied with it: {', '.join(others)}."
    else:
        rivals = "all others are significantly lower."

    return f"Highest: {choice.highest} (of {len(choice.checkpoints)}; {certainty}); {rivals}"


def _chosen_line(choice: Choice) -> str:
    name = choice.best_checkpoint
    chosen = choice.checkpoints[name]
    final_mean = f"{chosen.final_mean:.3f} [{chosen.low:.3f}, {chosen.high:.3f}]"
    line = f"Chosen ({choice.rule}): {name}, Final Mean {final_mean}"

    gain = chosen.versus_base
    if gain is None:
        return f"{line}."

    points = f"{100 * gain.difference:+.1f} points"
    ends = f"[{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"
    verdict = "not significantly better"
    if choice.better_than_base:
        verdict = "significantly better"
    return f"{line}; against the base {points} {ends}, p = {gain.p_holm:.2g}: {verdict}."


# -- best_checkpoint.json ------------------------------------------------------------------------


@dataclass(frozen=True)
class HeldOutResults:
    """How the chosen checkpoint compares with the base on questions that did not choose it.

    Attributes:
        test: Comparisons on the test set, one per metric.
        by_split: Comparisons on dev and on each test set, by the split's title.
    """

    test: Sequence[Comparison]
    by_split: Mapping[str, Sequence[Comparison]]

    def to_dict(self) -> dict[str, Any]:
        """Return the results as ``best_checkpoint.json`` stores them."""
        by_split = {}
        for split, comparisons in self.by_split.items():
            by_split[split] = [asdict(comparison) for comparison in comparisons]

        return {
            "test_versus_base": [asdict(comparison) for comparison in self.test],
            "by_split": by_split,
        }


def evaluate_command(
    choice: Choice,
    input_dir: str | Path,
    label_path: str | Path,
    *,
    encoder: str = ENCODER,
    encoder_layers: int = ENCODER_LAYERS,
) -> str:
    """Return the command that makes the same choice again from the same answers.

    Args:
        choice: The choice.
        input_dir: The folder with the answers.
        label_path: The file with the gold answers.
        encoder: BERTScore's encoder; the course's own need not be named.
        encoder_layers: The layer of it that is compared.
    """
    words = ["python", "-m", "grpo_helpers.evaluate_json"]
    words += ["--input_dir", str(input_dir), "--label_path", str(label_path)]
    words += ["--rule", choice.rule, "--aggregate", choice.aggregate]

    if (encoder, encoder_layers) != (ENCODER, ENCODER_LAYERS):
        words += ["--encoder", encoder, "--encoder_layers", str(encoder_layers)]
    return shlex.join(words)


def write_choice(
    output_dir: str | Path,
    choice: Choice,
    *,
    input_dir: str | Path,
    label_path: str | Path,
    tests: HeldOutResults | None = None,
    encoder: str = ENCODER,
    encoder_layers: int = ENCODER_LAYERS,
) -> Path:
    """Write ``best_checkpoint.json``, with the command that repeats the choice.

    Args:
        output_dir: The folder that the file goes to.
        choice: What :func:`grpo_helpers.selection.describe_choice` returned.
        input_dir: The folder with the answers, as the command shall name it.
        label_path: The file with the gold answers, as the command shall name it.
        tests: Results on the test sets. Without them, those that the file already holds are
            retained, provided that they are of the same checkpoint.
        encoder: BERTScore's encoder, as the command shall name it.
        encoder_layers: The layer of it that is compared.

    Returns:
        The path of the file.

    Raises:
        InputError: The file exists and is not JSON.
    """
    path = Path(output_dir) / BEST_FILE
    content = choice.to_dict()

    if tests is not None:
        content |= tests.to_dict()
    content["command"] = evaluate_command(
        choice, input_dir, label_path, encoder=encoder, encoder_layers=encoder_layers
    )

    if tests is None and path.is_file():
        earlier = read_json(path)
        if earlier.get("best_checkpoint") == choice.best_checkpoint:
            content = earlier | content

    return write_json(path, content)


# -- report.html ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReportSplit:
    """The questions of one split with what was answered.

    Attributes:
        items: The questions with their gold answers.
        answers: One answer per item, by checkpoint.
        scores: Scores per checkpoint, metric and item.
    """

    items: Sequence[Item]
    answers: Answers
    scores: Scores


def write_report(
    path: str | Path,
    splits: Mapping[str, ReportSplit],
    best: str,
    title: str = "answers",
    inspector: Inspector | None = None,
) -> Path:
    """Write ``report.html``: every answer beside the gold one, in one file that needs no network.

    A question is *flipped* where the chosen checkpoint and the base differ in exact match. A
    thought is folded above its answer, and is not compared with the gold one. Answers and thoughts
    are put into the page as text, never as HTML, and the page's policy runs no script but its own.

    Args:
        path: The file that is written.
        splits: What the page shows, by the name of the split.
        best: The chosen checkpoint.
        title: The title of the page.
        inspector: Groups of the run's completions, for a section above the answers.

    Returns:
        The path of the file.
    """
    parts = _parts_shown(splits)
    items: list[dict[str, Any]] = []
    names: set[str] = set()

    for name, split in splits.items():
        items.extend(_page_items(name, split, parts))
        names.update(split.answers)

    data = {
        "title": title,
        "base": BASE,
        "best": best,
        "checkpoints": sorted(names, key=checkpoint_order),
        "parts": parts,
        "items": items,
    }
    page = _filled_page(data, inspector)
    return write_atomically(Path(path), lambda file: file.write(page))


def _parts_shown(splits: Mapping[str, ReportSplit]) -> list[str]:
    """Return the metrics that every checkpoint was scored by: the usual ones, and your own."""
    own = [name for name in registered() if name not in PARTS]
    parts = list(PARTS)

    for name in own:
        scored = [name in row for split in splits.values() for row in split.scores.values()]
        if all(scored):
            parts.append(name)

    return parts


def _page_items(name: str, split: ReportSplit, parts: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield what the page holds of each question of a split."""
    for place, item in enumerate(split.items):
        answers = {}
        for checkpoint, texts in split.answers.items():
            answer = _shown_answer(texts[place])
            for part in parts:
                answer[part] = _shown_score(split.scores[checkpoint][part][place])
            answers[checkpoint] = answer

        extra = {key: str(item.extra.get(key, "")) for key in EXTRA}
        yield {
            "split": name,
            "id": str(item.id),
            "type": item.question_type,
            **extra,
            "question": item.question,
            "gold": item.answer or "",
            "answers": answers,
        }


def _shown_answer(text: str) -> dict[str, Any]:
    """Return an answer as the page shows it: its text and, only if it has one, its thought."""
    split = split_thought(text)
    shown: dict[str, Any] = {"text": split.answer}

    if split.thought or split.fault:
        shown["thought"] = split.thought
        shown["fault"] = split.fault
    return shown


def _shown_score(score: float) -> float | None:
    """Return a score as the page shows it; None where the item was not scored."""
    if math.isnan(score):
        return None
    return round(score, 3)


def _filled_page(data: Mapping[str, Any], inspector: Inspector | None) -> str:
    """Return the page with its data, and with the hashes of the only scripts that may run."""
    page = (Path(__file__).parent / "report.html").read_text(encoding="utf-8")
    section = ""
    if inspector is not None:
        summary = f"<summary>{TRAINING_TITLE}</summary>"
        section = f'<details class="training">{summary}\n{inspector.html}</details>\n'

    text = json.dumps(data, ensure_ascii=False)
    text = text.replace("<", "\\u003c")  # no tag can end or begin in the data

    fill = {
        "SCRIPT_DIGESTS": " ".join(_script_digests(page + section)),
        "PAGE_DATA": text,
        "PAGE_INSPECTOR": section,
    }
    filled = re.sub("|".join(fill), lambda found: fill[found[0]], page)
    return replace_halves(filled)  # half a surrogate pair is not text


def _script_digests(page: str) -> Iterator[str]:
    """Yield the hash of each script of a page, as its policy names it."""
    for script in re.findall("<script>(.*?)</script>", page, re.DOTALL):
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        yield f"'sha256-{digest}'"
