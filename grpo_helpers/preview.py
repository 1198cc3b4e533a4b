"""What a run will do, said before it starts: on which device, with which prompts and memory.

In: a run's settings and its prompts. Out: a :class:`Preview`, which notebook 04 and
``python -m grpo_helpers.training`` print alike. Nothing in it is assumed: prompts are rendered and
their tokens counted, the model's shape is read from its configuration, and the memory is predicted
(:mod:`grpo_helpers.memory`) for these lengths. Hours are not: how long the completions will be,
nobody knows yet, and the log says after each step how many minutes are left
(:mod:`grpo_helpers.hours` predicts them for lengths that are assumed). In the article, a run starts
without a word on any of this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from grpo_helpers.architecture import architecture_of
from grpo_helpers.devices import Machine, this_machine
from grpo_helpers.files import InputError
from grpo_helpers.memory import GIB, OVERHEAD, budget_of_params, predict, verdict
from grpo_helpers.model_checks import model_config
from grpo_helpers.models import load_tokenizer
from grpo_helpers.prompts import Message, PromptSizes, prompt_sizes, prompt_texts
from grpo_helpers.questions import Item
from grpo_helpers.settings import TrainSettings

SHOWN = 350  # characters of a long prompt that are shown at its beginning, and at its end
PERCENT = 100


@dataclass(frozen=True)
class PeakMemory:
    """The peak memory of a run, predicted and not measured.

    Attributes:
        bytes: The peak of tensors, on each device.
        phase: Where it occurs: ``decode``, ``backward`` and so on.
    """

    bytes: int
    phase: str


@dataclass(frozen=True)
class Preview:
    """What a run will do.

    Attributes:
        machine: Where it computes.
        precision: How numbers are kept: ``float32``, ``weights in 4bit, the rest in bfloat16``.
        processes: How many processes train together, each on a device of its own.
        completions: How many completions they train on together, in one optimizer step.
        sizes: The lengths of all train and dev prompts.
        prompt: The first train prompt, as the model reads it.
        gloss: Its question in English; empty if the data have none.
        memory: The predicted peak, or in one line why it cannot be predicted.
    """

    machine: Machine
    precision: str
    processes: int
    completions: int
    sizes: PromptSizes
    prompt: str
    gloss: str
    memory: PeakMemory | str

    def text(self) -> str:
        """Return all of it in a few lines."""
        lines = [self._device_line(), self._sizes_line(), self._memory_line()]
        lines += ["first prompt, as the model reads it:", shortened(self.prompt)]
        if self.gloss:
            lines.append(f"(its question in English: {self.gloss})")
        return "\n".join(lines)

    def _device_line(self) -> str:
        line = f"device: {self.machine.device}, {self.precision}"
        if self.processes > 1:
            line += f"; {self.processes} processes, one device each: "
            line += f"{self.completions} completions a step"
        return line

    def _sizes_line(self) -> str:
        sizes = self.sizes
        share = PERCENT * sizes.template_share
        return (
            f"prompts: {sizes.count}, {sizes.mean:.0f} tokens on average, {sizes.longest} at most; "
            f"{share:.0f} % of the tokens are the chat template's own text"
        )

    def _memory_line(self) -> str:
        if isinstance(self.memory, str):
            return f"memory: not predicted ({self.memory})"

        peak = self.memory.bytes
        line = f"memory: {peak / GIB:.2f} GiB at the peak ({self.memory.phase}), predicted"
        if not self.machine.has_gpu:
            return f"{line}, besides Python and PyTorch themselves"

        least, most = ((peak + extra) / GIB for extra in OVERHEAD)
        outcome = verdict(peak, self.machine.gib)
        return (
            f"{line}; with overhead {least:.1f} to {most:.1f} GiB "
            f"of the card's {self.machine.gib:.1f}: {outcome}"
        )


def preview_run(
    settings: TrainSettings, items: Sequence[Item], prompts: Sequence[list[Message]]
) -> Preview:
    """Return what a run will do; no weights are read.

    Args:
        settings: The run's parameters.
        items: All items of the run, those of train first, as
            :func:`grpo_helpers.training.prepare` returns them.
        prompts: The prompt of each.

    Raises:
        InputError: The model's configuration or its tokenizer cannot be read.
    """
    tokenizer = load_tokenizer(settings.model_name, settings.chat_template_path)
    kwargs = settings.chat_template_kwargs
    sizes = prompt_sizes(prompts, tokenizer, kwargs)
    (first,) = prompt_texts(prompts[:1], tokenizer, kwargs)

    machine = this_machine()
    return Preview(
        machine=machine,
        precision=_precision(settings),
        processes=settings.batch_plan.D,
        completions=settings.batch_plan.completions_per_step,
        sizes=sizes,
        prompt=first,
        gloss=str(items[0].extra.get("gloss", "")),
        memory=_peak_memory(settings, sizes.longest, machine.has_gpu),
    )


def shortened(text: str) -> str:
    """Return a text with its middle left out if it is long.

    >>> shortened("short")
    'short'
    """
    left_out = len(text) - 2 * SHOWN
    if left_out <= 0:
        return text

    return f"{text[:SHOWN]}\n[... {left_out} characters left out ...]\n{text[-SHOWN:]}"


# -- the precision ---------------------------------------------------------------------------------


def _precision(settings: TrainSettings) -> str:
    """Return how numbers are kept, in words."""
    if settings.use_quant:
        return f"weights in {settings.quant_type}, the rest in {settings.dtype}"
    return settings.dtype


# -- the memory ------------------------------------------------------------------------------------


def _peak_memory(settings: TrainSettings, longest: int, on_gpu: bool) -> PeakMemory | str:
    """Return the predicted peak for the longest prompt, or why there is no prediction."""
    config = model_config(settings.model_name).get_text_config().to_dict()
    budget = budget_of_params(settings.as_dict(), longest)
    if not on_gpu:
        budget = replace(budget, lm_head="fused_cpu")

    try:
        prediction = predict(architecture_of(settings.model_name, config), budget)
    except InputError as error:
        return str(error)
    return PeakMemory(prediction.peak, prediction.binds)
