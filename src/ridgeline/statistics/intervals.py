"""Estimates with intervals. Samples of one prompt resemble each other, so the unit is the prompt."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri, stdtrit

from ridgeline.statistics.inputs import Floats, Labels, check_level, group, members, number_labels, numbers


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its interval, and the count of independent units (prompts) behind it.

    With a single unit nothing is known about the spread: the interval is then unbounded (-inf to inf), or
    0 to 1 for a share.
    """

    value: float
    low: float
    high: float
    count: int

    def excludes(self, value: float) -> bool:
        """Whether `value` lies outside the interval."""
        return value < self.low or value > self.high

    def as_dict(self) -> dict[str, float | int | None]:
        """Fields for a JSON file; an unbounded end becomes None, since JSON knows no infinity."""
        ends = {"low": self.low, "high": self.high}
        bounded = {key: end if math.isfinite(end) else None for key, end in ends.items()}
        return {"value": self.value, **bounded, "count": self.count}

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def mean_interval(values: ArrayLike, level: float = 0.95) -> Estimate:
    """Mean of independent values with Student's t interval.

    mean ± t(level, n - 1) · s / √n, with s the sample standard deviation. One value gives an unbounded
    interval. Raises ValueError for an empty input or one that holds NaN, infinity or None.
    """
    check_level(level)
    array = numbers(values, "values")
    mean, count = float(array.mean()), len(array)
    if count == 1:
        return Estimate(mean, -math.inf, math.inf, 1)
    half = _t_quantile(level, count - 1) * float(array.std(ddof=1)) / math.sqrt(count)
    return Estimate(mean, mean - half, mean + half, count)


def clustered_mean_interval(
    values: ArrayLike, clusters: Labels | None = None, *, level: float = 0.95
) -> Estimate:
    """Mean over prompts of the mean over each prompt's samples, with a t interval over prompts.

    `values` is `values_PG` (prompts, samples per prompt), or flat with one prompt label per sample in
    `clusters`. Every prompt weighs the same however many samples it has, so a lost sample does not shift
    weight to other prompts. With equal counts the value is the plain mean, and the standard error is the
    cluster-robust one of Miller 2024 ("Adding Error Bars to Evals") with its P / (P - 1) correction.
    """
    return mean_interval(group(values, clusters).means_P, level)


def clustered_share_interval(
    shares: ArrayLike, clusters: Labels | None = None, *, level: float = 0.95
) -> Estimate:
    """As `clustered_mean_interval`, for values in [0, 1]: a Wilson interval that stays inside [0, 1].

    The number of trials in Wilson's formula is the effective one, p(1 - p) / (s² / P) with s² the variance
    of the prompt means, and t with P - 1 degrees of freedom replaces the normal quantile (Korn and Graubard
    1998). Where every prompt is 0, or every prompt is 1, the trials are the P prompts, so the interval
    keeps a width. One prompt gives [0, 1].
    """
    check_level(level)
    shares_P = group(shares, clusters, "shares").means_P
    # Means of ones and zeros may leave [0, 1] by one rounding error.
    if shares_P.min() < -1e-12 or shares_P.max() > 1 + 1e-12:
        raise ValueError(f"shares must lie in [0, 1]; they reach from {shares_P.min()} to {shares_P.max()}.")
    share, count = float(np.clip(shares_P.mean(), 0.0, 1.0)), len(shares_P)
    if count == 1:
        return Estimate(share, 0.0, 1.0, 1)
    binomial = share * (1.0 - share)
    variance = float(shares_P.var(ddof=1)) / count
    if binomial > 0.0 and variance == 0.0:
        return Estimate(share, share, share, count)
    # A mean next to 1 may round to it while the prompts still differ.
    trials = binomial / variance if variance > 0.0 and binomial > 0.0 else float(count)
    low, high = _wilson_ends(share, trials, _t_quantile(level, count - 1))
    return Estimate(share, low, high, count)


def wilson(successes: float, count: int, level: float = 0.95) -> Estimate:
    """Share of successes in `count` independent trials with Wilson's score interval (Wilson 1927).

    Half successes (ties) are allowed. Raises ValueError unless count ≥ 1 and 0 ≤ successes ≤ count.
    """
    check_level(level)
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count}; a share of no trials is undefined.")
    if not 0 <= successes <= count:
        raise ValueError(f"successes must lie between 0 and count = {count}, not {successes}.")
    share = successes / count
    low, high = _wilson_ends(share, float(count), float(ndtri(0.5 + level / 2)))
    return Estimate(share, low, high, count)


def bootstrap(
    values: ArrayLike,
    clusters: Labels | None,
    statistic: Callable[[Floats], float],
    seed: int,
    draws: int = 2000,
    *,
    level: float = 0.95,
) -> Estimate:
    """Percentile bootstrap of any statistic, drawing whole prompts with replacement.

    `values` is flat `[N]` or has one row per sample, `[N, columns]` (several columns for statistics of
    pairs, such as a correlation); `clusters` names the prompt of each row, None makes each row its own.
    `statistic` receives the rows of the drawn prompts, so a prompt with more samples weighs more. The same
    seed gives the same interval. Percentile intervals are too narrow below about 20 prompts; prefer the t
    intervals there. Raises ValueError where the statistic is not finite on the data or on a draw.
    """
    check_level(level)
    rows = numbers(values, "values", dimensions=(1, 2))
    prompt_N, labels = number_labels(clusters, len(rows))
    if draws < 1:
        raise ValueError(f"draws must be at least 1, not {draws}.")
    value, count = float(statistic(rows)), len(labels)
    if not math.isfinite(value):
        raise ValueError(f"the statistic is {value} on the data itself; it must be finite.")
    if count == 1:
        return Estimate(value, -math.inf, math.inf, 1)
    generator = np.random.default_rng(seed)
    positions = members(prompt_N, count)
    drawn = np.empty(draws)
    for draw in range(draws):
        picked = generator.integers(0, count, size=count)
        drawn[draw] = statistic(rows[np.concatenate([positions[prompt] for prompt in picked])])
    undefined = int(np.count_nonzero(~np.isfinite(drawn)))
    if undefined:
        raise ValueError(
            f"the statistic is not finite on {undefined} of {draws} bootstrap draws; "
            f"{count} prompts are too few or too alike for it."
        )
    low, high = np.quantile(drawn, [0.5 - level / 2, 0.5 + level / 2])
    return Estimate(value, float(low), float(high), count)


def _t_quantile(level: float, freedom: int) -> float:
    # scipy.special instead of scipy.stats: the same numbers, half a second less to import.
    return float(stdtrit(freedom, 0.5 + level / 2))


def _wilson_ends(share: float, trials: float, quantile: float) -> tuple[float, float]:
    weight = quantile**2 / trials
    centre = (share + weight / 2) / (1 + weight)
    half = math.sqrt(weight * share * (1 - share) + weight**2 / 4) / (1 + weight)
    # Rounding must not push the end past the share itself when that is exactly 0 or 1.
    return max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share))
