"""The policy: tokenizer, base model (full precision or quantised), LoRA configuration.

The article wraps the model in LoRA itself; here the base model and a ``LoraConfig`` go to TRL, which wraps it once.
Dropout defaults to 0 where the article has 0.05: TRL samples rollouts in training mode, so dropout would have the
policy answer with units missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from grpo_helpers.data import InputError, resolve_path
from grpo_helpers.settings import TrainSettings

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def quiet_libraries() -> None:
    """Keep progress bars and one warning of transformers 5.23 out of notebooks and logs.

    TRL 1.16 still passes ``gradient_checkpointing``, which transformers calls deprecated at every use.
    """
    import warnings

    from transformers.utils import logging

    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", message=".*gradient_checkpointing.* is deprecated", category=FutureWarning)


def model_source(name: str) -> str:
    """Return what to load ``name`` from: a local folder where there is one, else the hub id itself.

    Raises:
        InputError: ``name`` looks like a path (``./x``, ``data/...``, ``/x``) but there is no such folder, or the
            folder holds no model.
    """
    path = resolve_path(name)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise InputError(f"model folder {name} has no config.json: not a transformers model folder")
        return str(path)
    if name.startswith((".", "/", "~", "data/")) or name.count("/") > 1:
        raise InputError(f"model path {name} does not exist (looked in the working folder and in the project folder)")
    return name


def check_model(name: str) -> None:
    """Make sure that ``name`` can be loaded, by reading its configuration only.

    Raises:
        InputError: Neither a model folder nor a model the hub (or its local cache) has.
    """
    from transformers import AutoConfig

    source = model_source(name)
    try:
        AutoConfig.from_pretrained(source)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(f"model {name!r} is neither a local folder nor to be had from the hub: {first}") from None


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a model, padding on the left as generation needs it, with a pad token set.

    Raises:
        InputError: The tokenizer has no chat template.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_source(name), padding_side="left")
    if tokenizer.chat_template is None:
        raise InputError(f"model {name!r} has no chat template; use an instruction-tuned model or add a template")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(name: str, quant_type: str | None = None, bf16: bool = False) -> PreTrainedModel:
    """Return the base model in fp32 or bf16, or quantised (``"4bit"``: nf4 with double quantisation, or ``"8bit"``).

    Weights are read from safetensors only, and no code of the model's repository is run.
    """
    import torch
    from transformers import AutoModelForCausalLM

    quiet_libraries()
    dtype = torch.bfloat16 if bf16 else torch.float32
    config = quantization_config(quant_type) if quant_type else None
    placement = {"device_map": {"": _local_device()}} if config else {}
    model = AutoModelForCausalLM.from_pretrained(
        model_source(name), dtype=dtype, quantization_config=config, use_safetensors=True, **placement
    )
    if config:
        keep_gradients_on_cpu(model)
    return model


def _local_device() -> str | int:
    import os

    import torch

    return int(os.environ.get("LOCAL_RANK", "0")) if torch.cuda.is_available() else "cpu"


def quantization_config(quant_type: str):
    """Return the ``BitsAndBytesConfig`` of ``"4bit"`` (nf4, double quantisation, bf16 compute) or ``"8bit"``."""
    import torch
    from transformers import BitsAndBytesConfig

    if quant_type == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def keep_gradients_on_cpu(model: PreTrainedModel) -> None:
    """Stop bitsandbytes from repacking 4-bit weights for inference on CPUs with AVX512-BF16.

    It does so at the first forward in evaluation mode, in place; gradients through those layers are lost from then
    on, with a warning only (seen with bitsandbytes 0.50).
    """
    import bitsandbytes as bnb

    for module in model.modules():
        if isinstance(module, bnb.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False


def lora_config(settings: TrainSettings) -> LoraConfig:
    """Return the LoRA configuration of a run."""
    from peft import LoraConfig

    return LoraConfig(
        r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=[name.strip() for name in settings.lora_target_modules.split(",")],
        bias="none",
        task_type="CAUSAL_LM",
    )


def load_with_adapter(name: str, lora_weights_path: str | None, quant_type: str | None = None, bf16: bool = False):
    """Return the base model with the adapter of a checkpoint folder (``epoch_3/``) on it, ready to answer.

    Raises:
        InputError: The folder holds no adapter.
    """
    model = load_model(name, quant_type, bf16)
    if lora_weights_path is not None:
        from peft import PeftModel

        folder = resolve_path(lora_weights_path)
        if not (folder / "adapter_config.json").is_file():
            raise InputError(f"no LoRA adapter in {lora_weights_path}: expected adapter_config.json there")
        model = PeftModel.from_pretrained(model, str(folder), autocast_adapter_dtype=False)
    return model.eval()
