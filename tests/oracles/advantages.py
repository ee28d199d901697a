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
