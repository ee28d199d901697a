"""The sheet: title, one map per layer, strip, key and the honesty line, laid out in inches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ridgeline.landscape.pictures.compass import draw_compass
from ridgeline.landscape.pictures.corridor import draw_corridor
from ridgeline.landscape.pictures.fonts import BOLD, PLAIN
from ridgeline.landscape.pictures.ground import draw_ground, draw_scale, signed
from ridgeline.landscape.pictures.key import draw_key
from ridgeline.landscape.pictures.overlays import (
    draw_paths,
    draw_pin,
    draw_points,
    draw_route,
    draw_value,
)
from ridgeline.landscape.pictures.scene import Array, Scene
from ridgeline.landscape.pictures.strip import draw_strip
from ridgeline.landscape.pictures.text import shortened, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARGIN = 0.5
KEY = 2.75
TITLE, SUBTITLE, SMALL = 17.0, 9.5, 7.2
FOOT_LINE = 0.145


@dataclass(frozen=True)
class Sheet:
    """A figure measured in inches from its upper left corner."""

    figure: Figure
    width: float
    height: float

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Axes whose upper left corner is at (left, top)."""
        box = (
            left / self.width,
            1 - (top + height) / self.height,
            width / self.width,
            height / self.height,
        )
        return self.figure.add_axes(box)

    def write(self, left: float, top: float, text: str, size: float, colour: str, **style: object) -> None:
        """Text whose upper left corner is at (left, top)."""
        self.figure.text(
            left / self.width,
            1 - top / self.height,
            text,
            fontsize=size,
            color=colour,
            va="top",
            **style,  # type: ignore[arg-type]
        )


def blank(width: float, height: float, paper: str) -> Sheet:
    """An empty sheet of paper."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=160, facecolor=paper)
    FigureCanvasAgg(figure)
    return Sheet(figure, width, height)


def map_sheet(scene: Scene, layers: tuple[str, ...]) -> Figure:
    """The picture of one frame: a map for every layer, side by side, on the same colour limits."""
    side = 6.4 if len(layers) == 1 else 5.4
    maps = len(layers) * side + (len(layers) - 1) * 0.55
    strip = 0.95 if scene.told is not None else 0.0
    width = MARGIN + 0.3 + maps + 0.4 + KEY + MARGIN
    head = 1.0 if len(layers) == 1 else 1.2
    body = side + 0.5 + (strip + 0.6 if strip else 0.0)
    probe = blank(width, 10, scene.theme.paper)
    foot = foot_lines(probe, scene, width - 2 * MARGIN)
    sheet = blank(width, head + body + len(foot) * FOOT_LINE + 0.42, scene.theme.paper)
    draw_head(sheet, scene, width - 2 * MARGIN)
    left = MARGIN + 0.3
    for number, layer in enumerate(layers):
        place = left + number * (side + 0.55)
        if len(layers) > 1:
            style = BOLD if layer == scene.layer else PLAIN
            walked = "  (walked on)" if layer == scene.layer else ""
            sheet.write(place, head - 0.24, layer.capitalize() + walked, 9.5, scene.theme.ink, **style)
        draw_map(sheet.axes(place, head, side, side), scene, layer)
    if strip:
        axes = sheet.axes(left, head + side + 0.72, maps, strip)
        draw_strip(axes, scene)
    key_top = head - 0.02
    key_height = body - 0.1
    draw_key(sheet.axes(left + maps + 0.4, key_top, KEY, key_height), scene, KEY, key_height)
    draw_foot(sheet, scene, foot)
    return sheet.figure


def draw_map(axes: Axes, scene: Scene, layer: str) -> None:
    """One layer of the terrain with everything that lies on it."""
    taken = reserved(scene)
    labels = draw_value(axes, scene, taken)
    draw_ground(axes, scene, layer, [*taken, *labels])
    draw_corridor(axes, scene)
    draw_points(axes, scene)
    draw_route(axes, scene)
    draw_paths(axes, scene)
    draw_compass(axes, scene)
    draw_pin(axes, scene)
    if scene.record.manifest.axes.method == "state":
        draw_scale(axes, scene)
    axes.set_xlim(*scene.terrain.x)
    axes.set_ylim(*scene.terrain.y)


def reserved(scene: Scene) -> list[Array]:
    """Places where no contour label may stand: pin, start, scale bar and the told path."""
    corner = np.array([scene.terrain.x[0], scene.terrain.y[0]])
    places = [corner + scene.width * np.array(share) for share in ((0.03, 0.05), (0.09, 0.05), (0.15, 0.05))]
    if scene.pin is not None:
        places.append(scene.pin)
        reach = 0.1 * scene.width
        places += [scene.pin + reach * np.array(way) for way in ((1, 0), (-1, 0), (0, 1), (0, -1))]
    if scene.told is not None:
        places += list(scene.told[::2, :2])
    start = scene.detail("start")
    return [*places, np.asarray(start)] if start else places


def draw_head(sheet: Sheet, scene: Scene, width: float) -> None:
    """Title, and the numbers of the frame beneath it."""
    title = shortened(sheet.figure, scene.record.manifest.title, width, TITLE, **BOLD)
    sheet.write(MARGIN, 0.3, title, TITLE, scene.theme.ink, **BOLD)
    text = shortened(sheet.figure, subtitle(scene), width, SUBTITLE)
    sheet.write(MARGIN, 0.62, text, SUBTITLE, scene.theme.muted)


NAMES = {
    "return_gold": "$J$ gold",
    "return_proxy": "$J$ proxy",
    "reward": "reward",
    "gold": "gold reward",
    "proxy": "proxy reward",
    "kl": "KL",
    "entropy": "entropy",
    "success": "success",
}


def subtitle(scene: Scene) -> str:
    """Step and the main numbers of the frame."""
    kind = {"exact": "Exact world", "lm": "Language-model run", "slice": "Slice of parameter space"}
    parts = [kind[scene.record.manifest.kind], f"step {scene.frame.step:,}"]
    for name, label in NAMES.items():
        value = scene.frame.scalars.get(name)
        if value is not None:
            unit = f" {scene.record.manifest.kl.unit}" if name == "kl" else ""
            parts.append(f"{label} {signed(round(value, 2))}{unit}")
    return "   ·   ".join(parts)


def foot_lines(sheet: Sheet, scene: Scene, width: float) -> list[tuple[str, bool]]:
    """(line, is it a warning): why the map is poor, then the honesty line."""
    warnings = [
        (line, True)
        for sentence in scene.record.manifest.warnings
        for line in wrapped(sheet.figure, f"Caution: {sentence}", width, SMALL, **BOLD)
    ]
    return warnings + [(line, False) for line in wrapped(sheet.figure, scene.frame.honesty, width, SMALL)]


def draw_foot(sheet: Sheet, scene: Scene, lines: list[tuple[str, bool]]) -> None:
    """A hairline, and the lines under it."""
    from matplotlib.lines import Line2D

    top = sheet.height - 0.28 - len(lines) * FOOT_LINE
    rule = Line2D(
        [MARGIN / sheet.width, 1 - MARGIN / sheet.width],
        [1 - (top - 0.07) / sheet.height] * 2,
        color=scene.theme.line,
        linewidth=0.8,
    )
    sheet.figure.add_artist(rule)
    for number, (line, warns) in enumerate(lines):
        colour = scene.theme.accent if warns else scene.theme.muted
        style = BOLD if warns else PLAIN
        sheet.write(MARGIN, top + number * FOOT_LINE, line, SMALL, colour, **style, gid=f"foot-{number}")
