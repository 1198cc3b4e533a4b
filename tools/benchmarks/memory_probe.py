"""Measure the memory of a real TRL step: ``python -m tools.benchmarks.memory_probe --device cpu``, or ``cuda``.

One process per setting (two where D is 2) builds a Llama of the wanted shape with random weights (nothing is
downloaded), trains it with the real ``GRPOTrainer`` and LoRA, and reports the peak of every phase of the first
optimizer step and the seconds of the steps after it: on a GPU from PyTorch's CUDA counters; on the CPU, where each
process has one thread, from the profiler's record of every allocation. Completions are forced to their full length.
Rows are appended to a CSV as they come, and a setting that has its row is not run again. Running out of memory is a row
too. The CUDA half has not run on a GPU yet.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from grpo_helpers.architecture import ATTENTION, Architecture
from grpo_helpers.files import project_root, write_atomically
from grpo_helpers.memory import GIB, Budget, predict
from tools.benchmarks.memory_trace import llama_config, shape

PHASES = ("generate", "forward", "backward", "optimizer")
COLUMNS = ("model", "B", "S", "A", "G", "D", "prompt_tokens", "completion_tokens", "lora_rank",
           "gradient_checkpointing", "quant")  # fmt: skip
TIMED = 2  # optimizer steps after the first
# Small shapes for the CPU: the vocabulary is small, because on a CPU TRL's head keeps float32 copies of its tiles.
SMALL = {
    "cpu-narrow": Architecture("cpu-narrow", 4, 256, 1024, 4, 2, 64, 1207, True),
    "cpu-wide": Architecture("cpu-wide", 2, 512, 1536, 8, 4, 64, 1207, True),
    "cpu-deep": Architecture("cpu-deep", 8, 256, 768, 4, 4, 64, 1207, True),
}
NARROW = "cpu-narrow"
CPU = (
    (NARROW, 4, 1, 1, 4, 1, 192, 32, 16, True, None),
    (NARROW, 4, 2, 2, 4, 1, 192, 32, 16, True, None),
    (NARROW, 4, 1, 1, 4, 1, 192, 32, 16, False, None),
    ("cpu-wide", 4, 1, 1, 4, 1, 192, 32, 16, True, None),
    ("cpu-wide", 4, 1, 1, 4, 1, 384, 32, 16, False, None),
    ("cpu-deep", 4, 1, 1, 4, 1, 192, 32, 16, True, None),
    ("cpu-deep", 8, 1, 1, 4, 1, 192, 32, 16, False, None),
    # How cost grows: each knob doubled, and doubled again, from the first row (S: from a row with A = 8).
    *((NARROW, B, 1, 1, 4, 1, 192, 32, 16, True, None) for B in (8, 16, 32)),
    *((NARROW, 4, S, 8, 4, 1, 192, 32, 16, True, None) for S in (1, 2, 4, 8)),
    *((NARROW, 4, 1, 1, 4, 1, P, 32, 16, True, None) for P in (384, 768)),
    *((NARROW, 4, 1, 1, 4, 1, 192, T, 16, True, None) for T in (64, 128)),
    (NARROW, 4, 1, 1, 4, 2, 192, 32, 16, True, None),
)
MIDM = "Midm-2.0-Base-Instruct"
CUDA = (
    *(
        (MIDM, B, S, 16, 8, 1, 1024, 512, 64, True, "4bit")
        for B, S in ((2, 4), (4, 4), (8, 4), (8, 2), (1, 8), (2, 8))
    ),
    *((MIDM, 2, 4, 16, 8, 1, P, 512, 64, True, "4bit") for P in (512, 2048)),
    (MIDM, 2, 4, 16, 8, 1, 1024, 256, 64, True, "4bit"),
    (MIDM, 2, 4, 16, 8, 1, 1024, 512, 16, True, "4bit"),
    ("Qwen3-4B", 4, 4, 4, 8, 1, 1024, 512, 64, True, "4bit"),
    ("Qwen3-4B", 2, 4, 4, 8, 1, 512, 256, 64, False, "4bit"),
    ("Qwen3-0.6B", 8, 4, 4, 8, 1, 512, 256, 16, True, None),
    ("Qwen3-0.6B", 8, 2, 4, 8, 1, 512, 256, 16, False, None),
)


# -- one setting, in a process of its own --------------------------------------------------------------------------


class CudaMeter:
    """Peak bytes of each phase, from PyTorch's CUDA counters."""

    def __init__(self) -> None:
        self.done = False
        self.allocated: dict[str, int] = defaultdict(int)
        self.reserved: dict[str, int] = defaultdict(int)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure what happens inside, as ``name``."""
        import torch

        if self.done:
            yield
            return
        torch.cuda.reset_peak_memory_stats()
        try:
            yield
        finally:
            self.allocated[name] = max(self.allocated[name], torch.cuda.max_memory_allocated())
            self.reserved[name] = max(self.reserved[name], torch.cuda.max_memory_reserved())

    def start(self, model: Any) -> None:
        """Begin; a GPU counts by itself."""

    def stop(self) -> None:
        """Measure no more."""
        self.done = True


class CpuMeter:
    """Peak bytes of each phase, from the profiler's record of every allocation, above the model's own weights."""

    def __init__(self) -> None:
        self.allocated: dict[str, int] = defaultdict(int)
        self.reserved: dict[str, int] = {}
        self.profile: Any = None
        self.before = 0

    def start(self, model: Any) -> None:
        """Begin to record; the weights of ``model`` are there already."""
        import torch

        self.before = sum(p.nbytes for p in {p.data_ptr(): p for p in model.parameters()}.values())
        self.profile = torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
        )
        self.profile.start()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Mark what happens inside as ``name``."""
        import torch

        with torch.profiler.record_function(f"phase:{name}"):
            yield

    def stop(self) -> None:
        """End the record and take the peaks out of it."""
        self.profile.stop()
        events = list(self.profile.profiler.kineto_results.events())
        spans = [
            (e.start_ns(), e.start_ns() + e.duration_ns(), e.name().removeprefix("phase:"))
            for e in events
            if e.name().startswith("phase:")
        ]
        now = self.before
        for event in sorted(
            (e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns()
        ):
            now += event.nbytes()
            for start, end, name in spans:
                if start <= event.start_ns() <= end:
                    self.allocated[name] = max(self.allocated[name], now)


def random_model(arch: Architecture, quant: str | None, device: str):
    """Return a Llama of the shape with random weights in bfloat16, its linear layers quantised one by one."""
    import torch
    from transformers import LlamaForCausalLM

    config = llama_config(
        arch, pad_token_id=0, eos_token_id=2, bos_token_id=None, max_position_embeddings=32_768
    )
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("meta"):
            model = LlamaForCausalLM(config)
        for name, child in list(model.named_modules()):
            if quant == "4bit" and isinstance(child, torch.nn.Linear) and name != "lm_head":
                parent = model.get_submodule(name.rpartition(".")[0])
                setattr(
                    parent,
                    name.rpartition(".")[2],
                    _nf4(child.in_features, child.out_features, device),
                )
        for module in model.modules():
            _fill(module, device)
        model.tie_weights()
    finally:
        torch.set_default_dtype(before)
    if quant == "4bit":  # what a quantised model from transformers carries
        model.is_loaded_in_4bit, model.is_quantized, model.quantization_method = (
            True,
            True,
            "bitsandbytes",
        )
    return model


def _nf4(width: int, out: int, device: str):
    import bitsandbytes as bnb
    import torch

    layer = bnb.nn.Linear4bit(
        width, out, bias=False, compute_dtype=torch.bfloat16, quant_type="nf4", device="cpu"
    )
    weight = torch.randn(out, width, dtype=torch.bfloat16) * 0.02
    layer.weight = bnb.nn.Params4bit(
        weight, requires_grad=False, quant_type="nf4", compress_statistics=True
    )
    return layer.to(device)


def _fill(module, device: str) -> None:
    """Put random numbers where a module still has parameters or buffers without data."""
    import torch

    for name, value in list(module.named_parameters(recurse=False)):
        if value.is_meta:
            data = torch.randn(value.shape, dtype=value.dtype, device=device) * 0.02
            setattr(
                module,
                name,
                torch.nn.Parameter(data + float(value.dim() == 1), requires_grad=False),
            )
    if hasattr(module, "inv_freq"):  # the rotary embedding computes its buffers itself
        fresh = type(module)(module.config).to(device)
        module.inv_freq, module.original_inv_freq = fresh.inv_freq, fresh.inv_freq.clone()


def measure(setting: dict[str, Any], device: str, folder: str) -> dict[str, Any]:
    """Return the peaks of the first optimizer step, in bytes, and the mean seconds of the next ones."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    from grpo_helpers.library_fixes import quiet_libraries
    from grpo_helpers.models import load_tokenizer

    quiet_libraries()
    torch.manual_seed(0)
    arch = shape(setting["model"], SMALL)
    meter = CudaMeter() if device == "cuda" else CpuMeter()
    model = random_model(arch, setting["quant"], device)
    count = setting["B"] * setting["S"] * setting["A"] * setting["D"]
    rows = [{"prompt": chr(0xAC00 + i % 50) * setting["prompt_tokens"]} for i in range(count)]
    config = GRPOConfig(
        output_dir=folder, use_cpu=device == "cpu", bf16=True, report_to="none",
        save_strategy="no", logging_strategy="no", max_steps=1 + TIMED, disable_tqdm=True, dataloader_pin_memory=False,
        per_device_train_batch_size=setting["B"], num_generations=setting["G"],
        gradient_accumulation_steps=setting["A"], steps_per_generation=setting["S"],
        max_completion_length=setting["completion_tokens"],
        generation_kwargs={"min_new_tokens": setting["completion_tokens"]},
        gradient_checkpointing=setting["gradient_checkpointing"],
        gradient_checkpointing_kwargs={"use_reentrant": False},
        ddp_backend="gloo" if device == "cpu" and setting["D"] > 1 else None,
    )  # fmt: skip
    lora = LoraConfig(
        r=setting["lora_rank"], lora_alpha=16, target_modules=list(ATTENTION), task_type="CAUSAL_LM"
    )
    trainer = GRPOTrainer(
        model=model, args=config, processing_class=load_tokenizer("data/tiny_model"), peft_config=lora,
        train_dataset=Dataset.from_list(rows), reward_funcs=lambda completions, **_: [len(set(c)) for c in completions],
    )  # fmt: skip
    _mark(trainer, meter)
    ends: list[float] = []

    class Watch(TrainerCallback):
        def on_train_begin(
            self, args, state, control, **_
        ):  # processes have found each other by now
            meter.start(trainer.model)

        def on_step_end(self, args, state, control, **_):
            if not ends:
                meter.stop()
            ends.append(time.perf_counter())

    trainer.add_callback(Watch())
    trainer.train()
    return {"seconds": round((ends[-1] - ends[0]) / TIMED, 3)} | {
        f"{kind}_{name}": getattr(meter, kind).get(name)
        for kind in ("allocated", "reserved")
        for name in PHASES
    }


def _mark(trainer, meter) -> None:
    """Let the meter see each phase of the trainer."""
    accelerator, optimizer = trainer.accelerator, trainer.create_optimizer()

    def marked(function, name):
        def inside(*args, **kwargs):
            with meter.phase(name):
                return function(*args, **kwargs)

        return inside

    trainer.model.generate = marked(trainer.model.generate, "generate")
    trainer.compute_loss = marked(trainer.compute_loss, "forward")
    accelerator.backward = marked(accelerator.backward, "backward")
    optimizer.step = marked(optimizer.step, "optimizer")


# -- all settings --------------------------------------------------------------------------------------------------


def predicted(setting: dict[str, Any], device: str) -> dict[str, int]:
    """Return what :func:`predict` says of the phases that are measured."""
    arch = shape(setting["model"], SMALL)
    budget = Budget(
        B=setting["B"],
        S=setting["S"],
        A=setting["A"],
        prompt_tokens=setting["prompt_tokens"],
        completion_tokens=setting["completion_tokens"],
        quant=setting["quant"],
        lora_rank=setting["lora_rank"],
        gradient_checkpointing=setting["gradient_checkpointing"],
        lm_head="fused" if device == "cuda" else "fused_cpu",
    )
    phases = predict(arch, budget).phases
    return {
        "generate": max(phases["prefill"], phases["decode"]),
        "forward": phases["forward"],
        "backward": phases["backward"],
        "optimizer": phases["optimizer"],
    }


def probe(setting: dict[str, Any], device: str, cap_gb: float) -> dict[str, Any]:
    """Run one setting in a process of its own; return its row: FIT with figures, OOM, or the error's last line."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(setting["D"])]
    command = [sys.executable, "-W", "ignore", *(launch if setting["D"] > 1 else [])]
    command += [
        "-m",
        "tools.benchmarks.memory_probe",
        "--device",
        device,
        "--cap_gb",
        str(cap_gb),
        "--child",
        json.dumps(setting),
    ]
    env = os.environ | ({"OMP_NUM_THREADS": "1"} if device == "cpu" else {})
    done = subprocess.run(command, capture_output=True, text=True, cwd=project_root(), env=env)
    last = (done.stdout.strip().splitlines() or [""])[-1]
    if done.returncode == 0 and last.startswith("{"):
        return setting | {"outcome": "FIT"} | json.loads(last)
    errors = [
        line for line in done.stderr.splitlines() if "Error" in line
    ] or done.stderr.strip().splitlines()
    error = errors[-1] if errors else "no output"
    return setting | {"outcome": "OOM" if "out of memory" in done.stderr.lower() else error[:200]}


def child(setting: dict[str, Any], device: str, cap_gb: float) -> None:
    """Measure one setting and print its figures as the last line (the first process does)."""
    if device == "cuda":
        import torch

        if cap_gb:
            total = torch.cuda.get_device_properties(0).total_memory
            torch.cuda.set_per_process_memory_fraction(min(1.0, cap_gb * GIB / total))
    with tempfile.TemporaryDirectory(prefix="grpo-probe-") as folder:
        figures = measure(setting, device, folder)
    if os.environ.get("RANK", "0") == "0":
        print(json.dumps(figures))


def shown(row: dict[str, Any]) -> str:
    """Return the measured peaks of a row in words, each with the prediction's error."""
    found = {name: row[f"allocated_{name}"] for name in PHASES if row.get(f"allocated_{name}")}
    errors = {name: 100 * (row[f"predicted_{name}"] / size - 1) for name, size in found.items()}
    return ", ".join(
        f"{name} {size / GIB:.3f} GiB ({errors[name]:+.1f} %)" for name, size in found.items()
    )


def main() -> int:
    """Probe every setting that has no row yet; print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument(
        "--cap_gb", type=float, default=0.0, help="let the GPU offer only this much (0: all of it)"
    )
    parser.add_argument("--out", help="the CSV (default: data/reference_runs/memory_<device>.csv)")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(json.loads(args.child), args.device, args.cap_gb)
        return 0
    file = Path(
        args.out or project_root() / "data" / "reference_runs" / f"memory_{args.device}.csv"
    )
    rows = pd.read_csv(file).to_dict("records") if file.is_file() else []
    done = {tuple(row[name] for name in COLUMNS[:-1]) for row in rows}
    for values in CPU if args.device == "cpu" else CUDA:
        setting = dict(zip(COLUMNS, values, strict=True))
        if (
            values[:-1] in done
        ):  # all but quant, which a CSV gives back as nan; it differs in no two rows
            continue
        row = probe(setting, args.device, args.cap_gb)
        row |= {f"predicted_{name}": size for name, size in predicted(setting, args.device).items()}
        rows.append(row)
        write_atomically(file, lambda out: pd.DataFrame(rows).to_csv(out, index=False))
        print(
            row["model"],
            *values[1:],
            row["outcome"],
            f"{row.get('seconds')} s",
            shown(row),
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
