"""Losses of one labelled completion, as the papers print them."""

from __future__ import annotations

import math

from tests.oracles.preference import sigma


def kto(
    logp: float,
    ref: float,
    desirable: bool,
    *,
    reference_point: float,
    beta: float,
    desirable_weight: float,
    undesirable_weight: float,
) -> float:
    """Ethayarajh et al. 2024, equation 8: lambda_y - v(x, y)."""
    z0 = reference_point
    if desirable:
        return desirable_weight - desirable_weight * sigma(beta * (logp - ref - z0))
    return undesirable_weight - undesirable_weight * sigma(beta * (z0 - (logp - ref)))


def bco(logp: float, ref: float, desirable: bool, *, shift: float, beta: float) -> float:
    """Jung et al. 2024: binary cross-entropy of the shifted implicit reward."""
    x = beta * (logp - ref) - shift
    return -math.log(sigma(x)) if desirable else -math.log(sigma(-x))


def apo_zero_unpaired(logp: float, ref: float, desirable: bool, *, beta: float) -> float:
    """D'Oosterlinck et al. 2024, equation 7: one half of it, between 0 and 1."""
    p = sigma(beta * (logp - ref))
    return 1 - p if desirable else p
