"""Curves for a chart: at most so many points, each with the lowest and the highest value of its bucket."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """Equal lengths; ``low <= mean <= high`` where the values are means of buckets."""

    step: NDArray[np.int64]
    mean: Numbers
    low: Numbers
    high: Numbers


def bucketed(
    steps: NDArray[np.int64],
    values: Numbers,
    points: int,
    *,
    low: Numbers | None = None,
    high: Numbers | None = None,
    start: int | None = None,
    end: int | None = None,
) -> Curve:
    """At most ``points`` buckets of the rows with ``start <= step <= end``.

    The width of a bucket is the smallest power of two that fits, and buckets are cut by position in the whole
    curve: a curve that grows keeps the buckets it had, instead of flickering. ``low`` and ``high``: bounds of
    each value (an interval); without them a bucket shows the extremes of its own values.
    """
    lows, highs = values if low is None else low, values if high is None else high
    here = np.ones(len(steps), dtype=bool)
    if start is not None:
        here &= steps >= start
    if end is not None:
        here &= steps <= end
    (kept,) = np.nonzero(here)
    if not len(kept):
        return Curve(steps[:0], values[:0], values[:0], values[:0])
    width = 1
    # Rows kept need not begin at the edge of a bucket, so one bucket more may be needed.
    while (kept[-1] // width) - (kept[0] // width) + 1 > points:
        width *= 2
    bucket = kept // width
    first = np.concatenate([[0], 1 + np.nonzero(np.diff(bucket))[0]])
    counts = np.diff(np.append(first, len(kept)))
    last = first + counts - 1
    return Curve(
        steps[kept][last],
        np.add.reduceat(values[kept], first) / counts,
        np.minimum.reduceat(lows[kept], first),
        np.maximum.reduceat(highs[kept], first),
    )
