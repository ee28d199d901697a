"""Sequences of different lengths laid end to end, with little room left over."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence


def pack(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Bins of indices into ``lengths`` (tokens) that hold at most ``capacity`` tokens each.

    Best-fit decreasing: longest first, each into the fullest bin that still has room (Johnson 1973; at most
    11/9 of the optimal number of bins, plus a constant). An item longer than ``capacity`` fills a bin of its
    own and nothing is cut; empty items are left out. Ties keep the given order. O(n log n) comparisons.

    Raises:
        ValueError: capacity below 1 or a negative length.
    """
    if capacity < 1 or min(lengths, default=0) < 0:
        raise ValueError(f"cannot pack: capacity={capacity}, shortest length={min(lengths, default=0)}")
    bins: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (tokens left, bin), sorted
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        length = lengths[index]
        if length == 0:
            continue
        place = bisect_left(room, (length, -1))
        if place < len(room):
            left, chosen = room.pop(place)
        else:
            left, chosen = max(capacity, length), len(bins)
            bins.append([])
        bins[chosen].append(index)
        if left > length:
            insort(room, (left - length, chosen))
    return bins
