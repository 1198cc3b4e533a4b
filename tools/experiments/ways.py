"""Ways of training from the same prompts: rewards, gold answers, or the model's own right answers.

In: the settings of a run, a number of optimizer steps. Out: the trained model. Nothing is chosen:
the model is the one after the last step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from grpo_helpers.inference import sample_groups
from grpo_helpers.metrics import exact_match, format_score
from grpo_helpers.models import load_model, load_tokenizer, load_with_adapter
from grpo_helpers.prompts import prompt_texts
from grpo_helpers.run_folder import RunFolder
from grpo_helpers.training import prepare, train

if TYPE_CHECKING:
    from grpo_helpers.settings import TrainSettings
    from tools.experiments.supervised import Row

GRPO = "grpo"
GOLD = "gold"
REJECTION = "rejection"
SAMPLES = 16  # of each prompt, for rejection sampling

Way = Callable[["TrainSettings", int], Any]


def train_with_grpo(settings: TrainSettings, steps: int) -> Any:
    """Train with the rewards of the settings; return the model."""
    settings = replace(settings, max_steps=steps, save_strategy="steps", save_steps=steps)
    train(settings)
    run = RunFolder(settings.run_dir)
    return load_with_adapter(settings.model_name, str(run.adapter(f"step_{steps}")))


def train_on_gold(settings: TrainSettings, steps: int) -> Any:
    """Train on the gold answers; return the model."""
    from tools.experiments.supervised import gold_rows

    return train_supervised(settings, gold_rows(prepare(settings)), steps)


def train_on_own_matches(settings: TrainSettings, steps: int) -> Any:
    """Sample, keep what is an exact match in the required format, train on it; return the model."""
    return train_supervised(settings, own_matches(settings), steps)


def own_matches(settings: TrainSettings) -> list[Row]:
    """Return the base's own samples that are an exact match, each once, with their prompts."""
    from transformers import set_seed

    from tools.experiments.supervised import training_row

    prepared = prepare(settings)
    tokenizer = load_tokenizer(settings.model_name)
    model = load_model(settings.model_name).eval()
    texts = prompt_texts(prepared.train_prompts, tokenizer)
    set_seed(settings.seed)

    rows = []
    for text, prompt, item in zip(texts, prepared.train_prompts, prepared.train_items, strict=True):
        (completions,) = sample_groups(
            model,
            tokenizer,
            [text],
            group_size=SAMPLES,
            temperature=settings.temperature,
            max_new_tokens=settings.max_completion_length,
        )
        for completion in dict.fromkeys(completions):
            if exact_match(completion, item.answer or "") and format_score(completion, item):
                rows.append(training_row(prompt, completion))
    return rows


def train_supervised(settings: TrainSettings, rows: list[Row], steps: int) -> Any:
    """Return the model after supervised training on ``rows``."""
    from tools.experiments.supervised import sft_trainer

    trainer = sft_trainer(settings, rows, callbacks=(), max_steps=steps)
    trainer.train()
    model: Any = trainer.model
    return model.eval()


WAYS: dict[str, Way] = {
    GRPO: train_with_grpo,
    GOLD: train_on_gold,
    REJECTION: train_on_own_matches,
}
