"""Derivatives by central differences, for oracles that are plain functions of a list of floats."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def gradient(f: Callable[[list[float]], float], point: Sequence[float], step: float = 1e-5) -> list[float]:
    result = []
    for i in range(len(point)):
        above, below = list(point), list(point)
        above[i] += step
        below[i] -= step
        result.append((f(above) - f(below)) / (2 * step))
    return result
