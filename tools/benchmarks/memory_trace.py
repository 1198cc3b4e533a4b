"""Trace a training step's memory without the memory: ``python -m tools.benchmarks.memory_trace``.

In: shapes of models and settings (:data:`SETTINGS`). Out: ``data/memory_trace.csv``, traced bytes
beside those of the closed form (:mod:`grpo_helpers.memory`); exit 1 if a peak is off by more than
3 percent. ``make memory-trace`` runs it.

The real graph (transformers' Llama, PEFT's LoRA, bitsandbytes' 4-bit layers, TRL's fused head,
checkpointing) runs on fake tensors, which have shapes but no data, while every live storage is
counted. A model of 2 and of 4 layers is traced and the rest is extrapolated: the count is linear in
the layers. What a trace cannot see (allocator rounding, the CUDA context, workspaces of kernels) is
what ``memory.OVERHEAD`` allows for. The two shapes of :data:`HELD_OUT` were chosen after the closed
form was written down.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pandas as pd
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from grpo_helpers.architecture import ATTENTION, Architecture, load_architecture
from grpo_helpers.command_line import run_command
from grpo_helpers.files import project_root, write_atomically
from grpo_helpers.memory import GIB, Budget, predict

if TYPE_CHECKING:
    from transformers import LlamaConfig

LAYERS = (2, 4)  # of the two models that are traced
BLOCK = 64  # weights that share a scale in nf4
NESTED = 256  # scales that share a scale in its double quantisation
LARGEST_ERROR = 0.03

# Shapes of well-known size classes (3B and 14B) that played no part in fitting the closed form.
HELD_OUT = {
    "held-out-3B": Architecture(
        name="held-out-3B",
        num_hidden_layers=28,
        hidden_size=3072,
        intermediate_size=8192,
        num_attention_heads=24,
        num_key_value_heads=8,
        head_dim=128,
        vocab_size=128_256,
        tie_word_embeddings=True,
    ),
    "held-out-14B": Architecture(
        name="held-out-14B",
        num_hidden_layers=48,
        hidden_size=5120,
        intermediate_size=13_824,
        num_attention_heads=40,
        num_key_value_heads=8,
        head_dim=128,
        vocab_size=152_064,
        tie_word_embeddings=False,
    ),
}
TOY = Architecture(
    name="toy",
    num_hidden_layers=1,
    hidden_size=256,
    intermediate_size=512,
    num_attention_heads=4,
    num_key_value_heads=4,
    head_dim=64,
    vocab_size=512,
    tie_word_embeddings=True,
)


@dataclass(frozen=True)
class Setting:
    """One row of the table: a model and how it is trained.

    Attributes:
        model: The name of its shape.
        B: Completions of a micro-batch; the prefill reads as many prompts (S = 1).
        prompt_tokens: Tokens of each prompt.
        completion_tokens: Tokens of each completion.
        lora_rank: The rank of the adapter.
        all_linear: Whether every linear layer has an adapter, not the attention only.
        lora_dropout: The adapter's dropout.
        gradient_checkpointing: Whether activations are recomputed in the backward pass.
        quant: ``4bit``, or None for weights in bfloat16.
        rows_per_prompt: Completions that share one reading of their prompt; 1 is TRL's own way.
    """

    model: str
    B: int
    prompt_tokens: int
    completion_tokens: int
    lora_rank: int = 64
    all_linear: bool = False
    lora_dropout: float = 0.0
    gradient_checkpointing: bool = True
    quant: str | None = "4bit"
    rows_per_prompt: int = 1

    @property
    def prompts(self) -> int:
        """Prompts that are read for B completions."""
        return self.B // self.rows_per_prompt

    @property
    def lora_targets(self) -> tuple[str, ...]:
        """The layers that have an adapter."""
        if self.all_linear:
            return tuple(shape(self.model).linears)
        return ATTENTION


COLUMNS = tuple(field.name for field in fields(Setting))
MIDM = "Midm-2.0-Base-Instruct"
MIDM_MINI = "Midm-2.0-Mini-Instruct"
SETTINGS = (
    Setting(MIDM, 4, 512, 256),
    Setting(MIDM, 2, 1024, 512),
    Setting(MIDM, 8, 512, 256, lora_rank=16),
    Setting(MIDM, 2, 512, 256, gradient_checkpointing=False),
    Setting(MIDM, 2, 1024, 512, all_linear=True),
    Setting(MIDM, 2, 1024, 512, lora_dropout=0.05),
    Setting(MIDM, 1, 512, 256, quant=None),
    Setting(MIDM_MINI, 4, 512, 256),
    Setting(MIDM_MINI, 2, 512, 256, gradient_checkpointing=False),
    Setting("Qwen3-8B", 4, 512, 256),
    Setting("Qwen3-8B", 2, 1024, 512, lora_rank=16),
    Setting("Qwen3-4B", 8, 1024, 512, lora_rank=16),
    Setting("held-out-3B", 4, 512, 256),
    Setting("held-out-3B", 8, 1024, 512, lora_rank=16),
    Setting("held-out-3B", 2, 512, 256, gradient_checkpointing=False),
    Setting("held-out-14B", 4, 512, 256),
    Setting("held-out-14B", 2, 1024, 512, lora_rank=16, all_linear=True),
    Setting("held-out-14B", 2, 512, 256, gradient_checkpointing=False),
    Setting(MIDM_MINI, 8, 512, 128, gradient_checkpointing=False, rows_per_prompt=8),
    Setting(MIDM_MINI, 8, 1024, 64, gradient_checkpointing=False, rows_per_prompt=4),
    Setting(MIDM, 4, 512, 256, rows_per_prompt=4),
    Setting("held-out-3B", 8, 512, 256, gradient_checkpointing=False, rows_per_prompt=8),
)


def shape(name: str, own: Mapping[str, Architecture] = HELD_OUT) -> Architecture:
    """Return a shape by name: one of ``own``, otherwise one of ``data/architectures.json``."""
    if name in own:
        return own[name]
    return load_architecture(name)


# -- counting ---------------------------------------------------------------------------------


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of every storage that an operation returned and that is still alive.

    Attributes:
        now: Bytes alive now.
        peak: The most there were since :meth:`restart`.
    """

    def __init__(self) -> None:
        """Start with nothing alive."""
        super().__init__()
        self.now = 0
        self.peak = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and count what it returns."""
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self._count(leaf)
        return out

    def _count(self, tensor: torch.Tensor) -> None:
        """Count a tensor's storage, unless it is counted already."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._sizes:
            return

        self._sizes[key] = storage.nbytes()
        self.now += self._sizes[key]
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.now -= self._sizes.pop(key)

    def restart(self) -> int:
        """Set the peak to what is alive now, and return that."""
        self.peak = self.now
        return self.now


# -- the model as TRL trains it, on fake tensors ----------------------------------------------


def nf4_linear(width: int, out: int) -> torch.nn.Module:
    """Return a bitsandbytes 4-bit layer (nf4, double quantisation) with a plain fake weight.

    The layer's own weight class cannot hold a fake tensor; the forward pass is bitsandbytes' own.
    """
    import bitsandbytes as bnb

    class FakeLinear4bit(bnb.nn.Linear4bit):
        def __init__(self) -> None:
            torch.nn.Module.__init__(self)
            self.in_features = width
            self.out_features = out
            self.register_parameter("bias", None)
            self.compute_dtype = torch.bfloat16
            self.compute_type_is_set = True

            packed = torch.empty(width * out // 2, 1, dtype=torch.uint8)
            weight: Any = torch.nn.Parameter(packed, requires_grad=False)
            weight.quant_state = _nf4_state(width, out)
            weight.compress_statistics = True
            weight.quant_type = "nf4"
            self.weight = weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            weight: Any = self.weight
            return bnb.matmul_4bit(x, weight.t(), bias=None, quant_state=weight.quant_state)

    return FakeLinear4bit()


def _nf4_state(width: int, out: int) -> Any:
    """Return bitsandbytes' description of a weight in nf4, on fake tensors."""
    from bitsandbytes.functional import QuantState

    blocks = width * out // BLOCK
    outer = QuantState(
        absmax=torch.empty(blocks // NESTED, dtype=torch.float32),
        blocksize=NESTED,
        code=torch.empty(256, dtype=torch.float32),
        dtype=torch.float32,
    )
    return QuantState(
        absmax=torch.empty(blocks, dtype=torch.uint8),
        shape=torch.Size((out, width)),
        blocksize=BLOCK,
        code=torch.empty(16, dtype=torch.float32),
        quant_type="nf4",
        dtype=torch.bfloat16,
        offset=torch.empty((), dtype=torch.float32),
        state2=outer,
    )


def llama_config(arch: Architecture, **more: Any) -> LlamaConfig:
    """Return transformers' configuration of a shape; ``more`` is passed on unchanged."""
    from transformers import LlamaConfig

    return LlamaConfig(
        num_hidden_layers=arch.num_hidden_layers,
        hidden_size=arch.hidden_size,
        intermediate_size=arch.intermediate_size,
        num_attention_heads=arch.num_attention_heads,
        num_key_value_heads=arch.num_key_value_heads,
        head_dim=arch.head_dim,
        vocab_size=arch.vocab_size,
        tie_word_embeddings=arch.tie_word_embeddings,
        **more,
    )


def build(arch: Architecture, setting: Setting, *, checkpointing: bool) -> Any:
    """Return the model as TRL trains it: Llama, 4-bit layers, LoRA; in training mode.

    Args:
        arch: The shape; it may have fewer layers than that of ``setting``.
        setting: Quantisation and adapter.
        checkpointing: Whether gradient checkpointing is on. TRL samples without it.
    """
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaForCausalLM

    model: Any = LlamaForCausalLM(llama_config(arch, attn_implementation="sdpa", use_cache=False))
    if setting.quant == "4bit":
        for layer in model.model.layers:
            _quantise(layer.self_attn)
            _quantise(layer.mlp)

    lora = LoraConfig(
        r=setting.lora_rank,
        lora_alpha=16,
        lora_dropout=setting.lora_dropout,
        target_modules=list(setting.lora_targets),
        task_type="CAUSAL_LM",
    )
    with _nothing_moves():
        # Over a quantised base TRL casts the adapter to bfloat16; otherwise PEFT keeps it in
        # float32.
        model = get_peft_model(model, lora, autocast_adapter_dtype=setting.quant is None)

    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    return model.train()


def _quantise(part: torch.nn.Module) -> None:
    """Replace the linear layers of a part of the model by 4-bit layers."""
    for name, child in list(part.named_children()):
        if isinstance(child, torch.nn.Linear):
            setattr(part, name, nf4_linear(child.in_features, child.out_features))


@contextmanager
def _nothing_moves() -> Iterator[None]:
    """Turn moves between devices off: fake tensors cannot be swapped in place, nor need to be."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    def stay(module: Any, *_: Any, **__: Any) -> Any:
        return module

    move_adapter = "_move_adapter_to_device_of_base_layer"
    with (
        mock.patch.object(torch.nn.Module, "to", stay),
        mock.patch.object(BaseTunerLayer, move_adapter, _do_nothing),
    ):
        yield


@contextmanager
def fused_head_on_fakes() -> Iterator[None]:
    """Keep the buffers of TRL's fused head, and leave out its arithmetic, which works in place."""
    import trl.kernels.chunked_logprob as head

    # A plain function and no Mock: a Mock remembers its arguments and so keeps the buffers alive.
    with mock.patch.multiple(
        head, _forward_tile=_do_nothing, _backward_tile=_do_nothing, _addmm_fp32=_do_nothing
    ):
        yield


def _do_nothing(*_: Any, **__: Any) -> None:
    """Take the place of a function whose work a trace can do without."""


# -- tracing ----------------------------------------------------------------------------------


def step_bytes(model: Any, setting: Setting, live: LiveBytes) -> dict[str, int]:
    """Return the bytes alive before a step, and the peaks of its forward and backward pass."""
    prompt_tokens = setting.prompt_tokens
    length = prompt_tokens + setting.completion_tokens
    ids = torch.zeros(setting.B, length, dtype=torch.long)
    mask = torch.ones(setting.B, length, dtype=torch.long)

    static = live.restart()
    llama = model.get_base_model()
    with torch.autocast("cpu", torch.bfloat16), fused_head_on_fakes():
        hidden = _hidden_states(llama.model, setting, ids, mask)
        scored = hidden[:, :-1].reshape(setting.B * setting.completion_tokens, -1)
        targets = ids[:, prompt_tokens:].reshape(-1)
        logprobs = _logprobs(scored, llama.lm_head.weight, targets)
        loss = -torch.exp(logprobs - logprobs.detach()).mean()
        forward = live.peak

        # In TRL these are locals of a function that has returned.
        del hidden, scored, targets, logprobs
        live.restart()
        loss.backward()
    return {"static": static, "forward": forward, "backward": live.peak}


def _hidden_states(
    layers: Any, setting: Setting, ids: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """Return the hidden states of the completions and of the last token of their prompts."""
    start = setting.prompt_tokens - 1
    shares = setting.rows_per_prompt > 1 and not setting.gradient_checkpointing
    if not shares:
        outputs = layers(input_ids=ids, attention_mask=mask, use_cache=False)
        return outputs.last_hidden_state[:, start:]

    prompts = ids[: setting.prompts, :start]
    prompt_mask = mask[: setting.prompts, :start]
    cache = layers(input_ids=prompts, attention_mask=prompt_mask, use_cache=True).past_key_values
    rows = torch.arange(setting.prompts).repeat_interleave(setting.rows_per_prompt)
    cache.batch_select_indices(rows)

    outputs = layers(input_ids=ids[:, start:], attention_mask=mask, past_key_values=cache)
    return outputs.last_hidden_state


def _logprobs(scored: torch.Tensor, head: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the log-probabilities of ``targets`` by TRL's fused head, called as TRL calls it."""
    from trl.kernels.chunked_logprob import ChunkedLogProbFunction
    from trl.trainer.utils import _CHUNKED_LOGPROB_CHUNK_SIZE

    bias = None
    temperature = 1.0
    final_logit_softcapping = None
    logit_scale = 1.0
    outputs = ("entropy",)
    arguments = (
        scored,
        head,
        bias,
        targets,
        temperature,
        _CHUNKED_LOGPROB_CHUNK_SIZE,
        final_logit_softcapping,
        logit_scale,
        outputs,
    )
    return ChunkedLogProbFunction.apply(*arguments)[0]


def prefill_bytes(model: Any, setting: Setting, live: LiveBytes) -> int:
    """Return the peak of reading the prompts of B completions, less what was there before.

    ``generate()`` begins with reading them into a cache.
    """
    ids = torch.zeros(setting.prompts, setting.prompt_tokens, dtype=torch.long)
    mask = torch.ones(setting.prompts, setting.prompt_tokens, dtype=torch.long)
    before = live.restart()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        model.get_base_model()(input_ids=ids, attention_mask=mask, use_cache=True, logits_to_keep=1)
    return live.peak - before


def trace(setting: Setting) -> dict[str, int]:
    """Return the traced bytes of the first micro-batch, extrapolated to all layers.

    Returns:
        ``static`` and the peaks ``forward``, ``backward`` and ``prefill``. Gradients grow during
        the backward pass; optimizer states do not exist yet.
    """
    # What libraries make once, at first use, belongs to no model.
    warm_up = Setting("toy", B=1, prompt_tokens=8, completion_tokens=8, lora_rank=8)
    trace_whole(TOY, replace(warm_up, quant=setting.quant))

    arch = shape(setting.model)
    fewer, more = LAYERS
    of_fewer = trace_whole(replace(arch, num_hidden_layers=fewer), setting)
    of_more = trace_whole(replace(arch, num_hidden_layers=more), setting)

    steps = (arch.num_hidden_layers - fewer) / (more - fewer)
    traced = {}
    for name, size in of_fewer.items():
        traced[name] = round(size + steps * (of_more[name] - size))
    return traced


def trace_whole(arch: Architecture, setting: Setting) -> dict[str, int]:
    """Return the same as :func:`trace` for a shape of which every layer is traced."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)  # the constructor ignores the config's dtype
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), LiveBytes() as live:
            model = build(arch, setting, checkpointing=False)
            prefill = prefill_bytes(model, setting, live)

            # A model refers to itself, so it would be counted until Python collects it.
            del model
            gc.collect()

            model = build(arch, setting, checkpointing=setting.gradient_checkpointing)
            peaks = step_bytes(model, setting, live)
            return peaks | {"prefill": peaks["static"] + prefill}
    finally:
        torch.set_default_dtype(before)


# -- the table --------------------------------------------------------------------------------


def closed_form(setting: Setting) -> dict[str, int]:
    """Return the closed form's bytes of the moments that :func:`trace` traces.

    At those moments there are no optimizer states, and no gradients before the backward pass.
    """
    budget = Budget(
        B=setting.B,
        S=1,
        prompt_tokens=setting.prompt_tokens,
        completion_tokens=setting.completion_tokens,
        quant=setting.quant,
        lora_rank=setting.lora_rank,
        lora_targets=setting.lora_targets,
        lora_dropout=setting.lora_dropout,
        gradient_checkpointing=setting.gradient_checkpointing,
        rows_per_prompt=setting.rows_per_prompt,
    )
    prediction = predict(shape(setting.model), budget)

    static = prediction.static.weights + prediction.static.lora
    moments = {"static": static}
    for name in ("forward", "backward", "prefill"):
        phase = prediction.made_of[name]
        moments[name] = static + phase.working + phase.kv_cache
    return moments


def table_row(setting: Setting) -> dict[str, Any]:
    """Trace a setting; return its row of the table, with the relative errors of the formula."""
    started = time.time()
    traced = trace(setting)
    formula = closed_form(setting)

    row = asdict(setting)
    row["held_out"] = setting.model in HELD_OUT
    row["seconds"] = round(time.time() - started, 1)
    for name, size in traced.items():
        row[f"{name}_traced"] = size
        row[f"{name}_formula"] = formula[name]
        row[f"{name}_error"] = round(formula[name] / size - 1, 4)
    return row


def describe(row: Mapping[str, Any]) -> str:
    """Return the traced bytes of a row, each with the formula's error, in one line."""
    parts = []
    for name in ("static", "forward", "backward", "prefill"):
        gib = row[f"{name}_traced"] / GIB
        percent = 100 * row[f"{name}_error"]
        parts.append(f"{name} {gib:.2f} GiB {percent:+.1f} %")

    lengths = f"{row['prompt_tokens']}+{row['completion_tokens']}"
    return f"{row['model']:24} B={row['B']} {lengths}: {', '.join(parts)}"


def trace_table(first: int | None, file: Path) -> int:
    """Trace the settings and print their rows.

    Args:
        first: How many settings of the table, or None for all of them.
        file: Where the table of all settings is written.

    Returns:
        1 if a peak of the closed form is off by more than 3 percent, otherwise 0.
    """
    rows = []
    for setting in SETTINGS[:first]:
        rows.append(table_row(setting))
        print(describe(rows[-1]), flush=True)

    table = pd.DataFrame(rows)
    if len(rows) == len(SETTINGS):
        print(write_atomically(file, lambda out: table.to_csv(out, index=False)))

    errors = table.filter(like="_error").abs()
    return int(errors.max().max() > LARGEST_ERROR)


def main(argv: Sequence[str] | None = None) -> int:
    """Trace every setting; return 1 if a peak is off by more than 3 percent."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmarks.memory_trace", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--first", type=int, help="only the first settings of the table")
    args = parser.parse_args(argv)
    return run_command(lambda: trace_table(args.first, project_root() / "data/memory_trace.csv"))


if __name__ == "__main__":
    sys.exit(main())
