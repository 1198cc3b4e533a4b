"""Predicted hours: operations against torch's own count, and arithmetic done by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from helpers import ROOT, json_lines

from grpo_helpers.architecture import Architecture, load_architecture, lora_params
from grpo_helpers.batch import BatchPlan
from grpo_helpers.files import InputError, read_json
from grpo_helpers.hours import (
    BEST,
    CARDS,
    HOUR,
    TOKENS_PER_CHARACTER,
    WORST,
    Card,
    Efficiency,
    Pace,
    Work,
    find_card,
    forward_flops,
    head_flops,
    main,
    predict_hours,
    spread,
    work_of_profile,
)
from grpo_helpers.memory import Budget

SHAPE = Architecture(
    name="small",
    num_hidden_layers=2,
    hidden_size=64,
    intermediate_size=96,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    vocab_size=100,
    tie_word_embeddings=False,
)
PLAN = BatchPlan(B=8, G=8, A=4, S=4)
WORK = Work(
    arch=SHAPE,
    budget=Budget(
        B=8,
        S=4,
        A=4,
        prompt_tokens=100,
        completion_tokens=50,
        lora_rank=4,
        inference_rows=32,
        rows_per_prompt=8,
    ),
    plan=PLAN,
    steps=10,
    dev_answers=64,
    test_answers=96,
    prompt_tokens=100,
    answer_tokens=tuple(range(1, 101)),
)
# A card that does one operation, or moves one byte, in a nanosecond, and a host that takes no time.
SLOW = Card(tflops=1e-3, gb_per_second=1)
PLAIN = Efficiency(compute=1, memory=1, layer_seconds=0, token_seconds=0, unpacks=False)
PROFILE = ROOT / "params/gpu_24gb/04_train.yaml"


def pace(work=WORK, card=SLOW, engine=False, **efficiency):
    """Return the pace of some work on a card."""
    return Pace(work, card, replace(PLAIN, **efficiency), engine)


# -- operations ------------------------------------------------------------------------------------


def test_operations_of_a_forward_pass_are_those_that_torch_counts():
    """Torch counts an attention to every token; ours is given the tokens that are attended to."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import LlamaForCausalLM

    from tools.benchmarks.memory_trace import llama_config

    tokens = 32
    with torch.device("meta"):
        model = LlamaForCausalLM(llama_config(SHAPE))
        ids = torch.zeros(1, tokens, dtype=torch.long)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=ids)

    ours = forward_flops(SHAPE, 0, tokens, context=tokens) + head_flops(SHAPE, tokens)
    # The angles of the positions are a product, too.
    assert ours == pytest.approx(counter.get_total_flops(), rel=1e-3)


def test_adapter_adds_two_operations_for_each_of_its_weights():
    without = forward_flops(SHAPE, 0, tokens=1, context=0)

    assert forward_flops(SHAPE, 4, tokens=1, context=0) - without == 2 * lora_params(SHAPE, 4)


def test_prompts_are_read_in_the_time_of_their_operations():
    flops = forward_flops(SHAPE, 4, tokens=300, context=50)

    assert pace().reading(prompts=3) == pytest.approx(flops * 1e-9)


def test_pass_of_training_takes_three_forward_passes_where_activations_are_recomputed():
    kept = replace(WORK, budget=replace(WORK.budget, gradient_checkpointing=False))
    alone = replace(kept, budget=replace(kept.budget, rows_per_prompt=1))
    recomputed = replace(alone, budget=replace(alone.budget, gradient_checkpointing=True))

    length = 100 + WORK.longest_of(32)
    one_pass = forward_flops(SHAPE, 4, tokens=8 * length, context=length / 2) * 1e-9
    difference = pace(recomputed).training_pass() - pace(alone).training_pass()
    assert difference == pytest.approx(one_pass)


def test_shared_prompt_is_trained_on_once():
    alone = replace(WORK.budget, gradient_checkpointing=False, rows_per_prompt=1)
    shared = replace(alone, rows_per_prompt=8)

    slow = pace(replace(WORK, budget=alone)).training_pass()
    fast = pace(replace(WORK, budget=shared)).training_pass()
    assert fast < slow / 2


# -- a written token -------------------------------------------------------------------------------


def test_token_takes_the_bytes_of_weights_and_cache_where_operations_are_free():
    fast = replace(SLOW, tflops=1e9)
    weights = 2 * (SHAPE.linear_params + SHAPE.unquantised_params - 100 * 64)  # but for embeddings
    written = WORK.longest_of(1) / 2
    cache = (100 + written) * SHAPE.kv_bytes_per_token

    assert pace(card=fast).writing_a_token(1, 1) == pytest.approx((weights + cache) * 1e-9)


def test_token_takes_its_operations_where_bytes_are_free():
    wide = replace(SLOW, gb_per_second=1e9)
    context = 100 + WORK.longest_of(4) / 2
    flops = forward_flops(SHAPE, 4, tokens=4, context=context) + head_flops(SHAPE, 4)

    assert pace(card=wide).writing_a_token(4, 1) == pytest.approx(flops * 1e-9)


def test_token_takes_what_the_host_needs_on_a_card_that_waits_for_it():
    endless = Card(tflops=1e9, gb_per_second=1e9)
    waiting = pace(card=endless, layer_seconds=0.5, token_seconds=0.25)

    assert waiting.writing_a_token(8, 1) == 2 * 0.5 + 0.25


def test_engine_does_not_wait_for_the_host():
    endless = Card(tflops=1e9, gb_per_second=1e9)

    assert pace(card=endless, engine=True, layer_seconds=0.5).writing_a_token(8, 1) < 1e-3


def test_weights_that_are_unpacked_for_each_token_are_moved_twice_more():
    quantised = replace(WORK, budget=replace(WORK.budget, quant="4bit"))
    fast = replace(SLOW, tflops=1e9)

    inside = pace(quantised, fast).writing_a_token(1, 1)
    written_out = pace(quantised, fast, unpacks=True).writing_a_token(1, 1)
    assert written_out - inside == pytest.approx(4 * SHAPE.linear_params * 1e-9)


# -- answers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "tokens"), [(1, 50), (3, 75), (4, 80), (32, 97), (99, 99)])
def test_longest_of_several_answers_is_found_among_the_gold_ones(rows, tokens):
    unlimited = replace(WORK, budget=replace(WORK.budget, completion_tokens=1000))
    assert unlimited.longest_of(rows) == tokens


def test_limit_cuts_the_longest_answer_off():
    assert WORK.longest_of(32) == 50


def test_answers_are_written_batch_by_batch():
    one_batch = pace().answering(32, 32)

    assert pace().batches(64, processes=1) == 2 * one_batch
    assert pace().batches(65, processes=1) == 3 * one_batch
    assert pace().batches(64, processes=2) == one_batch


# -- a run -----------------------------------------------------------------------------------------


def test_step_samples_once_and_trains_four_times():
    expected = pace().answering(rows=32, prompts=4) + 4 * pace().training_pass()

    assert pace().step() == pytest.approx(expected)


def test_hours_are_those_of_all_steps_and_answers():
    hours = pace().hours()

    assert hours.training == pytest.approx(10 * pace().step() / HOUR)
    assert hours.total == hours.training + hours.dev_answers + hours.test_answers


@pytest.fixture(scope="module")
def midm():
    return work_of_profile(PROFILE)


def test_work_of_a_profile_is_counted_in_its_files(midm):
    counts = {name: len(read_json(f"data/{name}.json")) for name in ("train", "dev", "test")}
    for name in ("test_unseen_words", "test_unseen_norms", "embedded/test_nonce"):
        counts[name] = len(read_json(f"data/{name}.json"))
    held_out = sum(counts.values()) - counts["train"] - counts["dev"]

    assert midm.steps == 5 * (counts["train"] // 4)
    assert midm.dev_answers == 6 * counts["dev"]
    assert midm.test_answers == 2 * held_out + counts["dev"]


def test_short_template_shortens_the_prompts_by_its_text(midm):
    short = work_of_profile(PROFILE, added_characters=0)

    saved = midm.prompt_tokens - short.prompt_tokens
    assert saved == pytest.approx(1211 * TOKENS_PER_CHARACTER, abs=1)


def test_answers_of_the_work_are_the_gold_ones(midm):
    longest = max(len(row["output"]["answer"]) for row in read_json("data/train.json"))

    assert midm.answer_tokens[-1] == longest * TOKENS_PER_CHARACTER


@pytest.mark.parametrize("name", CARDS)
def test_best_is_faster_than_worst_on(name, midm):
    hours = predict_hours(midm, find_card(name))

    assert hours.best.total < hours.worst.total


@pytest.mark.parametrize("efficiency", [BEST, WORST])
def test_engine_is_never_slower(efficiency, midm):
    card = find_card("RTX 4090")

    plain = Pace(midm, card, efficiency).hours().total
    assert Pace(midm, card, efficiency, engine=True).hours().total <= plain


def test_larger_rounds_are_sampled_faster(midm):
    """What the profile rests on: a token takes the host as long for 32 completions as for 8."""
    small = replace(midm, plan=BatchPlan(B=2, G=8, A=16, S=4))
    card = find_card("RTX 4090")

    for efficiency in (BEST, WORST):
        quick, slow = (Pace(work, card, efficiency).step() for work in (midm, small))
        assert quick < 0.9 * slow


def test_four_cards_are_faster_than_one_but_not_four_times(midm):
    four = work_of_profile(ROOT / "params/multi_gpu/04_train.yaml")
    card = find_card("RTX 4090")

    ratio = predict_hours(midm, card).best.training / predict_hours(four, card).best.training
    assert four.steps == midm.steps
    assert 1.5 < ratio < 4


def test_prompts_of_the_recorded_run_had_the_tokens_that_are_assumed():
    """The data have changed since then; its own questions are not kept, but its totals are."""
    logged = json_lines(ROOT / "data/reference_runs/gemma_270m/log.jsonl")
    steps = [row for row in logged if "completions/mean_length" in row]
    completions = sum(32 * row["completions/mean_length"] for row in steps)
    prompt_tokens = (steps[-1]["num_tokens"] - completions) / (32 * len(steps))

    assert prompt_tokens / 109 == pytest.approx(TOKENS_PER_CHARACTER, abs=0.01)


def test_time_of_the_host_lies_around_what_was_measured():
    measured = read_json("data/reference_runs/host_time.json")

    assert BEST.layer_seconds < measured["layer_seconds"] < WORST.layer_seconds
    assert BEST.token_seconds <= measured["token_seconds"] <= WORST.token_seconds


def test_shape_of_every_profile_for_a_gpu_is_known():
    for file in (ROOT / "params").glob("*/04_train.yaml"):
        if file.parent.name not in ("smoke", "thinking"):
            work = work_of_profile(file)
            assert work.arch == load_architecture(work.arch.name)


# -- from the shell --------------------------------------------------------------------------------


def test_command_prints_both_ends_of_every_part(capsys, midm):
    assert main(["--params", str(PROFILE), "--card", "RTX 4090"]) == 0

    hours = predict_hours(midm, find_card("RTX 4090"))
    printed = capsys.readouterr().out
    assert printed.startswith("Midm-2.0-Base-Instruct on 1 x RTX 4090: predicted, not measured")
    assert f"all of it     {spread(hours.best.total, hours.worst.total)} h" in printed


def test_unknown_card_is_one_line_with_the_known_ones(capsys):
    assert main(["--params", str(PROFILE), "--card", "RTX 1"]) == 2

    error = capsys.readouterr().err
    assert "no card 'RTX 1'; known are RTX 3070, " in error
    assert error.count("\n") == 1


def test_unknown_card_is_refused():
    with pytest.raises(InputError, match="no card"):
        find_card("a card")
