"""Rollouts from a server: a real training through HTTP, with the embedded model behind it."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from helpers import json_lines, smoke_settings
from rollout_servers import PolicySampler, serving
from safetensors.torch import load_file

from grpo_helpers.files import InputError
from grpo_helpers.run_folder import RunFolder, check_unchanged
from grpo_helpers.server_trainer import (
    RatioLimits,
    ServerTrainer,
    SharedPrefixServerTrainer,
    importance_ratio,
    sampling_of,
)
from grpo_helpers.settings import CHOICES
from grpo_helpers.training import build_trainer, grpo_config, prepare, train

STEPS = 2
LOAD = "/v1/load_lora_adapter"
UNLOAD = "/v1/unload_lora_adapter"
SAMPLE = "/v1/completions"
# TRL has a correction of its own for vespo, and the course refuses it with a server.
LOSS_TYPES = [name for name in CHOICES["loss_type"] if name != "vespo"]
MODES = ["token_truncate", "sequence_mask"]


class WatchedSampler(PolicySampler):
    """Keeps the weights of every adapter that it samples with."""

    def __init__(self):
        super().__init__()
        self.adapters = []

    def __call__(self, body, folder):
        """Sample, and keep the weights."""
        if folder is not None:
            self.adapters.append(load_file(folder / "adapter_model.safetensors"))
        return super().__call__(body, folder)


# -- a run -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two steps whose completions come from a server."""
    sampler = WatchedSampler()
    with serving(sampler) as server:
        settings = smoke_settings(
            tmp_path_factory.mktemp("run"),
            rollout_server=server.address,
            max_steps=STEPS,
            warmup_steps=0,  # else the rate of the first step is 0, and the adapter stays
        )
        train(settings)
    rows = json_lines(RunFolder(settings.run_dir).log.path)
    return SimpleNamespace(
        server=server,
        adapters=sampler.adapters,
        folder=settings.run_dir,
        steps=[row for row in rows if "reward" in row],
    )


def test_run_makes_all_its_steps(run):
    assert [row["step"] for row in run.steps] == [1, 2]


def test_every_step_samples_with_an_adapter_of_its_own(run):
    calls = [call for call in run.server.calls() if "trial" not in call[1]]
    names = [name for path, name in calls if path == LOAD]

    of_step_0 = [(LOAD, names[0]), (SAMPLE, names[0]), (UNLOAD, names[0])]
    of_step_1 = [(LOAD, names[1]), (SAMPLE, names[1]), (UNLOAD, names[1])]
    assert calls == of_step_0 + of_step_1
    assert names[0] != names[1]


def test_server_keeps_no_adapter_of_a_run_that_ended(run):
    assert run.server.calls()[-1][0] == UNLOAD
    assert not run.server.adapters


def test_adapter_that_samples_moves_with_the_steps(run):
    _, first, second = run.adapters  # the first one is that of the check

    moved = [name for name in first if not torch.equal(first[name], second[name])]
    assert moved


@pytest.mark.parametrize("step", range(STEPS))
def test_server_and_trainer_agree_on_what_was_sampled(run, step):
    """The same model in float32 on both sides: an adapter of another step would not agree."""
    row = run.steps[step]

    assert row["sampling/sampling_logp_difference/max"] < 1e-3
    assert row["sampling/importance_sampling_ratio/mean"] == pytest.approx(1, abs=1e-3)


def test_group_has_completions_that_differ(run):
    assert run.steps[0]["reward_std"] > 0


def test_dev_set_is_answered_by_the_model_in_training(run):
    files = sorted(file.name for file in (run.folder / "infer_results").glob("*.json"))

    assert files == ["inference_epoch0.json", "inference_step2.json"]


def test_request_stops_at_the_models_own_tokens(run):
    body = [body for path, body in run.server.requests if path == SAMPLE][-1]

    assert body["stop_token_ids"] == [2]


# -- a server that goes ----------------------------------------------------------------------------


def test_server_that_fails_ends_the_run_in_one_line(tmp_path):
    with serving(PolicySampler()) as server:
        settings = smoke_settings(tmp_path, rollout_server=server.address)
        prepared = prepare(settings)
        server.broken.add(SAMPLE)

        with pytest.raises(InputError, match=r"cannot sample: EngineCore.*resume=auto goes on"):
            train(settings, prepared)


def test_run_may_go_on_without_its_server(run):
    settings = smoke_settings(run.folder.parent, max_steps=STEPS, warmup_steps=0)

    check_unchanged(RunFolder(run.folder), settings)


# -- the correction --------------------------------------------------------------------------------

CURRENT = torch.tensor([[-1.0, -2.0, -1.0], [-3.0, -0.5, -9.0]])
SAMPLED = torch.tensor([[-1.5, -2.0, -4.0], [-3.0, math.nan, 0.0]])
MASK = torch.tensor([[1, 1, 1], [1, 1, 0]])


def ratio(mode, least=None, most=3.0):
    """Return the ratio of the two completions above."""
    return importance_ratio(CURRENT, SAMPLED, MASK, RatioLimits(mode, least, most))


def test_ratio_of_tokens_is_cut_at_the_limit():
    expected = torch.tensor([[math.exp(0.5), 1.0, 3.0], [1.0, 1.0, 1.0]])

    assert torch.allclose(ratio("token_truncate"), expected)


def test_ratio_of_tokens_beyond_the_limit_becomes_zero():
    expected = torch.tensor([[math.exp(0.5), 1.0, 0.0], [1.0, 1.0, 1.0]])

    assert torch.allclose(ratio("token_mask"), expected)


def test_ratio_of_a_completion_is_the_product_of_its_tokens():
    expected = torch.tensor([[math.exp(3.5)], [1.0]])

    assert torch.allclose(ratio("sequence_truncate", most=100.0), expected)


def test_completion_beyond_the_limit_does_not_count():
    assert ratio("sequence_mask").tolist() == [[0.0], [1.0]]


@pytest.fixture(scope="module")
def trainer(tmp_path_factory):
    """A trainer of the smallest run, with a server that is still there."""
    with serving(PolicySampler()) as server:
        settings = smoke_settings(tmp_path_factory.mktemp("trainer"), rollout_server=server.address)
        built = build_trainer(settings, prepare(settings), grpo_config(settings)).trainer
        built.current_gradient_accumulation_steps = 1  # set by train()
        yield built


@pytest.fixture(scope="module")
def round_of(trainer):
    """The batch of one round, as TRL makes it: without a correction."""
    inputs = next(iter(trainer.get_train_dataloader()))
    trainer.vllm_importance_sampling_correction = False
    batch = trainer._generate_and_score_completions(inputs)
    trainer.vllm_importance_sampling_correction = True
    # The sampler is made to differ from the policy; the embedded model in float32 hardly does.
    noise = torch.randn(batch["sampling_per_token_logps"].shape, generator=torch.manual_seed(0))
    batch["sampling_per_token_logps"] += 0.1 * noise
    return batch


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_loss_is_the_one_that_trl_has_for_its_own_vllm(trainer, round_of, loss_type, mode):
    current = trainer._log_probs_now(round_of)
    limits = RatioLimits(mode, 0.5, 1.5)
    of_round = importance_ratio(
        current, round_of["sampling_per_token_logps"], round_of["completion_mask"], limits
    )
    trainer.loss_type = loss_type

    ours = round_of | {"advantages": round_of["advantages"].unsqueeze(1) * of_round}
    corrected = trainer._compute_loss(trainer.model, ours)
    trainer.use_vllm = True
    theirs = round_of | {"importance_sampling_ratio": of_round}
    expected = trainer._compute_loss(trainer.model, theirs)
    trainer.use_vllm = False

    assert of_round.unique().numel() > 2
    assert corrected.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-7)


def test_round_is_corrected(trainer):
    inputs = next(iter(trainer.get_train_dataloader()))

    batch = trainer._generate_and_score_completions(inputs)

    assert batch["advantages"].shape == (len(inputs), 1)


def test_round_of_an_evaluation_is_sampled_by_the_server(trainer):
    inputs = next(iter(trainer.get_eval_dataloader()))

    trainer.model.eval()
    batch = trainer._generate_and_score_completions(inputs)
    trainer.model.train()

    assert batch["advantages"].shape == (len(inputs), 1)
    assert trainer._metrics["eval"]["sampling/importance_sampling_ratio/mean"]


def test_correction_can_be_switched_off(trainer, round_of):
    assert round_of["advantages"].ndim == 1


# -- which trainer ---------------------------------------------------------------------------------


def test_prompts_are_shared_in_the_loss(trainer):
    assert type(trainer) is SharedPrefixServerTrainer


def test_prompts_need_not_be_shared(tmp_path):
    with serving(PolicySampler()) as server:
        settings = smoke_settings(tmp_path, rollout_server=server.address, shared_prefix=False)
        prepared = prepare(settings)

    trainer = build_trainer(settings, prepared, grpo_config(settings)).trainer
    assert type(trainer) is ServerTrainer


def test_generation_arguments_of_trl_reach_the_server(trainer):
    trainer.args.generation_kwargs = {"frequency_penalty": 0.5}
    sampling = sampling_of(trainer)
    trainer.args.generation_kwargs = None

    assert sampling["frequency_penalty"] == 0.5
