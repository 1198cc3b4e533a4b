"""What the tests share: settings and commands of a tiny run, its environment, made-up scores.

pytest puts this folder on the import path (``pythonpath`` in ``pyproject.toml``), so a test in any
folder can say ``from helpers import smoke_settings``. Fixtures are in ``conftest.py``; trainings
that can be killed are in ``training_processes.py``.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from grpo_helpers.files import project_root

ROOT = project_root()
SMOKE_PARAMS = "params/smoke/04_train.yaml"  # the smallest run that touches everything
TINY_MODEL = "data/tiny_model"

# Processes that a test starts ask no model hub, and two of them at once do not fight for cores.
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",
}


def environment(**more: str) -> dict[str, str]:
    """Return this process's environment, offline, with ``more`` set."""
    return os.environ | OFFLINE | more


def parameter_pairs(changes: dict[str, Any]) -> list[tuple[str, str]]:
    """Return parameters as ``read_params`` takes them.

    >>> parameter_pairs({"max_steps": 2, "use_quant": True})
    [('max_steps', '2'), ('use_quant', 'True')]
    """
    return [(name, str(value)) for name, value in changes.items()]


def parameter_words(changes: dict[str, Any]) -> list[str]:
    """Return parameters as a command line takes them.

    >>> parameter_words({"max_steps": 2})
    ['-p', 'max_steps', '2']
    """
    words = []
    for name, value in parameter_pairs(changes):
        words += ["-p", name, value]
    return words


def smoke_settings(output_dir: Path | str, **changes: Any) -> Any:
    """Return the settings of the smallest run, written below ``output_dir``, with ``changes``."""
    from grpo_helpers.training import read_params

    return read_params(SMOKE_PARAMS, parameter_pairs({"output_dir": output_dir} | changes))


def train_arguments(**changes: Any) -> list[str]:
    """Return the arguments of ``grpo_helpers.training`` for the smallest run with ``changes``."""
    return ["--params", SMOKE_PARAMS, *parameter_words(changes)]


def train_command(**changes: Any) -> list[str]:
    """Return the whole command that trains the smallest run with ``changes``."""
    return [sys.executable, "-m", "grpo_helpers.training", *train_arguments(**changes)]


def run_offline(
    command: Sequence[str | Path], cwd: Path = ROOT, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, offline; its output is captured as text.

    Args:
        command: The program and its arguments.
        cwd: Where it is started.
        variables: Further environment variables.
    """
    words = [str(word) for word in command]
    return subprocess.run(
        words, cwd=cwd, env=environment(**variables), capture_output=True, text=True
    )


def last_line(text: str) -> str:
    """Return the last line of ``text`` that is not blank."""
    return text.rstrip().rpartition("\n")[2]


def json_lines(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file that holds one JSON object a line."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def scores_of(**right: Sequence[float]) -> dict[str, dict[str, list[float]]]:
    """Return the scores of checkpoints, by name, that differ in exact match alone.

    >>> scores_of(epoch_0=[1, 0])
    {'epoch_0': {'em': [1, 0], 'choice': [1, 0], 'rouge1': [0.5, 0.5], 'bertscore': [0.5, 0.5]}}
    """
    scores = {}
    for name, values in right.items():
        half = [0.5] * len(values)
        scores[name] = {"em": list(values), "choice": list(values), "rouge1": half}
        scores[name]["bertscore"] = list(half)
    return scores


def made_up_coins(steps: int = 9, words: Mapping[str, int] | None = None) -> Any:
    """Return coins of every family: those of rewarded words turn, the others stay as they are.

    Args:
        steps: How many steps are measured.
        words: How many words of each block a family has; two of each if not given.
    """
    import numpy as np
    import pandas as pd

    from grpo_helpers.coins import BLOCKS, COLUMNS, FAMILIES, LEXICAL, REWARDED, Coins

    sizes = words or dict.fromkeys(BLOCKS, 2)
    rng = np.random.default_rng(0)
    times = np.arange(steps) / max(1, steps - 1)
    rows = []
    shares = []
    for family, (block, size) in itertools.product(FAMILIES, sizes.items()):
        for number in range(size):
            word = f"{family}-{number}"
            row = dict.fromkeys(COLUMNS, word)
            row |= {"block": block, "card": family, "trained_as": ""}
            rows.append(row | {"kind": LEXICAL if family == LEXICAL else "two-way"})
            speed = rng.uniform(2, 9) if block == REWARDED else 0.0
            shares.append(1 / (1 + np.exp(-rng.normal() - speed * times)))

    return Coins(pd.DataFrame(rows), list(range(steps)), np.array(shares))
