"""Which rows a step trains on: a pure function of (seed, step)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt


def batch_indices(count: int, per_step: int, step: int, seed: int) -> list[int]:
    """Indices of the ``per_step`` rows (of ``count``) that step ``step`` (from 0) reads.

    Every epoch visits every row once, in a permutation drawn from Philox keyed by (seed, epoch). Batches run
    across the end of an epoch, so no row is left over and every step has the same size.

    Raises:
        ValueError: count or per_step below 1, or a negative step or seed.
    """
    if count < 1 or per_step < 1 or step < 0 or seed < 0:
        raise ValueError(f"no batch: count={count}, per_step={per_step}, step={step}, seed={seed}")
    first = step * per_step
    places = (divmod(place, count) for place in range(first, first + per_step))
    return [int(_permutation(count, epoch, seed)[offset]) for epoch, offset in places]


@lru_cache(maxsize=4)
def _permutation(count: int, epoch: int, seed: int) -> npt.NDArray[np.int64]:
    key = np.array([seed, epoch], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).permutation(count)
