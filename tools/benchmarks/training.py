"""What the course's own code costs in training, and what answering in place saves: part of ``make bench``.

In place: the model in training answers dev questions in batches. The article's way: at every save the base model is
loaded anew beside the one in training, the adapter put on it, and each question answered alone. Each way runs in a
process of its own, which also gives its peak memory. Our own code: seconds a step of ``grpo_helpers.training`` against
a bare TRL script with the same settings and rewards, in turns. Exit 1 below a target.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np

from grpo_helpers.files import project_root
from grpo_helpers.settings import TrainSettings
from tools.benchmarks.rewards import Lines, report

QUESTIONS = 64
STEPS, TURNS = 4, 3  # steps timed in a turn, after a first one that is not; turns of each kind


def settings_of(folder: Path, name: str) -> TrainSettings:
    """Return the default run's settings, for a few steps without a save."""
    return TrainSettings(
        run_name=name, output_dir=str(folder), max_steps=STEPS + 2, save_strategy="no"
    )


# -- answering -----------------------------------------------------------------------------------------------------


def answer(way: str, adapter: str) -> dict[str, float | list[str]]:
    """Return seconds, peak memory (MiB) and answers of one way, in this process; the model in training is there."""
    from grpo_helpers.inference import generate_answers
    from grpo_helpers.models import load_tokenizer, load_with_adapter
    from grpo_helpers.prompts import PromptSource, load_prompted

    settings = TrainSettings()
    source = PromptSource.from_settings(settings)
    _, prompts = load_prompted(settings.eval_data_path, source)
    prompts = prompts[:QUESTIONS]
    live = load_with_adapter(settings.model_name, adapter)
    tokenizer = load_tokenizer(settings.model_name)
    generate_answers(live, tokenizer, prompts[:2], 2)  # warm
    started = time.perf_counter()
    if way == "in place":
        answers = generate_answers(live, tokenizer, prompts, settings.inference_batch_size)
    else:
        second = load_with_adapter(settings.model_name, adapter)
        answers = [generate_answers(second, tokenizer, [prompt], 1)[0] for prompt in prompts]
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "peak": peak, "answers": answers}


def bench_answering(folder: Path) -> tuple[Lines, dict[str, float]]:
    """Print both ways; return the target and the facts behind it."""
    from peft import get_peft_model

    from grpo_helpers.models import load_model, lora_config

    adapter = folder / "adapter"
    get_peft_model(
        load_model(TrainSettings().model_name), lora_config(TrainSettings())
    ).save_pretrained(adapter)
    found = {}
    for way in ("in place", "the article's way"):
        command = [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "tools.benchmarks.training",
            "--way",
            way,
            "--adapter",
            str(adapter),
        ]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=project_root(), check=True
        )
        found[way] = json.loads(done.stdout.splitlines()[-1])
        print(
            f"{QUESTIONS} questions, {way}: {found[way]['seconds']:.1f} s, peak {found[way]['peak']:.0f} MiB"
        )
    ours, theirs = found.values()
    same = np.mean([a == b for a, b in zip(ours["answers"], theirs["answers"], strict=True)])
    print(f"answers that are the same in batches and alone: {same:.0%}")
    ratio = theirs["seconds"] / ours["seconds"]
    facts = {
        "questions": QUESTIONS,
        "in_place_seconds": round(ours["seconds"], 1),
        "in_place_mib": round(ours["peak"]),
    }
    facts |= {"reload_seconds": round(theirs["seconds"], 1), "reload_mib": round(theirs["peak"])}
    return [("answering in place, times faster >= 5", ratio, ratio >= 5)], facts


# -- a training step -----------------------------------------------------------------------------------------------


def step_seconds(train, trainer_class) -> list[float]:
    """Return the seconds of each step but the first, of a function that trains."""
    starts: list[float] = []
    begin = trainer_class.training_step

    def training_step(self, *args, **kwargs):
        if not starts or self.state.global_step == len(starts):
            starts.append(time.perf_counter())
        return begin(self, *args, **kwargs)

    trainer_class.training_step = training_step
    try:
        train()
    finally:
        trainer_class.training_step = begin
    return [b - a for a, b in pairwise(starts)][1:]


def bare(settings: TrainSettings) -> None:
    """Train as a script of a page would, with nothing of ours but the prompts, the settings and the rewards."""
    import torch
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, set_seed
    from trl import GRPOTrainer

    from grpo_helpers.prompts import build_dataset
    from grpo_helpers.rewards import reward_functions
    from grpo_helpers.training import grpo_config, prepare

    prepared, source = prepare(settings), str(project_root() / settings.model_name)
    torch.set_num_threads(settings.num_threads)
    set_seed(settings.seed)
    functions, _ = reward_functions(
        settings.reward_weights, settings.bertscore_model, settings.bertscore_layers
    )
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32),
        args=grpo_config(settings),
        processing_class=AutoTokenizer.from_pretrained(source, padding_side="left"),
        train_dataset=build_dataset(prepared.train_items, prepared.train_prompts),
        reward_funcs=functions,
        peft_config=LoraConfig(
            r=settings.lora_r,
            lora_alpha=settings.lora_alpha,
            target_modules=settings.lora_target_modules.split(","),
            task_type="CAUSAL_LM",
        ),
    )
    trainer.remove_callback(PrinterCallback)  # a bench's output is its figures
    trainer.train()


def bench_steps(folder: Path) -> tuple[Lines, dict[str, float]]:
    """Print the seconds of both kinds, in turns; return the target and the facts behind it."""
    from trl import GRPOTrainer

    from grpo_helpers.training import train

    seconds: dict[str, list[float]] = {"ours": [], "bare": []}
    for turn in range(TURNS):
        for name, function in (("ours", train), ("bare", bare)):
            settings = settings_of(folder, f"{name}-{turn}")
            seconds[name] += step_seconds(
                lambda function=function, settings=settings: function(settings), GRPOTrainer
            )
    middle = {name: float(np.median(values)) for name, values in seconds.items()}
    print(
        f"seconds a step, median of {len(seconds['ours'])}: ours {middle['ours']:.2f}, bare {middle['bare']:.2f}"
    )
    ratio = middle["ours"] / middle["bare"]
    facts = {f"step_seconds_{name}": round(value, 2) for name, value in middle.items()}
    return [("a step of ours against a bare TRL script <= 1.03", ratio, ratio <= 1.03)], facts


def main() -> int:
    """Run the bench; return 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--record", action="store_true", help="keep the figures in data/reference_runs/bench.json"
    )
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--adapter", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way:
        print(json.dumps(answer(args.way, args.adapter)))
        return 0
    with tempfile.TemporaryDirectory(prefix="grpo-bench-") as folder:
        (answered, one), (stepped, other) = bench_answering(Path(folder)), bench_steps(Path(folder))
    return report("training", answered + stepped, one | other, args.record)


if __name__ == "__main__":
    sys.exit(main())
