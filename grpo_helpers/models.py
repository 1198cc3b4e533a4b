"""The policy: tokenizer, base model (full precision or quantised), LoRA configuration.

In: the name of a model (a folder, a hub id, a GGUF file) and, to answer with a checkpoint, its
adapter folder. Out: objects of transformers and PEFT. The article wraps the model in LoRA itself;
here the base model and a ``LoraConfig`` go to TRL, which wraps it once. Dropout defaults to 0 where
the article has 0.05: TRL samples rollouts in training mode, where dropout distorts them. By default
all linear layers are adapted, because that teaches the embedded model faster; the article adapts
the attention, and so do the GPU profiles.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from grpo_helpers.answers import THOUGHT_TAGS
from grpo_helpers.chat_template import read_chat_template
from grpo_helpers.files import InputError, first_line, show_path
from grpo_helpers.library_fixes import (
    keep_gradients_on_cpu,
    keep_tags,
    plain_generation,
    quiet_libraries,
    unmark_gguf,
)
from grpo_helpers.model_checks import (
    adapter_folder,
    check_adapter,
    check_quantization,
    lora_targets,
    model_source,
)
from grpo_helpers.settings import TrainSettings

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel
    from transformers import BitsAndBytesConfig, PreTrainedModel, PreTrainedTokenizerBase

SECONDS_PER_LINE = 10.0  # of a download
LARGE = 10**8  # bytes; smaller downloads are not worth a line
GIGABYTE = 10**9


# -- loading ---------------------------------------------------------------------------------------


def load_tokenizer(name: str, chat_template_path: str = "") -> PreTrainedTokenizerBase:
    """Return a model's tokenizer, ready to generate: padding on the left, with a pad token.

    Args:
        name: As in :func:`model_source`.
        chat_template_path: A jinja file that takes the place of the model's chat template; empty:
            the model's own stays.

    Raises:
        InputError: The tokenizer or the file cannot be read, or there is no chat template or no end
            token.
    """
    from transformers import AutoTokenizer

    source, gguf = model_source(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, padding_side="left", **gguf)
    except (ImportError, OSError, ValueError) as error:
        raise InputError(
            f"the tokenizer of model {name!r} cannot be read; are its files there, "
            f"tokenizer.json and tokenizer_config.json? ({first_line(error)})"
        ) from None

    if chat_template_path:
        tokenizer.chat_template = read_chat_template(chat_template_path)
    if tokenizer.chat_template is None:
        raise InputError(
            f"model {name!r} has no chat template; use an instruction-tuned model, "
            "or give a template with chat_template_path"
        )
    if tokenizer.eos_token is None:
        raise InputError(
            f"the tokenizer of model {name!r} has no token that ends an answer: "
            "set eos_token (and pad_token) in its tokenizer_config.json"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token

    keep_tags(tokenizer, THOUGHT_TAGS)
    return tokenizer


def load_model(
    name: str,
    quant_type: str | None = None,
    dtype: str = "float32",
    *,
    model_kwargs: Mapping[str, Any] | None = None,
    to_gpu: bool = False,
) -> PreTrainedModel:
    """Return a base model.

    Weights are read from safetensors, or from a GGUF file, which is unpacked to full precision. No
    code of the model's repository is run.

    Args:
        name: As in :func:`model_source`.
        quant_type: ``"4bit"`` (nf4 with double quantisation), ``"8bit"``, or None for full
            precision.
        dtype: The numbers of weights that are not quantised, and of computing with those that are:
            ``float32``, ``bfloat16`` or ``float16``.
        model_kwargs: Further arguments of ``from_pretrained``, ``attn_implementation`` for one.
        to_gpu: Read plain weights straight into this process's GPU, where there is one; quantised
            ones always are. Otherwise each process holds all of them in main memory first.

    Raises:
        InputError: The model cannot be found or read, a GGUF file is to be quantised again, or
            bitsandbytes is missing.
    """
    import torch

    quiet_libraries()
    source, gguf = model_source(name)
    check_quantization(quant_type)
    if gguf and quant_type:
        raise InputError(
            f"{name} is unpacked to full precision when it is read: "
            "use_quant needs a safetensors model"
        )

    options: dict[str, Any] = {**(model_kwargs or {}), "dtype": getattr(torch, dtype)}
    if gguf:
        options |= gguf
    else:
        options["use_safetensors"] = True
    if quant_type:
        options["quantization_config"] = quantization_config(quant_type, dtype)
    if quant_type or (to_gpu and not gguf and _has_own_gpu()):
        options["device_map"] = {"": local_device()}

    model = _read_weights(name, source, options)

    if quant_type:
        keep_gradients_on_cpu(model)
    if gguf:
        unmark_gguf(model)
    plain_generation(model)
    return model


def _read_weights(name: str, source: str, options: dict[str, Any]) -> PreTrainedModel:
    """Return what transformers reads from ``source``, or say in one line why it cannot."""
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    try:
        return AutoModelForCausalLM.from_pretrained(source, tqdm_class=DownloadLines, **options)
    except torch.OutOfMemoryError:
        raise
    except SafetensorError as error:
        raise InputError(
            f"the weights of model {name!r} are damaged, or only a pointer to them was copied: "
            f"download them again ({first_line(error)})"
        ) from error
    except (ImportError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"model {name!r} cannot be loaded: {first_line(error)}") from error


def load_with_adapter(
    name: str,
    lora_weights_path: str | None,
    quant_type: str | None = None,
    dtype: str = "float32",
    *,
    model_kwargs: Mapping[str, Any] | None = None,
) -> PreTrainedModel | PeftModel:
    """Return a model that is ready to answer: a base model, with an adapter on it if one is given.

    Args:
        name: As in :func:`model_source`.
        lora_weights_path: The folder of a checkpoint's adapter, ``runs/default/epoch_3`` for one;
            None for the base model.
        quant_type: As in :func:`load_model`; use what the adapter was trained with.
        dtype: As in :func:`load_model`; use what the adapter was trained with.
        model_kwargs: As in :func:`load_model`; use what the adapter was trained with.

    Raises:
        InputError: The model cannot be found, the folder holds no adapter, or the adapter was
            trained on another model.
    """
    folder = adapter_folder(lora_weights_path) if lora_weights_path is not None else None
    if folder is not None:
        check_adapter(folder, name)

    model: Any = load_model(name, quant_type, dtype, model_kwargs=model_kwargs, to_gpu=True)
    if not quant_type:  # quantised weights are on their device already
        model = model.to(local_device())

    if folder is not None:
        model = put_adapter(model, folder, quant_type, dtype)
    return model.eval()


def put_adapter(
    model: PreTrainedModel, folder: Path, quant_type: str | None, dtype: str
) -> PeftModel:
    """Return a base model in memory with an adapter on it, ready to answer.

    Args:
        model: The base model.
        folder: The adapter's folder; :func:`grpo_helpers.model_checks.check_adapter` has nothing
            against it.
        quant_type: As the model was loaded.
        dtype: As the model was loaded.

    Raises:
        InputError: The adapter was trained on another model.
    """
    from peft import PeftModel

    # PEFT would read the bfloat16 adapter of a quantised model as float32.
    autocast = not (quant_type and dtype == "bfloat16")
    try:
        adapted = PeftModel.from_pretrained(model, str(folder), autocast_adapter_dtype=autocast)
    except (KeyError, RuntimeError, ValueError) as error:  # what no check before has found
        raise InputError(
            f"the adapter in {show_path(folder)} does not fit model {model.name_or_path}: "
            f"{first_line(error)}"
        ) from error
    return adapted.eval()


def _has_own_gpu() -> bool:
    """Return whether whole weights belong on a GPU here: FSDP spreads them itself."""
    return local_device() != "cpu" and os.environ.get("ACCELERATE_USE_FSDP") != "true"


def local_device() -> str | int:
    """Return this process's own GPU by number, or ``"cpu"``."""
    import torch

    if not torch.cuda.is_available():
        return "cpu"

    return int(os.environ.get("LOCAL_RANK", "0"))


class DownloadLines(tqdm):
    """The progress of a download in lines: ``downloading: 3.1 of 23.1 GB``, every ten seconds.

    The hub's own bars show up in a terminal alone. Lines can be read in a notebook, in the output
    of papermill and in the log of several processes, too. Given to transformers as ``tqdm_class``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take what the hub gives to its bars: a description, the total, the unit."""
        # Beside the bytes that are on disk, the hub counts files, and bytes on their way.
        counts_bytes = kwargs.get("unit") == "B"
        is_on_its_way = str(kwargs.get("desc", "")).startswith("Downloading bytes")
        self.is_shown = counts_bytes and not is_on_its_way

        self._last_line = time.monotonic()
        super().__init__(*args, **(kwargs | {"file": io.StringIO(), "disable": False}))

    def display(self, *_: Any, **__: Any) -> None:
        """Print a line if it is time for one."""
        total = self.total or 0
        is_due = time.monotonic() - self._last_line >= SECONDS_PER_LINE

        if self.is_shown and is_due and total >= LARGE:
            self._last_line = time.monotonic()
            done = f"{self.n / GIGABYTE:.1f} of {total / GIGABYTE:.1f} GB"
            print(f"downloading: {done}", flush=True)


# -- configuration ---------------------------------------------------------------------------------


def quantization_config(quant_type: str, dtype: str = "bfloat16") -> BitsAndBytesConfig:
    """Return the configuration of a quantised model.

    Args:
        quant_type: ``"4bit"`` (nf4 with double quantisation) or ``"8bit"``.
        dtype: The numbers that 4-bit weights are unpacked to, in order to compute with them.
    """
    import torch
    from transformers import BitsAndBytesConfig

    if quant_type == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, dtype),
    )


def lora_config(settings: TrainSettings) -> LoraConfig:
    """Return the LoRA configuration of a run."""
    from peft import LoraConfig

    return LoraConfig(
        r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=lora_targets(settings.lora_target_modules),
        bias="none",
        task_type="CAUSAL_LM",
    )
