"""Peak GPU memory of GRPO with LoRA, by phase, from a model's shape: predicted, not measured.

In: a model's shape and a :class:`Budget` (the batch, lengths in tokens, quantisation, LoRA). Out: a
:class:`Prediction`: bytes by phase, the peak, and the phase that sets it. Formulas: the closed form
of TRL 1.16 with HF generate on one GPU (no vLLM), from the installed sources; the activation
coefficients were fitted on CPU traces of the real graph (``tools.benchmarks.memory_trace``). Unlike
in the article, memory does not grow with G; it falls where a group shares its prompt.

    python -m grpo_helpers.memory --params params/gpu_24gb/04_train.yaml --vram_gb 24
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from grpo_helpers.architecture import (
    ATTENTION,
    BF16,
    DTYPE_BYTES,
    FP32,
    Architecture,
    load_architecture,
    lora_params,
    template_characters,
    weights_bytes,
)
from grpo_helpers.batch import TRL_NAMES, BatchPlan, need_whole_number, propose
from grpo_helpers.command_line import FAILURE, SUCCESS, program_name, run_command
from grpo_helpers.files import InputError, read_yaml
from grpo_helpers.parameters import present_names
from grpo_helpers.prompts import PromptSource, load_prompted

GIB = 1024**3
# CUDA context, library workspaces, fragmentation, least and most: inferred, not measured here.
OVERHEAD = (0.5 * GIB, 1.5 * GIB)
CARDS = (16, 24, 48, 80)  # GiB; those that people train on
HEAD_TILE = (4096, 32768)  # tokens x vocabulary columns that TRL's fused LM head holds at once
# The questions of a run: parameters of notebook 04, and their defaults there.
QUESTIONS = {
    "train_data_path": "data/embedded/train.json",
    "eval_data_path": "data/embedded/dev.json",
}
LM_HEADS = ("fused", "fused_cpu", "full_logits")
NEEDED = (
    "model_name",
    "use_quant",
    "lora_r",
    "gradient_checkpointing",
    "max_completion_length",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "num_generations",
)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What the memory of a run depends on, besides the shape of its model.

    Attributes:
        B: Completions per forward and backward pass.
        S: Passes per round of sampling, so that B*S completions are sampled at once.
        A: Passes per optimizer step; None means S. A round inside a step finds gradients in memory.
        prompt_tokens: The longest prompt of a round, since all rows are padded to it.
        completion_tokens: The longest completion.
        quant: None, ``"4bit"``, or ``"8bit"`` with the activations traced for 4-bit.
        dtype: The numbers of weights that are not quantised, of the cache and of activations:
            ``bfloat16``, ``float16`` or ``float32``. In float32 they are counted twice as large,
            which is a little too much for activations.
        lora_rank: Rank of the adapter. Full fine-tuning is not predicted.
        lora_targets: Layers that get an adapter.
        lora_dropout: Any value above 0 keeps a mask and a copy.
        gradient_checkpointing: Whether activations are computed a second time instead of kept.
        inference_rows: Questions answered at once at a save (phase ``inference``); 0 if none.
        rows_per_prompt: Completions that share one reading of their prompt: G if prompts are shared
            (``shared_prefix``), 1 in TRL's own way. With gradient checkpointing, they are shared in
            sampling only.
        samples_here: Whether completions are sampled on this device by the process that trains, and
            not by a server (``rollout_server``), whose own memory is not predicted.
        lm_head: ``fused`` (TRL 1.16 on a GPU), ``fused_cpu``, or ``full_logits`` (TRL of mid-2025,
            which held tokens x vocabulary).

    Raises:
        InputError: A size that is no whole number from 1 up, an unknown ``dtype`` or ``lm_head``.
    """

    B: int
    S: int
    prompt_tokens: int
    completion_tokens: int
    A: int | None = None
    quant: str | None = None
    dtype: str = "bfloat16"
    lora_rank: int = 64
    lora_targets: Sequence[str] = ATTENTION
    lora_dropout: float = 0.0
    gradient_checkpointing: bool = True
    inference_rows: int = 0
    rows_per_prompt: int = 1
    samples_here: bool = True
    lm_head: str = "fused"

    def __post_init__(self) -> None:
        sizes = ("B", "S", "prompt_tokens", "completion_tokens", "lora_rank", "rows_per_prompt")
        for name in sizes:
            need_whole_number(name, getattr(self, name))
        if self.dtype not in DTYPE_BYTES:
            raise InputError(f"dtype must be one of {', '.join(DTYPE_BYTES)}, got {self.dtype!r}")
        if self.lm_head not in LM_HEADS:
            raise InputError(f"lm_head must be one of {', '.join(LM_HEADS)}, got {self.lm_head!r}")

    @property
    def tokens(self) -> int:
        """Length of a row: prompt and completion."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def bytes_per_number(self) -> int:
        """Bytes of a number in weights that are not quantised, in the cache and in activations."""
        return DTYPE_BYTES[self.dtype]

    @property
    def bytes_per_trained_number(self) -> int:
        """Bytes of a number of the adapter.

        TRL casts it to bfloat16 over a quantised base, which suits nothing but bfloat16: see
        :func:`grpo_helpers.library_fixes.keep_adapter_in_float32`.
        """
        return BF16 if self.quant and self.dtype == "bfloat16" else FP32

    @property
    def widening(self) -> int:
        """By how much numbers are larger than those of bfloat16, for which the terms are fitted."""
        return self.bytes_per_number // BF16

    @property
    def shares_in_loss(self) -> bool:
        """Whether the loss reads each prompt once: recomputed activations leave no cache."""
        return self.rows_per_prompt > 1 and not self.gradient_checkpointing

    def prompts_of(self, rows: int) -> int:
        """Return how many prompts are read for ``rows`` completions."""
        return math.ceil(rows / self.rows_per_prompt)

    @property
    def is_mid_step(self) -> bool:
        """Whether some rounds of sampling start inside an optimizer step."""
        return self.S % (self.A or self.S) != 0


@dataclass(frozen=True)
class Static:
    """Bytes that stay in memory: the frozen weights, and what belongs to the adapter."""

    weights: int
    lora: int
    gradients: int
    adam: int

    @property
    def adapter(self) -> int:
        """The adapter with its optimizer states, which are there from the first step on."""
        return self.lora + self.adam

    @property
    def trained(self) -> int:
        """The adapter with its optimizer states and gradients."""
        return self.lora + self.gradients + self.adam


@dataclass(frozen=True)
class Phase:
    """The bytes of one phase, by what they are for.

    Attributes:
        weights: The frozen model.
        adapter: LoRA, and its gradients and optimizer states as far as they are there.
        kv_cache: Keys and values of the rows being generated.
        working: Activations, logits and other temporary tensors.
        second_model: The model that the article loads anew to answer questions.
    """

    weights: int
    adapter: int
    kv_cache: int
    working: int
    second_model: int = 0

    @property
    def total(self) -> int:
        """All of them together."""
        return self.weights + self.adapter + self.kv_cache + self.working + self.second_model


@dataclass(frozen=True)
class Prediction:
    """The predicted memory of a run. Add :data:`OVERHEAD` to compare it with a card.

    Attributes:
        arch: The model's shape.
        static: What stays in memory.
        made_of: Each phase by name, in the order of a step.
    """

    arch: Architecture
    static: Static
    made_of: dict[str, Phase]

    @property
    def phases(self) -> dict[str, int]:
        """The bytes of each phase."""
        return {name: phase.total for name, phase in self.made_of.items()}

    @property
    def binds(self) -> str:
        """The name of the largest phase; the article's ``callback`` is listed but not counted."""
        phases = self.phases
        del phases["callback"]
        return max(phases, key=lambda name: phases[name])

    @property
    def peak(self) -> int:
        """The bytes of the largest phase."""
        return self.phases[self.binds]


def predict(arch: Architecture, budget: Budget) -> Prediction:
    """Return the memory of every phase: predicted, not measured.

    Args:
        arch: The model's shape.
        budget: The batch, the lengths, the quantisation and LoRA.

    Raises:
        InputError: An unknown quantisation or LoRA target.

    >>> budget = Budget(B=2, S=4, prompt_tokens=512, completion_tokens=256, quant="4bit")
    >>> predict(load_architecture("Qwen3-0.6B"), budget).binds
    'decode'
    """
    static = static_bytes(arch, budget)
    sampling = sampling_phases(arch, budget, static) if budget.samples_here else {}
    made_of = {
        "load": load_phase(arch, budget, static),
        **sampling,
        **training_phases(arch, budget, static),
        **answering_phases(arch, budget, static),
    }
    return Prediction(arch, static, made_of)


def static_bytes(arch: Architecture, budget: Budget) -> Static:
    """Return what stays in memory; Adam keeps two numbers for each trained parameter."""
    trained = lora_params(arch, budget.lora_rank, budget.lora_targets)
    lora = trained * budget.bytes_per_trained_number
    weights = weights_bytes(arch, budget.quant, budget.bytes_per_number)
    return Static(weights, lora, gradients=lora, adam=2 * lora)


def load_phase(arch: Architecture, budget: Budget, static: Static) -> Phase:
    """Return the phase of loading: one matrix is not quantised yet."""
    working = 0
    if budget.quant:
        working = arch.largest_linear * budget.bytes_per_number

    return Phase(static.weights, adapter=0, kv_cache=0, working=working)


def sampling_phases(arch: Architecture, budget: Budget, static: Static) -> dict[str, Phase]:
    """Return the phases of a round of sampling, all its B*S rows at once."""
    adapter = static.adapter
    if budget.is_mid_step:
        adapter += static.gradients

    rows = budget.B * budget.S
    return {
        "prefill": _prefill(arch, budget, static.weights, adapter, rows=rows),
        "decode": _decode(arch, budget, static.weights, adapter, rows=rows),
    }


def training_phases(arch: Architecture, budget: Budget, static: Static) -> dict[str, Phase]:
    """Return the phases of one pass over B rows, and of the optimizer's step.

    ``logprobs`` runs only off-policy, or with ``beta`` above 0.
    """
    head = _head_bytes(arch, budget)
    layers = _layer_bytes(arch, budget)
    mlp = _most_tokens(budget) * _mlp_bytes_per_token(arch, budget)

    forward = head.forward
    if budget.gradient_checkpointing:
        forward = max(forward, mlp)  # one layer at a time
    if budget.shares_in_loss and arch.num_key_value_heads < arch.num_attention_heads:
        # The cache lives until then; without copies for each head it is what is saved anyway.
        forward += budget.B * budget.tokens * _cache_bytes_per_token(arch, budget)

    working = {
        "logprobs": mlp + head.forward,
        "forward": layers.saved + forward,
        "backward": layers.saved + max(layers.recomputed, head.backward),
        "optimizer": 0,  # fused AdamW makes no temporary copies
    }

    phases = {}
    for name, size in working.items():
        phases[name] = Phase(static.weights, static.trained, kv_cache=0, working=round(size))
    return phases


def answering_phases(arch: Architecture, budget: Budget, static: Static) -> dict[str, Phase]:
    """Return the phases of answering the dev questions at a save.

    ``inference`` is ours: the model in training, ``inference_rows`` questions at once. ``callback``
    is the article's: the model loaded anew, one question at a time.
    """
    rows = budget.inference_rows
    alone = replace(budget, rows_per_prompt=1)  # no two questions have the same prompt
    prefill = _prefill(arch, alone, static.weights, static.adapter, rows=rows)
    decode = _decode(arch, alone, static.weights, static.adapter, rows=rows)
    inference = max(prefill, decode, key=lambda phase: phase.total)

    reading = budget.prompt_tokens * _mlp_bytes_per_token(arch, budget)
    callback = Phase(
        static.weights,
        static.adapter,
        kv_cache=budget.tokens * _cache_bytes_per_token(arch, budget),
        working=round(reading + _unpacked_bytes(arch, budget)),
        second_model=static.weights + static.lora,
    )
    return {"inference": inference, "callback": callback}


def _prefill(arch: Architecture, budget: Budget, weights: int, adapter: int, rows: int) -> Phase:
    """Return the memory of reading ``rows`` prompts at once: a layer's MLP tensors."""
    tokens = budget.prompts_of(rows) * budget.prompt_tokens
    cache = tokens * _cache_bytes_per_token(arch, budget)
    working = tokens * _mlp_bytes_per_token(arch, budget) + _unpacked_bytes(arch, budget)
    return Phase(weights, adapter, cache, round(working))


def _decode(arch: Architecture, budget: Budget, weights: int, adapter: int, rows: int) -> Phase:
    """Return the memory of writing the last token of ``rows`` completions at once."""
    if budget.rows_per_prompt > 1:
        own = rows * (budget.completion_tokens + 1)  # reserved; the prompt's last token is in it
        tokens = budget.prompts_of(rows) * budget.prompt_tokens + own
        cache = tokens * _cache_bytes_per_token(arch, budget)
        growth = 0.0
    else:
        cache = rows * budget.tokens * _cache_bytes_per_token(arch, budget)
        growth = cache / (2 * arch.num_hidden_layers)  # a cache grows by copying a layer's part
    logits = rows * arch.vocab_size * (budget.bytes_per_number + 16)  # float32 copies, softmax
    working = growth + logits + _unpacked_bytes(arch, budget)
    return Phase(weights, adapter, cache, round(working))


def tokens_of_a_pass(budget: Budget, prompt_tokens: float, completion_tokens: float) -> float:
    """Return the tokens that go through the layers in one pass over B completions.

    Args:
        budget: The batch, and whether the loss shares prompts.
        prompt_tokens: Tokens of a prompt.
        completion_tokens: Tokens of a completion.
    """
    prompts = budget.prompts_of(budget.B) if budget.shares_in_loss else budget.B
    return prompts * prompt_tokens + budget.B * completion_tokens


def _most_tokens(budget: Budget) -> float:
    """Return the tokens of a pass whose prompts and completions are the longest."""
    return tokens_of_a_pass(budget, budget.prompt_tokens, budget.completion_tokens)


def _cache_bytes_per_token(arch: Architecture, budget: Budget) -> int:
    """Return the bytes of one token in the KV cache, all layers together."""
    return arch.kv_bytes_per_token * budget.widening


def _mlp_bytes_per_token(arch: Architecture, budget: Budget) -> float:
    """Return the bytes that running one layer without gradients takes for a token."""
    return (8 * arch.intermediate_size + 1.2 * arch.hidden_size) * budget.widening


def _unpacked_bytes(arch: Architecture, budget: Budget) -> int:
    """Return the bytes of one weight matrix that is dequantised to be used."""
    if not budget.quant:
        return 0

    scales = arch.largest_linear // 64 * FP32
    return arch.largest_linear * budget.bytes_per_number + scales


@dataclass(frozen=True)
class _LayerBytes:
    """Activations of the layers: kept until the backward pass, and recomputed in it for one."""

    saved: float
    recomputed: float


def _layer_bytes(arch: Architecture, budget: Budget) -> _LayerBytes:
    """Return the activations of the layers: fitted on traces, up to 3 % low."""
    tokens = _most_tokens(budget)
    hidden = arch.hidden_size
    mlp = arch.intermediate_size
    queries = arch.query_width

    if not budget.gradient_checkpointing:
        layer = (6 * mlp + 8 * queries + 10 * hidden) * budget.widening
        factor = 1.345 if budget.lora_dropout else 1.0
        saved = tokens * arch.num_hidden_layers * (layer * factor)
        if budget.shares_in_loss:
            # Every completion attends to a copy of its prompt's keys and values, one for each head.
            # Of the last layer, a prompt needs no more than those.
            copies = 2 * budget.bytes_per_number * arch.num_hidden_layers * queries
            prompt_tokens = budget.prompts_of(budget.B) * budget.prompt_tokens
            saved += budget.B * budget.prompt_tokens * copies
            saved -= prompt_tokens * (layer * factor)
        return _LayerBytes(saved=saved, recomputed=0)

    factor = 1.22 if budget.lora_dropout else 1.0
    if set(budget.lora_targets) - set(ATTENTION):
        factor *= 1.07

    # Each layer's input is kept; the rest is recomputed a layer at a time.
    layer = (12 * mlp + 8 * queries + 12 * hidden) * budget.widening
    return _LayerBytes(
        saved=tokens * budget.bytes_per_number * arch.num_hidden_layers * hidden,
        recomputed=tokens * (layer * factor),
    )


@dataclass(frozen=True)
class _HeadBytes:
    """The LM head and the loss, at the worst moment of the forward and of the backward pass."""

    forward: float
    backward: float


def _head_bytes(arch: Architecture, budget: Budget) -> _HeadBytes:
    """Return what the LM head and the loss take."""
    scored = budget.B * budget.completion_tokens
    if budget.lm_head == "fused_cpu":
        scored = budget.B * (budget.tokens - 1)  # a CPU scores the prompt, too
        if budget.shares_in_loss:
            scored = budget.B * budget.completion_tokens

    if budget.lm_head == "full_logits":
        # float32 logits and their copy for the softmax; going back a gradient of each
        logits = FP32 * scored * arch.vocab_size
        return _HeadBytes(forward=2 * logits, backward=4 * logits)

    rows = min(scored, HEAD_TILE[0])
    columns = min(arch.vocab_size, HEAD_TILE[1])
    tile = rows * HEAD_TILE[1] * budget.bytes_per_number

    copies_forward = 0
    copies_backward = 0
    if budget.lm_head == "fused_cpu":
        # A CPU's tiles are in float32 copies: 3 going forward, 7 and a mask going back.
        copies_forward = 3 * FP32
        copies_backward = 7 * FP32 + 1

    gradient = (FP32 + budget.bytes_per_number) * scored * arch.hidden_size
    return _HeadBytes(
        forward=tile + rows * columns * copies_forward,
        backward=tile + rows * columns * copies_backward + gradient,
    )


@dataclass(frozen=True)
class FittingPlan:
    """A batch setting that fits a card.

    Attributes:
        plan: The setting.
        needed: Its predicted peak in bytes, with the whole of the overhead.
    """

    plan: BatchPlan
    needed: float


def plans_that_fit(
    arch: Architecture,
    budget: Budget,
    *,
    effective_completions: int,
    G: int,
    vram_gb: float,
    D: int = 1,
) -> list[FittingPlan]:
    """Return the plans of :func:`grpo_helpers.batch.propose` that fit a card, cheapest first.

    Args:
        arch: The model's shape.
        budget: Lengths, quantisation and LoRA; its B, S and A are replaced by each plan's.
        effective_completions: Completions per optimizer step, all devices together.
        G: Completions of one prompt.
        vram_gb: Memory of the card, in GiB.
        D: Devices.
    """

    def needed(plan: BatchPlan) -> float:
        planned = replace(budget, B=plan.B, S=plan.S, A=plan.A)
        return predict(arch, planned).peak + OVERHEAD[1]

    plans = propose(effective_completions, G, D, peak=needed, limit=vram_gb * GIB)
    return [FittingPlan(plan, needed(plan)) for plan in plans]


def verdict(peak: float, vram_gb: float) -> str:
    """Return whether a predicted peak, in bytes, fits a card of ``vram_gb`` GiB.

    ``"fits"`` with the whole of :data:`OVERHEAD`, ``"tight"`` with the least of it only, else
    ``"does not fit"``.

    >>> verdict(10 * GIB, vram_gb=11)
    'tight'
    """
    least, most = OVERHEAD
    card = vram_gb * GIB

    if peak + most <= card:
        return "fits"
    if peak + least <= card:
        return "tight"
    return "does not fit"


def smallest_card(peak: float, cards: Sequence[int] = CARDS) -> int | None:
    """Return the smallest card with room for a predicted peak and all of :data:`OVERHEAD`.

    Args:
        peak: Bytes.
        cards: Memory of the cards, in GiB, in ascending order.

    Returns:
        The memory of that card; None if the peak fits none of them.

    >>> smallest_card(10 * GIB), smallest_card(23 * GIB)
    (16, 48)
    """
    for card in cards:
        if verdict(peak, card) == "fits":
            return card
    return None


def budget_of_params(params: dict[str, Any], prompt_tokens: int) -> Budget:
    """Return the budget of a run with notebook 04's parameters.

    Args:
        params: Parameters by name; those of :data:`NEEDED` at least, and no batch that TRL refuses.
        prompt_tokens: The longest prompt, in tokens.
    """
    params = present_names(params)
    batch = {name: params[name] for name in TRL_NAMES.values() if name in params}
    if not batch.get("steps_per_generation"):
        batch["steps_per_generation"] = None  # notebook 04 writes 0 for TRL's default
    plan = BatchPlan.from_trl(**batch)

    quant = None
    if params["use_quant"]:
        quant = params.get("quant_type", "4bit")

    targets = params.get("lora_target_modules", ",".join(ATTENTION))
    return Budget(
        B=plan.B,
        S=plan.S,
        A=plan.A,
        prompt_tokens=prompt_tokens,
        completion_tokens=params["max_completion_length"],
        quant=quant,
        dtype=params.get("dtype", "float32"),
        lora_rank=params["lora_r"],
        lora_targets=str(targets).replace(" ", "").split(","),
        lora_dropout=params.get("lora_dropout", 0.0),
        gradient_checkpointing=params["gradient_checkpointing"],
        inference_rows=params.get("inference_batch_size", 0),
        rows_per_prompt=plan.G if params.get("shared_prefix", True) else 1,
        samples_here=not params.get("rollout_server"),
    )


def longest_prompt(params: dict[str, Any]) -> int:
    """Return the characters of a run's longest prompt: more than the tokens of a model for Korean.

    Args:
        params: Parameters of notebook 04 by name; what is missing has the default of the notebook.

    Raises:
        InputError: A file of questions, examples or instructions cannot be read.
    """
    source = PromptSource(
        few_shot_data_path=params.get("few_shot_data_path", PromptSource.few_shot_data_path),
        instruct_path=params.get("instruct_path", PromptSource.instruct_path),
        num_few_shot=params.get("num_few_shot", PromptSource.num_few_shot),
    )

    longest = 0
    for name, default in QUESTIONS.items():
        _, prompts = load_prompted(params.get(name, default), source, need_answer=False)
        for prompt in prompts:
            longest = max(longest, sum(len(message["content"]) for message in prompt))

    own_template = params.get("chat_template_path", "")
    added = 0 if own_template else template_characters(params.get("model_name", ""))
    return longest + added


def predict_params(path: str | Path, prompt_tokens: int | None = None) -> Prediction:
    """Return the prediction for a YAML file with notebook 04's parameters.

    Args:
        path: The file.
        prompt_tokens: The longest prompt, in tokens; None: as :func:`longest_prompt` counts it.

    Raises:
        InputError: A parameter is missing, the batch is not legal, or the model is not known.
    """
    params = read_yaml(path)
    for name in NEEDED:
        if name not in params:
            raise InputError(
                f"{path}: {name} is missing; without it the memory cannot be predicted"
            )

    if prompt_tokens is None:
        prompt_tokens = longest_prompt(params)
    budget = budget_of_params(params, prompt_tokens)
    return predict(load_architecture(params["model_name"]), budget)


def _print_phases(prediction: Prediction) -> None:
    """Print the table of phases, in GiB."""
    name = prediction.arch.name
    if prediction.arch.inferred:
        name += " (shape inferred)"
    print(f"{name}: predicted, not measured, GiB")

    notes = {
        "callback": "  (a second model, as in the article)",
        prediction.binds: " <- peak",
    }
    for phase, size in prediction.phases.items():
        print(f"  {phase:<10}{size / GIB:8.2f}{notes.get(phase, '')}")


def report(params: str, vram_gb: float, prompt_tokens: int | None) -> int:
    """Print the prediction for a parameter file; return 0 if it fits the card, else 1."""
    prediction = predict_params(params, prompt_tokens)
    _print_phases(prediction)
    if prompt_tokens is None:
        longest = longest_prompt(read_yaml(params))
        print(f"for a prompt of {longest} tokens, the characters of the longest one")

    least, most = ((prediction.peak + extra) / GIB for extra in OVERHEAD)
    result = verdict(prediction.peak, vram_gb)
    print(f"with 0.5-1.5 GiB of overhead {least:.1f}-{most:.1f} GiB; on {vram_gb:g} GB: {result}")
    return SUCCESS if result == "fits" else FAILURE


def main(argv: Sequence[str] | None = None) -> int:
    """Print the phases of a parameter file; return 0 if it fits, 1 if not, 2 on bad input."""
    parser = argparse.ArgumentParser(
        prog=program_name("memory"), description="Predict GPU memory by phase."
    )
    add = parser.add_argument
    add("--params", required=True, help="YAML file with the parameters of notebook 04")
    add("--vram_gb", type=float, default=24.0, help="memory of the card, in GiB (default: 24)")
    add(
        "--prompt_tokens",
        type=int,
        help="longest prompt, in tokens (default: as many as the longest one has characters)",
    )
    args = parser.parse_args(argv)
    return run_command(lambda: report(args.params, args.vram_gb, args.prompt_tokens))


if __name__ == "__main__":
    sys.exit(main())
