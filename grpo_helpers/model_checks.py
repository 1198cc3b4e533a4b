"""What can be said of a model before its weights are read, and what would go wrong with them.

In: the name of a model (a folder, a hub id, a GGUF file), an adapter's folder, LoRA's layer names,
prompts. Out: nothing, or an :class:`InputError`: a file that is missing, a layer that the model has
not, a prompt longer than the model's positions, an adapter of another model. The article finds
these out when the model is loaded, or later.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grpo_helpers.architecture import ALL_LINEAR
from grpo_helpers.files import (
    InputError,
    first_line,
    read_json,
    resolve_path,
    sha256,
    sha256_of_model,
    show_path,
)
from grpo_helpers.questions import Item

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

ADAPTER_CONFIG = "adapter_config.json"  # the file that makes a folder an adapter
ADAPTER_WEIGHTS = "adapter_model.safetensors"

WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"  # names the parts of a large model


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
    """Make sure that a model can be loaded, by its configuration and the names of its files.

    Raises:
        InputError: ``name`` is neither a local model nor available from the hub or its cache, or
            its folder has no weights in safetensors.
    """
    model_config(name)

    folder = resolve_path(name)
    if folder.is_dir():
        _check_weight_files(name, folder)


def model_config(name: str) -> PreTrainedConfig:
    """Return a model's configuration; no weights are read.

    Raises:
        InputError: ``name`` is neither a local model nor available from the hub or its cache.
    """
    from transformers import AutoConfig

    source, gguf = model_source(name)
    try:
        return AutoConfig.from_pretrained(source, **gguf)
    except (ImportError, OSError, ValueError) as error:
        raise InputError(
            f"model {name!r} is neither a local folder nor available from the hub: "
            f"{first_line(error)}"
        ) from None


def model_revision(name: str) -> str | None:
    """Return the commit of the hub repository that a model is loaded from.

    Args:
        name: As in :func:`model_source`.

    Returns:
        The commit; None for a local model, and where neither the hub nor its cache knows it.
    """
    if resolve_path(name).exists():
        return None

    from transformers.utils.hub import resolve_revision

    source, _ = model_source(name)
    revision = resolve_revision(source)  # a text with the commit beside it, or None
    return getattr(revision, "resolved", None)


def _check_weight_files(name: str, folder: Path) -> None:
    """Make sure that a model's folder has its weights, all of them, in safetensors."""
    index = folder / WEIGHTS_INDEX
    if index.is_file():
        parts = set(read_json(index, "index of the weights").get("weight_map", {}).values())
        missing = sorted(part for part in parts if not (folder / part).is_file())
        if missing:
            raise InputError(
                f"model folder {name} is incomplete: {len(missing)} of {len(parts)} parts are "
                f"missing, {missing[0]} for one; download it again"
            )
        return

    if any(folder.glob("*.safetensors")):
        return

    if any(folder.glob("pytorch_model*.bin")):
        raise InputError(
            f"model folder {name} has only pytorch_model.bin, which can run code when it is read: "
            f"save it as {WEIGHTS} with transformers, by from_pretrained and save_pretrained"
        )
    raise InputError(f"model folder {name} has no {WEIGHTS}: the weights are missing")


def check_quantization(quant_type: str | None) -> None:
    """Make sure that a quantised model can be loaded.

    Raises:
        InputError: bitsandbytes is not installed.
    """
    if quant_type and importlib.util.find_spec("bitsandbytes") is None:
        raise InputError(
            f"a model in {quant_type} needs bitsandbytes, which is not installed: "
            'pip install -e ".[gpu]", or leave the model as it is (use_quant=false)'
        )


def check_model_kwargs(name: str, model_kwargs: Mapping[str, Any]) -> None:
    """Make sure that a model can be built with the attention that ``model_kwargs`` asks for.

    Raises:
        InputError: transformers knows no such attention, the model has none of that kind, or what
            it needs is not installed.
    """
    attention = model_kwargs.get("attn_implementation")
    if attention is None:
        return

    import torch
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            AutoModelForCausalLM.from_config(model_config(name), attn_implementation=attention)
    except (ImportError, ValueError) as error:
        raise InputError(
            f"model_kwargs: model {name!r} cannot have attn_implementation {attention!r}: "
            f"{first_line(error)}"
        ) from None


def skeleton(name: str) -> PreTrainedModel | None:
    """Return a model without weights: its layers with their names and sizes, in no memory.

    None stands for a model that cannot be built that way.
    """
    import torch
    from transformers import AutoModelForCausalLM

    config = model_config(name)
    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config)
    except (AttributeError, ImportError, NotImplementedError, RuntimeError, ValueError):
        return None


# -- do the prompts fit? ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Room:
    """What an answer needs of a model's positions, and what to say where it is not there.

    Attributes:
        model_name: The model.
        new_tokens: The longest answer, in tokens.
        parameter: What that limit is called: ``max_completion_length``.
        fix: What else can be done about a prompt that is too long; ``{left}`` in it stands for the
            tokens that a prompt may have.
    """

    model_name: str
    new_tokens: int
    parameter: str = "max_completion_length"
    fix: str = "lower num_few_shot"


def check_room(
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[Item],
    texts: Sequence[str],
    room: Room,
) -> None:
    """Make sure that every prompt and the longest answer fit into the model, token by token.

    Args:
        tokenizer: The model's tokenizer.
        items: The items, for their ids.
        texts: The prompt of each, as the chat template renders it.
        room: The model, the longest answer, and how to say what is wrong.

    Raises:
        InputError: A prompt with its answer has more tokens than the model has positions, or a
            token that the model does not know.
    """
    if not texts:
        return

    config = model_config(room.model_name).get_text_config()
    encoded = tokenizer(list(texts), add_special_tokens=False, verbose=False)
    ids = encoded["input_ids"]

    _check_positions(config, items, [len(tokens) for tokens in ids], room)
    used = max((max(tokens) for tokens in ids if tokens), default=0)
    largest = max(used, tokenizer.pad_token_id or 0)
    rows = getattr(config, "vocab_size", None)
    if rows and largest >= rows:
        raise InputError(
            f"the tokenizer of model {room.model_name!r} writes token {largest}, the model knows "
            f"{rows} (0 to {rows - 1}): enlarge it with resize_token_embeddings, or use the "
            "tokenizer that belongs to it"
        )


def _check_positions(
    config: PreTrainedConfig, items: Sequence[Item], lengths: Sequence[int], room: Room
) -> None:
    positions = getattr(config, "max_position_embeddings", None)
    if not positions or positions < 1:  # a model without a limit of its own
        return

    longest = max(lengths)
    if longest + room.new_tokens <= positions:
        return

    fixes = []
    if longest < positions:
        fixes.append(f"lower {room.parameter} to {positions - longest}")
    if room.new_tokens < positions:
        fixes.append(room.fix.format(left=positions - room.new_tokens))
    fix = " or ".join(fixes) or f"lower {room.parameter}"

    item = items[lengths.index(longest)]
    raise InputError(
        f"the prompt of id {item.id!r} has {longest} tokens and its answer up to "
        f"{room.new_tokens} ({room.parameter}), together more than the {positions} positions of "
        f"model {room.model_name!r}: {fix}"
    )


# -- does LoRA find its layers? --------------------------------------------------------------------


def lora_targets(text: str) -> str | list[str]:
    """Return ``lora_target_modules`` as PEFT takes it.

    Raises:
        InputError: There is no name in it, or names beside ``all-linear``.

    >>> lora_targets("q_proj, v_proj"), lora_targets("all-linear")
    (['q_proj', 'v_proj'], 'all-linear')
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise InputError(f"lora_target_modules is empty: name layers, or give {ALL_LINEAR}")

    if ALL_LINEAR not in [name.lower() for name in names]:
        return names
    if len(names) > 1:
        raise InputError(
            f"lora_target_modules is {text!r}: {ALL_LINEAR} stands for all layers, give it alone"
        )
    return ALL_LINEAR


def check_lora_targets(text: str, model_name: str) -> None:
    """Make sure, before weights are read, that each name of ``lora_target_modules`` has layers.

    Args:
        text: The parameter.
        model_name: The model.

    Raises:
        InputError: A name that no layer has, or layers that can have no adapter.
    """
    targets = lora_targets(text)
    model = skeleton(model_name)
    if model is None or isinstance(targets, str):
        return

    known = ", ".join(_linear_names(model))
    for name in targets:
        layers = [
            module
            for key, module in model.named_modules()
            if key == name or key.endswith(f".{name}")
        ]
        if layers and model.get_output_embeddings() in layers:
            raise InputError(
                f"lora_target_modules has {name!r}, the output head, where TRL trains no adapter: "
                f"leave it out; the model's other layers are {known}"
            )
        if not layers or not all(_takes_adapter(layer) for layer in layers):
            raise InputError(
                f"lora_target_modules has {name!r}, which names no layer of {model_name} "
                f"that takes an adapter: use {known}, or {ALL_LINEAR}"
            )


def _takes_adapter(layer: nn.Module) -> bool:
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    kinds = (nn.Linear, Conv1D, nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return isinstance(layer, kinds)


def _linear_names(model: PreTrainedModel) -> list[str]:
    """Return the names of a model's linear layers, each once, without the output head."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()
    names: dict[str, None] = {}  # in order, each once

    for path, module in model.named_modules():
        if isinstance(module, (nn.Linear, Conv1D)) and module is not head:
            names[path.rpartition(".")[2]] = None
    return list(names)


# -- does an adapter belong to a model? ------------------------------------------------------------


def adapter_folder(lora_weights_path: str) -> Path:
    """Return the absolute path of an adapter's folder.

    Raises:
        InputError: The folder holds no adapter.
    """
    folder = resolve_path(lora_weights_path)
    if not (folder / ADAPTER_CONFIG).is_file():
        raise InputError(f"no LoRA adapter in {lora_weights_path}: expected {ADAPTER_CONFIG} there")

    return folder


def check_adapter(folder: Path, name: str) -> None:
    """Make sure, before weights are read, that an adapter was trained on a model.

    Where nothing proves that it was or was not, a warning is printed.

    Raises:
        InputError: The model has other layers or sizes, or other contents than the one that the
            adapter was trained on.
    """
    if not (folder / ADAPTER_WEIGHTS).is_file() and not (folder / "adapter_model.bin").is_file():
        raise InputError(f"the adapter in {show_path(folder)} has no {ADAPTER_WEIGHTS}: copy it")

    _check_adapter_sizes(folder, name)
    _check_adapter_base(folder, name)


def _check_adapter_sizes(folder: Path, name: str) -> None:
    model = skeleton(name)
    weights = folder / ADAPTER_WEIGHTS
    if model is None or not weights.is_file():
        return

    layers = dict(model.named_modules())
    for key, shape in _adapter_shapes(weights).items():
        layer, _, part = key.removeprefix("base_model.model.").partition(".lora_")
        if part not in ("A.weight", "B.weight"):
            continue

        width = shape[1] if part == "A.weight" else shape[0]
        if _width(layers.get(layer), part) not in (width, None):
            raise InputError(
                f"the adapter in {show_path(folder)} was trained on {_trained_on(folder)}; "
                f"model {name} has another {layer}: give the model that it was trained on"
            )


def _width(layer: nn.Module | None, part: str) -> int | None:
    """Return the inputs (for A) or outputs (for B) of a layer; 0 for a layer that is not there."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    if layer is None:
        return 0
    if isinstance(layer, nn.Linear):
        return layer.in_features if part == "A.weight" else layer.out_features
    if isinstance(layer, Conv1D):
        return layer.nx if part == "A.weight" else layer.nf
    return None


def _adapter_shapes(weights: Path) -> dict[str, list[int]]:
    """Return the shape of each weight of an adapter; only the head of the file is read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(weights, "pt") as file:
            return {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(f"{show_path(weights)} cannot be read: {first_line(error)}") from None


def _trained_on(folder: Path) -> str:
    """Return the model that an adapter was trained on, as its run or its own file names it."""
    run = _run_description(folder)
    if run:
        return run["parameters"]["model_name"]
    return str(read_json(folder / ADAPTER_CONFIG, "adapter").get("base_model_name_or_path"))


def _run_description(folder: Path) -> dict[str, Any]:
    """Return the ``settings.json`` of the run that an adapter lies in; {} where it lies alone."""
    file = folder.parent / "settings.json"
    if not file.is_file():
        return {}

    description = read_json(file, "run settings")
    if not isinstance(description, dict) or "model_name" not in description.get("parameters", {}):
        return {}
    return description


def _check_adapter_base(folder: Path, name: str) -> None:
    trained_on = _trained_on(folder)
    same_contents = _same_contents(folder, name)
    same_name = trained_on == name or resolve_path(trained_on) == resolve_path(name)

    if same_contents or (same_contents is None and same_name):
        return

    adapter = f"the adapter in {show_path(folder)} was trained on {trained_on}"
    if same_contents is None:
        if Path(trained_on).name != Path(name).name:
            _warn(f"{adapter}, and answers here with {name}: make sure that they are the same")
    elif same_name:
        _warn(f"{adapter}, whose files have changed since then")
    else:
        raise InputError(
            f"{adapter}, and model {name} is another one (their SHA-256 differ): "
            "give the model that it was trained on"
        )


def _same_contents(folder: Path, name: str) -> bool | None:
    """Return whether a model is the one that an adapter was trained on; None if nobody knows."""
    model = resolve_path(name)
    if not model.exists():
        return None

    recorded = _run_description(folder).get("sha256", {}).get("model")
    if recorded:
        return is_model(model, recorded)

    trained_on = Path(_trained_on(folder))
    if trained_on.is_absolute() and trained_on.is_dir() and model.is_dir():
        return is_model(model, model_hash(trained_on))
    return None


def is_model(path: Path, recorded: str) -> bool:
    """Return whether a model has a recorded hash; earlier runs hashed every file of its folder."""
    if model_hash(path) == recorded:
        return True
    return path.is_dir() and sha256([path]) == recorded


def model_hash(path: Path) -> str:
    """Return the SHA-256 of a model; as long as its files do not change, they are read once."""
    return _hash_of_state(path, _state_of(path))


def _state_of(path: Path) -> tuple[tuple[str, int, int], ...]:
    """Return what tells whether files have changed since they were hashed."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) or [path]
    states = []
    for file in files:
        status = file.stat()
        states.append((str(file), status.st_size, status.st_mtime_ns))
    return tuple(states)


@lru_cache(maxsize=8)
def _hash_of_state(path: Path, _: tuple[tuple[str, int, int], ...]) -> str:
    return sha256_of_model(path)


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr, flush=True)
