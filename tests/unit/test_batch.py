"""BatchPlan against TRL itself: the same verdict, the same words, the same counts."""

from __future__ import annotations

import math
import re
from itertools import product

import pytest

from grpo_helpers.batch import TRL_NAMES, BatchPlan, nearest_legal, propose
from grpo_helpers.files import InputError

LETTERS = {name: letter for letter, name in TRL_NAMES.items()}


def trl_verdict(B: int, G: int, A: int, S: int | None, D: int = 1) -> str:
    """Return the error text of the real GRPOConfig on D processes, or "" where it accepts."""
    from trl import GRPOConfig

    class Launched(GRPOConfig):
        world_size = property(lambda self: D)

    try:
        Launched(
            output_dir="unused",
            use_cpu=True,
            bf16=False,
            report_to="none",
            per_device_train_batch_size=B,
            num_generations=G,
            gradient_accumulation_steps=A,
            steps_per_generation=S,
        )
    except ValueError as error:
        return str(error)
    return ""


def our_verdict(B: int, G: int, A: int, S: int | None, D: int = 1) -> str:
    """Return BatchPlan's error text without the hint, or "" where it accepts."""
    try:
        BatchPlan(B=B, G=G, A=A, D=D, S=S)
    except InputError as error:
        return str(error).split(" Nearest legal: ")[0]
    return ""


def is_legal(**plan: int | None) -> bool:
    try:
        BatchPlan(**plan)
    except InputError:
        return False
    return True


def is_on_policy(plan: BatchPlan) -> bool:
    """Whether every completion is trained on by the very weights that sampled it."""
    return plan.A % (plan.S * plan.num_iterations) == 0


def refused_settings() -> list[dict[str, int | None]]:
    """Return the settings of a small grid that TRL refuses."""
    refused = []
    for B, G, A, S in product(range(1, 6), range(1, 8), range(1, 5), (None, 1, 2, 3)):
        setting = {"B": B, "G": G, "A": A, "S": S}
        if not is_legal(**setting):
            refused.append(setting)
    return refused


def hints_of(setting: dict[str, int | None]) -> list[str]:
    """Return the changes that the error of a refused setting proposes."""
    with pytest.raises(InputError) as raised:
        BatchPlan(**setting)
    return str(raised.value).split(" Nearest legal: ")[1].split(", or ")


def changes_of(hint: str) -> dict[str, int]:
    """Return a hint such as ``num_generations 4`` as a change of the setting."""
    pairs = re.findall(r"(\w+_\w+) (\d+)", hint)
    return {LETTERS[name]: int(value) for name, value in pairs}


# -- TRL's own verdict -----------------------------------------------------------------------------


@pytest.mark.heavy
def test_small_grid_gets_the_verdict_of_trl():
    for B, G, A, S in product(range(1, 5), range(2, 7), range(1, 5), range(1, 5)):
        assert our_verdict(B, G, A, S) == trl_verdict(B, G, A, S), (B, G, A, S)


@pytest.mark.heavy
def test_missing_s_follows_a_as_in_trl():
    for B, G, A in product((1, 2, 3), (2, 3, 4, 8), (1, 4, 8)):
        assert our_verdict(B, G, A, None) == trl_verdict(B, G, A, None), (B, G, A)


@pytest.mark.heavy
@pytest.mark.parametrize("devices", [1, 2, 3])
@pytest.mark.parametrize(
    ("B", "G", "A", "S"),
    [(2, 8, 1, 2), (3, 4, 1, 1), (1, 1, 1, 1), (2, 1, 4, None), (1, 6, 2, 3)],
)
def test_several_devices_get_the_verdict_of_trl(B, G, A, S, devices):
    assert our_verdict(B, G, A, S, D=devices) == trl_verdict(B, G, A, S, D=devices)


@pytest.mark.slow
def test_large_grid_gets_the_verdict_of_trl():
    sizes = range(1, 9)
    for B, A, S, G, D in product(sizes, sizes, sizes, range(2, 9), (1, 2, 4)):
        ours = our_verdict(B, G, A, S, D=D)
        assert ours == trl_verdict(B, G, A, S, D=D), (B, G, A, S, D)


def test_error_for_a_broken_group_is_in_words_of_trl():
    words = "generation_batch_size (8) must be divisible by num_generations (6)."
    with pytest.raises(ValueError, match=re.escape(words)):
        BatchPlan(B=2, G=6, A=4)


def test_error_for_a_group_of_one_is_one_line():
    with pytest.raises(InputError, match="GRPO requires at least 2 generations") as raised:
        BatchPlan(B=2, G=1, A=4)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("field", ["B", "G", "A", "D", "S", "num_iterations"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "2", True])
def test_size_that_is_no_whole_number_is_refused_by_name(field, value):
    with pytest.raises(InputError, match=TRL_NAMES[field]):
        BatchPlan(**{"B": 2, "G": 2, field: value})


# -- what the error proposes -----------------------------------------------------------------------


def test_error_always_proposes_a_change():
    for setting in refused_settings():
        for hint in hints_of(setting):
            assert changes_of(hint), (setting, hint)


def test_every_proposed_change_makes_the_setting_legal():
    for setting in refused_settings():
        for hint in hints_of(setting):
            assert is_legal(**{**setting, **changes_of(hint)}), (setting, hint)


def test_proposed_group_sizes_are_the_nearest():
    groups = nearest_legal(B=4, G=5, A=3)[:2]
    assert groups == [{"num_generations": 4}, {"num_generations": 6}]


def test_proposed_batch_size_is_the_nearest():
    assert {"per_device_train_batch_size": 5} in nearest_legal(B=4, G=5, A=3)


# -- counts ----------------------------------------------------------------------------------------


@pytest.fixture
def gpu_profile() -> BatchPlan:
    return BatchPlan(B=2, G=8, A=16, S=4)


def test_gpu_profile_has_four_prompts_in_a_step(gpu_profile):
    assert (gpu_profile.completions_per_step, gpu_profile.prompts_per_step) == (32, 4)


def test_gpu_profile_samples_four_rounds_in_a_step(gpu_profile):
    assert (gpu_profile.generation_batch_size, gpu_profile.prompts_per_round) == (8, 1)
    assert gpu_profile.rounds_per_step == 4


def test_gpu_profile_is_on_policy(gpu_profile):
    assert is_on_policy(gpu_profile)


def test_gpu_profile_drops_no_prompt_of_an_epoch(gpu_profile):
    assert (gpu_profile.steps_per_epoch(102), gpu_profile.dropped_prompts(102)) == (26, 0)


def test_devices_multiply_completions_and_round():
    plan = BatchPlan(B=4, G=8, A=2, D=2)
    assert (plan.completions_per_step, plan.generation_batch_size) == (16, 16)
    assert plan.prompts_per_round == 2


@pytest.mark.parametrize(("prompts", "steps", "dropped"), [(7, 3, 1), (1, 0, 1)])
def test_round_that_is_not_full_is_dropped(prompts, steps, dropped):
    plan = BatchPlan(B=4, G=8, A=2, D=2)
    assert (plan.steps_per_epoch(prompts), plan.dropped_prompts(prompts)) == (steps, dropped)


@pytest.mark.heavy
def test_epoch_counts_are_those_of_the_sampler_of_trl():
    from trl.trainer.utils import RepeatSampler

    for B, G, A, S, iterations in product((1, 2, 4), (2, 4), (1, 2, 3), (1, 2, 4), (1, 2)):
        setting = {"B": B, "G": G, "A": A, "S": S, "num_iterations": iterations}
        if not is_legal(**setting):
            continue
        plan = BatchPlan(**setting)

        sampler = RepeatSampler(
            range(11),
            mini_repeat_count=G,
            batch_size=plan.generation_batch_size // G,
            repeat_count=iterations * S,
            shuffle=False,
        )
        sampled = list(sampler)

        micro_batches = len(sampled) // (B * S)  # TRL's dataloader hands out B*S rows at a time
        assert plan.steps_per_epoch(11) == math.ceil(micro_batches / A)
        assert plan.dropped_prompts(11) == 11 - len(set(sampled))


def test_names_of_trl_make_the_same_plan_as_letters():
    named = BatchPlan.from_trl(
        per_device_train_batch_size=2,
        num_generations=8,
        gradient_accumulation_steps=16,
        world_size=2,
        steps_per_generation=4,
        num_iterations=2,
    )
    assert named == BatchPlan(B=2, G=8, A=16, D=2, S=4, num_iterations=2)


def test_unknown_name_of_trl_is_refused_by_python():
    with pytest.raises(TypeError, match="batch_size"):
        BatchPlan.from_trl(per_device_train_batch_size=2, num_generations=2, batch_size=2)


# -- plans for a number of completions -------------------------------------------------------------

STEPS = [(16, 4, 1), (32, 8, 2), (24, 6, 4), (36, 4, 3)]  # completions, G, D
each_step = pytest.mark.parametrize(("completions", "G", "D"), STEPS)


@each_step
def test_proposed_plan_has_the_requested_completions(completions, G, D):
    for plan in propose(completions, G, D):
        assert plan.completions_per_step == completions
        assert (plan.G, plan.D) == (G, D)


@each_step
def test_proposed_plan_is_on_policy(completions, G, D):
    assert all(is_on_policy(plan) for plan in propose(completions, G, D))


@pytest.mark.heavy
@each_step
def test_proposed_plan_is_accepted_by_trl(completions, G, D):
    for plan in propose(completions, G, D):
        assert our_verdict(plan.B, G, plan.A, plan.S, D=D) == ""
        assert trl_verdict(plan.B, G, plan.A, plan.S, D=D) == ""


@each_step
def test_no_plan_is_proposed_twice(completions, G, D):
    plans = propose(completions, G, D)
    assert len(set(plans)) == len(plans)


@pytest.mark.parametrize(("completions", "G", "D"), [(12, 4, 1), (16, 8, 2), (24, 3, 4)])
def test_no_legal_on_policy_plan_is_left_out(completions, G, D):
    proposed = {(plan.B, plan.A, plan.S) for plan in propose(completions, G, D)}

    expected = set()
    for B, A, S in product(range(1, completions + 1), repeat=3):
        is_step = completions == B * A * D and A % S == 0
        if is_step and is_legal(B=B, G=G, A=A, D=D, S=S):
            expected.add((B, A, S))

    assert proposed == expected


def test_proposals_come_cheapest_first():
    costs = [(plan.A, plan.rounds_per_step) for plan in propose(32, G=8)]
    assert costs == sorted(costs)


def test_limit_leaves_out_plans_that_need_more():
    small = propose(32, G=8, peak=lambda plan: plan.sequences_per_generate, limit=8)
    assert small
    assert all(plan.B * plan.S <= 8 for plan in small)
    assert len(small) < len(propose(32, G=8))


def test_limit_below_every_plan_leaves_none():
    assert propose(32, G=8, peak=lambda plan: 2, limit=1) == []


@pytest.mark.parametrize(
    ("completions", "G", "D", "message"),
    [
        (30, 8, 1, "24 or 32"),
        (8, 8, 3, "try 24"),
        (16, 1, 1, "2 or more"),
        (0, 8, 1, "effective_completions"),
    ],
)
def test_impossible_number_of_completions_names_the_nearest(completions, G, D, message):
    with pytest.raises(InputError, match=message):
        propose(completions, G, D)
