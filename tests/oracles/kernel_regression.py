"""Kernel regression with plain loops, straight from its formulas."""

from __future__ import annotations

import math
from collections.abc import Sequence

Point = tuple[float, float]


def weights(points: Sequence[Point], at: Point, bandwidth: float) -> list[float]:
    """exp(-|s - s_i|^2 / (2 h^2)) of every sample."""
    gaps = [(x - at[0]) ** 2 + (y - at[1]) ** 2 for x, y in points]
    return [math.exp(-gap / (2 * bandwidth**2)) for gap in gaps]


def regress(
    points: Sequence[Point], values: Sequence[float], at: Point, bandwidth: float
) -> tuple[float, float, float, float]:
    """Mean, standard error, spread and effective count at one place."""
    k = weights(points, at, bandwidth)
    mean = sum(a * b for a, b in zip(k, values, strict=True)) / sum(k)
    variance = sum(a * (b - mean) ** 2 for a, b in zip(k, values, strict=True)) / sum(k)
    effective = sum(k) ** 2 / sum(a * a for a in k)
    return mean, math.sqrt(variance / effective), math.sqrt(variance), effective


def leave_prompt_out(
    points: Sequence[Point], values: Sequence[float], prompts: Sequence[int], bandwidth: float
) -> list[float]:
    """Each sample predicted from those of other prompts only."""
    found = []
    for at, own in zip(points, prompts, strict=True):
        other = [number for number, prompt in enumerate(prompts) if prompt != own]
        mean, *_ = regress([points[o] for o in other], [values[o] for o in other], at, bandwidth)
        found.append(mean)
    return found
