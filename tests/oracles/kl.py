"""KL divergence and its gradients over a vocabulary small enough to enumerate."""

from __future__ import annotations

import math


def softmax(logits: list[float]) -> list[float]:
    top = max(logits)
    weights = [math.exp(x - top) for x in logits]
    return [w / sum(weights) for w in weights]


def divergence(p: list[float], q: list[float]) -> float:
    """KL(p || q) = sum_v p_v log(p_v / q_v)."""
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def reverse_gradient(p: list[float], q: list[float]) -> list[float]:
    """d KL(p || q) / d logits of p = p_j (log(p_j / q_j) - KL)."""
    total = divergence(p, q)
    return [a * (math.log(a / b) - total) for a, b in zip(p, q, strict=True)]


def forward_gradient(p: list[float], q: list[float]) -> list[float]:
    """d KL(q || p) / d logits of p = p_j - q_j."""
    return [a - b for a, b in zip(p, q, strict=True)]
