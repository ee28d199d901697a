from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ridgeline.models.packing import pack


@pytest.mark.parametrize(
    ("lengths", "capacity", "bins"),
    [
        ([3, 4, 1], 4, [[1], [0, 2]]),  # the peers' published values
        ([5, 2, 4, 1], 4, [[0], [2], [1, 3]]),
        ([5, 1, 4, 3], 5, [[0], [2, 1], [3]]),
        ([0, 2, 0], 4, [[1]]),
        ([], 4, []),
        ([6, 5, 4, 3], 9, [[0, 3], [1, 2]]),
        ([4, 6, 3], 9, [[1, 2], [0]]),  # best fit takes the fuller bin, first fit too
        ([5, 7, 2, 3], 9, [[1, 2], [0, 3]]),
        ([5, 6, 3, 4], 10, [[1, 3], [0, 2]]),
    ],
)
def test_golden(lengths, capacity, bins):
    assert pack(lengths, capacity) == bins


def slow(lengths, capacity):
    """Best-fit decreasing as its definition reads."""
    bins = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if lengths[index] == 0:
            continue
        left = [capacity - sum(lengths[i] for i in items) - lengths[index] for items in bins]
        fits = [number for number, room in enumerate(left) if room >= 0]
        if fits:
            bins[min(fits, key=lambda number: left[number])].append(index)
        else:
            bins.append([index])
    return bins


@given(st.lists(st.integers(0, 30), max_size=40), st.integers(1, 25))
def test_equals_the_definition_and_loses_nothing(lengths, capacity):
    bins = pack(lengths, capacity)
    assert bins == slow(lengths, capacity)
    assert sorted(i for items in bins for i in items) == [i for i, length in enumerate(lengths) if length]
    assert all(len(items) == 1 or sum(lengths[i] for i in items) <= capacity for items in bins)


def test_impossible():
    for lengths, capacity in (([1], 0), ([-1], 4)):
        with pytest.raises(ValueError, match="cannot pack"):
            pack(lengths, capacity)
