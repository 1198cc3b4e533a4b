"""Which processor a run gets: reports of machines that are not here, and what is said of each."""

from __future__ import annotations

from dataclasses import replace

import pytest

from grpo_helpers.devices import (
    Machine,
    check_device,
    device_notes,
    has_kernels,
    this_machine,
    why_unfit,
    why_unused,
)
from grpo_helpers.files import InputError
from grpo_helpers.settings import TrainSettings

CUDA_13_KERNELS = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120")

CPU_ONLY = Machine("2.13.0+cpu")
A10G = Machine(
    "2.13.0",
    cuda_build="13.0",
    has_gpu=True,
    gpus=1,
    name="NVIDIA A10G",
    capability=(8, 6),
    kernels=CUDA_13_KERNELS,
    driver_cuda=(13, 0),
    nvidia_here=True,
)
FOUR_A10G = replace(A10G, gpus=4)
V100 = replace(A10G, name="Tesla V100", capability=(7, 0))
T4 = replace(A10G, name="Tesla T4", capability=(7, 5))
OLD_DRIVER = replace(A10G, has_gpu=False, gpus=0, driver_cuda=(12, 2))
VERY_OLD_DRIVER = replace(OLD_DRIVER, driver_cuda=(11, 4))
NO_DRIVER = replace(OLD_DRIVER, driver_cuda=(0, 0))
BROKEN_CUDA = replace(OLD_DRIVER, driver_cuda=(13, 0))
CPU_BUILD = replace(OLD_DRIVER, torch_version="2.13.0+cpu", cuda_build=None)
HIDDEN = replace(BROKEN_CUDA, is_hidden=True)
AMD = Machine("2.13.0", cuda_build="13.0", amd_here=True)
AMD_BROKEN = Machine("2.13.0+rocm7.1", rocm_build="7.1", amd_here=True)
AMD_IN_USE = replace(AMD_BROKEN, has_gpu=True, gpus=1, name="AMD Instinct MI210", capability=(9, 0))
APPLE = Machine("2.13.0", mps_here=True)
INTEL = Machine("2.13.0+xpu", xpu_here=True)


def settings(**changes):
    """Return the default settings of notebook 04 with changes."""
    return TrainSettings(**({"num_processes": 1} | changes))


@pytest.fixture(autouse=True)
def not_launched(monkeypatch):
    """No launcher has set its variables."""
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name, raising=False)


# -- a GPU that is there and not used --------------------------------------------------------------


@pytest.mark.parametrize("machine", [CPU_ONLY, A10G, FOUR_A10G, AMD_IN_USE, HIDDEN])
def test_nothing_is_said_where_all_is_as_meant(machine):
    assert why_unused(machine) == ""


OLDER = 'make run PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cu126"'


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        (OLD_DRIVER, ["knows CUDA 12.2 at most", "built for CUDA 13.0", "580 or newer", OLDER]),
        (VERY_OLD_DRIVER, ["knows CUDA 11.4 at most", "update the driver (580 or newer)"]),
        (NO_DRIVER, ["no driver is found"]),
        (BROKEN_CUDA, ["torch cannot start CUDA", "nvidia-smi"]),
        (CPU_BUILD, ["2.13.0+cpu is a build without CUDA", "`make run` without CPU=1"]),
        (AMD, ["an AMD GPU is here", "not built for ROCm", "https://pytorch.org/get-started"]),
        (AMD_BROKEN, ["an AMD GPU is here", "rocminfo"]),
        (APPLE, ["Apple's GPU (MPS) is here", "on CUDA or on the CPU"]),
        (INTEL, ["an Intel GPU (XPU) is here", "on CUDA or on the CPU"]),
    ],
)
def test_unused_gpu_is_named_with_what_mends_it(machine, words):
    reason = why_unused(machine)

    assert "\n" not in reason
    for part in words:
        assert part in reason


def test_driver_too_old_for_every_build_gets_no_other_build():
    assert "PIP_ARGS" not in why_unused(VERY_OLD_DRIVER)


# -- a GPU that cannot do what the run needs -------------------------------------------------------


@pytest.mark.parametrize(
    ("capability", "expected"),
    [
        ((7, 0), False),  # V100
        ((7, 5), True),  # T4
        ((8, 0), True),
        ((8, 9), True),  # runs the code for 8.6
        ((9, 0), True),
        ((10, 3), True),
        ((11, 0), False),
        ((12, 1), True),
    ],
)
def test_card_runs_the_code_of_its_own_generation(capability, expected):
    assert has_kernels(capability, CUDA_13_KERNELS) is expected


def test_later_card_compiles_what_is_stored_for_that():
    assert has_kernels((13, 0), ["sm_90", "compute_120"])
    assert not has_kernels((9, 0), ["compute_120"])


def test_build_that_names_no_kernels_is_trusted():
    assert has_kernels((7, 0), [])


def test_card_without_kernels_gets_the_older_build():
    reason = why_unfit(V100, "float32")

    assert "no kernels for Tesla V100 (sm_70)" in reason
    assert OLDER in reason


def test_card_newer_than_the_build_gets_no_older_build():
    reason = why_unfit(replace(A10G, name="Newest", capability=(11, 0)), "float32")

    assert "no kernels for Newest (sm_110)" in reason
    assert "PIP_ARGS" not in reason


def test_older_card_is_refused_for_bfloat16():
    assert "Tesla T4 is older: set dtype=float16" in why_unfit(T4, "bfloat16")


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_older_card_is_fit_for(dtype):
    assert why_unfit(T4, dtype) == ""


@pytest.mark.parametrize("machine", [A10G, CPU_ONLY, AMD_IN_USE])
def test_other_machines_are_fit_for_bfloat16(machine):
    assert why_unfit(machine, "bfloat16") == ""


def test_float16_does_not_train_on_a_cpu():
    """Accelerate scales gradients on a GPU only, and says nothing where it does not."""
    assert "dtype=float16 needs a GPU" in why_unfit(CPU_ONLY, "float16")


# -- the check of a run ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        (CPU_ONLY, "PyTorch sees no GPU here: run on a GPU machine, or set device=auto"),
        (OLD_DRIVER, "an NVIDIA GPU is here, but its driver knows CUDA 12.2"),
        (HIDDEN, "CUDA_VISIBLE_DEVICES hides every GPU"),
    ],
)
def test_device_cuda_without_a_usable_gpu_says_why(machine, words):
    with pytest.raises(InputError, match=r"^device is cuda, but ") as caught:
        check_device(machine, settings(device="cuda"))

    assert words in str(caught.value)


@pytest.mark.parametrize("machine", [CPU_ONLY, OLD_DRIVER, A10G, T4, APPLE])
def test_device_auto_takes_what_there_is(machine):
    check_device(machine, settings())


def test_card_that_torch_has_no_code_for_is_refused_for_every_run():
    with pytest.raises(InputError, match="no kernels for Tesla V100"):
        check_device(V100, settings())


def test_more_processes_than_gpus_are_refused():
    with pytest.raises(InputError, match=r"8 processes .* sees 4 here: set num_processes=4"):
        check_device(FOUR_A10G, settings(num_processes=8))


def test_processes_on_the_cpu_may_be_any_number():
    check_device(CPU_ONLY, settings(num_processes=8))


def test_processes_of_two_machines_count_on_each(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")

    check_device(FOUR_A10G, settings(num_processes=8))


# -- what is said, and the run goes on -------------------------------------------------------------


@pytest.mark.parametrize(("machine", "processes"), [(CPU_ONLY, 1), (A10G, 1), (FOUR_A10G, 4)])
def test_usual_machine_gets_no_note(machine, processes):
    assert device_notes(machine, processes) == []


def test_cpu_is_not_taken_in_silence_where_a_gpu_is_there():
    (note,) = device_notes(OLD_DRIVER, processes=1)

    assert note.startswith("note: the run uses the CPU: an NVIDIA GPU is here, but its driver")


def test_one_process_says_which_of_several_gpus_it_uses():
    (note,) = device_notes(FOUR_A10G, processes=1)

    assert note.startswith("note: of 4 visible GPUs one process uses the first, NVIDIA A10G: ")
    assert "num_processes=4" in note


def test_gpu_of_amd_is_said_to_be_untested():
    (note,) = device_notes(AMD_IN_USE, processes=1)

    assert note.startswith("note: AMD Instinct MI210 is a GPU of AMD (ROCm 7.1)")


def test_report_of_this_machine_agrees_with_torch():
    import torch

    machine = this_machine()

    assert machine.torch_version == torch.__version__
    assert machine.has_gpu is torch.cuda.is_available()
    assert (machine.gpus > 0) is machine.has_gpu


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_gpus_can_be_hidden_on_purpose(hidden, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)

    assert this_machine().is_hidden
