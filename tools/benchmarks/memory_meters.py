"""Meters for the memory of a training step, phase by phase.

In: code that runs inside ``with meter.phase(name)``. Out: the peak bytes of each phase: on a GPU
from PyTorch's CUDA counters, on a CPU from the profiler's record of every allocation.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import torch

from grpo_helpers.memory import GIB

MARK = "phase:"


class Meter(Protocol):
    """What the probe needs of a meter.

    Attributes:
        allocated: Peak bytes of the tensors of each phase.
        reserved: Peak bytes that the allocator held; a CPU has none.
    """

    allocated: dict[str, int]
    reserved: dict[str, int]

    def start(self, model: torch.nn.Module) -> None:
        """Begin to measure; the weights of ``model`` are there already."""

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Return a context whose memory is measured as ``name``."""

    def stop(self) -> None:
        """Measure no more."""


class CudaMeter:
    """Peak bytes of each phase, from PyTorch's CUDA counters."""

    def __init__(self) -> None:
        """Start without figures."""
        self.done = False
        self.allocated: dict[str, int] = defaultdict(int)
        self.reserved: dict[str, int] = defaultdict(int)

    def start(self, model: torch.nn.Module) -> None:
        """Do nothing: a GPU counts by itself."""

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure what happens inside, as ``name``."""
        if self.done:
            yield
            return

        torch.cuda.reset_peak_memory_stats()
        try:
            yield
        finally:
            self.allocated[name] = max(self.allocated[name], torch.cuda.max_memory_allocated())
            self.reserved[name] = max(self.reserved[name], torch.cuda.max_memory_reserved())

    def stop(self) -> None:
        """Measure no more."""
        self.done = True


def meter_of(device: str) -> Meter:
    """Return a meter for ``cpu`` or ``cuda``."""
    return CudaMeter() if device == "cuda" else CpuMeter()


def cap_memory(gib: float) -> None:
    """Let PyTorch take no more of the GPU than a smaller card would offer.

    The CUDA context, a few hundred MiB that PyTorch does not count, is not part of it. The limit
    holds for expandable segments, too.

    Args:
        gib: GiB; more than the card has means all of it.
    """
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, gib * GIB / total))


class CpuMeter:
    """Peak bytes of each phase, from the profiler's record of every allocation."""

    def __init__(self) -> None:
        """Start without figures."""
        self.allocated: dict[str, int] = defaultdict(int)
        self.reserved: dict[str, int] = {}
        self.profile: Any = None
        self.before = 0

    def start(self, model: torch.nn.Module) -> None:
        """Begin to record; the weights of ``model`` are there already, tied ones once."""
        storages = {parameter.data_ptr(): parameter.nbytes for parameter in model.parameters()}
        self.before = sum(storages.values())
        self.profile = torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
        )
        self.profile.start()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Mark what happens inside as ``name``."""
        with torch.profiler.record_function(MARK + name):
            yield

    def stop(self) -> None:
        """End the record and take the peaks from it."""
        self.profile.stop()
        allocations, spans = [], []
        for event in self.profile.profiler.kineto_results.events():
            if event.name() == "[memory]":
                allocations.append(event)
            elif event.name().startswith(MARK):
                spans.append(event)

        now = self.before
        for allocation in sorted(allocations, key=lambda event: event.start_ns()):
            now += allocation.nbytes()  # negative where memory is freed
            for span in spans:
                end = span.start_ns() + span.duration_ns()
                if span.start_ns() <= allocation.start_ns() <= end:
                    name = span.name().removeprefix(MARK)
                    self.allocated[name] = max(self.allocated[name], now)
