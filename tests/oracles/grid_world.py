"""A finite decision process by brute force: every path written out, one number at a time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

Chances = Sequence[Sequence[Sequence[float]]]
"""chances[state][action][next state]"""


def path_return(
    chances: Chances,
    policy: Sequence[Sequence[Sequence[float]]],
    rewards: Sequence[float],
    start: Sequence[float],
    gamma: float = 1.0,
) -> float:
    """Expected sum of gamma^t rewards[state stepped on]; policy[t][state][action]."""
    states, actions, steps = range(len(rewards)), range(len(policy[0][0])), len(policy)
    total = 0.0
    for walk in itertools.product(states, repeat=steps + 1):
        for deeds in itertools.product(actions, repeat=steps):
            chance = start[walk[0]]
            earned = 0.0
            for t, deed in enumerate(deeds):
                chance *= policy[t][walk[t]][deed] * chances[walk[t]][deed][walk[t + 1]]
                earned += gamma**t * rewards[walk[t + 1]]
            total += chance * earned
    return total


def path_kl(
    chances: Chances,
    policy: Sequence[Sequence[Sequence[float]]],
    reference: Sequence[Sequence[float]],
    start: Sequence[float],
) -> float:
    """KL between whole paths (states and actions) of a policy and of reference[state][action]."""
    states, actions, steps = range(len(start)), range(len(reference[0])), len(policy)
    total = 0.0
    for walk in itertools.product(states, repeat=steps + 1):
        for deeds in itertools.product(actions, repeat=steps):
            chance, log_ratio = start[walk[0]], 0.0
            for t, deed in enumerate(deeds):
                chance *= policy[t][walk[t]][deed] * chances[walk[t]][deed][walk[t + 1]]
                if chance == 0:
                    break
                log_ratio += math.log(policy[t][walk[t]][deed] / reference[walk[t]][deed])
            total += chance * log_ratio if chance else 0.0
    return total


def best_policy(
    chances: Chances, reference: Sequence[Sequence[float]], rewards: Sequence[float], steps: int, beta: float
) -> list[list[list[float]]]:
    """The policy of the greatest E return - beta path KL, by recursion over the number of steps left.

    The objective of one state is sum_a p_a (Q_a - beta log(p_a / ref_a)), whose greatest p is proportional to
    ref_a exp(Q_a / beta).
    """
    following = [0.0] * len(rewards)
    policy: list[list[list[float]]] = []
    for _ in range(steps):
        rows, now = [], []
        for state in range(len(rewards)):
            gains = [
                sum(p * (rewards[after] + following[after]) for after, p in enumerate(chances[state][action]))
                for action in range(len(reference[state]))
            ]
            weights = [r * math.exp(g / beta) for r, g in zip(reference[state], gains, strict=True)]
            row = [w / sum(weights) for w in weights]
            now.append(
                sum(
                    p * (g - beta * math.log(p / r))
                    for p, g, r in zip(row, gains, reference[state], strict=True)
                )
            )
            rows.append(row)
        policy.insert(0, rows)
        following = now
    return policy
