"""Advantages one number at a time. `None` is a reward that does not apply."""

from __future__ import annotations

import math


def z_score(group: list[float | None], epsilon: float) -> list[float]:
    """GRPO, Shao et al. 2024, section 4.1.2: (r_i - mean) / std, sample standard deviation."""
    known = [r for r in group if r is not None]
    if len(known) < 2:
        return [0.0] * len(group)
    mean = sum(known) / len(known)
    std = math.sqrt(sum((r - mean) ** 2 for r in known) / (len(known) - 1))
    return [0.0 if r is None else (r - mean) / (std + epsilon) for r in group]


def leave_one_out(group: list[float | None]) -> list[float]:
    """RLOO, Ahmadian et al. 2024, equation 8: r_i - mean of the others."""
    result = []
    for i, r in enumerate(group):
        others = [o for j, o in enumerate(group) if j != i and o is not None]
        result.append(0.0 if r is None or not others else r - sum(others) / len(others))
    return result


def gae(
    rewards: list[float], values: list[float], valid: list[bool], gamma: float, lam: float
) -> list[float]:
    """Schulman et al. 2016, equation 16, as the double sum, after cutting out the invalid positions."""
    r = [x for x, ok in zip(rewards, valid, strict=True) if ok]
    v = [x for x, ok in zip(values, valid, strict=True) if ok] + [0.0]
    dense = []
    for t in range(len(r)):
        dense.append(
            sum((gamma * lam) ** (k - t) * (r[k] + gamma * v[k + 1] - v[k]) for k in range(t, len(r)))
        )
    queue = iter(dense)
    return [next(queue) if ok else 0.0 for ok in valid]


def optimal_value(group: list[float | None], beta: float) -> list[float]:
    """A*-PO, Brantley et al. 2025: r - beta log mean exp(r / beta)."""
    known = [r for r in group if r is not None]
    if not known:
        return [0.0] * len(group)
    value = beta * math.log(sum(math.exp(r / beta) for r in known) / len(known))
    return [0.0 if r is None else r - value for r in group]


def process(steps: list[list[tuple[int, float]]], lengths: list[int], epsilon: float) -> list[list[float]]:
    """Shao et al. 2024, section 4.1.3: normalise over all steps of the group, sum what follows a token."""
    everything: list[float | None] = [reward for own in steps for _, reward in own]
    normalised = iter(z_score(everything, epsilon))
    scored = [[(end, next(normalised)) for end, _ in own] for own in steps]
    return [
        [sum(value for end, value in own if end >= t) for t in range(length)]
        for own, length in zip(scored, lengths, strict=True)
    ]


def separate(
    prompts: list[list[list[float | None]]], weights: list[float], epsilon: float
) -> list[list[float]]:
    """GDPO, Liu et al. 2026: prompts[p][c][g], normalised per reward, then per batch."""
    summed = []
    for components in prompts:
        scores = [z_score(component, epsilon) for component in components]
        size = len(components[0])
        summed.append([sum(w * s[g] for w, s in zip(weights, scores, strict=True)) for g in range(size)])
    flat = [a for group in summed for a in group]
    mean = sum(flat) / len(flat)
    std = math.sqrt(sum((a - mean) ** 2 for a in flat) / (len(flat) - 1))
    return [[(a - mean) / (std + epsilon) for a in group] for group in summed]
