"""What a real GRPOTrainer does in its steps, counted, against what BatchPlan says it will do."""

from __future__ import annotations

from math import lcm

import pytest
from datasets import Dataset
from helpers import TINY_MODEL
from transformers import LlamaConfig, LlamaForCausalLM
from trl import GRPOConfig, GRPOTrainer

from grpo_helpers.batch import BatchPlan, train_and_count
from grpo_helpers.library_fixes import ALL_RIGHT, ALL_WRONG
from grpo_helpers.models import load_tokenizer
from grpo_helpers.settings import TrainSettings
from grpo_helpers.training import build_trainer, grpo_config, prepare

# B, G, A, S, num_iterations
PLANS = (
    (4, 4, 1, None, 1),
    (2, 4, 2, None, 1),
    (1, 4, 4, None, 1),  # B is no multiple of G, and TRL takes it
    (4, 2, 1, 1, 1),
    (4, 2, 2, 1, 1),
    (2, 2, 4, 2, 1),
    (8, 4, 1, 1, 1),
    (2, 4, 4, 2, 1),
    (2, 4, 1, 2, 1),  # a round feeds two optimizer steps
    (4, 4, 2, 2, 2),  # every round is trained on twice
    (3, 6, 2, 2, 1),
    (6, 3, 1, 1, 1),
)


def whole_steps(plan: BatchPlan) -> int:
    """Return the fewest optimizer steps that are a whole number of rounds."""
    return lcm(plan.A, plan.S * plan.num_iterations) // plan.A


def prompt_rows(plan: BatchPlan) -> list[dict[str, str]]:
    """Return more prompts than the steps need, each a letter of its own.

    So prompts differ by their tokens.
    """
    count = whole_steps(plan) * plan.A * plan.prompts_per_round + 8
    return [{"prompt": chr(ord("가") + 28 * place)} for place in range(int(count))]


def length_reward(completions: list[str], **_) -> list[float]:
    """Return the length of each completion."""
    return [float(len(completion)) for completion in completions]


def tiny_trainer(plan: BatchPlan, folder) -> GRPOTrainer:
    """Return a trainer of the smallest Llama, under the sizes of ``plan``."""
    tokenizer = load_tokenizer(TINY_MODEL)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        dtype="float32",
    )
    args = GRPOConfig(
        per_device_train_batch_size=plan.B,
        num_generations=plan.G,
        gradient_accumulation_steps=plan.A,
        steps_per_generation=plan.S,
        num_iterations=plan.num_iterations,
        max_steps=whole_steps(plan),
        max_completion_length=2,
        output_dir=str(folder),
        use_cpu=True,
        bf16=False,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    return GRPOTrainer(
        model=LlamaForCausalLM(config),
        args=args,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(prompt_rows(plan)),
        reward_funcs=length_reward,
    )


def count(plan: BatchPlan, folder) -> dict[str, float]:
    """Train for whole rounds; return what happened, per optimizer step and per ``generate()``."""
    counted = train_and_count(tiny_trainer(plan, folder))

    assert counted.steps == whole_steps(plan)
    return {
        "completions per step": counted.completions / counted.steps,
        "passes per step": counted.passes / counted.steps,
        "rounds per step": counted.calls / counted.steps,
        "sequences per generate": counted.sequences / counted.calls,
        "prompts per round": counted.prompts / counted.calls,
    }


@pytest.mark.parametrize("setting", PLANS, ids=lambda s: "B{} G{} A{} S{} iterations{}".format(*s))
def test_real_step_counts_what_the_plan_says(setting, tmp_path):
    B, G, A, S, num_iterations = setting
    plan = BatchPlan(B=B, G=G, A=A, S=S, num_iterations=num_iterations)

    assert count(plan, tmp_path) == {
        "completions per step": plan.completions_per_step,
        "passes per step": plan.A,
        "rounds per step": plan.rounds_per_step,
        "sequences per generate": plan.sequences_per_generate,
        "prompts per round": plan.prompts_per_round,
    }


def logged_with_rewards(folder, reward_funcs) -> list[dict[str, float]]:
    """Return what is logged of three steps of one group each.

    Args:
        folder: Where the run goes.
        reward_funcs: What scores, in the place of format, exact match, ROUGE-1 and BERTScore.
    """
    settings = TrainSettings(
        output_dir=str(folder),
        run_name="equal",
        train_data_path="data/smoke/train.json",
        eval_data_path="data/smoke/dev.json",
        per_device_train_batch_size=8,
        num_generations=8,
        gradient_accumulation_steps=1,
        steps_per_generation=1,
        max_steps=3,
        max_completion_length=4,
        save_strategy="no",
        num_threads=1,
    )
    trainer = build_trainer(settings, prepare(settings), grpo_config(settings)).trainer
    trainer.reward_funcs = reward_funcs
    # TRL's own flow callback is enough: nothing need be answered or written.
    trainer.callback_handler.callbacks = trainer.callback_handler.callbacks[:1]
    trainer.train()

    return [row for row in trainer.state.log_history if "frac_reward_zero_std" in row]


def test_group_of_equal_rewards_counts_as_without_signal(tmp_path):
    """TRL alone logs 0 here: the mean of eight equal float32 sums is off by rounding."""
    shares = (0.9230769230769231, 0.9852555990219116, 0.77, 0.31)

    logged = logged_with_rewards(tmp_path, [equal_reward(share) for share in shares])

    assert [row["frac_reward_zero_std"] for row in logged] == [1.0, 1.0, 1.0]


def test_groups_all_right_and_all_wrong_are_counted_apart(tmp_path):
    rounds = iter([[1.0] * 8, [0.0] * 8, [1.0, 0.0] * 4])  # exact match, one group after another

    def exact_match(completions, **_):
        return next(rounds)

    others = [equal_reward(0.5)] * 2
    logged = logged_with_rewards(tmp_path, [equal_reward(0.5), exact_match, *others])

    assert [row[ALL_RIGHT] for row in logged] == [1.0, 0.0, 0.0]
    assert [row[ALL_WRONG] for row in logged] == [0.0, 1.0, 0.0]


def equal_reward(share: float):
    """Return a reward function that gives every completion the same."""

    def reward(completions, **_):
        return [share] * len(completions)

    return reward
