"""What makes a model think? ``python -m tools.experiments.thinking`` trains it in several ways.

In: ``data/thinking_model``, ``params/thinking``, the word-chain game. The ways, three seeds each:

- ``grpo``: notebook 07's training, which sees the answer only;
- ``brevity``: the same, but a completion also earns points for being short;
- ``gold``: supervised training on the gold answers, which hold no thoughts;
- ``rejection``: supervised training on the base's own samples whose answer is right;
- ``taught``: supervised training on gold answers with the true chain as a thought, which nobody has
  written down for a real task;
- ``per-answer`` and ``constant``: ``grpo`` with another loss (``loss_type`` grpo, dr_grpo), which
  differ where answers differ in length: every token counts the same in ``grpo`` (dapo), every
  answer in ``per-answer``; ``constant`` divides by the longest length allowed.

Two more need a model that is not in the repository, whose thoughts are words at random:
``python -m tools.word_chain.train --wanders --out runs/astray_model``, about 40 minutes. ``astray``
is GRPO on it; ``astray-base`` is that model before training.

All have the same questions. The model is the one after the last step; nothing is chosen.

Out: ``data/reference_runs/thinking/<way>_<seed>.csv``, with one row for each answer to the two test
sets: greedy, sampled, without a thought (``forbidden``) and after a wrong one (``misled``);
``.json``, how it was made; for the ways of GRPO ``_log.csv``, what the log says of each step.
``base.csv`` has the answers of the model before any training.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from grpo_helpers import thinking_runs
from grpo_helpers.command_line import run_command
from grpo_helpers.data import item_to_row, load_items
from grpo_helpers.files import project_root, write_json
from grpo_helpers.models import load_model, load_tokenizer
from grpo_helpers.run_folder import RunFolder
from grpo_helpers.settings import TrainSettings
from grpo_helpers.splits import TEST, TEST_UNSEEN_WORDS
from grpo_helpers.thoughts import THOUGHT_LENGTH, THOUGHT_RATIO
from grpo_helpers.training import prepare, read_params
from tools.experiments.begun_answers import begun_answers
from tools.experiments.recorded_runs import FOLDER
from tools.experiments.recording import write_table
from tools.experiments.ways import (
    GOLD,
    GRPO,
    REJECTION,
    train_on_gold,
    train_on_own_matches,
    train_supervised,
    train_with_grpo,
)
from tools.word_chain.questions import thought
from tools.word_chain.thinking_card import Gate, add_gate, answer_table

OUT = FOLDER / thinking_runs.FOLDER
PROFILE = "params/thinking/04_train.yaml"
QUESTIONS = 640  # as many as GRPO's steps ask
SUPERVISED_STEPS = 300  # of 16 answers each
SEEDS = (0, 1, 2)
SPLITS = (TEST, TEST_UNSEEN_WORDS)
LOGGED = (
    "step",
    "seconds",
    "reward",
    "rewards/em_reward/mean",
    THOUGHT_RATIO,
    THOUGHT_LENGTH,
    "completions/mean_length",
    "frac_reward_zero_std",
)
BREVITY = "brevity"
TAUGHT = "taught"
PER_ANSWER = "per-answer"
CONSTANT = "constant"
ASTRAY = "astray"
ASTRAY_BASE = "astray-base"
ASTRAY_MODEL = "runs/astray_model"
CHANGES: dict[str, dict[str, Any]] = {  # to the settings of ``grpo``
    BREVITY: {
        "reward_module": "tools/experiments/brevity.py",
        "reward_weights": {"em": 1.0, "format": 0.2, "brevity": 2.0},
    },
    PER_ANSWER: {"loss_type": "grpo"},
    CONSTANT: {"loss_type": "dr_grpo"},
    ASTRAY: {"model_name": ASTRAY_MODEL},
    ASTRAY_BASE: {"model_name": ASTRAY_MODEL},
}


def settings_of(way: str, seed: int, threads: int) -> TrainSettings:
    """Return the settings of a training; its questions are written beside the runs."""
    run_name = f"thinking-{way}-{seed}"
    profile = read_params(PROFILE)
    items = load_items(profile.train_data_path)[:QUESTIONS]
    file = project_root() / "runs" / f"{run_name}.json"
    file.parent.mkdir(exist_ok=True)
    write_json(file, [item_to_row(item) for item in items])

    settings = replace(
        profile,
        run_name=run_name,
        train_data_path=str(file),
        eval_data_path="data/smoke/dev.json",  # nothing is chosen
        seed=seed,
        num_threads=threads,
    )
    return replace(settings, **CHANGES.get(way, {}))


def train_on_thoughts(settings: TrainSettings, steps: int) -> Any:
    """Train on the gold answers, each after the true chain as a thought; return the model."""
    from tools.experiments.supervised import training_row

    prepared = prepare(settings)
    rows = []
    for prompt, item in zip(prepared.train_prompts, prepared.train_items, strict=True):
        text = thought(item.extra["chain"].split()) + (item.answer or "")
        rows.append(training_row(prompt, text))
    return train_supervised(settings, rows, steps)


def leave_untrained(settings: TrainSettings, steps: int) -> Any:
    """Return the model as it is."""
    return load_model(settings.model_name).eval()


WAYS = {
    GRPO: train_with_grpo,
    GOLD: train_on_gold,
    REJECTION: train_on_own_matches,
    TAUGHT: train_on_thoughts,
    BREVITY: train_with_grpo,
    PER_ANSWER: train_with_grpo,
    CONSTANT: train_with_grpo,
    ASTRAY_BASE: leave_untrained,
    ASTRAY: train_with_grpo,
}
NEED_ANOTHER_MODEL = (ASTRAY_BASE, ASTRAY)
OF_THE_COMMITTED_MODEL = [way for way in WAYS if way not in NEED_ANOTHER_MODEL]


def steps_of(way: str, settings: TrainSettings) -> int:
    """Return how many optimizer steps a way takes."""
    steps = {train_with_grpo: settings.max_steps, leave_untrained: 0}
    return steps.get(WAYS[way], SUPERVISED_STEPS)


def answers_of(model: Any, tokenizer: Any) -> pd.DataFrame:
    """Return one row for each answer to the test sets, of all four kinds."""
    from transformers import set_seed

    set_seed(0)
    tables = []
    for split in SPLITS:
        for kind in (thinking_runs.GREEDY, thinking_runs.SAMPLED):
            answers = answer_table(model, tokenizer, split, kind)
            tables.append(answers.assign(split=split.key, answers=kind))
        for kind in (thinking_runs.FORBIDDEN, thinking_runs.MISLED):
            answers = begun_answers(model, tokenizer, split, kind)
            tables.append(answers.assign(split=split.key, answers=kind))
    return pd.concat(tables, ignore_index=True)[thinking_runs.ANSWER_COLUMNS]


def make_base(out: Path = OUT) -> Path:
    """Measure the model before any training; return its table, in the folder ``out``."""
    path = out / f"{thinking_runs.BASE}.csv"
    if path.is_file():
        return path

    model_name = read_params(PROFILE).model_name
    answers = answers_of(load_model(model_name).eval(), load_tokenizer(model_name))
    out.mkdir(parents=True, exist_ok=True)
    write_table(path, answers)
    return path


def make(way: str, seed: int, threads: int = 2, out: Path = OUT) -> Path:
    """Train and measure in one way; return its table, which is written when it is complete.

    Args:
        way: One of :data:`WAYS`.
        seed: The seed.
        threads: CPU threads; another number rounds differently, and so samples other answers.
        out: The folder of the tables.
    """
    path = out / f"{way}_{seed}.csv"
    if path.is_file():
        return path

    settings = settings_of(way, seed, threads)
    steps = steps_of(way, settings)
    started = time.perf_counter()
    model = WAYS[way](settings, steps)
    minutes = (time.perf_counter() - started) / 60

    answers = answers_of(model, load_tokenizer(settings.model_name))
    out.mkdir(parents=True, exist_ok=True)
    if WAYS[way] is train_with_grpo:
        log = pd.DataFrame(RunFolder(settings.run_dir).log.step_rows())
        log = log[[column for column in LOGGED if column in log]]
        write_table(out / f"{way}_{seed}{thinking_runs.LOG_ENDING}.csv", log)

    command = "python -m tools.experiments.thinking"
    about = {
        "command": f"{command} --ways {way} --seeds {seed} --threads {threads}",
        "date": datetime.date.today().isoformat(),
        "training_minutes": round(minutes, 1),
        "steps": steps,
    }
    write_json(path.with_suffix(".json"), about)
    write_table(path, answers)
    return path


def measured_gate() -> Gate | None:
    """Return what the trainings say of whether thinking is necessary; None until both are there."""
    ways = thinking_runs.load_ways(OUT)
    if not {GOLD, TAUGHT} <= set(ways["way"]):
        return None

    compared = thinking_runs.compare_ways(
        ways, (GOLD, TAUGHT), TEST_UNSEEN_WORDS.key, thinking_runs.GREEDY
    )
    right = compared["right"].round(3).to_dict()
    return Gate(
        gold=right[thinking_runs.WAYS[GOLD]],
        taught=right[thinking_runs.WAYS[TAUGHT]],
        seeds=int(compared["seeds"].min()),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Make the tables; return 0."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.experiments.thinking", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=OF_THE_COMMITTED_MODEL)
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of each training")
    args = parser.parse_args(argv)

    def body() -> int:
        print(make_base(), flush=True)
        for seed, way in itertools.product(args.seeds, args.ways):
            print(make(way, seed, args.threads), flush=True)
        if gate := measured_gate():
            add_gate(project_root() / read_params(PROFILE).model_name, gate)
        return 0

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
