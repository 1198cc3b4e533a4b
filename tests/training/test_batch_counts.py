"""What a real GRPOTrainer does in its steps, counted, against what BatchPlan says it will do."""

from math import lcm

import pytest

from grpo_helpers.batch import BatchPlan

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


def count(plan: BatchPlan, folder) -> dict[str, float]:
    """Train a tiny model for whole rounds; return what happened, per optimizer step and per generate()."""
    from datasets import Dataset
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl import GRPOConfig, GRPOTrainer

    from grpo_helpers.models import load_tokenizer

    tokenizer = load_tokenizer("data/tiny_model")
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None, dtype="float32",
    )  # fmt: skip
    steps = lcm(plan.A, plan.S * plan.num_iterations) // plan.A
    # Each prompt is a letter of its own, so that prompts can be told apart by their tokens.
    rows = [
        {"prompt": chr(ord("가") + 28 * i)}
        for i in range(steps * plan.A * plan.prompts_per_round + 8)
    ]
    args = GRPOConfig(
        output_dir=str(folder), use_cpu=True, bf16=False, report_to="none", save_strategy="no", max_steps=steps,
        per_device_train_batch_size=plan.B, num_generations=plan.G, gradient_accumulation_steps=plan.A,
        steps_per_generation=plan.S, num_iterations=plan.num_iterations, max_completion_length=2, disable_tqdm=True,
        logging_strategy="no", dataloader_pin_memory=False,
    )  # fmt: skip
    trainer = GRPOTrainer(
        model=LlamaForCausalLM(config), args=args, processing_class=tokenizer, train_dataset=Dataset.from_list(rows),
        reward_funcs=lambda completions, **_: [float(len(c)) for c in completions],
    )  # fmt: skip
    calls, losses, prompts = [], [], set()
    generate, compute_loss = trainer.model.generate, trainer.compute_loss

    def counted_generate(*args, **kwargs):
        out = generate(*args, **kwargs)
        calls.append(len(out))
        return out

    def counted_loss(model, inputs, *args, **kwargs):
        losses.append(len(inputs["prompt_ids"]))
        prompts.update(map(tuple, inputs["prompt_ids"].tolist()))
        return compute_loss(model, inputs, *args, **kwargs)

    trainer.model.generate, trainer.compute_loss = counted_generate, counted_loss
    trainer.train()
    assert trainer.state.global_step == steps
    return {
        "completions per step": sum(losses) / steps,
        "passes per step": len(losses) / steps,
        "rounds per step": len(calls) / steps,
        "sequences per generate": sum(calls) / len(calls),
        "prompts per round": len(prompts) / len(calls),
    }


@pytest.mark.parametrize("setting", PLANS, ids=lambda s: "B{} G{} A{} S{} iterations{}".format(*s))
def test_a_real_step_counts_what_the_plan_says(setting, tmp_path):
    B, G, A, S, num_iterations = setting
    plan = BatchPlan(B=B, G=G, A=A, S=S, num_iterations=num_iterations)
    assert count(plan, tmp_path) == {
        "completions per step": plan.completions_per_step,
        "passes per step": plan.A,
        "rounds per step": plan.rounds_per_step,
        "sequences per generate": plan.sequences_per_generate,
        "prompts per round": plan.prompts_per_round,
    }


def test_a_group_of_equal_rewards_counts_as_without_signal_whatever_float32_makes_of_their_sum(
    tmp_path,
):
    """TRL alone says 0 here: the mean of eight equal float32 sums is off by rounding, and that is no exact zero."""
    from grpo_helpers.settings import TrainSettings
    from grpo_helpers.training import build_trainer, grpo_config, prepare

    settings = TrainSettings(
        output_dir=str(tmp_path), run_name="equal", train_data_path="data/smoke/train.json",
        eval_data_path="data/smoke/dev.json", per_device_train_batch_size=8, num_generations=8,
        gradient_accumulation_steps=1, steps_per_generation=1, max_steps=2, max_completion_length=4,
        save_strategy="no", num_threads=1,
    )  # fmt: skip
    trainer = build_trainer(settings, prepare(settings), grpo_config(settings))
    shares = (0.9230769230769231, 0.9852555990219116, 0.77, 0.31)
    trainer.reward_funcs = [
        lambda completions, share=share, **_: [share] * len(completions) for share in shares
    ]
    trainer.callback_handler.callbacks = trainer.callback_handler.callbacks[
        :1
    ]  # nothing need be answered or written
    trainer.train()
    told = [
        row["frac_reward_zero_std"]
        for row in trainer.state.log_history
        if "frac_reward_zero_std" in row
    ]
    assert told == [1.0] * len(told) and told
