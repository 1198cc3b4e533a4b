"""Trace the memory of one training step without the memory: ``python -m tools.benchmarks.memory_trace`` (``make memory-trace``).

The real graph (transformers' Llama, PEFT's LoRA, bitsandbytes' 4-bit layers, TRL's fused head, checkpointing) runs on
fake tensors, which have shapes but no data, while every storage that lives is counted. A model of 2 and of 4 layers is
traced and the rest is extrapolated: the count is linear in the layers. What a trace cannot see (allocator rounding, the
CUDA context, the workspaces of kernels) is what ``memory.OVERHEAD`` stands for. Closed form and trace are compared in
``data/memory_trace.csv``; the two shapes of :data:`HELD_OUT` were chosen after the closed form was written down.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from unittest import mock

import pandas as pd
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from grpo_helpers.architecture import ATTENTION, Architecture, load_architecture
from grpo_helpers.files import project_root, write_atomically
from grpo_helpers.memory import GIB, Budget, predict

LAYERS = (2, 4)
BLOCK, NESTED = 64, 256  # of nf4 and of its double quantisation
# Shapes of well-known size classes (3B and 14B) that played no part in fitting the closed form.
HELD_OUT = {
    "held-out-3B": Architecture("held-out-3B", 28, 3072, 8192, 24, 8, 128, 128_256, True),
    "held-out-14B": Architecture("held-out-14B", 48, 5120, 13_824, 40, 8, 128, 152_064, False),
}
TOY = Architecture("toy", 1, 256, 512, 4, 4, 64, 512, True)
# Model, B, prompt tokens, completion tokens, rank, targets beyond attention, dropout, checkpointing, quantisation.
SETTINGS = (
    ("Midm-2.0-Base-Instruct", 4, 512, 256, 64, False, 0.0, True, "4bit"),
    ("Midm-2.0-Base-Instruct", 2, 1024, 512, 64, False, 0.0, True, "4bit"),
    ("Midm-2.0-Base-Instruct", 8, 512, 256, 16, False, 0.0, True, "4bit"),
    ("Midm-2.0-Base-Instruct", 2, 512, 256, 64, False, 0.0, False, "4bit"),
    ("Midm-2.0-Base-Instruct", 2, 1024, 512, 64, True, 0.0, True, "4bit"),
    ("Midm-2.0-Base-Instruct", 2, 1024, 512, 64, False, 0.05, True, "4bit"),
    ("Midm-2.0-Base-Instruct", 1, 512, 256, 64, False, 0.0, True, None),
    ("Midm-2.0-Mini-Instruct", 4, 512, 256, 64, False, 0.0, True, "4bit"),
    ("Midm-2.0-Mini-Instruct", 2, 512, 256, 64, False, 0.0, False, "4bit"),
    ("Qwen3-8B", 4, 512, 256, 64, False, 0.0, True, "4bit"),
    ("Qwen3-8B", 2, 1024, 512, 16, False, 0.0, True, "4bit"),
    ("Qwen3-4B", 8, 1024, 512, 16, False, 0.0, True, "4bit"),
    ("held-out-3B", 4, 512, 256, 64, False, 0.0, True, "4bit"),
    ("held-out-3B", 8, 1024, 512, 16, False, 0.0, True, "4bit"),
    ("held-out-3B", 2, 512, 256, 64, False, 0.0, False, "4bit"),
    ("held-out-14B", 4, 512, 256, 64, False, 0.0, True, "4bit"),
    ("held-out-14B", 2, 1024, 512, 16, True, 0.0, True, "4bit"),
    ("held-out-14B", 2, 512, 256, 64, False, 0.0, False, "4bit"),
)
COLUMNS = ("model", "B", "prompt_tokens", "completion_tokens", "lora_rank", "all_linear", "lora_dropout",
           "gradient_checkpointing", "quant")  # fmt: skip


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of every storage that an operation returned and that is still alive.

    Attributes:
        now, peak: Bytes alive now, and the most there were since :meth:`restart`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self._see(leaf)
        return out

    def _see(self, tensor: torch.Tensor) -> None:
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


def nf4_linear(width: int, out: int):
    """Return a bitsandbytes 4-bit layer (nf4, double quantisation) whose weight is a plain fake tensor.

    The layer's own weight class cannot hold a fake tensor; the forward pass is bitsandbytes' own.
    """
    import bitsandbytes as bnb
    from bitsandbytes.functional import QuantState

    class FakeLinear4bit(bnb.nn.Linear4bit):
        def __init__(self) -> None:
            torch.nn.Module.__init__(self)
            self.in_features, self.out_features, self.bias = width, out, None
            self.compute_dtype, self.compute_type_is_set = torch.bfloat16, True
            self.weight = torch.nn.Parameter(
                torch.empty(width * out // 2, 1, dtype=torch.uint8), requires_grad=False
            )
            blocks = width * out // BLOCK
            outer = QuantState(
                absmax=torch.empty(blocks // NESTED, dtype=torch.float32),
                blocksize=NESTED,
                code=torch.empty(256, dtype=torch.float32),
                dtype=torch.float32,
            )
            self.weight.quant_state = QuantState(
                absmax=torch.empty(blocks, dtype=torch.uint8),
                shape=torch.Size((out, width)),
                blocksize=BLOCK,
                code=torch.empty(16, dtype=torch.float32),
                quant_type="nf4",
                dtype=torch.bfloat16,
                offset=torch.empty((), dtype=torch.float32),
                state2=outer,
            )
            self.weight.compress_statistics, self.weight.quant_type = True, "nf4"

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return bnb.matmul_4bit(
                x, self.weight.t(), bias=None, quant_state=self.weight.quant_state
            )

    return FakeLinear4bit()


def llama_config(arch: Architecture, **more):
    """Return transformers' configuration of a shape; ``more`` goes to it as it is."""
    from transformers import LlamaConfig

    names = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads",
             "head_dim", "vocab_size", "tie_word_embeddings")  # fmt: skip
    return LlamaConfig(**{name: getattr(arch, name) for name in names}, **more)


def build(
    arch: Architecture,
    rank: int,
    all_linear: bool,
    dropout: float,
    checkpointing: bool,
    quant: str | None,
):
    """Return the model as TRL trains it: Llama, 4-bit layers, LoRA in bfloat16, checkpointing; in training mode."""
    from peft import LoraConfig, get_peft_model
    from peft.tuners.tuners_utils import BaseTunerLayer
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM(llama_config(arch, attn_implementation="sdpa", use_cache=False))
    if quant == "4bit":
        for layer in model.model.layers:
            for part in (layer.self_attn, layer.mlp):
                for name, child in list(part.named_children()):
                    if isinstance(child, torch.nn.Linear):
                        setattr(part, name, nf4_linear(child.in_features, child.out_features))
    targets = list(arch.linears) if all_linear else list(ATTENTION)
    lora = LoraConfig(
        r=rank, lora_alpha=16, lora_dropout=dropout, target_modules=targets, task_type="CAUSAL_LM"
    )
    # Fake tensors cannot be swapped in place; nothing has to move here anyway.
    with (
        mock.patch.object(torch.nn.Module, "to", lambda self, *_, **__: self),
        mock.patch.object(
            BaseTunerLayer, "_move_adapter_to_device_of_base_layer", lambda *_, **__: None
        ),
    ):
        # Over a quantised base TRL casts the adapter to bfloat16; otherwise PEFT keeps it in float32.
        model = get_peft_model(model, lora, autocast_adapter_dtype=quant is None)
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    return model.train()


@contextmanager
def fused_head_on_fakes() -> Iterator[None]:
    """Keep the buffers of TRL's fused head and leave out its arithmetic, which on a GPU works in place."""
    import trl.kernels.chunked_logprob as head

    # No Mock: it remembers its arguments, and so keeps the buffers alive.
    nothing = {
        name: lambda *_, **__: None for name in ("_forward_tile", "_backward_tile", "_addmm_fp32")
    }
    with mock.patch.multiple(head, **nothing):
        yield


def step_bytes(
    model, B: int, prompt_tokens: int, completion_tokens: int, live: LiveBytes
) -> dict[str, int]:
    """Return the bytes alive before a step, the peak of its forward, and of its backward pass."""
    from trl.kernels.chunked_logprob import ChunkedLogProbFunction
    from trl.trainer.utils import _CHUNKED_LOGPROB_CHUNK_SIZE

    length = prompt_tokens + completion_tokens
    ids, mask = torch.zeros(B, length, dtype=torch.long), torch.ones(B, length, dtype=torch.long)
    static = live.restart()
    llama = model.get_base_model()
    with torch.autocast("cpu", torch.bfloat16), fused_head_on_fakes():
        hidden = llama.model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        scored = hidden[:, prompt_tokens - 1 : -1].reshape(B * completion_tokens, -1)
        logprobs = ChunkedLogProbFunction.apply(
            scored, llama.lm_head.weight, None, ids[:, prompt_tokens:].reshape(-1), 1.0, _CHUNKED_LOGPROB_CHUNK_SIZE,
            None, 1.0, ("entropy",),
        )[0]  # fmt: skip
        loss = -torch.exp(logprobs - logprobs.detach()).mean()
        forward = live.peak
        del hidden, scored, logprobs  # in TRL they are locals of a function that has returned
        live.restart()
        loss.backward()
    return {"static": static, "forward": forward, "backward": live.peak}


def prefill_bytes(model, rows: int, prompt_tokens: int, live: LiveBytes) -> int:
    """Return the peak of reading ``rows`` prompts into a cache, as ``generate()`` begins, less what stays."""
    ids, mask = (
        torch.zeros(rows, prompt_tokens, dtype=torch.long),
        torch.ones(rows, prompt_tokens, dtype=torch.long),
    )
    before = live.restart()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        model.get_base_model()(input_ids=ids, attention_mask=mask, use_cache=True, logits_to_keep=1)
    return live.peak - before


def trace(
    arch: Architecture,
    B: int,
    prompt_tokens: int,
    completion_tokens: int,
    lora_rank: int = 64,
    all_linear: bool = False,
    lora_dropout: float = 0.0,
    gradient_checkpointing: bool = True,
    quant: str | None = "4bit",
) -> dict[str, int]:
    """Return the traced bytes of the first micro-batch, all layers: static, and the peaks of prefill and both passes.

    The prefill reads B prompts (S = 1). Gradients grow during the backward pass; optimizer states are not there yet.

    Example:
        >>> trace(load_architecture("Qwen3-0.6B"), B=1, prompt_tokens=8, completion_tokens=8)["static"] > 0
        True
    """
    how = (
        B,
        prompt_tokens,
        completion_tokens,
        lora_rank,
        all_linear,
        lora_dropout,
        gradient_checkpointing,
        quant,
    )
    trace_whole(
        TOY, 1, 8, 8, 8, False, 0.0, True, quant
    )  # what libraries make once, at first use, is no one's memory
    few, more = (trace_whole(replace(arch, num_hidden_layers=layers), *how) for layers in LAYERS)
    steps = (arch.num_hidden_layers - LAYERS[0]) / (LAYERS[1] - LAYERS[0])
    return {name: round(few[name] + steps * (more[name] - few[name])) for name in few}


def trace_whole(
    arch: Architecture,
    B: int,
    prompt_tokens: int,
    completion_tokens: int,
    lora_rank: int,
    all_linear: bool,
    lora_dropout: float,
    gradient_checkpointing: bool,
    quant: str | None,
) -> dict[str, int]:
    """Return the same as :func:`trace`, every layer traced."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)  # the constructor ignores the config's dtype
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), LiveBytes() as live:
            model = build(
                arch, lora_rank, all_linear, lora_dropout, False, quant
            )  # TRL samples without checkpointing
            prefill = prefill_bytes(model, B, prompt_tokens, live)
            del model
            gc.collect()  # a model refers to itself, so it would be counted until Python gets round to it
            model = build(arch, lora_rank, all_linear, lora_dropout, gradient_checkpointing, quant)
            peaks = step_bytes(model, B, prompt_tokens, completion_tokens, live)
            return peaks | {"prefill": peaks["static"] + prefill}
    finally:
        torch.set_default_dtype(before)


def closed_form(arch: Architecture, setting: dict) -> dict[str, int]:
    """Return what the closed form says of the same moments: no optimizer states, no gradients before the backward."""
    targets = tuple(arch.linears) if setting["all_linear"] else ATTENTION
    budget = Budget(
        B=setting["B"],
        S=1,
        prompt_tokens=setting["prompt_tokens"],
        completion_tokens=setting["completion_tokens"],
        quant=setting["quant"],
        lora_rank=setting["lora_rank"],
        lora_targets=targets,
        lora_dropout=setting["lora_dropout"],
        gradient_checkpointing=setting["gradient_checkpointing"],
    )
    prediction = predict(arch, budget)

    static = prediction.static.weights + prediction.static.lora
    moments = {"static": static}
    for name in ("forward", "backward", "prefill"):
        phase = prediction.made_of[name]
        moments[name] = static + phase.working + phase.kv_cache
    return moments


def shape(name: str, own: Mapping[str, Architecture] = HELD_OUT) -> Architecture:
    """Return a shape of ``own``, else of the table."""
    return own[name] if name in own else load_architecture(name)


def main(argv: list[str] | None = None) -> int:
    """Trace every setting, print and write the table; return 1 if a peak is off by more than 3 percent."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--first", type=int, default=len(SETTINGS), help="only the first settings of the table"
    )
    args = parser.parse_args(argv)
    rows = []
    for values in SETTINGS[: args.first]:
        setting = dict(zip(COLUMNS, values, strict=True))
        arch = shape(setting["model"])
        started = time.time()
        traced = trace(arch, **{name: value for name, value in setting.items() if name != "model"})
        formula = closed_form(arch, setting)
        row = setting | {
            "held_out": arch.name in HELD_OUT,
            "seconds": round(time.time() - started, 1),
        }
        for name in traced:
            row |= {f"{name}_traced": traced[name], f"{name}_formula": formula[name]}
            row[f"{name}_error"] = round(formula[name] / traced[name] - 1, 4)
        rows.append(row)
        shown = ", ".join(
            f"{name} {traced[name] / GIB:.2f} GiB {100 * row[f'{name}_error']:+.1f} %"
            for name in traced
        )
        print(
            f"{arch.name:24} B={row['B']} {row['prompt_tokens']}+{row['completion_tokens']}: {shown}",
            flush=True,
        )
    table = pd.DataFrame(rows)
    if args.first >= len(SETTINGS):
        file = project_root() / "data" / "memory_trace.csv"
        print(write_atomically(file, lambda out: table.to_csv(out, index=False)))
    return int(table.filter(like="_error").abs().max().max() > 0.03)


if __name__ == "__main__":
    sys.exit(main())
