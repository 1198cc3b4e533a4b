"""How probable is a right answer, question by question: ``python -m tools.experiments.coverage``.

*pass@k* is the share of questions of which at least one of k samples is right. One usually samples
many times and estimates it. Here nothing is sampled: an answer is right if it states the gold
sentence, and how probable that is follows from the logits, at the temperature of the default run
(of any run, so that runs can be compared):

    p = product of P(token | what is before it) over the tokens of ``"gold sentence"가 옳다.``,
    pass@k of the question = 1 - (1 - p) ** k.

What that leaves out are right answers that are written in another way; the base and what is made of
it write hardly any (``tests/tools/test_coverage.py`` compares with samples). A group of G samples
is all right with probability p ** G and all wrong with (1 - p) ** G: those teach GRPO nothing.

In: run folders with their adapters. Out: ``data/reference_runs/coverage/<name>.csv``, one row for
each question of dev and about unseen words, one column for each checkpoint.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from grpo_helpers.answers import format_answer, parse_gold
from grpo_helpers.command_line import run_command
from grpo_helpers.coverage import COVERAGE_FOLDER
from grpo_helpers.files import InputError, write_atomically
from grpo_helpers.inference import AnswerOptions, Questions, load_questions
from grpo_helpers.kept_model import KeptModel
from grpo_helpers.questions import Item
from grpo_helpers.run_folder import BASE, RunFolder
from grpo_helpers.settings import TrainSettings
from grpo_helpers.splits import DEV, TEST_UNSEEN_WORDS
from tools.experiments.form_probability import CachedRows, sums_of
from tools.experiments.recorded_runs import FOLDER
from tools.tiny_model.copying import EMBEDDED

OUT = FOLDER / COVERAGE_FOLDER
SPLITS = (DEV, TEST_UNSEEN_WORDS)
BATCH_SIZE = 64  # questions at once
DIGITS = 4  # significant ones, of a recorded probability


def opening_of_gold(item: Item) -> str:
    """Return what every answer begins with that states the gold sentence of an item.

    >>> opening_of_gold(Item("1", "교정형", "?", '"며칠 걸렸다."가 옳다. 까닭.'))
    '"며칠 걸렸다."가 옳다.'
    """
    gold = parse_gold(item.answer or "")
    return format_answer(gold.sentences[0], "").strip()


def probability_of_gold(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    items: Sequence[Item],
    *,
    temperature: float,
) -> np.ndarray:
    """Return how probable it is that a sample states the gold sentence, (items,).

    Args:
        model: A causal language model, with or without an adapter.
        tokenizer: Its tokenizer.
        texts: The prompts, as the model reads them.
        items: Their items.
        temperature: Of the sampling.
    """
    prompts = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    openings = [opening_of_gold(item) for item in items]
    answers = tokenizer(openings, add_special_tokens=False)["input_ids"]

    # What has about the same length is asked together, so that little is padding.
    order = sorted(range(len(items)), key=lambda place: len(prompts[place]))
    logs = np.zeros(len(items))
    model.eval()
    with torch.no_grad():
        for start in range(0, len(order), BATCH_SIZE):
            places = order[start : start + BATCH_SIZE]
            batch = [(prompts[place], answers[place]) for place in places]
            logs[places] = _of_batch(model, tokenizer.pad_token_id, batch, temperature)
    return np.exp(logs)


def _of_batch(
    model: Any, pad: int, batch: Sequence[tuple[list[int], list[int]]], temperature: float
) -> list[float]:
    """Return the log-probability of each answer after its prompt."""
    rows = [tuple(prompt + answer[:-1]) for prompt, answer in batch]
    width = max(len(answer) for _, answer in batch)
    log_probs = CachedRows(model, pad).read(rows, keep=width)

    # Softening log-probabilities gives what softening the logits gives.
    log_probs = (log_probs / temperature).log_softmax(-1)

    return sums_of(log_probs, [answer for _, answer in batch])


def measure_run(run: RunFolder) -> pd.DataFrame:
    """Return the probability of a right answer for every question and checkpoint of a run.

    Returns:
        The columns ``split``, ``id``, ``question_type``, ``kind`` and one for each checkpoint.
    """
    options = AnswerOptions.of_run(run, BASE)

    tables = []
    with KeptModel() as kept:
        for split in SPLITS:
            questions = load_questions(f"{EMBEDDED}/{split.file}", options)
            table = _measure_questions(run, questions, options, kept)
            tables.append(table.assign(split=split.key))

    table = pd.concat(tables, ignore_index=True)
    return table[["split", *table.columns.drop("split")]]


def _measure_questions(
    run: RunFolder, questions: Questions, options: AnswerOptions, kept: KeptModel
) -> pd.DataFrame:
    """Return the probabilities for the questions of one split."""
    items = questions.items
    columns: dict[str, Any] = {
        "id": [item.id for item in items],
        "question_type": [item.question_type for item in items],
        "kind": [item.extra["kind"] for item in items],
    }
    for checkpoint in run.checkpoints():
        adapter = run.adapter(checkpoint)
        with kept.ready(options.base_model, str(adapter) if adapter else None) as model:
            columns[checkpoint] = probability_of_gold(
                model,
                questions.tokenizer,
                questions.texts,
                items,
                temperature=TrainSettings.temperature,
            )
    return pd.DataFrame(columns)


def record(run: RunFolder, name: str) -> Path:
    """Write the table of a run; return its path."""
    OUT.mkdir(parents=True, exist_ok=True)
    target = OUT / f"{name}.csv"
    table = measure_run(run)
    write_atomically(
        target, lambda file: table.to_csv(file, index=False, float_format=f"%.{DIGITS}g")
    )
    return target


# -- from the shell --------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """Record the probabilities of one run; return 0, or 2 on bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.experiments.coverage", description=__doc__.splitlines()[0]
    )
    parser.add_argument("run", help="a run folder with its adapters, runs/default for one")
    parser.add_argument("--name", help="what to call it; default: the name of its folder")
    args = parser.parse_args(argv)

    def body() -> int:
        run = RunFolder(args.run)
        if not run.path.is_dir():
            raise InputError(f"no folder {args.run}")
        print(record(run, args.name or run.path.name))
        return 0

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
