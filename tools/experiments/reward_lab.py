"""What the files of ``data/reward_lab`` share: where they are, and how each says what made it.

``tools.experiments.sample`` and ``tools.experiments.archive.encoders`` write them;
``docs/rewards.md`` shows them. They take minutes and are committed, so that a reader can look at
them at once.
"""

from __future__ import annotations

import datetime
from typing import Any

from grpo_helpers.files import project_root
from grpo_helpers.metrics import AGGREGATES, final_mean
from grpo_helpers.run_folder import RunFolder
from grpo_helpers.scoring import checkpoint_means, evaluate_json
from grpo_helpers.splits import DEV

FOLDER = project_root() / "data" / "reward_lab"
METRICS = ("em", "choice", "format", "rouge1", "bertscore")
PARAMETERS = (
    "temperature",
    "learning_rate",
    "num_generations",
    "max_completion_length",
    "reward_weights",
    "seed",
)


def describe_making(tool: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Return what it takes to make a file again.

    Args:
        tool: The module of ``tools.experiments`` that makes it.
        parameters: The parameters of the run that it shows.
    """
    return {
        "command": f"python -m tools.experiments.{tool}",
        "date": datetime.date.today().isoformat(),
        "model": parameters["model_name"],
        "encoder": parameters["bertscore_model"],
        "eval_data_path": parameters["eval_data_path"],
        "parameters": {name: parameters[name] for name in PARAMETERS},
    }


def mean_scores_on_dev(run: RunFolder) -> dict[str, dict[str, float]]:
    """Return each checkpoint's means and its Final Mean under every aggregate, to 4 digits."""
    label_path = run.settings["eval_data_path"]
    means = checkpoint_means(evaluate_json(DEV.answer_folder(run.path), label_path))

    table = {}
    for name, row in means.items():
        shown = {metric: round(row[metric], 4) for metric in METRICS}
        for aggregate in AGGREGATES:
            shown[aggregate] = round(final_mean(row, aggregate), 4)
        table[name] = shown
    return table
