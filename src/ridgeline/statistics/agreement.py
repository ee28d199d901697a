"""How well scores, labels and probabilities agree with one another.

Coefficients that divide by a spread (correlations, kappa, alpha) are NaN where the spread is zero: a constant
says nothing about agreement, and 0 or 1 would claim otherwise.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ridgeline.statistics.inputs import Floats, Labels, pair
from ridgeline.statistics.intervals import Estimate, clustered_share_interval


def pairwise_accuracy(chosen: ArrayLike, rejected: ArrayLike) -> float:
    """Share of pairs in which the chosen score is above the rejected one, ties counting half; in [0, 1]."""
    return float(_correct(chosen, rejected).mean())


def pairwise_accuracy_interval(
    chosen: ArrayLike, rejected: ArrayLike, clusters: Labels | None = None, *, level: float = 0.95
) -> Estimate:
    """`pairwise_accuracy` with an interval over prompts (`clusters`: the prompt of each pair).

    Prompts weigh the same, so with uneven numbers of pairs the value differs from the plain share.
    """
    return clustered_share_interval(_correct(chosen, rejected), clusters, level=level)


def pearson(x: ArrayLike, y: ArrayLike) -> float:
    """Pearson's linear correlation in [-1, 1]; NaN where either side is constant."""
    return _correlation(*pair(x, y, ("x", "y")))


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Spearman's rank correlation in [-1, 1], tied values sharing their mean rank; NaN for a constant."""
    left, right = pair(x, y, ("x", "y"))
    return _correlation(_ranks(left), _ranks(right))


def cohen_kappa(first: Sequence[Hashable], second: Sequence[Hashable]) -> float:
    """Cohen's kappa of two annotators who labelled the same items (Cohen 1960).

    (p_o - p_e) / (1 - p_e): agreement beyond what their own label frequencies give by chance. 1 is full
    agreement, 0 is chance; NaN where both used one and the same label throughout.
    """
    left, right = list(first), list(second)
    if not left:
        raise ValueError("first is empty; kappa needs at least one item labelled by both annotators.")
    if len(left) != len(right):
        raise ValueError(f"first has {len(left)} labels and second has {len(right)}; they must match.")
    count = len(left)
    agreed = sum(a == b for a, b in zip(left, right, strict=True))
    tally_left, tally_right = Counter(left), Counter(right)
    by_chance = sum(tally_left[label] * tally_right[label] for label in tally_left)
    # Whole numbers up to here, so that "always the same label" is recognised exactly.
    if by_chance == count**2:
        return math.nan
    return (agreed / count - by_chance / count**2) / (1 - by_chance / count**2)


def krippendorff_alpha(ratings: Sequence[Sequence[Hashable | None]]) -> float:
    """Krippendorff's alpha for nominal labels: any number of annotators, labels may be missing.

    `ratings` holds one row per item: its labels by annotator, None where one did not label. Rows may differ
    in length. alpha = 1 - observed / expected disagreement over pairs of labels of the same item; items with
    fewer than two labels form no pair and do not count (Krippendorff 2011). 1 is full agreement, 0 is
    chance; NaN where only one label occurs. Raises ValueError where no item has two labels.
    """
    items = [[label for label in row if label is not None] for row in ratings]
    items = [labels for labels in items if len(labels) >= 2]
    if not items:
        raise ValueError("no item has two labels, so there is nothing to compare; alpha needs overlap.")
    totals = Counter(label for labels in items for label in labels)
    count = sum(totals.values())
    if len(totals) == 1:
        return math.nan
    observed = math.fsum(_disagreeing(Counter(labels)) / (len(labels) - 1) for labels in items)
    return 1 - (count - 1) * observed / _disagreeing(totals)


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Predictions in [low, high) (the last bin includes 1): what they said and what happened."""

    low: float
    high: float
    mean_predicted: float
    observed_share: float
    count: int


def reliability_table(
    probabilities: ArrayLike, outcomes: ArrayLike, bins: int = 10
) -> tuple[ReliabilityBin, ...]:
    """Bins of equal width over [0, 1]: mean prediction, observed share, count; empty bins are left out.

    `outcomes` are 0 or 1 (0.5 for a tie). For preference pairs the order must not give the answer away: with
    "chosen" always first every outcome is 1, so use the order shown, or enter each pair both ways round.
    """
    predicted, happened = _forecast(probabilities, outcomes)
    if bins < 1:
        raise ValueError(f"bins must be at least 1, not {bins}.")
    # Divided and searched, neither spaced nor multiplied: so a prediction of 0.3 opens the bin from 0.3.
    edges = np.arange(bins + 1) / bins
    bin_N = np.clip(np.searchsorted(edges, predicted, side="right") - 1, 0, bins - 1)
    table = []
    for number in np.unique(bin_N):
        inside = bin_N == number
        table.append(
            ReliabilityBin(
                low=float(edges[number]),
                high=float(edges[number + 1]),
                mean_predicted=float(predicted[inside].mean()),
                observed_share=float(happened[inside].mean()),
                count=int(inside.sum()),
            )
        )
    return tuple(table)


def expected_calibration_error(probabilities: ArrayLike, outcomes: ArrayLike, bins: int = 10) -> float:
    """Mean over samples of |mean predicted - observed share| of their bin; 0 is calibrated, at most 1.

    Bins and the caution about pair order as in `reliability_table` (Naeini 2015; Guo 2017). Biased upwards
    on small sets: a calibrated predictor on n samples does not score 0.
    """
    table = reliability_table(probabilities, outcomes, bins)
    gaps = math.fsum(row.count * abs(row.mean_predicted - row.observed_share) for row in table)
    return gaps / sum(row.count for row in table)


def brier(probabilities: ArrayLike, outcomes: ArrayLike) -> float:
    """Brier score, mean of (probability - outcome)²: 0 is perfect, 0.25 is always saying 0.5, 1 is worst."""
    predicted, happened = _forecast(probabilities, outcomes)
    return float(np.mean((predicted - happened) ** 2))


def _correct(chosen: ArrayLike, rejected: ArrayLike) -> Floats:
    above, below = pair(chosen, rejected, ("chosen", "rejected"))
    correct: Floats = (np.sign(above - below) + 1) / 2
    return correct


def _correlation(x: Floats, y: Floats) -> float:
    # Compared exactly: the mean of equal floats may differ from them by a rounding error.
    if np.all(x == x[0]) or np.all(y == y[0]):
        return math.nan
    x, y = x - x.mean(), y - y.mean()
    # Scaled first, so that tiny or huge values neither underflow nor overflow when squared.
    x, y = x / np.abs(x).max(), y / np.abs(y).max()
    return float(np.clip((x @ y) / math.sqrt(float(x @ x) * float(y @ y)), -1.0, 1.0))


def _ranks(values: Floats) -> Floats:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Floats = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return ranks


def _disagreeing(tally: Counter[Hashable]) -> int:
    """Ordered pairs of different labels."""
    return sum(tally.values()) ** 2 - sum(count**2 for count in tally.values())


def _forecast(probabilities: ArrayLike, outcomes: ArrayLike) -> tuple[Floats, Floats]:
    predicted, happened = pair(probabilities, outcomes, ("probabilities", "outcomes"))
    for array, name in ((predicted, "probabilities"), (happened, "outcomes")):
        if array.min() < 0 or array.max() > 1:
            raise ValueError(f"{name} must lie in [0, 1]; they reach from {array.min()} to {array.max()}.")
    return predicted, happened
