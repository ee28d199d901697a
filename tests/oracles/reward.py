"""Reward-model losses one prompt at a time."""

from __future__ import annotations

import math


def bradley_terry(chosen: float, rejected: float, margin: float = 0.0) -> float:
    """Ouyang et al. 2022, equation 1 without the 1/C(K,2); margin as Touvron et al. 2023, equation 2."""
    return -math.log(1 / (1 + math.exp(-(chosen - rejected - margin))))


def soft_bradley_terry(chosen: float, rejected: float, probability: float, margin: float = 0.0) -> float:
    """Christiano et al. 2017, section 2.2.3: cross-entropy with the label's own distribution."""
    sure, reverse = bradley_terry(chosen, rejected, margin), bradley_terry(rejected, chosen, -margin)
    return probability * sure + (1 - probability) * reverse


def grouped(scores: list[float], ranks: list[float]) -> float:
    """Ouyang et al. 2022, equation 1: mean over the pairs of one prompt."""
    losses = []
    for i in range(len(scores)):
        for j in range(len(scores)):
            if ranks[i] < ranks[j]:
                losses.append(bradley_terry(scores[i], scores[j]))
    return sum(losses) / len(losses) if losses else 0.0


def plackett_luce(scores: list[float]) -> float:
    """Plackett 1975: the product over ranks of the share among what is left."""
    probability = 1.0
    for k in range(len(scores)):
        probability *= math.exp(scores[k]) / sum(math.exp(s) for s in scores[k:])
    return -math.log(probability)


def binary(logit: float, label: float) -> float:
    """Cobbe et al. 2021: -(y log p + (1 - y) log(1 - p))."""
    p = 1 / (1 + math.exp(-logit))
    return -(label * math.log(p) + (1 - label) * math.log(1 - p))


def three_way(logits: list[float], label: int) -> float:
    """Lightman et al. 2023: cross-entropy over bad, neutral, good."""
    return -math.log(math.exp(logits[label + 1]) / sum(math.exp(x) for x in logits))
