"""Sample completions along a run: ``python -m tools.experiments.sample [--run runs/default]``.

In: a finished default run. Out: ``data/reward_lab/completions.json`` with completions of the base
model and of every checkpoint to the same dev questions, for the page on rewards.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from grpo_helpers.command_line import run_command
from grpo_helpers.files import write_json
from grpo_helpers.inference import AnswerOptions, load_questions, sample_groups
from grpo_helpers.run_folder import BASE, RunFolder
from tools.experiments.reward_lab import FOLDER, describe_making, mean_scores_on_dev

QUESTIONS = 24
GROUP_SIZE = 8


def sample_run(run: RunFolder, questions: int = QUESTIONS) -> dict[str, Any]:
    """Sample every checkpoint of a run.

    Args:
        run: A run of notebook 04.
        questions: How many dev questions are sampled, from the first on.

    Returns:
        How it was made, the ids of the questions, each checkpoint's dev scores, and its completions
        (one list per question).
    """
    from peft import PeftModel
    from transformers import set_seed

    from grpo_helpers.models import load_model

    parameters = run.settings
    asked = load_questions(parameters["eval_data_path"], AnswerOptions.of_run(run, BASE))
    items, tokenizer, texts = asked.items, asked.tokenizer, asked.texts[:questions]

    completions = {}
    for name in run.checkpoints():
        model: Any = load_model(parameters["model_name"])
        adapter = run.adapter(name)
        if adapter:
            model = PeftModel.from_pretrained(model, str(adapter))

        set_seed(parameters["seed"])  # the same random numbers for every checkpoint
        completions[name] = sample_groups(
            model.eval(),
            tokenizer,
            texts,
            group_size=GROUP_SIZE,
            temperature=parameters["temperature"],
            max_new_tokens=parameters["max_completion_length"],
        )
        print(name, completions[name][0][0], flush=True)

    scores = mean_scores_on_dev(run)
    return describe_making("sample", parameters) | {
        "questions": [item.id for item in items[:questions]],
        "dev": {name: scores[name] for name in completions},
        "completions": completions,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Write the file; return 0, or 2 if there is no such run."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.experiments.sample", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--run", default="runs/default", help="a finished run of notebook 04")
    args = parser.parse_args(argv)

    def body() -> int:
        print(write_json(FOLDER / "completions.json", sample_run(RunFolder(args.run))))
        return 0

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
