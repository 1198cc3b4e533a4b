"""What cannot work is refused before a weight is read: engines, sharded weights, kernels."""

from __future__ import annotations

import json
import sys

import pytest
from helpers import smoke_settings

from grpo_helpers import preflight
from grpo_helpers.files import InputError
from grpo_helpers.preflight import (
    check_engine,
    check_kernels,
    check_sharding,
    compile_advice,
    zero_stage,
)
from grpo_helpers.settings import TrainSettings

ZERO_3 = {"zero_optimization": {"stage": 3}}
BY_ACCELERATE = {"ACCELERATE_USE_DEEPSPEED": "true"}


def settings(**changes):
    """Return the default settings of notebook 04 with changes."""
    return TrainSettings(**changes)


@pytest.fixture
def installed(monkeypatch):
    """Make a package count as installed."""
    known = set()
    monkeypatch.setattr(preflight, "_is_installed", known.__contains__)
    return known.add


# -- engines ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["use_vllm", "use_transformers_continuous_batching"])
def test_engine_that_cannot_sample_from_quantised_weights_is_refused(engine):
    message = f"extra_grpo_args sets {engine}, which cannot sample from a quantised model"
    with pytest.raises(InputError, match=message):
        settings(use_quant=True, extra_grpo_args={engine: True})


@pytest.mark.parametrize("engine", ["use_vllm", "use_transformers_continuous_batching"])
def test_engine_that_is_switched_off_is_no_reason_to_refuse(engine):
    assert settings(use_quant=True, extra_grpo_args={engine: False}).use_quant


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_continuous_batching_that_would_round_the_adapter_is_refused(dtype):
    message = f"use_transformers_continuous_batching, which casts the adapter to {dtype} for good"
    with pytest.raises(InputError, match=message):
        settings(dtype=dtype, extra_grpo_args={"use_transformers_continuous_batching": True})


def test_continuous_batching_is_accepted_in_float32():
    extra = {"use_transformers_continuous_batching": True}

    assert settings(dtype="float32", extra_grpo_args=extra).extra_grpo_args == extra


def test_vllm_that_is_not_installed_is_refused(installed):
    with pytest.raises(InputError, match="vLLM is not installed"):
        check_engine(settings(extra_grpo_args={"use_vllm": True}))


def test_vllm_that_is_installed_is_accepted(installed):
    installed("vllm")

    check_engine(settings(extra_grpo_args={"use_vllm": True}))


def test_run_without_vllm_needs_none(installed):
    check_engine(settings())


# -- sharded weights -------------------------------------------------------------------------------


def test_stage_of_zero_is_read_from_a_mapping():
    assert zero_stage({"deepspeed": ZERO_3}, {}) == 3


def test_stage_of_zero_is_read_from_a_file(tmp_path):
    file = tmp_path / "zero.json"
    file.write_text(json.dumps(ZERO_3), encoding="utf-8")

    assert zero_stage({"deepspeed": str(file)}, {}) == 3


def test_stage_of_zero_is_read_from_a_file_of_accelerate(tmp_path):
    file = tmp_path / "zero.json"
    file.write_text(json.dumps(ZERO_3), encoding="utf-8")
    environment = BY_ACCELERATE | {"ACCELERATE_DEEPSPEED_CONFIG_FILE": str(file)}

    assert zero_stage({}, environment) == 3


@pytest.mark.parametrize(
    ("environment", "stage"),
    [
        ({}, 0),
        (BY_ACCELERATE, 2),  # accelerate's own default
        (BY_ACCELERATE | {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}, 3),
        ({"ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}, 0),  # left over, DeepSpeed is not used
        (
            BY_ACCELERATE
            | {"ACCELERATE_DEEPSPEED_CONFIG_FILE": "none", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "1"},
            1,
        ),
    ],
)
def test_stage_of_zero_is_read_from_accelerates_variables(environment, stage):
    assert zero_stage({}, environment) == stage


@pytest.mark.parametrize("config", [None, {}, {"optimizer": {}}])
def test_configuration_without_zero_has_stage_nought(config):
    assert zero_stage({"deepspeed": config}, {}) == 0


def test_zero_3_is_refused_with_what_works(installed):
    installed("deepspeed")

    with pytest.raises(InputError, match=r"ZeRO-3 .*: use stage 2, or params/accelerate/fsdp.yaml"):
        check_sharding(settings(extra_grpo_args={"deepspeed": ZERO_3}), {})


def test_zero_3_of_accelerate_is_refused(installed):
    installed("deepspeed")
    environment = BY_ACCELERATE | {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}

    with pytest.raises(InputError, match="ZeRO-3"):
        check_sharding(settings(), environment)


def test_zero_2_is_accepted(installed):
    installed("deepspeed")

    check_sharding(settings(extra_grpo_args={"deepspeed": {"zero_optimization": {"stage": 2}}}), {})


def test_deepspeed_that_is_not_installed_is_refused(installed):
    with pytest.raises(InputError, match="pip install deepspeed"):
        check_sharding(settings(), BY_ACCELERATE)


def test_fsdp_is_accepted_from_accelerate_only():
    check_sharding(settings(), {"ACCELERATE_USE_FSDP": "true"})

    with pytest.raises(InputError, match="accelerate launch --config_file"):
        check_sharding(settings(extra_grpo_args={"fsdp": "full_shard"}), {})


def test_quantised_weights_are_refused_with_fsdp():
    with pytest.raises(InputError, match="use_quant=false"):
        check_sharding(settings(use_quant=True), {"ACCELERATE_USE_FSDP": "true"})


# -- kernels ---------------------------------------------------------------------------------------


def test_missing_compiler_is_named_with_its_packages():
    version = f"{sys.version_info.major}.{sys.version_info.minor}"

    advice = compile_advice(has_compiler=False, has_header=False)
    assert advice == f"; Triton finds no C compiler: apt install gcc python{version}-dev"


def test_missing_header_is_named_with_its_package():
    assert "no Python.h: apt install python3" in compile_advice(has_compiler=True, has_header=False)


@pytest.mark.heavy
def test_kernels_of_a_step_run_on_this_machine():
    """On the CPU torch's own code runs in their place, by the same calls."""
    check_kernels("cpu", quantised=True)


@pytest.mark.heavy
def test_kernel_that_cannot_be_compiled_is_one_line(monkeypatch):
    import trl.trainer.utils

    def fail(*_, **__):
        raise RuntimeError("Failed to find C compiler. Please specify via CC.\nmore")

    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(preflight.shutil, "which", lambda _: None)
    monkeypatch.setattr(trl.trainer.utils, "add_fused_lm_head", fail)

    with pytest.raises(InputError) as caught:
        check_kernels("cpu", quantised=False)

    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("this GPU cannot compute the loss of a GRPO step: Failed to find C")
    assert "apt install gcc" in message


@pytest.mark.heavy
def test_library_that_cannot_quantise_is_one_line(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("Configured CUDA binary not found\nmore")

    monkeypatch.setattr("bitsandbytes.functional.quantize_4bit", fail)

    with pytest.raises(InputError, match="bitsandbytes cannot quantise on this GPU: Configured"):
        check_kernels("cpu", quantised=True)


# -- all of it before a run is touched -------------------------------------------------------------


@pytest.mark.heavy
def test_refused_run_leaves_an_earlier_one_as_it_was(tmp_path):
    from grpo_helpers.training import train

    earlier = tmp_path / "smoke" / "settings.json"
    earlier.parent.mkdir()
    earlier.write_text("{}", encoding="utf-8")
    settings = smoke_settings(tmp_path, extra_grpo_args="{fsdp: true}")

    with pytest.raises(InputError, match="extra_grpo_args sets fsdp"):
        train(settings)
    assert [path.name for path in earlier.parent.iterdir()] == ["settings.json"]
