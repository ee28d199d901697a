"""Policy-gradient losses of one token or one sequence, as the papers print them, negated to be minimised."""

from __future__ import annotations

import math


def clipped(logp: float, old: float, advantage: float, low: float, high: float) -> float:
    """PPO, Schulman et al. 2017, equation 7, by cases; asymmetric as DAPO, Yu et al. 2025, equation 10."""
    ratio = math.exp(logp - old)
    if advantage > 0 and ratio > 1 + high:
        return -(1 + high) * advantage
    if advantage < 0 and ratio < 1 - low:
        return -(1 - low) * advantage
    return -ratio * advantage


def cispo(logp: float, old: float, advantage: float, low: float, high: float, held: float) -> float:
    """MiniMax-M1 2025, equation 4: -sg(clip(ratio)) A log pi; `held` is logp behind the stop."""
    ratio = math.exp(held - old)
    return -min(max(ratio, 1 - low), 1 + high) * advantage * logp


def gspo(logp: list[float], old: list[float], advantage: float, low: float, high: float) -> float:
    """GSPO, Zheng et al. 2025, equations 5 and 7, one sequence."""
    mean = sum(a - b for a, b in zip(logp, old, strict=True)) / len(logp)
    return clipped(mean, 0.0, advantage, low, high)


def truncated_weight(learner: float, sampler: float, cap: float) -> float:
    """Yao et al. 2025: min(pi_learner / pi_sampler, C)."""
    return min(math.exp(learner - sampler), cap)


def k3(logp: float, ref: float) -> float:
    """Schulman 2020: (r - 1) - log r with r = pi_ref / pi."""
    r = math.exp(ref - logp)
    return (r - 1) - math.log(r)


def value(v: float, old: float, target: float, clip: float) -> float:
    """Huang et al. 2022, detail 9: max of the squared errors of the free and the clipped value, halved."""
    near = old + min(max(v - old, -clip), clip)
    return max((v - target) ** 2, (near - target) ** 2) / 2
