"""The end of the memory: which errors mean it, where it was, and what the line says."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import fields

import pytest
import torch
from helpers import ROOT, run_offline

from grpo_helpers.device_memory import (
    PLACES,
    explain_out_of_memory,
    is_out_of_memory,
    peak_memory,
    place_of,
)
from grpo_helpers.files import InputError
from grpo_helpers.settings import TrainSettings

TROUBLESHOOTING = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")


# -- which errors ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_error_of_a_full_device_is_known(error):
    assert is_out_of_memory(error)


@pytest.mark.parametrize("error", [RuntimeError("shapes do not fit"), MemoryError(), KeyError("a")])
def test_other_errors_are_not_taken_for_it(error):
    assert not is_out_of_memory(error)


def test_other_errors_are_passed_on():
    with pytest.raises(RuntimeError, match="shapes"), explain_out_of_memory(lambda: "kept"):
        raise RuntimeError("shapes do not fit")


# -- where -----------------------------------------------------------------------------------------


def error_under(*names):
    """Return an error that was raised with functions of these names running."""
    code = "raise torch.OutOfMemoryError('full')"
    for name in reversed(names):
        body = code.replace("\n", "\n    ")
        code = f"def {name}():\n    {body}\n{name}()"

    try:
        exec(code, {"torch": torch})
    except torch.OutOfMemoryError as error:
        return error


@pytest.mark.parametrize(
    ("running", "when"),
    [
        (["generate_answers", "generate"], "while answering questions"),
        (["_inner_training_loop", "training_step", "generate"], "while sampling completions"),
        (["_inner_training_loop", "training_step"], "in the loss or the backward pass"),
        (["_inner_training_loop", "step"], "in the optimizer's step"),
        (["load_model"], "while the model is loaded"),
    ],
)
def test_place_is_known_by_the_functions_that_are_running(running, when):
    assert place_of(error_under(*running)).when == when


# -- what the line says ----------------------------------------------------------------------------


def test_line_tells_place_amount_page_and_what_is_kept():
    with pytest.raises(InputError) as caught, explain_out_of_memory(lambda: "all is kept"):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has")

    assert str(caught.value) == (
        "out of memory while the model is loaded (Tried to allocate 2.00 GiB): set use_quant=true "
        "or take a smaller model; python -m grpo_helpers.memory predicts what fits; see "
        "docs/troubleshooting.md, row 'while the model is loaded'; all is kept"
    )


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.when)
def test_row_that_the_line_names_is_in_the_page(place):
    assert f"\n| {place.when} | " in TROUBLESHOOTING


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.when)
def test_line_names_parameters_that_there_are(place):
    named = set(re.findall(r"[a-z]+(?:_[a-z]+)+", place.action)) - {"grpo_helpers"}

    assert named
    assert named <= {field.name for field in fields(TrainSettings)}


# -- how much --------------------------------------------------------------------------------------


def test_peak_memory_is_what_this_process_has_held():
    peak = peak_memory()

    assert 0.05 < peak.allocated <= peak.reserved < 500


# -- torch's allocator -----------------------------------------------------------------------------

PRINT_SETTING = "import grpo_helpers, os; print(os.environ.get('PYTORCH_ALLOC_CONF'))"


@pytest.mark.parametrize(
    ("variables", "setting"),
    [
        ({}, "expandable_segments:True"),
        ({"PYTORCH_ALLOC_CONF": ""}, ""),
        ({"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:64"}, "None"),
    ],
)
def test_allocator_is_set_unless_somebody_has_set_it(monkeypatch, variables, setting):
    for name in [name for name in os.environ if name.endswith("ALLOC_CONF")]:
        monkeypatch.delenv(name)  # this process has imported the package

    done = run_offline([sys.executable, "-c", PRINT_SETTING], **variables)

    assert done.stdout == f"{setting}\n"
