"""The closed form of the memory against a trace of the real graph on fake tensors."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import astuple, replace

import pandas as pd
import pytest

from grpo_helpers.files import project_root
from tools.benchmarks import memory_trace
from tools.benchmarks.memory_trace import COLUMNS, HELD_OUT, SETTINGS, closed_form, trace

PHASES = ("static", "forward", "backward", "prefill")
TABLE = pd.read_csv(project_root() / "data" / "memory_trace.csv")
# Two of the fitted shape, two that were held out.
FAST = (0, 3, len(SETTINGS) - 6, len(SETTINGS) - 1)


def row_values(number):
    """Return the setting of a row of the committed table, as a tuple."""
    row = TABLE.loc[number, list(COLUMNS)]
    return tuple(None if value is None or value != value else value for value in row)


# -- the committed table ----------------------------------------------------------------------


def test_committed_table_has_every_setting():
    assert len(SETTINGS) >= 12
    assert [row_values(number) for number in TABLE.index] == list(map(astuple, SETTINGS))


def test_committed_table_has_both_held_out_shapes():
    held_out = TABLE[TABLE.held_out]
    assert len(held_out) >= 6
    assert set(held_out.model) == set(HELD_OUT)
    assert len(HELD_OUT) == 2


@pytest.mark.parametrize("phase", PHASES)
def test_no_committed_error_is_above_three_percent(phase):
    error = TABLE[f"{phase}_formula"] / TABLE[f"{phase}_traced"] - 1
    assert error.abs().max() <= 0.03


@pytest.mark.parametrize("number", range(len(SETTINGS)))
def test_committed_formula_is_that_of_the_code(number):
    formula = closed_form(SETTINGS[number])
    for phase in PHASES:
        assert formula[phase] == TABLE.loc[number, f"{phase}_formula"], phase


# -- new traces -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def traced():
    """The traced bytes of the fast settings, by row of the table."""
    return {number: trace(SETTINGS[number]) for number in FAST}


@pytest.mark.heavy
@pytest.mark.parametrize("number", FAST)
def test_new_trace_gives_the_committed_bytes(number, traced):
    for phase in PHASES:
        assert traced[number][phase] == TABLE.loc[number, f"{phase}_traced"], phase


@pytest.mark.heavy
@pytest.mark.parametrize("number", FAST)
def test_closed_form_meets_a_new_trace(number, traced):
    formula = closed_form(SETTINGS[number])
    for phase in PHASES:
        assert formula[phase] == pytest.approx(traced[number][phase], rel=0.03), phase


WHOLE = """
import resource
from tools.benchmarks.memory_trace import SETTINGS, shape, trace_whole
print(trace_whole(shape(SETTINGS[0].model), SETTINGS[0])["backward"])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


@pytest.fixture(scope="module")
def whole():
    """Backward bytes and process memory (GiB) of a trace of every layer of the large model."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WHOLE],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=project_root(),
    )
    backward, gib = done.stdout.split()
    return int(backward), float(gib)


@pytest.mark.slow
def test_large_model_is_traced_within_two_gibibytes(whole):
    assert whole[1] < 2.0


@pytest.mark.slow
def test_traced_bytes_are_linear_in_the_layers(whole):
    assert whole[0] == pytest.approx(TABLE.loc[0, "backward_traced"], rel=1e-3)


@pytest.mark.heavy
def test_every_layer_of_a_small_model_adds_the_same():
    # The quick twin of the test above.
    setting = memory_trace.Setting("toy", B=1, prompt_tokens=8, completion_tokens=8)
    backward = []
    for layers in (2, 3, 4):
        arch = replace(memory_trace.TOY, num_hidden_layers=layers)
        backward.append(memory_trace.trace_whole(arch, setting)["backward"])
    two, three, four = backward
    assert four - three == pytest.approx(three - two, rel=1e-3)


# -- counting ---------------------------------------------------------------------------------


def test_live_bytes_counts_what_is_alive():
    import torch

    with memory_trace.LiveBytes() as live:
        alive = torch.zeros(1000)
        torch.zeros(5000)
        assert live.now == 4000
        assert live.peak == 24_000
        del alive
        assert live.now == 0


def test_live_bytes_counts_a_storage_until_its_last_view_is_gone():
    import torch

    with memory_trace.LiveBytes() as live:
        tensor = torch.zeros(1000)
        view = tensor[:10]
        del tensor
        assert live.now == 4000
        del view
        assert live.now == 0


# -- the command ------------------------------------------------------------------------------


@pytest.mark.parametrize(("factor", "code"), [(1.0, 0), (1.05, 1)])
def test_error_above_three_percent_fails_the_command(factor, code, monkeypatch, capsys):
    def traced_bytes(setting):
        return {name: round(factor * size) for name, size in closed_form(setting).items()}

    monkeypatch.setattr(memory_trace, "trace", traced_bytes)
    assert memory_trace.main(["--first", "2"]) == code
    assert capsys.readouterr().out.count("\n") == 2
