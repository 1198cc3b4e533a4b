"""A base model that stays in memory while one checkpoint after another answers.

In: how the base is loaded, and the folder of a checkpoint's adapter. Out: a model that is ready to
answer. The weights are read once, for the first checkpoint that has something to answer: another
one is another adapter on the same base, and the base itself is the model with its adapter switched
off. The article loads a second base model at every save, and once more for every file of answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from grpo_helpers.device_memory import free_memory
from grpo_helpers.model_checks import adapter_folder, check_adapter
from grpo_helpers.models import load_with_adapter, put_adapter

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """A base model and how it is loaded, the same in training and in answering.

    Attributes:
        name: A model folder, a hub id or a GGUF file.
        quant_type: ``"4bit"``, ``"8bit"`` or None.
        dtype: The numbers that it computes with.
        model_kwargs: Further arguments of ``from_pretrained``.
    """

    name: str
    quant_type: str | None = None
    dtype: str = "float32"
    model_kwargs: Mapping[str, Any] = field(default_factory=dict)


class KeptModel:
    """A model in memory, with at most one adapter on it, until the ``with`` block ends.

    >>> with KeptModel() as kept:
    ...     kept.is_loaded
    False
    """

    def __init__(self) -> None:
        """Begin without a model."""
        self._model: Any = None
        self._base: BaseModel | None = None
        self._adapter: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    @property
    def is_loaded(self) -> bool:
        """Whether weights are in memory."""
        return self._model is not None

    @contextmanager
    def ready(
        self, base: BaseModel, lora_weights_path: str | None
    ) -> Iterator[PreTrainedModel | PeftModel]:
        """Give the model that a checkpoint answers with, which may be used until the block ends.

        Args:
            base: The base model; if another one is in memory, it goes first.
            lora_weights_path: The folder of the checkpoint's adapter; None for the base.

        Raises:
            InputError: The model cannot be found, the folder holds no adapter, or the adapter was
                trained on another model.
        """
        if self._base != base:
            self._load(base, lora_weights_path)
        elif lora_weights_path not in (None, self._adapter):
            self._put(base, str(lora_weights_path))

        is_switched_off = lora_weights_path is None and self._adapter is not None
        with self._model.disable_adapter() if is_switched_off else nullcontext():
            yield self._model

    def release(self) -> None:
        """Give the memory back."""
        self._model = self._base = self._adapter = None
        free_memory()

    def _load(self, base: BaseModel, lora_weights_path: str | None) -> None:
        """Load a base model, with an adapter on it if one is given."""
        self.release()
        self._model = load_with_adapter(
            base.name,
            lora_weights_path,
            base.quant_type,
            base.dtype,
            model_kwargs=base.model_kwargs,
        )
        self._base = base
        self._adapter = lora_weights_path

    def _put(self, base: BaseModel, lora_weights_path: str) -> None:
        """Put another adapter on the base in memory."""
        folder = adapter_folder(lora_weights_path)
        check_adapter(folder, base.name)

        model = self._model.unload() if self._adapter else self._model
        self._base = None  # if this fails, nobody knows what is in memory
        self._model = put_adapter(model, folder, base.quant_type, base.dtype)
        self._base = base
        self._adapter = lora_weights_path
