from __future__ import annotations

import subprocess
import sys
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeline.data.order import batch_indices


@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 2**40))
def test_every_row_once_per_epoch_and_no_batch_is_short(count, per_step, seed):
    steps = -(-3 * count // per_step)
    batches = [batch_indices(count, per_step, step, seed) for step in range(steps)]
    assert {len(batch) for batch in batches} == {per_step}
    order = list(chain.from_iterable(batches))
    for epoch in range(3):
        assert sorted(order[epoch * count : (epoch + 1) * count]) == list(range(count))


def test_a_step_needs_no_history():
    order = list(chain.from_iterable(batch_indices(10, 4, step, 3) for step in range(20)))
    assert order[17 * 4 : 18 * 4] == batch_indices(10, 4, 17, 3)
    code = "from ridgeline.data.order import batch_indices; print(batch_indices(10, 4, 17, 3))"
    fresh = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert fresh.stdout.strip() == str(batch_indices(10, 4, 17, 3))


def test_epochs_and_seeds_differ():
    def epoch(number, seed):
        return tuple(batch_indices(12, 12, number, seed))

    assert len({epoch(number, seed) for number in range(4) for seed in range(4)}) == 16


def test_order_is_the_same_in_every_version():
    assert batch_indices(8, 8, 0, 1) == [0, 5, 4, 1, 2, 6, 3, 7]


@pytest.mark.parametrize("arguments", [(0, 1, 0, 0), (1, 0, 0, 0), (1, 1, -1, 0), (1, 1, 0, -1)])
def test_impossible_batches(arguments):
    with pytest.raises(ValueError, match="no batch"):
        batch_indices(*arguments)
