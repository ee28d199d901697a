"""Ensembles of reward models, one completion at a time."""

from __future__ import annotations

import math


def combine(scores: list[float], how: str, spread_weight: float) -> float:
    """Coste et al. 2023, section 3 (mean, worst case, mean minus uncertainty), with the deviation."""
    mean = sum(scores) / len(scores)
    if how == "mean":
        return mean
    if how == "min":
        return sorted(scores)[0]
    return mean - spread_weight * math.sqrt(sum((s - mean) ** 2 for s in scores) / len(scores))
