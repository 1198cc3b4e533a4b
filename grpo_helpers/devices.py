"""Which processor a run gets, and what keeps a GPU that is there from being used.

In: what PyTorch and the system report, as one :class:`Machine`. Out: nothing, a line to print, or
an :class:`InputError`, each with the command that mends it. Only :func:`this_machine` looks at the
machine; everything else, the preview of a run included, is a function of its report, and can be
tried without such a machine.
The article names its GPU and stops there. PyTorch itself falls back to the CPU without a word where
a driver is too old for it, and a training would take days instead of hours.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from grpo_helpers.files import InputError
from grpo_helpers.settings import TrainSettings

Version = tuple[int, int]

AMPERE = (8, 0)  # the first compute capability that computes in bfloat16
GIB = 1024**3

# The oldest NVIDIA driver for each release of CUDA:
# https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html
OLDEST_DRIVER = {11: 450, 12: 525, 13: 580}

# The build of torch for older machines: for CUDA 12, with kernels for these compute capabilities.
OLDER_BUILD = "https://download.pytorch.org/whl/cu126"
OLDER_BUILD_CUDA = (12, 0)  # the driver must know this much
OLDER_BUILD_CARDS = ((5, 0), (9, 0))  # the oldest and the newest
INSTALL_OLDER = f'`make clean` and `make run PIP_ARGS="--extra-index-url {OLDER_BUILD}"`'
INSTALL_DEFAULT = "`make clean`, then `make run` without CPU=1"
ALL_BUILDS = "https://pytorch.org/get-started/locally/"


# -- what the machine reports ----------------------------------------------------------------------


@dataclass(frozen=True)
class Machine:
    """What PyTorch and the system report of a machine's processors.

    Attributes:
        torch_version: ``2.13.0+cpu``, for one.
        cuda_build: The CUDA that torch was built for, ``13.0``; None for other builds.
        rocm_build: The ROCm that torch was built for; None for other builds.
        has_gpu: Whether torch can use a GPU, of NVIDIA or AMD.
        gpus: How many of them it sees.
        name: What the first one is called.
        gib: The memory of the first one in GiB; 0 without one.
        capability: The compute capability of the first one, ``(8, 6)``; ``(0, 0)`` without one.
        kernels: What torch has machine code for: ``sm_80``, ``compute_90`` and so on.
        driver_cuda: The newest CUDA that the NVIDIA driver knows; ``(0, 0)`` without a driver.
        nvidia_here: Whether the system has an NVIDIA GPU, whatever torch makes of it.
        amd_here: Whether it has one of AMD.
        mps_here: Whether it has one of Apple.
        xpu_here: Whether it has one of Intel.
        is_hidden: Whether ``CUDA_VISIBLE_DEVICES`` hides all of them, on purpose.
    """

    torch_version: str
    cuda_build: str | None = None
    rocm_build: str | None = None
    has_gpu: bool = False
    gpus: int = 0
    name: str = ""
    gib: float = 0.0
    capability: Version = (0, 0)
    kernels: tuple[str, ...] = ()
    driver_cuda: Version = (0, 0)
    nvidia_here: bool = False
    amd_here: bool = False
    mps_here: bool = False
    xpu_here: bool = False
    is_hidden: bool = False

    @property
    def device(self) -> str:
        """What a run computes on: the name of the GPU, or ``cpu``."""
        return self.name if self.has_gpu else "cpu"


def this_machine() -> Machine:
    """Return what PyTorch and the system report here."""
    import torch

    has_gpu = torch.cuda.is_available()
    driver_cuda = _driver_cuda()
    has_nvidia_file = any(Path("/dev").glob("nvidia[0-9]*"))
    is_windows_card = Path("/dev/dxg").exists() and driver_cuda > (0, 0)  # Linux inside Windows

    return Machine(
        torch_version=torch.__version__,
        cuda_build=torch.version.cuda,
        rocm_build=torch.version.hip,
        has_gpu=has_gpu,
        gpus=torch.cuda.device_count() if has_gpu else 0,
        name=torch.cuda.get_device_name() if has_gpu else "",
        gib=torch.cuda.get_device_properties().total_memory / GIB if has_gpu else 0.0,
        capability=torch.cuda.get_device_capability() if has_gpu else (0, 0),
        kernels=tuple(torch.cuda.get_arch_list()) if has_gpu else (),
        driver_cuda=driver_cuda,
        nvidia_here=has_nvidia_file or is_windows_card,
        amd_here=Path("/dev/kfd").exists(),
        mps_here=torch.backends.mps.is_available(),
        xpu_here=torch.xpu.is_available(),
        is_hidden=os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"),
    )


def _driver_cuda() -> Version:
    """Return the newest CUDA that the NVIDIA driver knows, asked of the driver itself."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return (0, 0)

    number = ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(number))
    major, rest = divmod(number.value, 1000)  # 12020 is 12.2
    return major, rest // 10


# -- a GPU that cannot be used ---------------------------------------------------------------------


def why_unused(machine: Machine) -> str:
    """Return why torch uses no GPU although one is there, and what mends it; "" if all is well.

    >>> why_unused(Machine("2.13.0"))
    ''
    """
    if machine.has_gpu or machine.is_hidden:
        return ""

    if machine.nvidia_here:
        return f"an NVIDIA GPU is here, but {_why_no_cuda(machine)}"
    if machine.amd_here:
        return f"an AMD GPU is here, but {_why_no_rocm(machine)}"
    if machine.mps_here:
        return "Apple's GPU (MPS) is here, but the course trains on CUDA or on the CPU"
    if machine.xpu_here:
        return "an Intel GPU (XPU) is here, but the course trains on CUDA or on the CPU"
    return ""


def _why_no_cuda(machine: Machine) -> str:
    """Return why torch cannot use an NVIDIA GPU."""
    if machine.cuda_build is None:
        return f"torch {machine.torch_version} is a build without CUDA: {INSTALL_DEFAULT}"

    needed = int(machine.cuda_build.split(".")[0])
    if machine.driver_cuda == (0, 0):
        return "no driver is found (libcuda.so.1): install it, or start the container with its GPUs"
    if machine.driver_cuda[0] >= needed:
        return "torch cannot start CUDA: see what `nvidia-smi` and CUDA_VISIBLE_DEVICES say"

    major, minor = machine.driver_cuda
    newer = f"{OLDEST_DRIVER[needed]} or newer" if needed in OLDEST_DRIVER else "a newer one"
    message = (
        f"its driver knows CUDA {major}.{minor} at most, and torch {machine.torch_version} "
        f"is built for CUDA {machine.cuda_build}: update the driver ({newer})"
    )
    if machine.driver_cuda >= OLDER_BUILD_CUDA:
        message += f", or install an older build with {INSTALL_OLDER}"
    return message


def _why_no_rocm(machine: Machine) -> str:
    """Return why torch cannot use a GPU of AMD."""
    if machine.rocm_build is None:
        return (
            f"torch {machine.torch_version} is not built for ROCm: see {ALL_BUILDS} "
            "(nobody has run the course on such a GPU yet)"
        )
    return "torch cannot start ROCm: see what `rocminfo` says"


# -- a GPU that can be used, but not for this ------------------------------------------------------


def why_unfit(machine: Machine, dtype: str) -> str:
    """Return why a run cannot compute here, and what mends it; "" if it can.

    Args:
        machine: The report.
        dtype: What the run computes in: ``bfloat16``, ``float16`` or ``float32``.
    """
    if dtype == "float16" and not machine.has_gpu:
        return (
            "dtype=float16 needs a GPU, for only there are its gradients scaled so that small ones "
            "do not vanish: set dtype=float32"
        )

    is_nvidia = machine.has_gpu and machine.rocm_build is None
    if not is_nvidia:
        return ""

    if not has_kernels(machine.capability, machine.kernels):
        oldest, newest = OLDER_BUILD_CARDS
        is_old_card = oldest <= machine.capability <= newest
        mend = INSTALL_OLDER if is_old_card else f"install another build ({ALL_BUILDS})"
        number = "".join(map(str, machine.capability))
        return (
            f"torch {machine.torch_version} has no kernels for {machine.name} (sm_{number}), "
            f"only for {', '.join(machine.kernels)}: {mend}"
        )

    if dtype == "bfloat16" and machine.capability < AMPERE:
        return (
            f"dtype=bfloat16 needs an Ampere card (8.0) or newer, {machine.name} is older: "
            "set dtype=float16, as the profile t4 does"
        )
    return ""


def has_kernels(capability: Version, kernels: Sequence[str]) -> bool:
    """Return whether a build of torch has code for a card.

    Code for ``sm_80`` runs on cards 8.0 to 8.9; ``compute_80`` is compiled for any later card.

    Args:
        capability: The card's compute capability.
        kernels: What the build has code for; empty where it does not say.

    >>> has_kernels((8, 6), ["sm_75", "sm_80"]), has_kernels((7, 0), ["sm_75", "sm_80"])
    (True, False)
    """
    for kernel in kernels:
        match = re.match(r"(sm|compute)_(\d+)(\d)", kernel)
        if match is None:
            continue

        built_for = (int(match[2]), int(match[3]))
        is_family = match[1] == "compute" or built_for[0] == capability[0]
        if is_family and built_for <= capability:
            return True

    return not kernels


# -- the check of a run ----------------------------------------------------------------------------


def check_device(machine: Machine, settings: TrainSettings) -> None:
    """Make sure that a run finds the processor that it needs.

    Raises:
        InputError: ``device`` is cuda and torch can use no GPU, the GPU is too old for this build
            of torch or for bfloat16, float16 is to train without a GPU, or there are fewer GPUs
            than processes.
    """
    if settings.device == "cuda" and not machine.has_gpu:
        raise InputError(f"device is cuda, but {_why_no_gpu(machine)}")

    reason = why_unfit(machine, settings.dtype)
    if reason:
        raise InputError(reason)

    here = _processes_here(settings)
    if machine.gpus and here > machine.gpus:
        raise InputError(
            f"{here} processes need a GPU each, and PyTorch sees {machine.gpus} here: "
            f"set num_processes={machine.gpus}, or see CUDA_VISIBLE_DEVICES"
        )


def _why_no_gpu(machine: Machine) -> str:
    """Return why torch can use no GPU, on a machine that may have none."""
    if machine.is_hidden:
        return "CUDA_VISIBLE_DEVICES hides every GPU: unset it, or set device=auto"

    nothing_here = "PyTorch sees no GPU here: run on a GPU machine, or set device=auto"
    return why_unused(machine) or nothing_here


def _processes_here(settings: TrainSettings) -> int:
    """Return the processes on this machine, launched or to be launched; 0 if nobody says."""
    if "WORLD_SIZE" in os.environ:
        return int(os.environ.get("LOCAL_WORLD_SIZE", "0"))
    return settings.num_processes


def device_notes(machine: Machine, processes: int) -> list[str]:
    """Return lines about the processor of a run; none where all is as usual.

    Args:
        machine: The report.
        processes: Processes of the run.
    """
    notes = []

    reason = why_unused(machine)
    if reason:
        notes.append(f"note: the run uses the CPU: {reason}")
    if machine.has_gpu and machine.rocm_build:
        notes.append(
            f"note: {machine.name} is a GPU of AMD (ROCm {machine.rocm_build}): "
            "nobody has run the course on one yet"
        )
    if processes == 1 and machine.gpus > 1:
        notes.append(
            f"note: of {machine.gpus} visible GPUs one process uses the first, {machine.name}: "
            f"set num_processes={machine.gpus} for all, or CUDA_VISIBLE_DEVICES=1 for another"
        )

    return notes
