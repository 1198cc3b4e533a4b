"""What cannot work although each part of it can: found before a weight is read.

In: the settings of a run, and the environment that it was launched in. Out: nothing, or an
:class:`InputError`. Each of these would otherwise end a run after the model was loaded, the dev set
answered, or the first completions sampled: an engine that is not installed, weights spread over
processes that must answer questions, a GPU for which nothing can be compiled. The article has none
of this; it runs on one machine that is known to work.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from grpo_helpers.files import InputError, first_line, read_json
from grpo_helpers.settings import TrainSettings

VLLM_RELEASES = ("0.22", "0.31")  # the first and the last that TRL 1.16 supports
COMPILERS = ("gcc", "clang", "cc")  # one of them, or what the variable CC names

# -- engines and launchers -------------------------------------------------------------------------


def check_engine(settings: TrainSettings) -> None:
    """Make sure that vLLM is installed if rollouts are to come from it.

    Raises:
        InputError: It is not.
    """
    if settings.extra_grpo_args.get("use_vllm") and not _is_installed("vllm"):
        first, last = VLLM_RELEASES
        raise InputError(
            'extra_grpo_args sets use_vllm, and vLLM is not installed: pip install -e ".[vllm]" '
            f"(TRL takes {first} to {last}), or leave use_vllm out"
        )


def check_sharding(settings: TrainSettings, environment: Mapping[str, str] = os.environ) -> None:
    """Make sure that every process has whole weights where they must answer questions.

    Args:
        settings: The run's parameters; ``extra_grpo_args`` may ask for DeepSpeed or FSDP.
        environment: What ``accelerate launch`` has set.

    Raises:
        InputError: The weights would be spread over the processes in a way that ends in an error,
            or DeepSpeed is not installed.
    """
    extra = settings.extra_grpo_args
    by_accelerate = environment.get("ACCELERATE_USE_DEEPSPEED") == "true"

    if (extra.get("deepspeed") or by_accelerate) and not _is_installed("deepspeed"):
        raise InputError("DeepSpeed is asked for and not installed: pip install deepspeed")

    if zero_stage(extra, environment) == 3:
        raise InputError(
            "DeepSpeed ZeRO-3 spreads the weights over the processes, and the model in training "
            "answers the dev questions at every save: use stage 2, or params/accelerate/fsdp.yaml"
        )
    if extra.get("fsdp"):
        raise InputError(
            "extra_grpo_args sets fsdp: leave it out, and launch with "
            "accelerate launch --config_file params/accelerate/fsdp.yaml"
        )
    if settings.use_quant and environment.get("ACCELERATE_USE_FSDP") == "true":
        raise InputError(
            "FSDP cannot spread quantised weights as they are stored here: set use_quant=false, "
            "or start one process for each GPU with torchrun"
        )


def zero_stage(extra: Mapping[str, Any], environment: Mapping[str, str]) -> int:
    """Return the stage of DeepSpeed's ZeRO that a run asks for; 0 without DeepSpeed.

    Args:
        extra: ``extra_grpo_args``; ``deepspeed`` is DeepSpeed's configuration or a file with it.
        environment: What ``accelerate launch`` has set.

    Raises:
        InputError: The file cannot be read.

    >>> zero_stage({"deepspeed": {"zero_optimization": {"stage": 3}}}, {})
    3
    """
    config = extra.get("deepspeed")

    if not config and environment.get("ACCELERATE_USE_DEEPSPEED") == "true":
        config = environment.get("ACCELERATE_DEEPSPEED_CONFIG_FILE")
        if config in (None, "", "none"):
            return int(environment.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2"))

    if isinstance(config, str) and config:
        config = read_json(config, "DeepSpeed configuration")
    if not isinstance(config, Mapping):
        return 0
    return int(config.get("zero_optimization", {}).get("stage", 0))


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


# -- kernels ---------------------------------------------------------------------------------------


def check_kernels(device: str | int, quantised: bool) -> None:
    """Compute a loss of a few tokens on a device, as TRL's trainer does at the end of a first step.

    On a GPU, TRL computes log-probabilities with Triton, which compiles when it is first used: that
    takes a C compiler and Python's header files, which small images lack.

    Args:
        device: The number of a GPU, or ``cpu``.
        quantised: Whether bitsandbytes must store weights there, too.

    Raises:
        InputError: One of them cannot be done; the message says what to install.
    """
    import torch

    # Triton works on the current GPU, which is the first one until accelerate has chosen.
    is_cpu = device == "cpu"
    on_device: Any = contextlib.nullcontext() if is_cpu else torch.cuda.device(device)

    with on_device:
        try:
            _loss_of_a_few_tokens(device)
        except Exception as error:
            raise InputError(
                "this GPU cannot compute the loss of a GRPO step: "
                f"{first_line(error)}{_advice_for_this_machine()}"
            ) from error

        try:
            if quantised:
                _quantise_a_few_weights(device)
        except Exception as error:
            raise InputError(
                f"bitsandbytes cannot quantise on this GPU: {first_line(error)}; "
                "`python -m bitsandbytes` tells more"
            ) from error


def _advice_for_this_machine() -> str:
    """Return what to install here so that Triton can compile, or an empty text."""
    compilers = [name for name in COMPILERS if shutil.which(name)]
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"

    has_compiler = bool(compilers) or "CC" in os.environ
    return compile_advice(has_compiler, has_header=header.is_file())


def compile_advice(has_compiler: bool, has_header: bool) -> str:
    """Return what to install so that Triton can compile, or an empty text.

    >>> compile_advice(has_compiler=True, has_header=True)
    ''
    """
    headers = f"python{sys.version_info.major}.{sys.version_info.minor}-dev"

    if not has_compiler:
        return f"; Triton finds no C compiler: apt install gcc {headers}"
    if not has_header:
        return f"; Triton finds no Python.h: apt install {headers}"
    return ""


def _loss_of_a_few_tokens(device: str | int) -> None:
    """Compute log-probabilities forth and back, by the code that TRL's trainer uses."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl.trainer.utils import add_fused_lm_head

    config = LlamaConfig(
        vocab_size=16,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=1,
    )
    with torch.random.fork_rng(devices=[]):  # the run's own numbers stay as they are
        model: Any = LlamaForCausalLM(config)
    model.to(device)
    add_fused_lm_head(model)

    ids = torch.tensor([[1, 2, 3]], device=device)
    outputs = model(input_ids=ids, labels=ids, fused_lm_head=True)
    outputs.log_probs.sum().backward()


def _quantise_a_few_weights(device: str | int) -> None:
    """Store a small matrix in 4 bits and read it back."""
    import torch
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    weights = torch.ones(64, 64, device=device)
    packed, state = quantize_4bit(weights, quant_type="nf4")
    dequantize_4bit(packed, state)
