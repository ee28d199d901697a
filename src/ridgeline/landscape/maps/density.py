"""The corridor: highest-density regions of the reference cloud, their outlines, and who is outside."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from contourpy import contour_generator

from ridgeline.landscape.maps.kernel import CHUNK, lattice
from ridgeline.statistics.inputs import Floats

LEVELS = (0.5, 0.9, 0.99)
RIM = 7.0
"""Bandwidths beyond the outermost sample; a kernel is 2e-11 of its height there."""


@dataclass(frozen=True)
class Corridor:
    """Density of the reference cloud, and the density on the edge of each region that holds LEVELS of it."""

    cloud_M2: Floats
    bandwidth_2: Floats
    edges: tuple[float, ...]

    def density(self, points_N2: Floats) -> Floats:
        """Gaussian kernel estimate, per squared standard deviation, ``[N]``."""
        return _density(self.cloud_M2, points_N2, self.bandwidth_2)

    def outside(self, points_N2: Floats, level: float) -> np.ndarray:
        """``[N]``: whether a point is outside the region that holds ``level`` of the reference."""
        beyond: np.ndarray = self.density(points_N2) < self.edges[LEVELS.index(level)]
        return beyond

    def outlines(self, n: int) -> list[tuple[float, Floats]]:
        """(level, closed polyline ``[K, 2]``) of every piece of every region, the outermost first.

        On an n x n grid of their own, wide enough that no outline is cut off at its rim.
        """
        low_2 = self.cloud_M2.min(0) - RIM * self.bandwidth_2
        high_2 = self.cloud_M2.max(0) + RIM * self.bandwidth_2
        bounds = (low_2[0], high_2[0]), (low_2[1], high_2[1])
        (low_x, high_x), (low_y, high_y) = bounds
        height = self.density(lattice(bounds, n)).reshape(n, n)
        maker = contour_generator(
            np.linspace(low_x, high_x, n), np.linspace(low_y, high_y, n), np.log(height + 1e-300)
        )
        pairs = sorted(zip(LEVELS, self.edges, strict=True), reverse=True)
        return [
            (level, np.asarray(line, dtype=np.float64))
            for level, edge in pairs
            for line in maker.lines(np.log(edge))
        ]


def corridor(cloud_M2: Floats) -> Corridor:
    """Scott's bandwidth; edges are quantiles of the density that each sample gets from the others.

    Its own kernel would make a sample look less exceptional than a new one of the same policy does.
    """
    count = len(cloud_M2)
    bandwidth_2 = np.maximum(cloud_M2.std(0, ddof=1), 1e-9) * count ** (-1 / 6)
    own = 1 / (2 * np.pi * bandwidth_2.prod())
    left_out = (_density(cloud_M2, cloud_M2, bandwidth_2) * count - own) / max(count - 1, 1)
    lowest = own * np.exp(-((RIM - 1) ** 2) / 2) / count
    edges = np.maximum(np.quantile(left_out, [1 - level for level in LEVELS]), lowest)
    return Corridor(cloud_M2, bandwidth_2, tuple(float(edge) for edge in edges))


def _density(cloud_M2: Floats, points_N2: Floats, bandwidth_2: Floats) -> Floats:
    parts = [np.zeros(0)]
    for start in range(0, len(points_N2), CHUNK):
        gaps = (points_N2[start : start + CHUNK, None] - cloud_M2[None]) / bandwidth_2
        parts.append(np.exp(-(gaps**2).sum(-1) / 2).mean(1))
    total: Floats = np.concatenate(parts) / (2 * np.pi * bandwidth_2.prod())
    return total
