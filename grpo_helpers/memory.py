"""Peak GPU memory of GRPO with LoRA, predicted by phase from a model's shape: predicted, not measured.

In: a model's shape, the batch (B, S), lengths in tokens, quantisation and LoRA. Out: bytes by phase, the peak, and the
phase that sets it. Formulas: the closed form of TRL 1.16 with HF generate on one GPU (no vLLM), from the installed
sources; the activation coefficients were fitted on CPU traces of the real graph. Unlike in the article, G is nowhere.

    python -m grpo_helpers.memory --params params/gpu_24gb/04_train.yaml --vram_gb 24 --prompt_tokens 1024
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from grpo_helpers.architecture import (
    ATTENTION,
    BF16,
    FP32,
    Architecture,
    load_architecture,
    lora_params,
    weights_bytes,
)
from grpo_helpers.batch import TRL_NAMES, BatchPlan, need_whole_number, propose
from grpo_helpers.files import InputError, read_yaml

GIB = 1024**3
OVERHEAD = (
    0.5 * GIB,
    1.5 * GIB,
)  # CUDA context, library workspaces, fragmentation: inferred, not measured here
HEAD_TILE = (4096, 32768)  # tokens x vocabulary columns that TRL's fused LM head holds at once
LM_HEADS = ("fused", "fused_cpu", "full_logits")
BATCH_KEYS = ("per_device_train_batch_size", "gradient_accumulation_steps", "num_generations")
NEEDED = (
    "model_name",
    "use_quant",
    "lora_r",
    "gradient_checkpointing",
    "max_completion_length",
    *BATCH_KEYS,
)


def predict(
    arch: Architecture,
    B: int,
    S: int,
    prompt_tokens: int,
    completion_tokens: int,
    quant: str | None = None,
    lora_rank: int = 64,
    lora_targets: Sequence[str] = ATTENTION,
    lora_dropout: float = 0.0,
    gradient_checkpointing: bool = True,
    A: int | None = None,
    inference_rows: int = 0,
    lm_head: str = "fused",
) -> dict[str, Any]:
    """Return the memory of every phase in bytes: predicted, not measured. Source: the module's docstring.

    Lengths are the longest of a round, since all rows are padded to them. ``A`` (default S) tells whether a round
    finds gradients in memory. ``inference_rows`` are the questions answered at once at a save (phase ``inference``).
    ``lm_head``: ``fused`` (TRL 1.16 on a GPU), ``fused_cpu``, ``full_logits`` (TRL of mid-2025: tokens x vocabulary).
    Add :data:`OVERHEAD`. 8-bit uses the activation terms traced for 4-bit. Not for full fine-tuning.

    ``phases`` is the total of each phase, ``made_of`` its weights, adapter, kv_cache, working (and second_model),
    ``static`` the parts that stay; ``peak`` and ``binds`` are the largest phase of training and its name. The phase
    ``callback`` (the article's second model) is listed but is no part of the peak.
    """
    sizes = dict(
        B=B,
        S=S,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        lora_rank=lora_rank,
    )
    for name, value in sizes.items():
        need_whole_number(name, value)
    prompt, length = prompt_tokens, prompt_tokens + completion_tokens
    # What stays: TRL casts the adapter to bfloat16 over a quantised base; otherwise PEFT keeps it in float32.
    lora = lora_params(arch, lora_rank, lora_targets) * (BF16 if quant else FP32)
    weights, grads, adam = weights_bytes(arch, quant), lora, 2 * lora
    between = (
        grads if S % (A or S) else 0
    )  # a round that starts inside an optimizer step finds gradients in memory
    largest = max(width * out for width, out in arch.linears.values())
    unpacked = (
        largest * BF16 + largest // 64 * FP32 if quant else 0
    )  # one weight matrix, dequantised
    kv, prefill_token = arch.kv_bytes_per_token, 8 * arch.intermediate_size + 1.2 * arch.hidden_size
    tile, head = _head_bytes(arch, B, prompt, length, lm_head)
    wide = bool(set(lora_targets) - set(ATTENTION))  # LoRA beyond the attention
    saved, layer = _layer_bytes(arch, B * length, gradient_checkpointing, lora_dropout, wide)

    def phase(adapter: float, kv_cache: float, working: float, **more: float) -> dict[str, int]:
        parts = dict(weights=weights, adapter=adapter, kv_cache=kv_cache, working=working, **more)
        return {name: round(size) for name, size in parts.items()}

    def generate(
        rows: int, adapter: float
    ) -> tuple[dict[str, int], dict[str, int]]:  # of all rows at once
        cache, logits = (
            rows * length * kv,
            rows * arch.vocab_size * 18,
        )  # bfloat16, float32 copies, softmax
        decoding = (
            cache / (2 * arch.num_hidden_layers) + logits + unpacked
        )  # a cache grows by copying a layer's part
        prefill = phase(
            adapter, rows * prompt * kv, rows * prompt * prefill_token + unpacked
        )  # a layer's MLP tensors
        return prefill, phase(adapter, cache, decoding)

    trains, (prefill, decode) = lora + grads + adam, generate(B * S, lora + adam + between)
    made_of = {
        "load": phase(
            0, 0, largest * BF16 if quant else 0
        ),  # one matrix in bfloat16 before it is quantised
        "prefill": prefill,
        "decode": decode,
        "logprobs": phase(
            trains, 0, B * length * prefill_token + tile
        ),  # run only off-policy or with beta above 0
        "forward": phase(
            trains, 0, saved + max(tile, gradient_checkpointing * B * length * prefill_token)
        ),
        "backward": phase(trains, 0, saved + max(layer, head)),
        "optimizer": phase(trains, 0, 0),  # fused AdamW: no temporary copies
        "inference": max(
            generate(inference_rows, lora + adam), key=lambda parts: sum(parts.values())
        ),
        # as in the article: the model loaded anew, one question at a time
        "callback": phase(
            lora + adam, length * kv, prompt * prefill_token + unpacked, second_model=weights + lora
        ),
    }
    phases = {name: sum(parts.values()) for name, parts in made_of.items()}
    binds = max((name for name in phases if name != "callback"), key=phases.get)
    static = dict(weights=weights, lora=lora, gradients=grads, adam=adam)
    return dict(phases=phases, made_of=made_of, static=static, peak=phases[binds], binds=binds)


def _layer_bytes(
    arch: Architecture, tokens: int, checkpointing: bool, dropout: float, wide: bool
) -> tuple[float, ...]:
    """Return the bytes kept of all layers, and of the one recomputed at a time: fitted on traces, up to 3 % low."""
    hidden, mlp, queries = arch.hidden_size, arch.intermediate_size, arch.query_width
    if not checkpointing:
        layer = (6 * mlp + 8 * queries + 10 * hidden) * (1.345 if dropout else 1)
        return tokens * arch.num_hidden_layers * layer, 0
    layer = (12 * mlp + 8 * queries + 12 * hidden) * (
        (1.22 if dropout else 1) * (1.07 if wide else 1)
    )
    return (
        tokens * BF16 * arch.num_hidden_layers * hidden,
        tokens * layer,
    )  # each layer's input is kept


def _head_bytes(
    arch: Architecture, B: int, prompt: int, length: int, kind: str
) -> tuple[float, float]:
    """Return the bytes that the LM head and the loss hold at the worst of the forward, and of the backward pass."""
    if kind not in LM_HEADS:
        raise InputError(f"lm_head must be one of {', '.join(LM_HEADS)}, got {kind!r}")
    # A CPU scores the prompt too, and its tiles are folded in float32 copies: 3 going forth, 7 and a mask going back.
    scored = B * (length - 1 if kind == "fused_cpu" else length - prompt)
    forth, back = (3 * FP32, 7 * FP32 + 1) if kind == "fused_cpu" else (0, 0)
    if (
        kind == "full_logits"
    ):  # float32 logits and their copy for the softmax; going back a gradient of each
        return 2 * FP32 * scored * arch.vocab_size, 4 * FP32 * scored * arch.vocab_size
    rows, filled = min(scored, HEAD_TILE[0]), min(arch.vocab_size, HEAD_TILE[1])
    tile = rows * HEAD_TILE[1] * BF16
    return tile + rows * filled * forth, tile + rows * filled * back + 6 * scored * arch.hidden_size


def plans_that_fit(
    arch: Architecture, effective_completions: int, G: int, vram_gb: float, D: int = 1, **how: Any
) -> list[tuple[BatchPlan, float]]:
    """Return (plan, predicted peak in bytes, all the overhead counted) of each plan that fits, cheapest first.

    The plans are those of :func:`grpo_helpers.batch.propose`; ``how`` (lengths, LoRA ...) goes to :func:`predict`.
    """

    def peak(plan: BatchPlan) -> float:
        return predict(arch, plan.B, plan.S, A=plan.A, **how)["peak"] + OVERHEAD[1]

    return [
        (plan, peak(plan)) for plan in propose(effective_completions, G, D, peak, vram_gb * GIB)
    ]


def verdict(peak: float, vram_gb: float) -> str:
    """Return "fits", "tight" or "does not fit" in ``vram_gb`` GiB: with all the overhead, its least, or not so."""
    least, most = (peak + extra <= vram_gb * GIB for extra in OVERHEAD)
    return "fits" if most else "tight" if least else "does not fit"


def predict_params(path: str | Path, prompt_tokens: int) -> tuple[Architecture, dict[str, Any]]:
    """Return the model's shape and :func:`predict` for a YAML file with notebook 04's keys, or raise InputError."""
    given = read_yaml(path)
    missing = [key for key in NEEDED if key not in given]
    if missing:
        raise InputError(
            f"{path}: {missing[0]} is missing; without it the memory cannot be predicted"
        )
    given["steps_per_generation"] = (
        given.get("steps_per_generation") or None
    )  # 0 in notebook 04: TRL's default
    plan = BatchPlan.from_trl(**{name: given[name] for name in TRL_NAMES.values() if name in given})
    arch = load_architecture(given["model_name"])
    quant = given.get("quant_type", "4bit") if given["use_quant"] else None
    targets = str(given.get("lora_target_modules", ",".join(ATTENTION))).replace(" ", "").split(",")
    lora = (given["lora_r"], targets, given.get("lora_dropout", 0.0))
    sizes = (plan.B, plan.S, prompt_tokens, given["max_completion_length"])
    rest = (given["gradient_checkpointing"], plan.A, given.get("inference_batch_size", 0))
    return arch, predict(arch, *sizes, quant, *lora, *rest)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the phase table of a parameter file; return 0 if it fits, 1 if not, 2 on bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m grpo_helpers.memory", description="Predict GPU memory by phase."
    )
    parser.add_argument(
        "--params", required=True, help="YAML file with the parameters of notebook 04"
    )
    parser.add_argument(
        "--vram_gb", type=float, default=24.0, help="memory of the card, in GiB (default: 24)"
    )
    parser.add_argument(
        "--prompt_tokens", type=int, default=1024, help="longest prompt, in tokens (default: 1024)"
    )
    args = parser.parse_args(argv)
    try:
        arch, got = predict_params(args.params, args.prompt_tokens)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{arch.name}{' (shape inferred)' * arch.inferred}: predicted, not measured, GiB")
    for name, size in got["phases"].items():
        note = (
            " <- peak"
            if name == got["binds"]
            else "  (a second model, as in the article)" * (name == "callback")
        )
        print(f"  {name:<10}{size / GIB:8.2f}{note}")
    said = verdict(got["peak"], args.vram_gb)
    needs = "-".join(f"{(got['peak'] + extra) / GIB:.1f}" for extra in OVERHEAD)
    print(f"with 0.5-1.5 GiB of overhead {needs} GiB; on {args.vram_gb:g} GB: {said}")
    return 0 if said == "fits" else 1


if __name__ == "__main__":
    sys.exit(main())
