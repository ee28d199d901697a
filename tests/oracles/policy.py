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


def two_sided(logp: float, old: float, advantage: float, low: float, high: float, delta: float) -> float:
    """INTELLECT-2, Prime Intellect 2025: min(min(ratio, delta) A, clip(ratio) A)."""
    ratio = math.exp(logp - old)
    return -min(min(ratio, delta) * advantage, min(max(ratio, 1 - low), 1 + high) * advantage)


def gmpo(logp: list[float], old: list[float], advantage: float, low: float, high: float) -> float:
    """Zhao et al. 2025, one sequence: the product of pessimistic ratios to the power 1/|o|."""
    product = 1.0
    for a, b in zip(logp, old, strict=True):
        ratio = math.exp(a - b)
        held = min(max(ratio, 1 - low), 1 + high)
        product *= min(ratio, held) if advantage > 0 else max(ratio, held)
    return -(product ** (1 / len(logp))) * advantage


def sapo(logp: float, old: float, advantage: float, tau: float) -> float:
    """Gao et al. 2025: the gate 4/tau sigmoid(tau (ratio - 1))."""
    ratio = math.exp(logp - old)
    return -(4 / tau) / (1 + math.exp(-tau * (ratio - 1))) * advantage


def topr(logp: list[float], old: list[float], advantage: float, held: list[float]) -> float:
    """Le Roux et al. 2025, one sequence; `held` is logp behind the stop."""
    weight = 1.0
    if advantage <= 0:
        for a, b in zip(held, old, strict=True):
            weight *= math.exp(a - b)
        weight = min(weight, 1.0)
    return -weight * advantage * sum(logp)


def vespo(
    logp: list[float], old: list[float], advantage: float, k: float, rate: float, held: list[float]
) -> float:
    """VESPO 2026: phi(W) A log pi with phi(W) = W^k exp(rate (1 - W)) of the sequence weight W."""
    product = 1.0
    for a, b in zip(held, old, strict=True):
        product *= math.exp(a - b)
    return -(product**k) * math.exp(rate * (1 - product)) * advantage * sum(logp)


def dppo(logp: float, old: float, advantage: float, sampler: float, limit: float) -> float:
    """Qi et al. 2026, binary total variation: nothing to learn beyond the limit, in the same direction."""
    pi, mu = math.exp(logp), math.exp(sampler)
    away = (advantage > 0 and pi > mu) or (advantage < 0 and pi < mu)
    return 0.0 if abs(pi - mu) > limit and away else -math.exp(logp - old) * advantage


def regression(logp: list[float], anchor: list[float], advantage: float, beta: float) -> float:
    """Kimi k1.5 2025, section 2.3.2, and A*-PO, Brantley et al. 2025, both over 2 beta."""
    log_ratio = sum(logp) - sum(anchor)
    return (advantage - beta * log_ratio) ** 2 / (2 * beta)
