"""What lies on the map: value, paths, points, route, start, pin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ridgeline.landscape.pictures.fonts import BOLD
from ridgeline.landscape.pictures.ground import signed
from ridgeline.landscape.pictures.relief import contour_levels, contour_lines, label_places, without_gap
from ridgeline.landscape.pictures.scene import ADVANTAGE, Array, Scene

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_PATHS = 24
"""More than this cannot be told apart."""
THICK = 2.6
"""Line width in points of a step with the largest advantage."""


def draw_value(axes: Axes, scene: Scene, taken: list[Array]) -> list[Array]:
    """Dashed violet contours of V with their numbers; the places of the labels are returned."""
    from matplotlib.collections import LineCollection

    field = scene.frame.value
    if field is None or not np.isfinite(field).any():
        return []
    levels = contour_levels(float(np.nanmin(field)), float(np.nanmax(field)), 7, 1)
    lines = contour_lines(field, scene.terrain.axis_x, scene.terrain.axis_y, levels.values)
    corners = np.array([scene.terrain.x, scene.terrain.y]).T
    margin = 0.05 * (corners[1] - corners[0])
    places = dict(label_places(lines, taken, 0.1 * scene.width, (corners[0] + margin, corners[1] - margin)))
    pieces: list[Array] = []
    for number, (level, line) in enumerate(lines):
        if number not in places:
            pieces.append(line)
            continue
        place = line[places[number]]
        pieces += without_gap(line, place, 0.03 * scene.width)
        axes.text(
            place[0],
            place[1],
            signed(level),
            fontsize=6.5,
            **BOLD,
            color=scene.theme.value,
            ha="center",
            va="center",
            zorder=4.1,
            bbox={
                "boxstyle": "round,pad=0.15",
                "facecolor": scene.theme.surface,
                "edgecolor": "none",
                "alpha": 0.72,
            },
            gid=f"value-label-{number}",
        )
    casing = LineCollection(pieces, colors=scene.theme.surface, linewidths=2.6, alpha=0.3, zorder=3.9)
    axes.add_collection(casing, autolim=False)
    drawn = LineCollection(
        pieces, colors=scene.theme.value, linewidths=1.0, linestyles=[(0, (4, 2.2))], alpha=0.9, zorder=4
    )
    drawn.set_gid("value-contours")
    axes.add_collection(drawn, autolim=False)
    return [lines[number][1][vertex] for number, vertex in places.items()]


def draw_paths(axes: Axes, scene: Scene, scale: float = 1.0) -> None:
    """Paths, coloured by the sign of each step's advantage, as wide as it is large, fading with time.

    ``scale`` thins all lines, for small maps.
    """
    if scene.told is None:
        return
    largest = _scale(scene.paths)
    for number, path in enumerate(scene.paths[1:MOST_PATHS]):
        _draw_path(axes, scene, path, largest, f"path-{number}", 0.6 * scale, strong=False)
    _draw_path(axes, scene, scene.told, largest, "path-told", scale, strong=True)


def _scale(paths: Sequence[Array]) -> float:
    """The 95 % quantile of |advantage|: a single outlier should not thin out everything else."""
    sizes = np.abs(np.concatenate([path[1:, ADVANTAGE] for path in paths]))
    sizes = sizes[np.isfinite(sizes)]
    return float(np.quantile(sizes, 0.95)) or 1.0 if len(sizes) else 1.0


def _draw_path(
    axes: Axes, scene: Scene, path: Array, largest: float, name: str, scale: float, *, strong: bool
) -> None:
    from matplotlib.collections import LineCollection
    from matplotlib.colors import to_rgba

    theme = scene.theme
    advantage = np.nan_to_num(path[1:, ADVANTAGE].astype(float))
    size = np.clip(np.abs(advantage) / largest, 0, 1)
    fade = np.linspace(1.0, 1.0 if strong else 0.25, len(advantage))
    colours = [
        (*to_rgba(theme.accent if a >= 0 else theme.cool)[:3], (1.0 if strong else 0.6) * f)
        for a, f in zip(advantage, fade, strict=True)
    ]
    widths = ((1.1 if strong else 0.5) + THICK * size) * scale
    segments = np.stack([path[:-1, :2], path[1:, :2]], axis=1)
    if strong:
        casing = LineCollection(
            [path[:, :2]],
            colors=theme.surface,
            linewidths=(THICK + 1.6) * scale,
            alpha=0.8,
            capstyle="round",
            joinstyle="round",
            zorder=6,
        )
        axes.add_collection(casing, autolim=False)
    drawn = LineCollection(
        list(segments), colors=colours, linewidths=widths, capstyle="round", zorder=6.1 if strong else 5
    )
    drawn.set_gid(name)
    axes.add_collection(drawn, autolim=False)
    if strong:
        dots = axes.scatter(
            path[1:, 0], path[1:, 1], s=5 * scale**2, color=theme.ink, linewidths=0, zorder=6.2
        )
        dots.set_gid("path-told-steps")


def draw_points(axes: Axes, scene: Scene) -> None:
    """Completions: triangles up where the advantage is positive, down where it is negative."""
    points = scene.frame.points
    if points is None or not len(points):
        return
    advantage = np.nan_to_num(points[:, 4])
    shown = np.isfinite(points[:, :2]).all(1)
    for name, marker, colour, chosen in (
        ("up", "^", scene.theme.accent, advantage >= 0),
        ("down", "v", scene.theme.cool, advantage < 0),
    ):
        drawn = axes.scatter(
            points[shown & chosen][:, 0],
            points[shown & chosen][:, 1],
            marker=marker,
            s=11,
            color=colour,
            edgecolors=scene.theme.surface,
            linewidths=0.35,
            alpha=0.85,
            zorder=4.5,
        )
        drawn.set_gid(f"points-{name}")


def draw_route(axes: Axes, scene: Scene) -> None:
    """The route that the reference was cloned from, and the start."""
    route, start, theme = scene.detail("route"), scene.detail("start"), scene.theme
    if route:
        (line,) = axes.plot(
            *np.asarray(route).T,
            color=theme.mint,
            linewidth=1.4,
            linestyle=(0, (0.1, 2.4)),
            dash_capstyle="round",
            zorder=4.2,
        )
        line.set_gid("route")
    if start:
        for size, colour in ((62, theme.surface), (34, theme.mint)):
            mark = axes.scatter(start[0], start[1], s=size, color=colour, linewidths=0, zorder=6.5)
            mark.set_gid("start")
    goal = scene.detail("goal")
    if goal:
        from matplotlib.patches import Circle

        ring = Circle(
            (goal[0], goal[1]),
            goal[2],
            fill=False,
            edgecolor=theme.accent,
            linewidth=1.2,
            linestyle=(0, (1, 1.5)),
        )
        ring.set_gid("goal")
        ring.set_zorder(4.3)
        axes.add_patch(ring)


def draw_pin(axes: Axes, scene: Scene) -> None:
    """The current state."""
    if scene.pin is None:
        return
    for size, colour, name in ((105, scene.theme.surface, "pin-casing"), (62, scene.theme.pin, "pin")):
        mark = axes.scatter(scene.pin[0], scene.pin[1], s=size, color=colour, linewidths=0, zorder=8)
        mark.set_gid(name)
    axes.scatter(scene.pin[0], scene.pin[1], s=9, color=scene.theme.surface, linewidths=0, zorder=8.1)
