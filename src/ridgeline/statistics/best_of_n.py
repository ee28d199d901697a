"""What choosing among N samples can give: best-of-n curves, its KL, and whether the choice is informed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ridgeline.statistics.inputs import Floats, numbers


def best_of_n(rewards_PG: ArrayLike, n: int, values_PG: ArrayLike | None = None) -> Floats:
    """Per prompt, what to expect of the best of `n` samples: an array `[prompts]`.

    The mean over all subsets of n of the N samples of a prompt, which is without bias: with rewards in
    ascending order, sum_i C(i - 1, n - 1) / C(N, n) x_(i) (for rewards of 0 and 1 this is pass@n, Chen et
    al. 2021, eq. 1). The best is chosen by reward; `values_PG` is what is read off it, such as gold (default:
    the reward itself). Equal rewards share their chance. Raises ValueError for n outside 1..N, other shapes,
    or entries that are not finite.
    """
    rewards = numbers(rewards_PG, "rewards_PG", dimensions=(2,))
    values = rewards if values_PG is None else numbers(values_PG, "values_PG", dimensions=(2,))
    if values.shape != rewards.shape:
        raise ValueError(
            f"rewards_PG has shape {rewards.shape} and values_PG {values.shape}; they must match."
        )
    samples = rewards.shape[1]
    if not 1 <= n <= samples:
        raise ValueError(f"n must lie between 1 and the {samples} samples of a prompt, not {n}.")
    subsets = math.comb(samples, n)
    chance_G = np.array([math.comb(rank, n - 1) / subsets for rank in range(samples)])
    return np.array([_expected(r, v, chance_G) for r, v in zip(rewards, values, strict=True)])


def kl_of_best_of_n(n: int) -> float:
    """Upper bound of KL(best-of-n || policy) in nats: log n - (n - 1) / n.

    Equality holds where no two samples can tie (Stiennon et al. 2020; that it is a bound: Beirami et al.
    2024). Raises ValueError for n below 1.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, not {n}.")
    return math.log(n) - (n - 1) / n


@dataclass(frozen=True, slots=True)
class Hits:
    """Over decidable prompts: whether the best by reward is good, and the chance of a random choice."""

    hit_D: Floats
    chance_D: Floats


def decidable(good_PG: ArrayLike) -> Floats:
    """1.0 for each prompt that has good and bad samples, else 0.0: only there the choice matters."""
    shares_P = numbers(good_PG, "good_PG", dimensions=(2,)).mean(axis=1)
    mixed: Floats = ((shares_P > 0) & (shares_P < 1)).astype(np.float64)
    return mixed


def argmax_hits(rewards_PG: ArrayLike, good_PG: ArrayLike) -> Hits:
    """How often the argmax of the reward is good, on the decidable prompts, beside a random choice.

    `good_PG` is 1 or 0. Where several samples share the highest reward their share of good ones counts.
    Both arrays of the result are `[decidable prompts]`, and may be empty. Raises ValueError for other shapes.
    """
    rewards = numbers(rewards_PG, "rewards_PG", dimensions=(2,))
    good = numbers(good_PG, "good_PG", dimensions=(2,))
    if good.shape != rewards.shape:
        raise ValueError(f"rewards_PG has shape {rewards.shape} and good_PG {good.shape}; they must match.")
    best = rewards == rewards.max(axis=1, keepdims=True)
    hit_P = (good * best).sum(axis=1) / best.sum(axis=1)
    chosen = decidable(good) > 0
    return Hits(hit_P[chosen], good.mean(axis=1)[chosen])


def _expected(rewards_G: Floats, values_G: Floats, chance_G: Floats) -> float:
    _, group, counts = np.unique(rewards_G, return_inverse=True, return_counts=True)
    # Samples of equal reward stand at neighbouring ranks; each of them is as likely to be the one taken.
    ends = np.cumsum(counts)
    shares = np.array([chance_G[end - count : end].mean() for end, count in zip(ends, counts, strict=True)])
    return float(np.dot(shares[group], values_G))
