"""The memory of the device: what frees it, how much was used, and what to do where it ends.

In: nothing, or an error of torch's. Out: GiB, or one line that names the parameters to change. The
device is the GPU, or the main memory of a machine without one. The article has nothing of this.
What differs from the libraries: torch's own line of an error says how much was missing, not which
parameter asked for it, and its traceback keeps the tensors of the failed step alive, so that a
notebook's kernel stays full.
"""

from __future__ import annotations

import gc
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from grpo_helpers.files import InputError, first_line

GIB = 2**30
MISSING = re.compile(r"Tried to allocate [0-9.]+ \w+")

# cuBLAS reports a full card in words of its own.
CUBLAS_IS_FULL = "CUBLAS_STATUS_ALLOC_FAILED"


# -- how much --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PeakMemory:
    """The most memory that this process has used so far, in GiB.

    Attributes:
        allocated: What tensors took.
        reserved: What torch had taken from the card for them, gaps included; this is what runs out.
            Without a GPU both are the most main memory that the process has held.
    """

    allocated: float
    reserved: float


def peak_memory() -> PeakMemory:
    """Return the most memory that this process has used, on its GPU or, without one, at all."""
    import torch

    if torch.cuda.is_available():
        allocated = torch.cuda.max_memory_allocated()
        reserved = torch.cuda.max_memory_reserved()
        return PeakMemory(allocated / GIB, reserved / GIB)

    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # a Mac counts bytes, Linux kibibytes
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIB
    return PeakMemory(held, held)


def free_memory() -> None:
    """Give back what nothing needs any more: objects that refer to each other, and torch's cache.

    Models with 4-bit layers and trainers refer to themselves; they go only when Python collects
    such circles. Torch keeps the memory of freed tensors for later ones of the same size.
    """
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


# -- where it ends ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """A place where the memory can end.

    Attributes:
        when: What the message and the table of ``docs/troubleshooting.md`` call it.
        function: A function that is running there; empty for a place that is none of the others.
        action: What to do about it.
    """

    when: str
    function: str
    action: str


# The first whose function is running. An epoch's answers and the rollouts both end in generate().
PLACES = (
    Place(
        when="while answering questions",
        function="generate_answers",
        action="one question at a time is too much already: look with nvidia-smi what else is on "
        "the card, lower max_completion_length or num_few_shot, or take a smaller model",
    ),
    Place(
        when="while sampling completions",
        function="generate",
        action="lower steps_per_generation first, then per_device_train_batch_size",
    ),
    Place(
        when="in the loss or the backward pass",
        function="training_step",
        action="set gradient_checkpointing=true, or lower per_device_train_batch_size and raise "
        "gradient_accumulation_steps",
    ),
    Place(
        when="in the optimizer's step",
        function="_inner_training_loop",
        action="lower lora_r or per_device_train_batch_size",
    ),
    Place(
        when="while the model is loaded",
        function="",
        action="set use_quant=true or take a smaller model; python -m grpo_helpers.memory predicts "
        "what fits",
    ),
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that the device has no memory left."""
    import torch
    from accelerate.utils.memory import should_reduce_batch_size

    if isinstance(error, torch.OutOfMemoryError):
        return True
    if not isinstance(error, RuntimeError):
        return False

    return should_reduce_batch_size(error) or CUBLAS_IS_FULL in str(error)


@contextmanager
def explain_out_of_memory(what_is_kept: Callable[[], str]) -> Iterator[None]:
    """Report in one line that the memory has ended, where, and which parameters to change.

    Args:
        what_is_kept: Returns what is not lost, and how to go on; the line ends with it.

    Raises:
        InputError: Instead of an error that means this; other errors are passed on.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise

        place = place_of(error)
        message = (
            f"out of memory {place.when} ({_own_words(error)}): {place.action}; "
            f"see docs/troubleshooting.md, row '{place.when}'; {what_is_kept()}"
        )

        # The traceback stays, for who wants to read it; the tensors of its functions go.
        traceback.clear_frames(error.__traceback__)
        raise InputError(message) from error


def place_of(error: BaseException) -> Place:
    """Return where an error was raised."""
    running = {frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)}

    for place in PLACES:
        if not place.function or place.function in running:
            return place
    raise AssertionError("the last place is none of the others")


def _own_words(error: BaseException) -> str:
    """Return how much was missing, in torch's words, else the first line of the message."""
    missing = MISSING.search(str(error))
    return missing.group() if missing else first_line(error)
