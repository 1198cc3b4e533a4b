"""The policy: tokenizer, base model (full precision or quantised), LoRA configuration.

In: the name of a model (a folder, a hub id, a GGUF file) and, to answer with a checkpoint, its
adapter folder. Out: objects of transformers and PEFT. The article wraps the model in LoRA itself;
here the base model and a ``LoraConfig`` go to TRL, which wraps it once. Dropout defaults to 0 where
the article has 0.05: TRL samples rollouts in training mode, where dropout distorts them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grpo_helpers.files import InputError, resolve_path
from grpo_helpers.library_fixes import keep_gradients_on_cpu, quiet_libraries, unmark_gguf
from grpo_helpers.settings import TrainSettings

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel
    from transformers import BitsAndBytesConfig, PreTrainedModel, PreTrainedTokenizerBase

ADAPTER_CONFIG = "adapter_config.json"  # the file that makes a folder an adapter
ADAPTER_WEIGHTS = "adapter_model.safetensors"


# -- where a model comes from ----------------------------------------------------------------------


def model_source(name: str) -> tuple[str, dict[str, str]]:
    """Return what transformers loads a model from.

    Args:
        name: A model folder, a hub id, or a GGUF file: its path, or ``user/repository/file.gguf``.

    Returns:
        The first argument of ``from_pretrained``, and further keyword arguments.

    Raises:
        InputError: ``name`` looks like a path (``./x``, ``data/...``, ``/x``) but there is no such
            folder or file, or the folder holds no model.

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

    if path.suffix == ".gguf":
        return _gguf_source(name, path)

    if _looks_like_a_path(name) or name.count("/") > 1:
        raise _missing_model(name)

    return name, {}


def _gguf_source(name: str, path: Path) -> tuple[str, dict[str, str]]:
    gguf = {"gguf_file": path.name}

    if path.is_file():
        return str(path.parent), gguf

    # On the hub: user/repository/file.gguf.
    if _looks_like_a_path(name) or name.count("/") != 2:
        raise _missing_model(name)

    repository, _, _ = name.rpartition("/")
    return repository, gguf


def _looks_like_a_path(name: str) -> bool:
    return name.startswith((".", "/", "~", "data/"))


def _missing_model(name: str) -> InputError:
    return InputError(
        f"model path {name} does not exist (looked in the working folder and in the project folder)"
    )


def check_model(name: str) -> None:
    """Make sure that a model can be loaded, by reading its configuration.

    Raises:
        InputError: ``name`` is neither a local model nor available from the hub or its cache.
    """
    from transformers import AutoConfig

    source, gguf = model_source(name)
    try:
        AutoConfig.from_pretrained(source, **gguf)
    except (ImportError, OSError, ValueError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise InputError(
            f"model {name!r} is neither a local folder nor available from the hub: {first_line}"
        ) from None


# -- loading ---------------------------------------------------------------------------------------


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Return a model's tokenizer, ready to generate: padding on the left, with a pad token.

    Raises:
        InputError: The tokenizer has no chat template.
    """
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
    """Return a base model.

    Weights are read from safetensors, or from a GGUF file, which is unpacked to full precision. No
    code of the model's repository is run.

    Args:
        name: As in :func:`model_source`.
        quant_type: ``"4bit"`` (nf4 with double quantisation), ``"8bit"``, or None for full
            precision.
        bf16: Load weights that are not quantised as bfloat16 instead of float32.

    Raises:
        InputError: The model cannot be found, or a GGUF file is to be quantised again.
    """
    import torch
    from transformers import AutoModelForCausalLM

    quiet_libraries()
    source, gguf = model_source(name)
    if gguf and quant_type:
        raise InputError(
            f"{name} is unpacked to full precision when it is read: "
            "use_quant needs a safetensors model"
        )

    options: dict[str, Any] = {"dtype": torch.bfloat16 if bf16 else torch.float32}
    if gguf:
        options |= gguf
    else:
        options["use_safetensors"] = True
    if quant_type:
        options["quantization_config"] = quantization_config(quant_type)
        options["device_map"] = {"": _local_device()}

    model = AutoModelForCausalLM.from_pretrained(source, **options)

    if quant_type:
        keep_gradients_on_cpu(model)
    if gguf:
        unmark_gguf(model)
    return model


def load_with_adapter(
    name: str, lora_weights_path: str | None, quant_type: str | None = None, bf16: bool = False
) -> PreTrainedModel | PeftModel:
    """Return a model that is ready to answer: a base model, with an adapter on it if one is given.

    Args:
        name: As in :func:`model_source`.
        lora_weights_path: The folder of a checkpoint's adapter, ``runs/default/epoch_3`` for one;
            None for the base model.
        quant_type: As in :func:`load_model`; use what the adapter was trained with.
        bf16: As in :func:`load_model`; use what the adapter was trained with.

    Raises:
        InputError: The model cannot be found, or the folder holds no adapter.
    """
    folder = adapter_folder(lora_weights_path) if lora_weights_path is not None else None
    model: Any = load_model(name, quant_type, bf16)

    if folder is not None:
        from peft import PeftModel

        # PEFT would read the bfloat16 adapter of a quantised model as float32.
        autocast = not quant_type
        model = PeftModel.from_pretrained(model, str(folder), autocast_adapter_dtype=autocast)

    if not quant_type:  # quantised weights are on their device already
        model = model.to(_local_device())
    return model.eval()


def adapter_folder(lora_weights_path: str) -> Path:
    """Return the absolute path of an adapter's folder.

    Raises:
        InputError: The folder holds no adapter.
    """
    folder = resolve_path(lora_weights_path)
    if not (folder / ADAPTER_CONFIG).is_file():
        raise InputError(f"no LoRA adapter in {lora_weights_path}: expected {ADAPTER_CONFIG} there")

    return folder


def _local_device() -> str | int:
    """Return this process's own GPU by number, or ``"cpu"``."""
    import torch

    if not torch.cuda.is_available():
        return "cpu"

    return int(os.environ.get("LOCAL_RANK", "0"))


# -- configuration ---------------------------------------------------------------------------------


def quantization_config(quant_type: str) -> BitsAndBytesConfig:
    """Return the configuration of a quantised model.

    Args:
        quant_type: ``"4bit"`` (nf4 with double quantisation, computing in bfloat16) or ``"8bit"``.
    """
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


def lora_config(settings: TrainSettings) -> LoraConfig:
    """Return the LoRA configuration of a run."""
    from peft import LoraConfig

    names = settings.lora_target_modules.split(",")
    return LoraConfig(
        r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=[name.strip() for name in names],
        bias="none",
        task_type="CAUSAL_LM",
    )
