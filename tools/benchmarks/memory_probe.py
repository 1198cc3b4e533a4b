"""Measure the memory of a real TRL step: ``python -m tools.benchmarks.memory_probe --device cpu``.

In: settings (:data:`CPU`, or :data:`CUDA` with ``--device cuda``). Out: one row per setting in
``data/reference_runs/memory_<device>.csv``: measured and predicted peaks of every phase of the
first optimizer step, and the seconds of the steps after it, whole and by phase. Rows are written as
they come, and a setting that has a row is not run again. Running out of memory is a row too.
``tools.gpu_check`` measures the same settings, and more, under time limits.

One process per setting (two where D is 2) builds a Llama of the shape with random weights (nothing
is downloaded) and trains it with the real ``GRPOTrainer`` and LoRA; completions are forced to their
full length. On a CPU each process has one thread. The CUDA half has not run on a GPU yet.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from grpo_helpers.architecture import ATTENTION, Architecture
from grpo_helpers.command_line import run_command
from grpo_helpers.device_memory import CUBLAS_IS_FULL
from grpo_helpers.files import project_root, write_atomically
from grpo_helpers.library_fixes import use_one_gpu
from grpo_helpers.memory import GIB, Budget, predict
from tools.benchmarks.memory_meters import Meter, cap_memory, meter_of
from tools.benchmarks.memory_trace import shape
from tools.benchmarks.random_model import random_model
from tools.benchmarks.step_profile import Stopwatch

if TYPE_CHECKING:
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

PHASES = ("generate", "forward", "backward", "optimizer")
REST = "rest"  # of a step: rewards, data, the norm of the gradients
TIMED = 2  # optimizer steps after the first
FIT = "FIT"
OOM = "OOM"

# Small shapes for the CPU: the vocabulary is small, because on a CPU TRL's head keeps float32
# copies of its tiles.
SMALL = {
    "cpu-narrow": Architecture(
        name="cpu-narrow",
        num_hidden_layers=4,
        hidden_size=256,
        intermediate_size=1024,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        vocab_size=1207,
        tie_word_embeddings=True,
    ),
    "cpu-wide": Architecture(
        name="cpu-wide",
        num_hidden_layers=2,
        hidden_size=512,
        intermediate_size=1536,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=64,
        vocab_size=1207,
        tie_word_embeddings=True,
    ),
    "cpu-deep": Architecture(
        name="cpu-deep",
        num_hidden_layers=8,
        hidden_size=256,
        intermediate_size=768,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=64,
        vocab_size=1207,
        tie_word_embeddings=True,
    ),
    # For rehearsals: as with a large model, most of its tokens are none of the tokenizer's.
    "cpu-tiny": Architecture(
        name="cpu-tiny",
        num_hidden_layers=2,
        hidden_size=128,
        intermediate_size=256,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        vocab_size=4096,
        tie_word_embeddings=True,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A model and how it is trained.

    Attributes:
        model: The name of its shape.
        B: Completions of a micro-batch (``per_device_train_batch_size``).
        S: Micro-batches sampled in a round (``steps_per_generation``).
        A: Micro-batches of an optimizer step (``gradient_accumulation_steps``).
        G: Completions of a prompt (``num_generations``).
        D: Processes.
        prompt_tokens: Tokens of each prompt.
        completion_tokens: Tokens of each completion.
        lora_rank: The rank of the adapter.
        gradient_checkpointing: Whether activations are recomputed in the backward pass.
        quant: ``4bit``, or None.
        shared: Whether the completions of a prompt share one reading of it (``shared_prefix``).
        dtype: Of what is not quantised; in every row of the tables it is bfloat16.
    """

    model: str
    B: int
    S: int
    A: int
    G: int
    D: int = 1
    prompt_tokens: int
    completion_tokens: int
    lora_rank: int
    gradient_checkpointing: bool = True
    quant: str | None = None
    shared: bool = False
    dtype: str = "bfloat16"

    @property
    def key(self) -> tuple[Any, ...]:
        """What distinguishes a row: all but quant, which a CSV gives back as NaN."""
        return key_of(asdict(self))


COLUMNS = tuple(field.name for field in fields(Setting) if field.name != "dtype")


def key_of(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what distinguishes a row of the table from the others."""
    return tuple(row[name] for name in COLUMNS if name != "quant")


NARROW = Setting(
    model="cpu-narrow", B=4, S=1, A=1, G=4, prompt_tokens=192, completion_tokens=32, lora_rank=16
)
WIDE = replace(NARROW, model="cpu-wide")
DEEP = replace(NARROW, model="cpu-deep")
CPU = (
    NARROW,
    replace(NARROW, S=2, A=2),
    replace(NARROW, gradient_checkpointing=False),
    WIDE,
    replace(WIDE, prompt_tokens=384, gradient_checkpointing=False),
    DEEP,
    replace(DEEP, B=8, gradient_checkpointing=False),
    # How the cost grows: each knob doubled, and doubled again, from the first row (S: from a row
    # with A = 8).
    *(replace(NARROW, B=B) for B in (8, 16, 32)),
    *(replace(NARROW, S=S, A=8) for S in (1, 2, 4, 8)),
    *(replace(NARROW, prompt_tokens=tokens) for tokens in (384, 768)),
    *(replace(NARROW, completion_tokens=tokens) for tokens in (64, 128)),
    replace(NARROW, D=2),
    # Shared prompts.
    replace(NARROW, B=8, G=8, gradient_checkpointing=False, shared=True),
    replace(WIDE, B=8, prompt_tokens=384, gradient_checkpointing=False, shared=True),
    replace(DEEP, B=4, S=2, A=2, gradient_checkpointing=False, shared=True),
)

MIDM = Setting(
    model="Midm-2.0-Base-Instruct",
    B=2,
    S=4,
    A=8,  # two rounds a step: the second finds gradients in memory, and more would only take longer
    G=8,
    prompt_tokens=1024,
    completion_tokens=512,
    lora_rank=64,
    quant="4bit",
)
QWEN = replace(MIDM, model="Qwen3-4B", A=4)
SMALL_QWEN = replace(
    QWEN,
    model="Qwen3-0.6B",
    B=8,
    prompt_tokens=512,
    completion_tokens=256,
    lora_rank=16,
    quant=None,
)
CUDA = (
    *(replace(MIDM, B=B) for B in (2, 4, 8)),
    replace(MIDM, B=8, S=2),
    *(replace(MIDM, B=B, S=8, A=16) for B in (1, 2)),
    *(replace(MIDM, prompt_tokens=tokens) for tokens in (512, 2048)),
    replace(MIDM, completion_tokens=256),
    replace(MIDM, lora_rank=16),
    replace(QWEN, B=4),
    replace(QWEN, prompt_tokens=512, completion_tokens=256, gradient_checkpointing=False),
    SMALL_QWEN,
    replace(SMALL_QWEN, S=2, gradient_checkpointing=False),
)
SETTINGS = {"cpu": CPU, "cuda": CUDA}


# -- one setting, in a process of its own -----------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """What was measured so far.

    Attributes:
        meter: The peaks of the first optimizer step.
        steps: Seconds of each optimizer step, by phase. The first one takes longer: it loads and
            compiles, and on a CPU every allocation is recorded.
    """

    meter: Meter
    steps: list[dict[str, float]]

    @property
    def figures(self) -> dict[str, float | None]:
        """What a row of the table has.

        Seconds are means of the steps after the first, None if there was none: ``seconds`` of a
        whole step and ``seconds_<phase>``. Peaks are bytes: ``allocated_<phase>`` and
        ``reserved_<phase>``.
        """
        timed = self.steps[1:]
        figures: dict[str, float | None] = {"seconds": None}
        if timed:
            figures["seconds"] = _mean([sum(step.values()) for step in timed])
            for phase in (*PHASES, REST):
                figures[f"seconds_{phase}"] = _mean([step.get(phase, 0.0) for step in timed])
        if self.steps:
            figures["seconds_first_step"] = round(sum(self.steps[0].values()), 3)

        for phase in PHASES:
            figures[f"allocated_{phase}"] = self.meter.allocated.get(phase)
        for phase in PHASES:
            figures[f"reserved_{phase}"] = self.meter.reserved.get(phase)
        return figures


def _mean(seconds: Sequence[float]) -> float:
    return round(sum(seconds) / len(seconds), 3)


def measure(
    setting: Setting,
    device: str,
    folder: str,
    after_step: Callable[[Measured], None] = lambda _: None,
) -> Measured:
    """Train a few steps and measure them.

    Args:
        setting: What is trained.
        device: ``cpu`` or ``cuda``.
        folder: A folder for the trainer.
        after_step: Called after each step, whole or not, with what was measured so far.
    """
    import torch

    from grpo_helpers.library_fixes import quiet_libraries

    quiet_libraries()
    torch.manual_seed(0)
    measured = Measured(meter_of(device), steps=[])
    stopwatch = Stopwatch()
    if device == "cuda":
        stopwatch.wait = torch.cuda.synchronize

    trainer = trainer_of(setting, device, folder)
    _mark_phases(trainer, measured.meter, stopwatch)
    trainer.add_callback(_watch(trainer, measured, stopwatch, after_step))
    try:
        with stopwatch.part(REST):
            trainer.train()
    finally:
        after_step(measured)  # if the memory ends inside a step: the phases before that
    return measured


def trainer_of(setting: Setting, device: str, folder: str) -> GRPOTrainer:
    """Return the trainer of a setting, with a random model and prompts of the full length."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl import GRPOTrainer

    from grpo_helpers.models import load_tokenizer
    from grpo_helpers.shared_prefix import SharedPrefixTrainer

    trainer_class = SharedPrefixTrainer if setting.shared else GRPOTrainer

    model = random_model(shape(setting.model, SMALL), setting.quant, device, setting.dtype)
    tokenizer = load_tokenizer("data/tiny_model")
    prompts = prompts_of(setting, tokenizer, setting.B * setting.S * setting.A * setting.D)

    def distinct_letters(completions: list[str], **_: Any) -> list[float | None]:
        return [len(set(completion)) for completion in completions]

    return trainer_class(
        model=model,
        args=_config(setting, device, folder),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=setting.lora_rank,
            lora_alpha=16,
            target_modules=list(ATTENTION),
            task_type="CAUSAL_LM",
        ),
        train_dataset=Dataset.from_dict({"prompt": prompts}),
        reward_funcs=distinct_letters,
    )


def prompts_of(setting: Setting, tokenizer: Any, count: int) -> list[str]:
    """Return different prompts of the setting's length: every syllable is a token."""
    syllables = sorted(token for token in tokenizer.get_vocab() if "가" <= token <= "힣")
    return [syllable * setting.prompt_tokens for syllable in syllables[:count]]


def _config(setting: Setting, device: str, folder: str) -> GRPOConfig:
    """Return TRL's configuration of a setting."""
    from trl import GRPOConfig

    backend = None
    if device == "cpu" and setting.D > 1:
        backend = "gloo"

    config = GRPOConfig(
        output_dir=folder,
        use_cpu=device == "cpu",
        bf16=setting.dtype == "bfloat16",
        fp16=setting.dtype == "float16",
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        max_steps=1 + TIMED,
        disable_tqdm=True,
        dataloader_pin_memory=False,
        per_device_train_batch_size=setting.B,
        num_generations=setting.G,
        gradient_accumulation_steps=setting.A,
        steps_per_generation=setting.S,
        max_completion_length=setting.completion_tokens,
        generation_kwargs={"min_new_tokens": setting.completion_tokens},
        gradient_checkpointing=setting.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        ddp_backend=backend,
    )
    use_one_gpu(config)
    return config


def _watch(
    trainer: Any, measured: Measured, stopwatch: Stopwatch, after_step: Callable[[Measured], None]
) -> TrainerCallback:
    """Return a callback that starts the meter, stops it after the first step, and times steps."""
    from transformers import TrainerCallback

    meter = measured.meter

    class Watch(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            # By now the processes have found each other.
            meter.start(trainer.model)

        def on_step_end(self, *_: Any, **__: Any) -> None:
            measured.steps.append(stopwatch.lap())
            if len(measured.steps) == 1:
                meter.stop()
            after_step(measured)
            stopwatch.lap()

    return Watch()


def _mark_phases(trainer: Any, meter: Meter, stopwatch: Stopwatch) -> None:
    """Let the meter and the stopwatch see each phase of the trainer."""

    def marked(function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def inside(*args: Any, **kwargs: Any) -> Any:
            with stopwatch.part(name), meter.phase(name):
                return function(*args, **kwargs)

        return inside

    accelerator = trainer.accelerator
    optimizer = trainer.create_optimizer()
    trainer._generate_single_turn = marked(trainer._generate_single_turn, "generate")
    trainer.compute_loss = marked(trainer.compute_loss, "forward")
    accelerator.backward = marked(accelerator.backward, "backward")
    optimizer.step = marked(optimizer.step, "optimizer")


def child(setting: Setting, device: str, cap_gb: float) -> None:
    """Measure one setting; the first process prints its figures as the last line."""
    if device == "cuda" and cap_gb:
        cap_memory(cap_gb)

    with tempfile.TemporaryDirectory(prefix="grpo-probe-") as folder:
        measured = measure(setting, device, folder)
    if os.environ.get("RANK", "0") == "0":
        print(json.dumps(measured.figures))


# -- all settings -----------------------------------------------------------------------------


def budget_of(setting: Setting, device: str) -> Budget:
    """Return what the memory of a setting depends on, besides its shape."""
    return Budget(
        B=setting.B,
        S=setting.S,
        A=setting.A,
        prompt_tokens=setting.prompt_tokens,
        completion_tokens=setting.completion_tokens,
        quant=setting.quant,
        dtype=setting.dtype,
        lora_rank=setting.lora_rank,
        gradient_checkpointing=setting.gradient_checkpointing,
        rows_per_prompt=setting.G if setting.shared else 1,
        lm_head="fused" if device == "cuda" else "fused_cpu",
    )


def predicted(setting: Setting, device: str) -> dict[str, int]:
    """Return the predicted bytes of the phases that are measured."""
    phases = predict(shape(setting.model, SMALL), budget_of(setting, device)).phases
    return {
        "generate": max(phases["prefill"], phases["decode"]),
        "forward": phases["forward"],
        "backward": phases["backward"],
        "optimizer": phases["optimizer"],
    }


def probe(setting: Setting, device: str, cap_gb: float = 0.0) -> dict[str, Any]:
    """Run one setting in a process of its own.

    Args:
        setting: What is trained.
        device: ``cpu`` or ``cuda``.
        cap_gb: How much memory a GPU offers, in GiB; 0 for all of it.

    Returns:
        The setting's row: its outcome is ``FIT`` with figures, ``OOM``, or the error's last line.
    """
    env = dict(os.environ)
    if device == "cpu":
        env["OMP_NUM_THREADS"] = "1"
    done = subprocess.run(
        _child_command(setting, device, cap_gb),
        capture_output=True,
        text=True,
        cwd=project_root(),
        env=env,
    )

    lines = done.stdout.strip().splitlines()
    if done.returncode == 0 and lines and lines[-1].startswith("{"):
        return row_of(setting, FIT, json.loads(lines[-1]))
    return row_of(setting, failure(done.stderr), {})


def row_of(setting: Setting, outcome: str, figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of the table, without its predictions.

    Args:
        setting: What was trained.
        outcome: :data:`FIT`, :data:`OOM`, or why there are no figures.
        figures: Those of :attr:`Measured.figures`, as far as there are any.
    """
    row = {name: getattr(setting, name) for name in COLUMNS}
    return row | {"outcome": outcome} | dict(figures)


def _child_command(setting: Setting, device: str, cap_gb: float) -> list[str]:
    """Return the command that measures a setting, in as many processes as it has devices."""
    command = [sys.executable, "-W", "ignore"]
    if setting.D > 1:
        command += ["-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", str(setting.D)]

    command += ["-m", "tools.benchmarks.memory_probe", "--device", device]
    return [*command, "--cap_gb", str(cap_gb), "--child", json.dumps(asdict(setting))]


def failure(printed: str) -> str:
    r"""Return why a process failed: :data:`OOM`, or the last line that names an error.

    >>> failure("Traceback ...\nValueError: no\nwarning")
    'ValueError: no'
    """
    if "out of memory" in printed.lower() or CUBLAS_IS_FULL in printed:
        return OOM

    lines = printed.strip().splitlines()
    errors = [line for line in lines if "Error" in line] or lines
    if not errors:
        return "no output"
    return errors[-1][:200]


def describe(row: Mapping[str, Any]) -> str:
    """Return a row in words: the setting, its outcome, the peaks and the prediction's errors."""
    peaks = []
    for phase in PHASES:
        size = row.get(f"allocated_{phase}")
        if size:
            error = 100 * (row[f"predicted_{phase}"] / size - 1)
            peaks.append(f"{phase} {size / GIB:.3f} GiB ({error:+.1f} %)")

    setting = " ".join(str(row[name]) for name in COLUMNS)
    return f"{setting} {row['outcome']} {row.get('seconds')} s {', '.join(peaks)}"


def probe_all(device: str, cap_gb: float, file: Path) -> None:
    """Probe every setting that has no row in ``file`` yet; print and write the table."""
    rows: list[dict[Any, Any]] = []
    if file.is_file():
        rows = pd.read_csv(file).to_dict("records")
    done = set(map(key_of, rows))

    for setting in SETTINGS[device]:
        if setting.key in done:
            continue

        row = with_predictions(probe(setting, device, cap_gb), setting, device)
        rows.append(row)

        write_atomically(file, partial(pd.DataFrame(rows).to_csv, index=False))
        print(describe(row), flush=True)


def with_predictions(row: Mapping[str, Any], setting: Setting, device: str) -> dict[str, Any]:
    """Return a row with the predicted bytes of every phase, ``predicted_<phase>``."""
    whole = dict(row)
    for phase, size in predicted(setting, device).items():
        whole[f"predicted_{phase}"] = size
    return whole


def main(argv: Sequence[str] | None = None) -> int:
    """Probe every setting that has no row yet; return 0."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmarks.memory_probe", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument(
        "--cap_gb", type=float, default=0.0, help="let the GPU offer only this much (0: all of it)"
    )
    parser.add_argument("--out", help="the CSV (default: data/reference_runs/memory_<device>.csv)")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)

    def body() -> int:
        if args.child:
            child(Setting(**json.loads(args.child)), args.device, args.cap_gb)
            return 0
        recorded = project_root() / "data" / "reference_runs" / f"memory_{args.device}.csv"
        probe_all(args.device, args.cap_gb, Path(args.out or recorded))
        return 0

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
