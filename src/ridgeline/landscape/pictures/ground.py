"""The map itself: relief, contour lines with labels, fog, frame and scale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ridgeline.landscape.pictures.relief import (
    contour_levels,
    contour_lines,
    label_places,
    relief,
    round_step,
    without_gap,
)
from ridgeline.landscape.pictures.scene import Array, Scene

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CAPTION = 7.5


def draw_ground(axes: Axes, scene: Scene, layer: str, taken: list[Array] | None) -> None:
    """Relief and contours of one layer; labels keep clear of ``taken`` places, None is for no labels."""
    terrain, theme = scene.terrain, scene.theme
    extent = (*terrain.x, *terrain.y)
    axes.set_xlim(*terrain.x)
    axes.set_ylim(*terrain.y)
    axes.set_aspect("equal" if scene.record.manifest.axes.method == "state" else "auto")
    axes.set_facecolor(theme.paper)
    grid = terrain.layers[layer]
    if not grid.shown.all():
        draw_fog(axes, scene)
    image = axes.imshow(
        relief(terrain, grid, theme, scene.limits),
        extent=extent,
        origin="lower",
        interpolation="bilinear",
        aspect=axes.get_aspect(),
        zorder=1,
    )
    image.set_gid(f"relief-{layer}")
    levels = contour_levels(*scene.limits)
    lines = contour_lines(grid.height, terrain.axis_x, terrain.axis_y, levels.values)
    draw_lines(axes, scene, lines, levels.index, taken, layer)
    draw_frame(axes, scene)


def draw_lines(
    axes: Axes,
    scene: Scene,
    lines: list[tuple[float, Array]],
    index: tuple[float, ...],
    taken: list[Array] | None,
    layer: str,
) -> None:
    """Plain contours thin, index contours strong and broken by their label."""
    from matplotlib.collections import LineCollection

    colour = scene.theme.contour
    thin = [line for level, line in lines if level not in index]
    strong = [(level, line) for level, line in lines if level in index]
    plain = LineCollection(thin, colors=colour, linewidths=0.45, alpha=0.42, zorder=2)
    plain.set_gid(f"contours-{layer}")
    axes.add_collection(plain, autolim=False)
    pieces: list[Array] = []
    apart, inside = 0.085 * scene.width, _inner(scene, 0.05)
    places = {} if taken is None else dict(label_places(strong, taken, apart, inside))
    for number, (level, line) in enumerate(strong):
        if number not in places:
            pieces.append(line)
            continue
        vertex = places[number]
        pieces += without_gap(line, line[vertex], 0.028 * scene.width)
        axes.text(
            line[vertex][0],
            line[vertex][1],
            signed(level),
            fontsize=6.5,
            color=_readable(scene, level),
            rotation=_angle(axes, line, vertex),
            rotation_mode="anchor",
            ha="center",
            va="center",
            zorder=3,
            gid=f"contour-label-{layer}-{number}",
        )
    bold = LineCollection(pieces, colors=colour, linewidths=0.95, alpha=0.7, zorder=2)
    bold.set_gid(f"index-contours-{layer}")
    axes.add_collection(bold, autolim=False)


def draw_fog(axes: Axes, scene: Scene) -> None:
    """Hatched paper under the relief: it is seen where the relief is cut."""
    from matplotlib.patches import Rectangle

    (left, right), (low, high) = scene.terrain.x, scene.terrain.y
    fog = Rectangle(
        (left, low),
        right - left,
        high - low,
        facecolor=scene.theme.paper,
        edgecolor=scene.theme.line,
        hatch="/////",
        linewidth=0,
        zorder=0,
    )
    fog.set_gid("fog")
    axes.add_patch(fog)


def draw_frame(axes: Axes, scene: Scene) -> None:
    """A hairline frame with quiet ticks, the names of the axes at their ends."""
    theme, plane = scene.theme, scene.record.manifest.axes
    for spine in axes.spines.values():
        spine.set_color(theme.ink)
        spine.set_linewidth(0.7)
    for axis, (low, high) in ((axes.xaxis, scene.terrain.x), (axes.yaxis, scene.terrain.y)):
        step = round_step((high - low) / 8)
        ticks = np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step
        axis.set_ticks(ticks.tolist(), [signed(tick) for tick in ticks])
    axes.tick_params(
        length=3, width=0.6, color=theme.muted, labelsize=7, labelcolor=theme.muted, pad=3, zorder=9
    )
    axes.set_xlabel(axis_title(plane.x), fontsize=CAPTION, color=theme.muted, loc="right", labelpad=3)
    upright = len(plane.y.name) < 3 and not plane.y.unit
    axes.set_ylabel(
        axis_title(plane.y),
        fontsize=CAPTION,
        color=theme.muted,
        loc="top",
        labelpad=4,
        rotation=0 if upright else 90,
    )


def draw_scale(axes: Axes, scene: Scene) -> None:
    """A bar of a round length, lower left; only where both axes have one unit."""
    from matplotlib.patches import Rectangle

    length = round_step(scene.width / 8)
    left, low = scene.terrain.x[0] + 0.035 * scene.width, scene.terrain.y[0] + 0.035 * scene.width
    theme, thickness = scene.theme, 0.008 * scene.width
    plate = Rectangle(
        (left - 0.018 * scene.width, low - 0.018 * scene.width),
        length + 0.036 * scene.width,
        0.068 * scene.width,
        facecolor=theme.surface,
        edgecolor=theme.line,
        linewidth=0.6,
        alpha=0.86,
        zorder=10,
    )
    axes.add_patch(plate)
    for half, colour in enumerate((theme.ink, theme.surface)):
        bar = Rectangle(
            (left + half * length / 2, low),
            length / 2,
            thickness,
            facecolor=colour,
            edgecolor=theme.ink,
            linewidth=0.6,
            zorder=11,
        )
        bar.set_gid(f"scale-{half}")
        axes.add_patch(bar)
    axes.text(
        left + length / 2,
        low + 1.9 * thickness,
        f"{signed(length)} {scene.record.manifest.axes.x.unit or ('unit' if length == 1 else 'units')}",
        fontsize=7,
        color=theme.ink,
        ha="center",
        va="bottom",
        zorder=11,
    )


def signed(value: float) -> str:
    """A short number with a true minus sign."""
    return f"{value:.4g}".replace("-", "−") if value else "0"


def axis_title(axis: Any) -> str:
    """The name of an axis with its unit in brackets, in one pair where the name has its own."""
    if not axis.unit:
        return str(axis.name)
    if axis.name.endswith(")"):
        return f"{axis.name[:-1]}; {axis.unit})"
    return f"{axis.name} ({axis.unit})"


def _readable(scene: Scene, level: float) -> str:
    """Dark or light, whichever stands out from the ramp at ``level``."""
    low, high = scene.limits
    red, green, blue, _ = scene.theme.colormap()((level - low) / (high - low))
    return "#F5F1E6" if 0.3 * red + 0.59 * green + 0.11 * blue < 0.5 else "#1B1F24"


def _inner(scene: Scene, share: float) -> tuple[Array, Array]:
    low = np.array([scene.terrain.x[0], scene.terrain.y[0]])
    high = np.array([scene.terrain.x[1], scene.terrain.y[1]])
    return low + share * (high - low), high - share * (high - low)


def _angle(axes: Axes, line: Array, vertex: int) -> float:
    """Of the line at the vertex on paper, turned so that the label is never upside down."""
    around = line[[max(0, vertex - 2), min(len(line) - 1, vertex + 2)]]
    (ax, ay), (bx, by) = axes.transData.transform(around)
    angle = float(np.degrees(np.arctan2(by - ay, bx - ax)))
    return (angle + 90) % 180 - 90
