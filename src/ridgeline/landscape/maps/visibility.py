"""How much of the drift the picture shows: the KL between two projected clouds, a lower bound."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ridgeline.statistics.inputs import Floats, Integers

PER_CELL = 8
"""Samples per cell that are wanted; fewer make the correction larger than the signal."""
MOST_CELLS = 256
NEAR_LIMIT = 0.5
"""Share of the limit above which an estimate says little more than "far": clouds that are apart along one of
the two axes reach only half of it."""
FEWEST = 32
"""Samples on either side below which no estimate is made."""


@dataclass(frozen=True)
class Visible:
    """``nats`` between two clouds; ``limit``: log of the number of cells, which no estimate can exceed."""

    nats: float
    limit: float

    @property
    def is_at_its_limit(self) -> bool:
        """Whether the clouds are farther apart than the cells can tell."""
        return self.nats > NEAR_LIMIT * self.limit


def projected_kl(new_N2: Floats, reference_M2: Floats) -> Visible:
    """KL(new || reference) between two clouds in the plane, in nats, at least 0; nan with too few samples.

    Cells of equal reference mass (a k-d tree cut at medians), plug-in KL of the cell shares, minus the
    mean of that estimate where both clouds are alike, (B - 1)/2 (1/N + 1/M) for B cells. Projecting
    and binning both lose information (data-processing inequality), so the true KL of the completions is
    larger; the estimate cannot exceed log B, however far the clouds are apart.
    """
    if min(len(new_N2), len(reference_M2)) < FEWEST:
        return Visible(math.nan, math.nan)
    reference_cell, new_cell, cells = _cells(reference_M2, new_N2)
    p = np.bincount(reference_cell, minlength=cells) / len(reference_M2)
    q = np.bincount(new_cell, minlength=cells) / len(new_N2)
    inside = q > 0
    plug_in = float((q[inside] * np.log(q[inside] / p[inside])).sum())
    bias = (cells - 1) / 2 * (1 / len(new_N2) + 1 / len(reference_M2))
    return Visible(max(plug_in - bias, 0.0), math.log(cells))


def share_shown(projected: float, kl: float | None) -> float:
    """projected / kl; nan where there is no drift to show (kl up to 0.05 nats) or a number is missing."""
    if kl is None or not math.isfinite(projected) or not kl > 0.05:
        return math.nan
    return projected / kl


def _cells(reference_M2: Floats, new_N2: Floats) -> tuple[Integers, Integers, int]:
    """The cell of every sample: alternating median cuts of the reference; every cell holds some of it."""
    smaller = min(len(reference_M2), len(new_N2))
    depth = int(math.log2(min(max(smaller / PER_CELL, 2.0), MOST_CELLS)))
    of_reference = np.zeros(len(reference_M2), dtype=np.int64)
    of_new = np.zeros(len(new_N2), dtype=np.int64)
    for level in range(depth):
        axis = level % 2
        right_reference, right_new = np.zeros_like(of_reference), np.zeros_like(of_new)
        for cell in range(2**level):
            inside, inside_new = of_reference == cell, of_new == cell
            if not inside.any():
                continue
            cut = np.median(reference_M2[inside, axis])
            # Ties at the median may all fall on one side; the other cell would then be without reference.
            above = reference_M2[:, axis] > cut if (reference_M2[inside, axis] > cut).any() else None
            if above is None:
                continue
            right_reference += inside & above
            right_new += inside_new & (new_N2[:, axis] > cut)
        of_reference, of_new = 2 * of_reference + right_reference, 2 * of_new + right_new
    names, of_reference = np.unique(of_reference, return_inverse=True)
    number = {int(name): place for place, name in enumerate(names)}
    return of_reference, np.array([number[int(cell)] for cell in of_new], dtype=np.int64), len(names)
