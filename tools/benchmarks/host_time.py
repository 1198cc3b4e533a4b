"""What the host takes to launch a layer for one token: ``python -m tools.benchmarks.host_time``.

In: Llamas with LoRA so narrow that their arithmetic takes next to nothing, of two depths, writing
completions of two lengths. Out: the seconds of a layer and of a token besides its layers, which
:mod:`grpo_helpers.hours` needs; ``--record`` writes ``data/reference_runs/host_time.json``.

On a GPU the host only launches kernels, and a small model, or a fast card, waits for it. This
measures Python and PyTorch on a CPU: the processor time of one thread, so other programs do not
count. What CUDA's own launches add is not in it.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from grpo_helpers.architecture import ATTENTION, Architecture
from grpo_helpers.command_line import run_command
from grpo_helpers.files import project_root, show_path, write_json
from tools.benchmarks.random_model import random_model

RECORD = project_root() / "data" / "reference_runs" / "host_time.json"
DEPTHS = (8, 24)
LENGTHS = (8, 40)
ROWS = 8  # completions of one prompt
PROMPT_TOKENS = 16
NARROW = Architecture(
    name="narrow",
    num_hidden_layers=DEPTHS[0],
    hidden_size=64,
    intermediate_size=64,
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=32,
    vocab_size=256,
    tie_word_embeddings=True,
)


@dataclass(frozen=True)
class HostTime:
    """Seconds of processor time for one more token.

    Attributes:
        layer_seconds: For one layer.
        token_seconds: Besides the layers.
    """

    layer_seconds: float
    token_seconds: float


def model_of(depth: int) -> Any:
    """Return a narrow Llama with LoRA on its attention, ready to write."""
    from peft import LoraConfig, get_peft_model

    arch = replace(NARROW, num_hidden_layers=depth)
    adapter = LoraConfig(r=8, target_modules=list(ATTENTION), task_type="CAUSAL_LM")
    return get_peft_model(random_model(arch, None, "cpu", dtype="float32"), adapter).eval()


def seconds_of(model: Any, tokens: int) -> float:
    """Return the processor time of one round of sampling, as a run samples."""
    import torch

    from grpo_helpers.shared_prompts import sharing_generate

    ids = torch.arange(3, 3 + PROMPT_TOKENS).repeat(ROWS, 1)
    started = time.process_time()
    with sharing_generate(model), torch.no_grad():
        model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            do_sample=True,
            pad_token_id=0,
            eos_token_id=2,
        )
    return time.process_time() - started


def measure(repeats: int) -> HostTime:
    """Return the medians of several measurements, all of them in one thread."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        models = {depth: model_of(depth) for depth in DEPTHS}
        for model in models.values():
            seconds_of(model, LENGTHS[0])  # what is done only once
        found = [_measure_once(models) for _ in range(repeats)]
    finally:
        torch.set_num_threads(threads)

    return HostTime(
        layer_seconds=statistics.median(each.layer_seconds for each in found),
        token_seconds=statistics.median(each.token_seconds for each in found),
    )


def _measure_once(models: dict[int, Any]) -> HostTime:
    """Return what a further layer, and a token without layers, add to a token's time."""
    short, long = LENGTHS
    of_token = {}
    for depth, model in models.items():
        of_token[depth] = (seconds_of(model, long) - seconds_of(model, short)) / (long - short)

    shallow, deep = DEPTHS
    of_layer = (of_token[deep] - of_token[shallow]) / (deep - shallow)
    return HostTime(of_layer, of_token[shallow] - shallow * of_layer)


def processor() -> str:
    """Return what the processor is called."""
    file = Path("/proc/cpuinfo")
    if file.is_file():
        for line in file.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmarks.host_time", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--repeats", type=int, default=7, help="measurements (default: 7)")
    parser.add_argument("--record", action="store_true", help=f"write {show_path(RECORD)}")
    args = parser.parse_args(argv)

    def body() -> int:
        found = measure(args.repeats)
        print(f"a layer: {1000 * found.layer_seconds:.2f} ms for a token of {ROWS} completions")
        print(f"besides: {1000 * found.token_seconds:.2f} ms")
        if args.record:
            today = date.today().isoformat()
            write_json(RECORD, {"date": today, "processor": processor(), **asdict(found)})
        return 0

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
