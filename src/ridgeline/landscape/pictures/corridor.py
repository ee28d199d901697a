"""Where the reference goes: its tube in the exact world, the regions of its cloud on a map of texts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ridgeline.landscape.pictures.scene import Array, Scene

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_corridor(axes: Axes, scene: Scene) -> None:
    """Where the reference goes: its tube, or the regions that hold 50, 90 and 99 % of its cloud."""
    if scene.frame.corridor_mean is not None:
        _draw_tube(axes, scene)
    for number, (level, line) in enumerate(scene.frame.contours):
        axes.fill(*line.T, color=scene.theme.mint, alpha=0.07, linewidth=0, zorder=3)
        (drawn,) = axes.plot(
            *line.T,
            color=scene.theme.mint,
            linewidth=1.5 - 0.35 * (level > 0.8) - 0.35 * (level > 0.95),
            zorder=3.1,
        )
        drawn.set_linestyle("-" if level < 0.8 else (0, (6, 2)) if level < 0.95 else (0, (2, 2)))
        drawn.set_gid(f"corridor-{number}")


def _draw_tube(axes: Axes, scene: Scene) -> None:
    from contourpy import contour_generator
    from matplotlib.collections import LineCollection
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    x, y = np.linspace(*scene.terrain.x, 181), np.linspace(*scene.terrain.y, 181)
    distance = tube_distance(x, y, scene.frame.corridor_mean, scene.frame.corridor_cov)
    tracer = contour_generator(x, y, distance, fill_type="OuterCode")
    for number, level in enumerate(scene.record.manifest.corridor.levels):
        radius = math.sqrt(-2 * math.log(1 - level))
        for points, codes in zip(*tracer.filled(-1.0, radius), strict=True):
            shape = Path(points, codes)
            axes.add_patch(PathPatch(shape, facecolor=scene.theme.mint, alpha=0.10, linewidth=0, zorder=3))
        dashes = ("solid", (0, (6, 2)), (0, (2, 2)))[min(number, 2)]
        edge = LineCollection(
            [np.asarray(line) for line in tracer.lines(radius)],
            colors=scene.theme.mint,
            linewidths=1.5 - 0.3 * number,
            linestyles=[dashes],
            zorder=3.1,
        )
        edge.set_gid(f"corridor-{number}")
        axes.add_collection(edge, autolim=False)


def tube_distance(x: Array, y: Array, mean: Array, covariance: Array) -> Array:
    """Mahalanobis distance [len(y), len(x)] to the nearest of the reference's clouds over time.

    Between two steps the clouds are interpolated three times, so that the tube has no waist between beads.
    """
    plane = np.stack(np.meshgrid(x, y), axis=-1)
    nearest = np.full(plane.shape[:2], np.inf)
    for t in np.linspace(0, len(mean) - 1, 4 * (len(mean) - 1) + 1):
        a = min(int(t), max(0, len(mean) - 2))
        share = float(t) - a
        b = min(a + 1, len(mean) - 1)
        centre = (1 - share) * mean[a] + share * mean[b]
        spread = (1 - share) * covariance[a] + share * covariance[b] + 1e-9 * np.eye(2)
        offset = plane - centre
        squared = np.einsum("yxi,ij,yxj->yx", offset, np.linalg.inv(spread), offset)
        nearest = np.minimum(nearest, squared)
    distance: Array = np.sqrt(nearest)
    return distance
