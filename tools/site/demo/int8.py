"""How many greedy answers would change if the weights of the demo had 8 bits instead of 16.

In: the folder of a run, or none. Out: for the base model and each checkpoint, how many answers to
the dev questions that the page offers differ from those of the weights that the page has. Each row
of a matrix is rounded to 255 steps of its own largest number, the usual way; sums stay in float32.

    python -m tools.site.demo.int8 --run runs/default
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from grpo_helpers.command_line import FAILURE, SUCCESS, run_command
from grpo_helpers.files import resolve_path
from grpo_helpers.inference import generate_answers
from grpo_helpers.models import load_model, load_tokenizer
from grpo_helpers.run_folder import BASE
from tools.site.demo.export import MODEL, answer_options, read_checkpoints
from tools.site.demo.questions import GROUPS, Asking, collect
from tools.site.demo.weights import AdapterWeights, merged, read_base

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LARGEST = 127


def rounded(weights: np.ndarray) -> np.ndarray:
    """Return a matrix as 8 bits keep it; a vector stays as it is.

    >>> rounded(np.array([[1.27, 0.014]])).round(2).tolist()
    [[1.27, 0.01]]
    """
    if weights.ndim < 2:
        return weights
    scale = np.abs(weights).max(axis=1, keepdims=True) / LARGEST
    return np.round(weights / scale) * scale


def dev_prompts(asking: Asking) -> list[str]:
    """Return the prompts of the dev questions that the page offers."""
    group = next(iter(GROUPS.values()))
    picks = [pick for pick in asking.picks if pick.group == group]
    return [asking.heads[pick.head] + pick.question + asking.tail for pick in picks]


def set_weights(model: PreTrainedModel, weights: Mapping[str, np.ndarray]) -> None:
    """Give a model other weights."""
    import torch

    tensors = {name: torch.from_numpy(values) for name, values in weights.items()}
    model.load_state_dict(tensors, strict=False)  # the tied output head is no tensor of the file


def count_changes(run: str) -> dict[str, int]:
    """Return by checkpoint how many answers change, and print each count.

    Args:
        run: The folder of a run; empty: only the base model counts.
    """
    asking = collect(answer_options(run))
    prompts = dev_prompts(asking)
    model = load_model(MODEL)
    tokenizer = load_tokenizer(MODEL)
    base = read_base(resolve_path(MODEL))
    adapters: dict[str, AdapterWeights | None] = {BASE: None}
    adapters |= {checkpoint.name: checkpoint.adapter for checkpoint in read_checkpoints(run, "")}

    changes = {}
    for name, adapter in adapters.items():
        weights = merged(base, adapter)
        in_8_bits = {key: rounded(values) for key, values in weights.items()}
        answers = []
        for each in (weights, in_8_bits):
            set_weights(model, each)
            answers.append(
                generate_answers(model, tokenizer, prompts, max_new_tokens=asking.max_new_tokens)
            )
        changes[name] = sum(one != other for one, other in zip(*answers, strict=True))
        print(f"{name}: {changes[name]} of {len(prompts)} answers change", flush=True)
    return changes


def main(argv: list[str] | None = None) -> int:
    """Count; return 0 if no answer changes, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tools.site.demo.int8")
    parser.add_argument("--run", default="", help="folder of a finished run")
    args = parser.parse_args(argv)
    return run_command(lambda: FAILURE if any(count_changes(args.run).values()) else SUCCESS)


if __name__ == "__main__":
    sys.exit(main())
