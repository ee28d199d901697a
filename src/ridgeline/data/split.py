"""Held-out data, split by prompt so that no prompt is on both sides."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TypeVar

from ridgeline.schema.errors import DataError, UsageError

T = TypeVar("T")


def holdout(
    items: Sequence[T], fraction: float, key: Callable[[T], str], seed: int
) -> tuple[list[T], list[T]]:
    """(training items, held-out items); all items of one key go to the same side and keep their order.

    The keys are ordered by SHA-256 of (seed, key) and the first ``fraction`` of them is held out (rounded,
    at least one on each side), so neither order nor number of a key's items matters. 0 holds out nothing.

    Raises:
        UsageError: a fraction outside [0, 1).
        DataError: fewer than two keys, so that one side would be empty.
    """
    if not 0 <= fraction < 1:
        raise UsageError(
            f"heldout = {fraction} is not a fraction; choose one from 0 up to (not including) 1."
        )
    if fraction == 0:
        return list(items), []
    keys = sorted({key(item) for item in items}, key=lambda name: _rank(name, seed))
    if len(keys) < 2:
        raise DataError(
            f"cannot hold out a fraction of {len(keys)} distinct prompt{'s' if len(keys) != 1 else ''}; "
            "add data, or give held-out rows in a file of their own."
        )
    held = set(keys[: min(max(round(fraction * len(keys)), 1), len(keys) - 1)])
    train = [item for item in items if key(item) not in held]
    return train, [item for item in items if key(item) in held]


def _rank(name: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()
