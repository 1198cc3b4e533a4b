"""What the host takes for a layer and a token: the difference of two depths and two lengths."""

from __future__ import annotations

import pytest

from grpo_helpers.files import read_json
from tools.benchmarks import host_time
from tools.benchmarks.host_time import RECORD, measure


def test_time_of_a_layer_is_told_from_that_of_a_token(monkeypatch):
    """A made-up model takes 3 s for each layer and 5 s besides, for every token."""
    monkeypatch.setattr(host_time, "model_of", lambda depth: depth)
    monkeypatch.setattr(host_time, "seconds_of", lambda depth, tokens: tokens * (3 * depth + 5))

    found = measure(repeats=1)

    assert found.layer_seconds == pytest.approx(3)
    assert found.token_seconds == pytest.approx(5)


@pytest.mark.heavy
def test_real_layer_takes_about_what_was_recorded():
    """On another processor it may take several times as long, but not eleven times."""
    found = measure(repeats=1)

    assert found.layer_seconds == pytest.approx(read_json(RECORD)["layer_seconds"], rel=10)
    assert found.layer_seconds > 0
