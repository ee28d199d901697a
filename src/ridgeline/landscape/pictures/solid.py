"""The landscape as a block of land: the map draped over its heights, without perspective.

Orthographic, so that equal heights stay equally long on paper; the bar beside the block says how long.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ridgeline.landscape.pictures.block import BASE, Block, Camera, rendered
from ridgeline.landscape.pictures.corridor import draw_corridor
from ridgeline.landscape.pictures.fonts import BOLD
from ridgeline.landscape.pictures.ground import draw_ground, signed
from ridgeline.landscape.pictures.key import draw_key
from ridgeline.landscape.pictures.overlays import draw_paths, draw_points, draw_route
from ridgeline.landscape.pictures.relief import refined, refined_mask, round_step
from ridgeline.landscape.pictures.scene import ALTITUDE, VALUE, Array, Scene
from ridgeline.landscape.pictures.sheet import KEY, MARGIN, blank, draw_foot, draw_head, foot_lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TALL = 0.26
"""The altitude range on paper, as a share of the side of the plane."""
TEXTURE = 1100


def solid_sheet(scene: Scene, layers: tuple[str, ...]) -> Figure:
    """One block of land for every layer, with the pin, the beam of V and a height scale."""
    side = 7.4 if len(layers) == 1 else 5.6
    maps = len(layers) * side + (len(layers) - 1) * 0.2
    width = MARGIN + maps + 0.3 + KEY + MARGIN
    body = max(0.78 * side, 4.9)
    foot = foot_lines(blank(width, 10, scene.theme.paper), scene, width - 2 * MARGIN)
    sheet = blank(width, 1.0 + body + len(foot) * 0.145 + 0.5, scene.theme.paper)
    draw_head(sheet, scene, width - 2 * MARGIN)
    for number, layer in enumerate(layers):
        axes = sheet.axes(MARGIN + number * (side + 0.2), 1.0, side, body)
        draw_block(axes, scene, layer)
        if len(layers) > 1:
            sheet.write(MARGIN + number * (side + 0.2), 1.0, layer.capitalize(), 9.5, scene.theme.ink, **BOLD)
    draw_key(sheet.axes(MARGIN + maps + 0.3, 0.98, KEY, body), scene, KEY, body, flat=False)
    draw_foot(sheet, scene, foot)
    return sheet.figure


def draw_block(axes: Axes, scene: Scene, layer: str) -> None:
    """The block as an image, the pin and its beam over it."""
    camera = Camera()
    low, high = scene.limits
    height = refined(scene.terrain.layers[layer].height, TEXTURE)
    z = TALL * (height - low) / (high - low)
    shown = refined_mask(scene.terrain.layers[layer].shown, TEXTURE)
    z = np.where(shown, z, -BASE / 2)
    image, extent = rendered(Block(z, draped(scene, layer), _wall(scene)), camera)
    axes.axis("off")
    drawn = axes.imshow(image, extent=extent, interpolation="antialiased", aspect="equal", zorder=1)
    drawn.set_gid(f"block-{layer}")
    _draw_pin(axes, scene, camera, z)
    _draw_height_scale(axes, scene, camera, extent)
    _draw_edges(axes, scene, camera)
    axes.set_xlim(extent[0] + 0.02, extent[1] - 0.02)
    used = np.flatnonzero(image[..., 3].any(1))
    top = extent[3] - (extent[3] - extent[2]) * used[0] / len(image)
    axes.set_ylim(extent[2] - 0.04, top + 0.04)


def draped(scene: Scene, layer: str) -> Array:
    """The map of the layer from above, without labels: colours [TEXTURE, TEXTURE, 3], row 0 south."""
    sheet = blank(7.0, 7.0, scene.theme.paper)
    sheet.figure.set_dpi(TEXTURE / 7.0)
    axes = sheet.axes(0, 0, 7.0, 7.0)
    draw_ground(axes, scene, layer, None)
    draw_corridor(axes, scene)
    draw_points(axes, scene)
    draw_route(axes, scene)
    draw_paths(axes, scene, 0.8)
    axes.axis("off")
    sheet.figure.canvas.draw()
    pixels = np.asarray(sheet.figure.canvas.buffer_rgba())  # type: ignore[attr-defined]
    return pixels[::-1, :, :3].astype(float) / 255


def _wall(scene: Scene) -> Array:
    from matplotlib.colors import to_rgb

    share = 0.22 if scene.theme.name == "light" else 0.5
    paper, deep = np.array(to_rgb(scene.theme.line)), np.array(to_rgb(scene.theme.ramp[0]))
    return (1 - share) * paper + share * deep


def _plane(scene: Scene, place: Array) -> tuple[float, float]:
    """Map coordinates in sides of the plane, from its middle."""
    (left, right), (low, high) = scene.terrain.x, scene.terrain.y
    return float((place[0] - left) / (right - left) - 0.5), float((place[1] - low) / (high - low) - 0.5)


def _draw_pin(axes: Axes, scene: Scene, camera: Camera, z: Array) -> None:
    """The pin on a needle; V beside it as a beam with its number."""
    if scene.pin is None or scene.told is None:
        return
    x, y = _plane(scene, scene.pin)
    last = len(z) - 1
    ground = z[round((y + 0.5) * last), round((x + 0.5) * last)]
    points = [camera.project(np.array(x), np.array(y), np.array(ground + lift)) for lift in (0.0, 0.16)]
    (x0, y0), (x1, y1) = ((float(a), float(b)) for a, b in points)
    theme = scene.theme
    axes.plot([x0, x1], [y0, y1], color=theme.surface, linewidth=3.4, solid_capstyle="round", zorder=4)
    axes.plot([x0, x1], [y0, y1], color=theme.pin, linewidth=1.6, solid_capstyle="round", zorder=5)
    axes.scatter(x1, y1, s=120, color=theme.surface, linewidths=0, zorder=5)
    axes.scatter(x1, y1, s=70, color=theme.pin, linewidths=0, zorder=6).set_gid("pin")
    row = scene.told[scene.pin_row]
    numbers = [f"$r$ = {signed(round(float(row[ALTITUDE]), 2))}"] if np.isfinite(row[ALTITUDE]) else []
    numbers += [f"$V$ = {signed(round(float(row[VALUE]), 2))}"] if np.isfinite(row[VALUE]) else []
    axes.annotate(
        ("$s_t$   " if scene.is_exact else "$s_T$   ") + "   ".join(numbers),
        (x1, y1),
        (11, 0),
        textcoords="offset points",
        fontsize=8,
        color=theme.ink,
        va="center",
        zorder=7,
        bbox={
            "boxstyle": "round,pad=0.3",
            "facecolor": theme.surface,
            "edgecolor": theme.line,
            "alpha": 0.88,
        },
    )


def _draw_edges(axes: Axes, scene: Scene, camera: Camera) -> None:
    """The names of the axes along the two edges in front."""
    plane = scene.record.manifest.axes
    corners = {"x": ((-0.5, -0.5), (0.5, -0.5)), "y": ((0.5, -0.5), (0.5, 0.5))}
    for name, (start, end) in corners.items():
        ends = [camera.project(np.array(x), np.array(y), np.array(-BASE)) for x, y in (start, end)]
        (x0, y0), (x1, y1) = ((float(a), float(b)) for a, b in ends)
        axes.text(
            (x0 + x1) / 2 + 0.02 * (1 if name == "y" else -1),
            (y0 + y1) / 2 - 0.02,
            f"{getattr(plane, name).name} →",
            fontsize=7.5,
            color=scene.theme.muted,
            rotation=math.degrees(math.atan2(y1 - y0, x1 - x0)),
            rotation_mode="anchor",
            ha="center",
            va="top",
            zorder=3,
        )


def _draw_height_scale(
    axes: Axes, scene: Scene, camera: Camera, extent: tuple[float, float, float, float]
) -> None:
    """How long a round difference of altitude is on this paper, and how much it is exaggerated."""
    low, high = scene.limits
    step = round_step((high - low) / 3)
    length = TALL * step / (high - low) * math.cos(camera.pitch)
    x, y = extent[0] + 0.05, extent[2] + 0.03
    axes.plot([x, x], [y, y + length], color=scene.theme.ink, linewidth=1.2, solid_capstyle="butt", zorder=3)
    for end in (y, y + length):
        axes.plot([x - 0.008, x + 0.008], [end, end], color=scene.theme.ink, linewidth=0.8, zorder=3)
    text = f"{signed(step)} of altitude"
    axes.text(x + 0.02, y + length / 2, text, fontsize=7, color=scene.theme.muted, va="center", zorder=3)
