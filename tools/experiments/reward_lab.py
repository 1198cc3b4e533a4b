"""Record what notebook 02 looks at: ``python -m tools.experiments.reward_lab sample|sweep|encoders``.

``sample`` draws completions from the base model and every checkpoint of a finished default run, on the same dev
questions, to ``data/reward_lab/completions.json``. ``sweep`` runs notebook 04 for each pair of temperature and
learning rate and writes the curves to ``data/reward_lab/curves.json``. ``encoders`` measures layers of BERTScore's
encoder on pairs of our reasons, to ``data/reward_lab/encoders.json``. They take minutes to hours and are committed, so
that a reader can look at them at once; each file names the command, date and settings that made it.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from grpo_helpers.answers import parse_gold
from grpo_helpers.data import load_items
from grpo_helpers.files import project_root, read_json, resolve_path, write_json
from grpo_helpers.metrics import AGGREGATES, ENCODER, BertScore, final_mean, rouge1_reasons
from grpo_helpers.prompts import load_prompted, prompt_texts
from grpo_helpers.run_folder import BASE, checkpoint_order, read_log
from grpo_helpers.scoring import checkpoint_means, evaluate_json
from grpo_helpers.similarity import char_ngrams, jaccard
from tools.course.run import run_course

QUESTIONS, GROUP = 24, 8
TEMPERATURES, RATES = (0.6, 1.0), (1e-3, 3e-4)
SHOWN = (
    "reward",
    "rewards/em_reward/mean",
    "rewards/format_reward/mean",
    "entropy",
    "frac_reward_zero_std",
    "grad_norm",
)
FOLDER = project_root() / "data" / "reward_lab"


def draw(model, tokenizer, prompts: list, parameters: dict[str, Any]) -> list[list[str]]:
    """Return ``GROUP`` sampled completions of each prompt, drawn as in the run's training."""
    import torch

    texts = prompt_texts(prompts, tokenizer)
    batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    with torch.no_grad():
        output = model.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            do_sample=True,
            top_k=0,  # as TRL samples; transformers' own default is 50
            temperature=parameters["temperature"],
            num_return_sequences=GROUP,
            max_new_tokens=parameters["max_completion_length"],
        )
    said = tokenizer.batch_decode(
        output[:, batch["input_ids"].shape[1] :], skip_special_tokens=True
    )
    return [said[i : i + GROUP] for i in range(0, len(said), GROUP)]


def sample(run: Path) -> dict[str, Any]:
    """Return the completions of every checkpoint of a run, with each checkpoint's dev scores."""
    from peft import PeftModel
    from transformers import set_seed

    from grpo_helpers.models import load_model, load_tokenizer

    parameters = read_json(run / "settings.json", "run settings")["parameters"]
    files = [parameters[name] for name in ("eval_data_path", "few_shot_data_path", "instruct_path")]
    items, prompts = load_prompted(*files, parameters["num_few_shot"])
    items, prompts = items[:QUESTIONS], prompts[:QUESTIONS]
    tokenizer = load_tokenizer(parameters["model_name"])
    said = {}
    for name in sorted([BASE, *(path.name for path in run.glob("epoch_*"))], key=checkpoint_order):
        model = load_model(parameters["model_name"])
        if name != BASE:
            model = PeftModel.from_pretrained(model, str(run / name))
        set_seed(parameters["seed"])
        said[name] = draw(model.eval(), tokenizer, prompts, parameters)
        print(name, said[name][0][0], flush=True)
    scores = dev_scores(run, parameters["eval_data_path"])
    return about("sample", parameters) | {
        "questions": [item.id for item in items],
        "dev": {name: scores[name] for name in said},
        "completions": said,
    }


def about(command: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Return what a reader needs to make the file again."""
    kept = (
        "temperature",
        "learning_rate",
        "num_generations",
        "max_completion_length",
        "reward_weights",
        "seed",
    )
    return {
        "command": f"python -m tools.experiments.reward_lab {command}",
        "date": datetime.date.today().isoformat(),
        "model": parameters["model_name"],
        "encoder": parameters["bertscore_model"],
        "eval_data_path": parameters["eval_data_path"],
        "parameters": {name: parameters[name] for name in kept},
    }


def dev_scores(run: Path, labels: str) -> dict[str, dict[str, float]]:
    """Return each checkpoint's dev means and its Final Mean under every aggregate, rounded to 4 digits."""
    means = checkpoint_means(evaluate_json(run / "infer_results", labels))
    return {
        name: {
            **{
                key: round(row[key], 4) for key in ("em", "choice", "format", "rouge1", "bertscore")
            },
            **{aggregate: round(final_mean(row, aggregate), 4) for aggregate in AGGREGATES},
        }
        for name, row in means.items()
    }


def sweep() -> dict[str, Any]:
    """Run notebook 04 for every temperature and rate; return the curves of what it logged and of dev."""
    runs, parameters = [], {}
    for temperature in TEMPERATURES:
        for rate in RATES:
            name = f"lab-temperature-{temperature}-rate-{rate}"
            folder = project_root() / "runs" / name
            if not (
                folder / "epoch_5"
            ).exists():  # resumable: a run that is there is taken as it is
                run_course(
                    "default",
                    name,
                    ("04_train",),
                    {"temperature": temperature, "learning_rate": rate},
                )
            parameters = read_json(folder / "settings.json", "run settings")["parameters"]
            log = read_log(folder / "log.jsonl")
            runs.append({
                "temperature": temperature,
                "learning_rate": rate,
                "step": [row["step"] for row in log],
                "log": {key: [round(row[key], 4) for row in log] for key in SHOWN},
                "dev": dev_scores(folder, parameters["eval_data_path"]),
            })  # fmt: skip
    return about("sweep", parameters) | {"runs": runs}


# -- encoders ------------------------------------------------------------------------------------------------------

PAIRS = 60  # of each kind
Pairs = dict[str, list[tuple[str, str]]]


def reason_pairs() -> Pairs:
    """Return (said, asked) pairs of reasons by kind: how an answer's reason differs from the gold one."""
    dice = random.Random(0)
    golds = [parse_gold(item.answer or "").reason for item in load_items("data/dev.json")]
    golds = dice.sample(sorted(set(golds)), PAIRS)
    grams = {reason: char_ngrams(reason, 3) for reason in golds}

    def nearest(reason: str) -> str:
        return max(
            (r for r in golds if r != reason),
            key=lambda other: jaccard(grams[reason], grams[other]),
        )

    def less(words: list[str]) -> str:
        return " ".join(word for word in words if dice.random() > 0.25) or words[0]

    return {
        "another reason": [
            (dice.choice([r for r in golds if r != reason]), reason) for reason in golds
        ],
        "the nearest reason": [(nearest(reason), reason) for reason in golds],
        "half of it": [(reason[: len(reason) // 2], reason) for reason in golds],
        "words left out": [(less(reason.split()), reason) for reason in golds],
        "words shuffled": [
            (" ".join(dice.sample(reason.split(), len(reason.split()))), reason) for reason in golds
        ],
        "no spaces": [(reason.replace(" ", ""), reason) for reason in golds],
        "the opposite rule": OPPOSITES,
    }


OPPOSITES = [
    ("의존 명사는 앞말과 붙여 쓴다.", "의존 명사는 앞말과 띄어 쓴다."),
    ("조사는 앞말과 띄어 쓴다.", "조사는 앞말에 붙여 쓴다."),
    ("어원을 밝혀 적는다.", "소리 나는 대로 적는다."),
    ("사이시옷을 받치어 적지 않는다.", "사이시옷을 받치어 적는다."),
]


def by_kind(pairs: Pairs, score: Callable[[str, str], float]) -> dict[str, float]:
    """Return the mean score of each kind of pair, rounded to 3 digits."""
    return {
        kind: round(float(np.mean([score(*pair) for pair in found])), 3)
        for kind, found in pairs.items()
    }


def separation(pairs: Pairs, score: Callable[[str, str], float]) -> float:
    """Return how often a shortened right reason scores above another reason (ROC AUC; .5 is a coin), 3 digits."""
    from scipy.stats import mannwhitneyu

    right, wrong = (
        [score(*pair) for kind in kinds for pair in pairs[kind]]
        for kinds in (("half of it", "words left out"), ("another reason", "the nearest reason"))
    )
    return round(float(mannwhitneyu(right, wrong).statistic) / (len(right) * len(wrong)), 3)


def edit_likeness(said: str, asked: str) -> float:
    """Return 1 less the edit distance as a share of the longer text."""
    from nltk import edit_distance

    return 1 - edit_distance(said, asked) / max(len(said), len(asked))


def encoder_row(
    encoder: str, layers: int, pairs: Pairs, others: dict[str, list[float]]
) -> dict[str, Any]:
    """Return what one layer of an encoder measures: cost, likeness by kind, correlation with the ``others``.

    ``encoder`` is a local folder.
    """
    said, asked = zip(*itertools.chain.from_iterable(pairs.values()), strict=True)
    scorer = BertScore(encoder, layers)
    scorer(said[:2], asked[:2])
    started = time.perf_counter()
    values = scorer(said, asked)
    seconds = time.perf_counter() - started
    return {
        "encoder": encoder,
        "layer": layers,
        "disk_mb": round(
            sum(file.stat().st_size for file in resolve_path(encoder).glob("*")) / 1e6
        ),
        "ms_per_pair": round(1000 * seconds / len(said), 2),
        **{
            f"r_{name}": round(float(np.corrcoef(values, scores)[0, 1]), 3)
            for name, scores in others.items()
        },
        "separation": separation(
            pairs, lambda p, r: scorer([p], [r])[0]
        ),  # remembered, not computed again
        "by_kind": by_kind(pairs, lambda p, r: scorer([p], [r])[0]),
    }


def encoders(further: list[str]) -> dict[str, Any]:
    """Return the rows of every layer of the embedded model and of ``further`` (``folder:layer``)."""
    pairs = reason_pairs()
    flat = list(itertools.chain.from_iterable(pairs.values()))
    others = {name: [score(*pair) for pair in flat] for name, score in
              (("rouge1", rouge1_reasons), ("edits", edit_likeness))}  # fmt: skip
    wanted = [(ENCODER, layer) for layer in range(5)]
    wanted += [(name.rsplit(":", 1)[0], int(name.rsplit(":", 1)[1])) for name in further]
    return {
        "command": "python -m tools.experiments.reward_lab encoders",
        "date": datetime.date.today().isoformat(),
        "pairs": {kind: len(found) for kind, found in pairs.items()},
        "rouge1": {"separation": separation(pairs, rouge1_reasons)}
        | by_kind(pairs, rouge1_reasons),
        "rows": [encoder_row(encoder, layer, pairs, others) for encoder, layer in wanted],
    }


def main() -> None:
    """Run one of the three commands."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["sample", "sweep", "encoders"])
    parser.add_argument("--run", default="runs/default", help="a finished default run, for sample")
    parser.add_argument(
        "--encoder", action="append", default=[], help="a further folder:layer, for encoders"
    )
    args = parser.parse_args()
    if args.command == "sample":
        print(write_json(FOLDER / "completions.json", sample(resolve_path(args.run))))
    elif args.command == "sweep":
        print(write_json(FOLDER / "curves.json", sweep()))
    else:
        print(write_json(FOLDER / "encoders.json", encoders(args.encoder)))


if __name__ == "__main__":
    main()
