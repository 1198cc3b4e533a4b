"""The closed form of the memory against a trace of the real graph on fake tensors."""

import subprocess
import sys

import pandas as pd
import pytest

from grpo_helpers.files import project_root
from tools.benchmarks.memory_trace import COLUMNS, HELD_OUT, SETTINGS, closed_form, shape, trace

PHASES = ("static", "forward", "backward", "prefill")
TABLE = pd.read_csv(project_root() / "data" / "memory_trace.csv")
FAST = [
    0,
    3,
    len(SETTINGS) - 6,
    len(SETTINGS) - 1,
]  # two of the fitted shape, two that were held out


def test_the_committed_table_has_every_setting_and_no_error_above_three_percent():
    assert len(TABLE) == len(SETTINGS) >= 12
    held_out = TABLE[TABLE.held_out]
    assert len(held_out) >= 6 and set(held_out.model) == set(HELD_OUT) and len(HELD_OUT) == 2
    for phase in PHASES:
        error = TABLE[f"{phase}_formula"] / TABLE[f"{phase}_traced"] - 1
        assert error.abs().max() <= 0.03, phase


@pytest.mark.parametrize("row", FAST)
def test_a_new_trace_gives_the_committed_bytes_and_the_closed_form_meets_it(row):
    setting = dict(zip(COLUMNS, SETTINGS[row], strict=True))
    arch = shape(setting["model"])
    traced = trace(arch, **{name: value for name, value in setting.items() if name != "model"})
    formula = closed_form(arch, setting)
    for phase in PHASES:
        assert traced[phase] == TABLE.loc[row, f"{phase}_traced"], phase
        assert formula[phase] == pytest.approx(traced[phase], rel=0.03), phase


def test_what_is_kept_alive_is_counted_and_what_is_dropped_is_not():
    import torch

    from tools.benchmarks.memory_trace import LiveBytes

    with LiveBytes() as live:
        kept = torch.zeros(1000)
        torch.zeros(5000)
        view = kept[:10]
        assert live.now == 4000 and live.peak == 24_000
        del kept
        assert live.now == 4000  # the view still needs the storage
        del view
        assert live.now == 0


WHOLE = """
import resource
from tools.benchmarks.memory_trace import SETTINGS, shape, trace_whole
print(trace_whole(shape(SETTINGS[0][0]), *SETTINGS[0][1:])["backward"])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


@pytest.mark.slow
def test_the_whole_large_model_is_traced_in_a_minute_and_two_gibibytes_and_is_linear_in_its_layers():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WHOLE],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=project_root(),
    )
    backward, gib = done.stdout.split()
    assert float(gib) < 2.0
    assert int(backward) == pytest.approx(TABLE.loc[0, "backward_traced"], rel=1e-3)
