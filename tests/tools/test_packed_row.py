"""The packed row: what it is made of, and that it computes what the cache computes."""

from __future__ import annotations

import pytest
import torch

from tools.benchmarks import packed_row
from tools.benchmarks.sharing import Work

# One prompt of two tokens with two completions of two tokens.
WORK = Work(prompt_tokens=2, group=2, micro_batch=2, micro_batches=1, completion_tokens=2)


def test_prompt_is_in_the_row_once():
    rows = torch.tensor([[5, 6, 7, 8], [5, 6, 9, 10]])
    assert packed_row.packed_ids(rows, WORK).tolist() == [[5, 6, 7, 8, 9, 10]]


def test_every_completion_begins_after_the_prompt():
    assert packed_row.packed_positions(WORK).tolist() == [[0, 1, 2, 3, 2, 3]]


def test_completions_do_not_see_each_other():
    mask = packed_row.packed_mask(WORK)[0, 0].int()
    assert mask[5].tolist() == [1, 1, 0, 0, 1, 1]


@pytest.mark.heavy
def test_packed_row_computes_what_the_cache_computes():
    work = Work(prompt_tokens=9, group=4, micro_batch=8, micro_batches=1, completion_tokens=5)
    _, difference = packed_row.measure(work, pairs=1)
    assert difference < 1e-4
