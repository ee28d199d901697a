"""A completion cut where its path has its points: at a quarter, a half, three quarters and the end."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from ridgeline.models.pooling import FRACTIONS
from ridgeline.statistics.inputs import Floats


def ends(length: int, fractions: Sequence[float] = FRACTIONS) -> list[int]:
    """How many tokens have been read at each point of the path of a completion of ``length`` tokens."""
    return [math.ceil(fraction * length) for fraction in fractions]


def segment_sums(tokens: ArrayLike, fractions: Sequence[float] = FRACTIONS) -> Floats:
    """Sum of a number per token over the tokens that lead to each point, ``[F]``; together the whole."""
    values = np.asarray(tokens, dtype=np.float64)
    total = np.concatenate([[0.0], np.cumsum(values)])
    return np.diff(total[[0, *ends(len(values), fractions)]])


def segment_means(tokens: ArrayLike, fractions: Sequence[float] = FRACTIONS) -> Floats:
    """Mean over the tokens that lead to each point, ``[F]``; nan where a point has no token of its own."""
    values = np.asarray(tokens, dtype=np.float64)
    counts = np.diff([0, *ends(len(values), fractions)])
    with np.errstate(invalid="ignore", divide="ignore"):
        means: Floats = np.where(counts > 0, segment_sums(values, fractions) / counts, np.nan)
    return means
