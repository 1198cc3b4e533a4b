"""BatchPlan against TRL itself: the same verdict, the same words, the same counts."""

from __future__ import annotations

import math
import re
from itertools import product

import pytest

from grpo_helpers.batch import TRL_NAMES, BatchPlan, nearest_legal, propose
from grpo_helpers.files import InputError


def trl_verdict(B: int, G: int, A: int, S: int | None, D: int = 1) -> str:
    """Return the error text of the real GRPOConfig, or "" where it accepts; on D processes where D is given."""
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


def is_legal(**plan: int) -> bool:
    try:
        BatchPlan(**plan)
    except InputError:
        return False
    return True


def grid() -> list[tuple[int, int, int, int]]:
    """B, G, A, S of the issue: 1..4, 2..6, 1..4, 1..4."""
    return list(product(range(1, 5), range(2, 7), range(1, 5), range(1, 5)))


def test_the_small_grid_gets_trls_own_verdict():
    for B, G, A, S in grid():
        assert our_verdict(B, G, A, S) == trl_verdict(B, G, A, S), (B, G, A, S)


def test_a_missing_s_follows_a_as_in_trl():
    for B, G, A in product((1, 2, 3), (2, 3, 4, 8), (1, 4, 8)):
        assert our_verdict(B, G, A, None) == trl_verdict(B, G, A, None), (B, G, A)


@pytest.mark.parametrize(
    "setting", [(2, 8, 1, 2), (3, 4, 1, 1), (1, 1, 1, 1), (2, 1, 4, None), (1, 6, 2, 3)]
)
def test_several_devices_and_single_generations_get_trls_own_verdict(setting):
    for devices in (1, 2, 3):
        assert our_verdict(*setting, D=devices) == trl_verdict(*setting, D=devices)


@pytest.mark.slow
def test_the_large_grid_gets_trls_own_verdict():
    """B, A, S in 1..8, G in 2..8, D in 1, 2, 4."""
    for B, A, S, G, D in product(range(1, 9), range(1, 9), range(1, 9), range(2, 9), (1, 2, 4)):
        assert our_verdict(B, G, A, S, D) == trl_verdict(B, G, A, S, D), (B, G, A, S, D)


def test_the_errors_are_trls_words_on_one_line():
    with pytest.raises(
        ValueError,
        match=re.escape("generation_batch_size (8) must be divisible by num_generations (6)."),
    ):
        BatchPlan(B=2, G=6, A=4)
    with pytest.raises(
        InputError, match="GRPO requires at least 2 generations per prompt"
    ) as raised:
        BatchPlan(B=2, G=1, A=4)
    assert "\n" not in str(raised.value)


def test_every_setting_the_error_proposes_is_legal():
    key_of = {name: key for key, name in TRL_NAMES.items()}
    for B, G, A, S in product(range(1, 6), range(1, 8), range(1, 5), (None, 1, 2, 3)):
        plan = {"B": B, "G": G, "A": A, "S": S}
        if is_legal(**plan):
            continue
        with pytest.raises(InputError) as raised:
            BatchPlan(**plan)
        hints = str(raised.value).split(" Nearest legal: ")[1].split(", or ")
        assert hints
        for hint in hints:
            changes = {
                key_of[name]: int(value) for name, value in re.findall(r"(\w+_\w+) (\d+)", hint)
            }
            assert changes, hint
            assert is_legal(**{**plan, **changes}), (plan, hint)


def test_the_proposed_group_sizes_are_the_nearest():
    assert nearest_legal(B=4, G=5, A=3)[:2] == [{"num_generations": 4}, {"num_generations": 6}]
    assert {"per_device_train_batch_size": 5} in nearest_legal(B=4, G=5, A=3)


@pytest.mark.parametrize("field", ["B", "G", "A", "D", "S", "num_iterations"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "2", True])
def test_anything_but_a_whole_number_from_one_up_is_refused_by_name(field, value):
    with pytest.raises(InputError, match=TRL_NAMES[field]):
        BatchPlan(**{"B": 2, "G": 2, field: value})


def test_the_gpu_profile_is_counted_as_written():
    plan = BatchPlan(B=2, G=8, A=16, S=4)
    assert (plan.completions_per_step, plan.prompts_per_step) == (32, 4)
    assert (plan.generation_batch_size, plan.prompts_per_round, plan.rounds_per_step) == (8, 1, 4)
    assert plan.on_policy
    assert (plan.steps_per_epoch(102), plan.dropped_prompts(102)) == (26, 0)


def test_devices_multiply_completions_and_rounds_drop_what_does_not_fill_them():
    plan = BatchPlan(B=4, G=8, A=2, D=2)
    assert (plan.completions_per_step, plan.generation_batch_size, plan.prompts_per_round) == (
        16,
        16,
        2,
    )
    assert (plan.steps_per_epoch(7), plan.dropped_prompts(7)) == (3, 1)
    assert (plan.steps_per_epoch(1), plan.dropped_prompts(1)) == (0, 1)


def test_a_plan_is_off_policy_where_a_round_outlives_an_optimizer_step():
    assert not BatchPlan(B=2, G=4, A=2, S=4).on_policy
    assert not BatchPlan(B=2, G=4, A=2, num_iterations=2).on_policy


def test_steps_and_dropped_prompts_are_those_of_trls_sampler():
    from trl.trainer.utils import RepeatSampler

    for B, G, A, S, mu in product((1, 2, 4), (2, 4), (1, 2, 3), (1, 2, 4), (1, 2)):
        if not is_legal(B=B, G=G, A=A, S=S, num_iterations=mu):
            continue
        plan = BatchPlan(B=B, G=G, A=A, S=S, num_iterations=mu)
        sampler = RepeatSampler(
            range(11),
            mini_repeat_count=G,
            batch_size=plan.generation_batch_size // G,
            repeat_count=mu * S,
            shuffle=False,
        )
        seen = list(sampler)
        micro_batches = len(seen) // (B * S)  # TRL's dataloader hands out B*S rows at a time
        assert plan.steps_per_epoch(11) == math.ceil(micro_batches / A)
        assert plan.dropped_prompts(11) == 11 - len(set(seen))


def test_trls_names_and_the_letters_make_the_same_plan():
    named = BatchPlan.from_trl(
        per_device_train_batch_size=2,
        num_generations=8,
        gradient_accumulation_steps=16,
        world_size=2,
        steps_per_generation=4,
        num_iterations=2,
    )
    assert named == BatchPlan(B=2, G=8, A=16, D=2, S=4, num_iterations=2)


# -- plans for a wanted number of completions ----------------------------------------------------------------------


@pytest.mark.parametrize(("wanted", "G", "D"), [(16, 4, 1), (32, 8, 2), (24, 6, 4), (36, 4, 3)])
def test_every_proposed_plan_is_legal_on_policy_and_has_the_wanted_completions(wanted, G, D):
    plans = propose(wanted, G, D)
    for plan in plans:
        assert plan.completions_per_step == wanted and plan.on_policy and (plan.G, plan.D) == (G, D)
        assert (
            our_verdict(plan.B, G, plan.A, plan.S, D)
            == trl_verdict(plan.B, G, plan.A, plan.S, D)
            == ""
        )
    assert len({(plan.B, plan.A, plan.S) for plan in plans}) == len(plans)


def test_no_legal_on_policy_plan_is_left_out():
    for wanted, G, D in ((12, 4, 1), (16, 8, 2), (24, 3, 4)):
        found = {(plan.B, plan.A, plan.S) for plan in propose(wanted, G, D)}
        every = {
            (B, A, S)
            for B, A, S in product(range(1, wanted + 1), repeat=3)
            if wanted == B * A * D and is_legal(B=B, G=G, A=A, D=D, S=S) and A % S == 0
        }
        assert found == every


def test_proposals_come_cheapest_first_and_below_the_limit():
    plans = propose(32, G=8)
    assert [(plan.A, plan.rounds_per_step) for plan in plans] == sorted(
        (p.A, p.rounds_per_step) for p in plans
    )
    small = propose(32, G=8, peak=lambda plan: plan.sequences_per_generate, limit=8)
    assert small and all(plan.B * plan.S <= 8 for plan in small) and len(small) < len(plans)
    assert propose(32, G=8, peak=lambda plan: 2, limit=1) == []


@pytest.mark.parametrize(
    ("wanted", "G", "D", "told"),
    [
        (30, 8, 1, "24 or 32"),
        (8, 8, 3, "try 24"),
        (16, 1, 1, "2 or more"),
        (0, 8, 1, "effective_completions"),
    ],
)
def test_a_number_that_cannot_be_met_is_refused_with_the_nearest_that_can(wanted, G, D, told):
    with pytest.raises(InputError, match=told):
        propose(wanted, G, D)
