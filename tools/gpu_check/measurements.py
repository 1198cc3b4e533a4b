"""What the parts of the check measure, each in a process of its own.

In: a setting, and a :class:`~tools.gpu_check.results.Report`. Out: figures, put there as soon as
they are known. Models have random weights of a real shape (:mod:`tools.benchmarks.random_model`),
so nothing is downloaded; seconds and bytes do not depend on the values of weights. Completions have
their full length, so seconds are those of a run whose answers are as long as allowed.
"""

from __future__ import annotations

import platform
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from grpo_helpers.files import project_root, read_yaml
from grpo_helpers.memory import predict
from grpo_helpers.settings import TrainSettings
from tools.benchmarks import memory_probe
from tools.benchmarks.memory_meters import meter_of
from tools.benchmarks.memory_probe import PHASES, Measured, Setting
from tools.benchmarks.memory_trace import shape
from tools.gpu_check.results import Figure, Report

CURVE = "embedded_log.jsonl"
RUNS = "runs"
WARM_UP_TOKENS = 2


# -- the machine ------------------------------------------------------------------------------


def look_at_machine(report: Report) -> None:
    """Report the card and all versions, and compile what training will need.

    Raises:
        InputError: There is no GPU that can be used, or nothing can be compiled for it.
    """
    from grpo_helpers.devices import check_device, this_machine
    from grpo_helpers.models import local_device
    from grpo_helpers.preflight import check_kernels
    from grpo_helpers.run_folder import gpu_driver

    machine = this_machine()
    facts = {
        "card": machine.name or "none",
        "driver": gpu_driver() or "none",
        "cuda": machine.cuda_build or "none",
        "capability": ".".join(map(str, machine.capability)),
    }
    report.put(facts=facts | _versions())

    check_device(machine, embedded_settings(report))
    if machine.has_gpu:
        report.put([_memory_of_card()])

    check_kernels(local_device(), quantised=True)


def _memory_of_card() -> Figure:
    import torch

    return Figure("memory", torch.cuda.get_device_properties(0).total_memory, "bytes")


def _versions() -> dict[str, str]:
    """Return the version of each package, with the one that the course was tested with."""
    from grpo_helpers.run_folder import PACKAGES

    tested = _tested_versions()
    versions = {"python": platform.python_version()}

    for package in (*PACKAGES, "bitsandbytes"):
        try:
            found = version(package)
        except PackageNotFoundError:
            found = "missing"
        expected = tested.get(package, found)
        versions[package] = found if found == expected else f"{found} (tested: {expected})"
    return versions


def _tested_versions() -> dict[str, str]:
    """Return the versions of ``constraints.txt``, by package."""
    versions = {}
    for line in (project_root() / "constraints.txt").read_text(encoding="utf-8").splitlines():
        package, is_pin, pinned = line.partition("==")
        if is_pin and not package.startswith("#"):
            versions[package] = pinned
    return versions


# -- the embedded model -----------------------------------------------------------------------


def embedded_settings(report: Report) -> TrainSettings:
    """Return the settings of the default run; on a CPU those of the smallest run."""
    parameters: dict[str, Any] = {"device": "cuda"}
    if report.device == "cpu":
        parameters = read_yaml(project_root() / "params" / "smoke" / "04_train.yaml")

    parameters |= {
        "run_name": "embedded",
        "output_dir": str(report.folder.resolve() / RUNS),
        "resume": "auto",
    }
    return TrainSettings.from_namespace(parameters)


def train_embedded(report: Report) -> None:
    """Run the course's own training, which needs no download, and report how it went.

    The run goes on where an earlier attempt was cut off.
    """
    from grpo_helpers.run_folder import RunFolder
    from grpo_helpers.training import train

    settings = embedded_settings(report)
    train(settings)

    run = RunFolder(settings.run_dir)
    shutil.copyfile(run.log.path, report.folder / CURVE)
    report.put([*_figures_of_log(run.log.step_rows()), *_figures_of_answers(settings)])


def _figures_of_log(rows: Sequence[dict[str, Any]]) -> list[Figure]:
    """Return seconds and rewards of a run, from the rows of its steps."""
    from grpo_helpers.health import EXACT_MATCH

    first, last = rows[0], rows[-1]
    later = rows[1:] or rows
    step_seconds = sum(row["step_time"] for row in later) / len(later)

    return [
        Figure("steps", len(rows)),
        Figure("seconds", last["seconds"], "s"),
        Figure("seconds_per_step", round(step_seconds, 3), "s"),
        Figure("reward_first_step", first["reward"]),
        Figure("reward_last_step", last["reward"]),
        Figure("exact_match_first_step", first[EXACT_MATCH]),
        Figure("exact_match_last_step", last[EXACT_MATCH]),
    ]


def _figures_of_answers(settings: TrainSettings) -> list[Figure]:
    """Return the share of exact matches on dev, by checkpoint."""
    from grpo_helpers.scoring import checkpoint_means, evaluate_json
    from grpo_helpers.splits import DEV

    scores = evaluate_json(DEV.answer_folder(settings.run_dir), settings.eval_data_path)
    figures = []
    for checkpoint, means in checkpoint_means(scores).items():
        figures.append(Figure(f"dev_exact_match_{checkpoint}", round(means["em"], 4)))
    return figures


# -- steps of a shape -------------------------------------------------------------------------


def train_shape(setting: Setting, report: Report) -> None:
    """Train a few steps of a setting, and report seconds and memory after each of them."""

    def put(measured: Measured) -> None:
        report.put(figures_of(measured, setting, report.device))

    with tempfile.TemporaryDirectory(prefix="grpo-check-") as folder, noted_end_of_memory(report):
        memory_probe.measure(setting, report.device, folder, after_step=put)


@contextmanager
def noted_end_of_memory(report: Report) -> Iterator[None]:
    """Report where the memory ended, if it does; the error is passed on."""
    from grpo_helpers.device_memory import is_out_of_memory, place_of

    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            report.put(facts={"memory_ended": place_of(error).when})
        raise


def figures_of(measured: Measured, setting: Setting, device: str) -> list[Figure]:
    """Return what was measured, under the names of the table of memory, beside the predictions.

    Args:
        measured: What was measured so far; what is not there yet is left out.
        setting: What is trained.
        device: ``cpu`` or ``cuda``.
    """
    predicted = memory_probe.predicted(setting, device)
    figures = []

    for name, value in measured.figures.items():
        kind, _, phase = name.partition("_")
        is_bytes = kind in ("allocated", "reserved") and phase in PHASES
        if value is None:
            continue
        if is_bytes:
            figures.append(Figure(name, value, "bytes", predicted[phase]))
        else:
            figures.append(Figure(name, value, "s"))
    return figures


# -- answering --------------------------------------------------------------------------------


@dataclass
class Passes:
    """The forward passes that write a token each, while answers are generated.

    Attributes:
        rows: How many questions were answered at once, in each pass.
    """

    rows: list[int] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        """Tokens written, those after the end of an answer included."""
        return sum(self.rows)


def answer_in_place(setting: Setting, batches: Sequence[int], report: Report) -> None:
    """Answer questions with a model in training, as at a save, in batches of several sizes.

    Args:
        setting: The model in training, and the lengths of questions and answers.
        batches: How many questions are answered at once, one size after the other.
        report: Takes the figures of each size.
    """
    import torch

    from grpo_helpers.inference import generate_answers
    from grpo_helpers.library_fixes import quiet_libraries

    quiet_libraries()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory(prefix="grpo-check-") as folder, noted_end_of_memory(report):
        trainer: Any = memory_probe.trainer_of(setting, report.device, folder)
        _take_empty_step(trainer)

        tokenizer = trainer.processing_class
        warm_up = memory_probe.prompts_of(setting, tokenizer, count=2)
        generate_answers(trainer.model, tokenizer, warm_up, max_new_tokens=WARM_UP_TOKENS)
        for batch in batches:
            report.put(_figures_of_batch(trainer, setting, batch, report.device))


def _take_empty_step(trainer: Any) -> None:
    """Let the optimizer make its states, which are in memory whenever a save answers."""
    import torch

    optimizer = trainer.create_optimizer()
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()


def _figures_of_batch(trainer: Any, setting: Setting, batch: int, device: str) -> list[Figure]:
    """Answer one batch; return its speed and memory."""
    from grpo_helpers.inference import generate_answers

    model, tokenizer = trainer.model, trainer.processing_class
    prompts = memory_probe.prompts_of(setting, tokenizer, batch)
    meter = meter_of(device)
    meter.start(model)

    with counted_passes(model) as passes, meter.phase("answer"):
        started = time.perf_counter()
        generate_answers(
            model,
            tokenizer,
            prompts,
            batch_size=batch,
            max_new_tokens=setting.completion_tokens,
        )
        seconds = time.perf_counter() - started
    meter.stop()

    figures = [
        Figure(f"smallest_batch_of_{batch}", min(passes.rows)),  # it is halved where memory ends
        Figure(f"tokens_of_{batch}", passes.tokens),
        Figure(f"seconds_of_{batch}", round(seconds, 3), "s"),
        Figure(f"tokens_per_second_of_{batch}", round(passes.tokens / seconds, 2), "tokens/s"),
    ]
    predicted = predicted_answering(setting, batch, device)
    for kind, peaks in (("allocated", meter.allocated), ("reserved", meter.reserved)):
        if "answer" in peaks:
            figures.append(Figure(f"{kind}_of_{batch}", peaks["answer"], "bytes", predicted))
    return figures


@contextmanager
def counted_passes(model: Any) -> Iterator[Passes]:
    """Count the forward passes of a model, inside an adapter or not, that write one token a row."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    passes = Passes()

    def count(_: Any, inputs: Any) -> None:
        rows, tokens = inputs[0].shape
        if tokens == 1:
            passes.rows.append(rows)

    # Every pass goes through the table of embeddings; PEFT goes around the hooks of the model.
    hook = base.get_input_embeddings().register_forward_pre_hook(count)
    try:
        yield passes
    finally:
        hook.remove()


def predicted_answering(setting: Setting, batch: int, device: str) -> int:
    """Return the predicted bytes of answering."""
    budget = replace(memory_probe.budget_of(setting, device), inference_rows=batch)
    return predict(shape(setting.model, memory_probe.SMALL), budget).phases["inference"]
