"""Transforms of log-probs, one sequence at a time."""

from __future__ import annotations

import math


def generator(t: float, divergence: str, alpha: float) -> float:
    """f(t) of Wang et al. 2023, table of f-divergences."""
    if divergence == "reverse_kl":
        return t * math.log(t)
    if divergence == "forward_kl":
        return -math.log(t)
    if divergence == "js":
        return t * math.log(t) - (t + 1) * math.log((t + 1) / 2)
    power = math.exp((1 - alpha) * math.log(t))
    return (power - (1 - alpha) * t - alpha) / (alpha * (alpha - 1))


def derivative(u: float, divergence: str, alpha: float = 0.5, step: float = 1e-6) -> float:
    """f'(u) by differences."""
    above, below = generator(u + u * step, divergence, alpha), generator(u - u * step, divergence, alpha)
    return (above - below) / (2 * u * step)


def length_desensitised(logp: list[float], public: int, alpha: float) -> float:
    """Liu et al. 2024: log pi(y_1..l_p) + alpha log pi(y_l_p+1..l)."""
    return sum(logp[:public]) + alpha * sum(logp[public:])


def wpo_weight(token_ids: list[int], distributions: list[list[float]]) -> float:
    """Zhou et al. 2024, equation 2 with sampled alignment: geometric mean of pi(y_t) / sum_v pi(v)^2."""
    product = 1.0
    for token, probabilities in zip(token_ids, distributions, strict=True):
        product *= probabilities[token] / sum(p * p for p in probabilities)
    return math.exp(math.log(product) / len(token_ids))
