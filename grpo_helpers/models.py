"""The policy: tokenizer, base model (full precision or quantised), LoRA configuration.

The article wraps the model in LoRA itself; here the base model and a ``LoraConfig`` go to TRL, which wraps it once.
Dropout defaults to 0 where the article has 0.05: TRL samples rollouts in training mode, where dropout distorts them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from grpo_helpers.files import InputError, resolve_path
from grpo_helpers.library_fixes import keep_gradients_on_cpu, quiet_libraries
from grpo_helpers.settings import TrainSettings

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def model_source(name: str) -> tuple[str, dict[str, str]]:
    """Return what transformers loads ``name`` from, and further arguments: a folder, a hub id, or a GGUF file's place.

    A GGUF file is named by its path, or on the hub as ``user/repository/file.gguf``. InputError where ``name`` looks
    like a path (``./x``, ``data/...``, ``/x``) but there is no such folder or file, or the folder holds no model.

    >>> model_source("someone/a-model"), model_source("someone/a-model/q8.gguf")
    (('someone/a-model', {}), ('someone/a-model', {'gguf_file': 'q8.gguf'}))
    """
    path = resolve_path(name)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise InputError(
                f"model folder {name} has no config.json: not a transformers model folder"
            )
        return str(path), {}
    gguf = {"gguf_file": path.name} if path.suffix == ".gguf" else {}
    if gguf and path.is_file():
        return str(path.parent), gguf
    if name.startswith((".", "/", "~", "data/")) or (
        name.count("/") != 2 if gguf else name.count("/") > 1
    ):
        raise InputError(
            f"model path {name} does not exist (looked in the working folder and in the project folder)"
        )
    return (name.rpartition("/")[0] if gguf else name), gguf


def check_model(name: str) -> None:
    """Make sure, by reading its configuration, that a model can be loaded (folder, hub, cache), or raise InputError."""
    from transformers import AutoConfig

    source, gguf = model_source(name)
    try:
        AutoConfig.from_pretrained(source, **gguf)
    except (ImportError, OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(
            f"model {name!r} is neither a local folder nor to be had from the hub: {first}"
        ) from None


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Return a model's tokenizer, padding on the left to generate, pad token set; InputError without chat template."""
    from transformers import AutoTokenizer

    source, gguf = model_source(name)
    tokenizer = AutoTokenizer.from_pretrained(source, padding_side="left", **gguf)
    if tokenizer.chat_template is None:
        raise InputError(
            f"model {name!r} has no chat template; use an instruction-tuned model or add a template"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(name: str, quant_type: str | None = None, bf16: bool = False) -> PreTrainedModel:
    """Return the base model in fp32 or bf16, or quantised (``"4bit"``: nf4 with double quantisation, or ``"8bit"``).

    Weights are read from safetensors, or from a GGUF file, which is unpacked to full precision; no code of the model's
    repository is run. InputError for a GGUF file that is to be quantised again.
    """
    import torch
    from transformers import AutoModelForCausalLM

    quiet_libraries()
    config = quantization_config(quant_type) if quant_type else None
    placement = {"device_map": {"": _local_device()}} if config else {}
    source, gguf = model_source(name)
    if gguf and config:
        raise InputError(
            f"{name} is unpacked to full precision when it is read: use_quant needs a safetensors model"
        )
    how = gguf or {"quantization_config": config, "use_safetensors": True, **placement}
    model = AutoModelForCausalLM.from_pretrained(
        source, dtype=torch.bfloat16 if bf16 else torch.float32, **how
    )
    if config:
        keep_gradients_on_cpu(model)
    if gguf:  # plain weights now: with their marks, transformers would neither train nor save them
        del model.config.quantization_config
        for mark in ("is_quantized", "quantization_method", "hf_quantizer"):
            vars(model).pop(mark, None)
    return model


def _local_device() -> str | int:
    import torch

    return int(os.environ.get("LOCAL_RANK", "0")) if torch.cuda.is_available() else "cpu"


def quantization_config(quant_type: str):
    """Return the ``BitsAndBytesConfig`` of ``"4bit"`` (nf4, double quantisation, bf16 compute) or ``"8bit"``."""
    import torch
    from transformers import BitsAndBytesConfig

    if quant_type == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    nf4 = {
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": torch.bfloat16,
    }
    return BitsAndBytesConfig(load_in_4bit=True, **nf4)


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


def load_with_adapter(
    name: str, lora_weights_path: str | None, quant_type: str | None = None, bf16: bool = False
):
    """Return the base model with the adapter of a checkpoint folder (``epoch_3/``) on it, ready to answer.

    InputError where the folder holds no adapter.
    """
    model = load_model(name, quant_type, bf16)
    if lora_weights_path is not None:
        from peft import PeftModel

        folder = resolve_path(lora_weights_path)
        if not (folder / "adapter_config.json").is_file():
            raise InputError(
                f"no LoRA adapter in {lora_weights_path}: expected adapter_config.json there"
            )
        model = PeftModel.from_pretrained(model, str(folder), autocast_adapter_dtype=not quant_type)
    return (model if quant_type else model.to(_local_device())).eval()
