"""Probabilities of tokens or steps as one of the completion, in plain loops."""

from __future__ import annotations

import math


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def aggregate(logits: list[float], how: str, last_m: int | None = None) -> float:
    """Cobbe et al. 2021 (the last token), Lightman et al. 2023 (product and minimum over steps)."""
    p = [sigmoid(logit) for logit in logits]
    n = len(p)
    if how == "last":
        return p[-1]
    if how == "mean":
        return sum(p) / n
    if how == "min":
        return sorted(p)[0]
    if how == "product":
        result = 1.0
        for each in p:
            result *= each
        return result
    if how == "mean_last_m":
        assert last_m is not None
        tail = p[-last_m:]
        return sum(tail) / len(tail)
    if how == "late":
        return sum((i + 1) * each for i, each in enumerate(p)) / sum(range(1, n + 1))
    assert how == "pooled"
    return sigmoid(sum(logits) / n)


def not_bad(logits: list[float]) -> float:
    """P(0) + P(+1) of a softmax over bad, neutral and good."""
    weights = [math.exp(x) for x in logits]
    return (weights[1] + weights[2]) / sum(weights)
