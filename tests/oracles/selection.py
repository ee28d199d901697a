"""Selection from a pool one completion at a time. `None` is a completion that may not be selected."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

Pool = list[list[float | None]]


def top_per_prompt(rewards: Pool, keep: int) -> list[int]:
    """S(R)_i = argmax_j R_ij, again and again without what was taken."""
    chosen = []
    for i, row in enumerate(rewards):
        left = dict(enumerate(row))
        for _ in range(keep):
            best = None
            for j, reward in left.items():
                if reward is not None and (best is None or reward > left[best]):  # type: ignore[operator]
                    best = j
            if best is not None:
                chosen.append(i * len(row) + best)
                del left[best]
    return chosen


def top_overall(rewards: Pool, keep: int) -> list[int]:
    """The K largest of the flattened pool; k -> (k // N, k mod N)."""
    flat = [reward for row in rewards for reward in row]
    chosen: list[int] = []
    while len(chosen) < keep:
        left = [(-r, k) for k, r in enumerate(flat) if r is not None and k not in chosen]
        if not left:
            break
        chosen.append(min(left)[1])
    return chosen


def accept(rewards: list[float | None], uniforms: list[list[float]], beta: float, keep: int) -> list[int]:
    """Liu et al. 2024, algorithm 1, for one prompt, with the uniform numbers given."""
    candidates = {j: r for j, r in enumerate(rewards) if r is not None}
    accepted: list[int] = []
    for numbers in uniforms:
        if len(accepted) == keep or not candidates:
            break
        highest = max(candidates.values())
        removed = []
        for j, r in candidates.items():
            if numbers[j] >= math.exp((r - highest) / beta):
                continue
            accepted.append(j)
            removed.append(j)
            if len(accepted) == keep:
                break
        for j in removed:
            del candidates[j]
    return accepted


def acceptance_probabilities(
    rewards: list[float], beta: float, keep: int, before: tuple[int, ...] = ()
) -> dict[tuple[int, ...], float]:
    """The probability of every possible result of `accept`, by enumerating who is accepted in each pass."""
    left = [j for j in range(len(rewards)) if j not in before]
    if len(before) >= keep or not left:
        return {before[:keep]: 1.0}
    highest = max(rewards[j] for j in left)
    chances = [math.exp((rewards[j] - highest) / beta) for j in left]
    result: dict[tuple[int, ...], float] = {}
    for outcome in itertools.product((True, False), repeat=len(left)):
        probability = math.prod(c if yes else 1 - c for c, yes in zip(chances, outcome, strict=True))
        if probability:
            taken = (*before, *(j for j, yes in zip(left, outcome, strict=True) if yes))
            for end, rest in acceptance_probabilities(rewards, beta, keep, taken).items():
                result[end] = result.get(end, 0.0) + probability * rest
    return result


def best_of_n(rewards: list[float], n: int, values: list[float]) -> float:
    """The mean over all subsets of n; samples that tie for the best share the subset."""
    total = Fraction(0)
    subsets = list(itertools.combinations(range(len(rewards)), n))
    for subset in subsets:
        top = max(rewards[j] for j in subset)
        winners = [Fraction(values[j]) for j in subset if rewards[j] == top]
        total += sum(winners, Fraction(0)) / len(winners)
    return float(total / len(subsets))
