"""The key: each element of the map by its picture, its name, its symbol and its number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ridgeline.landscape.pictures.entries import entries
from ridgeline.landscape.pictures.ground import signed
from ridgeline.landscape.pictures.relief import round_step
from ridgeline.landscape.pictures.scene import Scene
from ridgeline.landscape.pictures.text import wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GLYPH = 0.42
"""Inches of a key's picture."""
GAP = 0.16
NAME, DETAIL = 8.5, 7.2
LINE = 0.135
"""Inches from line to line of the details."""


def draw_key(axes: Axes, scene: Scene, width: float, height: float, *, flat: bool = True) -> None:
    """All elements that this picture shows, from top to bottom; ``axes`` is measured in inches.

    ``flat``: of a map; a block of land has neither compass nor contours of V nor a strip.
    """
    axes.set_xlim(0, width)
    axes.set_ylim(0, height)
    axes.axis("off")
    top = height - 0.06
    top = _ramp(axes, scene, width, top)
    for number, entry in enumerate(entries(scene, flat=flat)):
        lines = wrapped(axes.get_figure(), entry.detail, width - GLYPH - GAP, DETAIL)  # type: ignore[arg-type]
        entry.glyph(axes, GLYPH / 2, top - 0.13)
        axes.text(
            GLYPH + GAP, top, entry.name, fontsize=NAME, color=scene.theme.ink, va="top", gid=f"key-{number}"
        )
        for row, line in enumerate(lines):
            axes.text(
                GLYPH + GAP,
                top - 0.175 - row * LINE,
                line,
                fontsize=DETAIL,
                color=scene.theme.muted,
                va="top",
            )
        top -= 0.175 + len(lines) * LINE + 0.13


def _ramp(axes: Axes, scene: Scene, width: float, top: float) -> float:
    """The colour ramp with its scale; returns where the next entry begins."""
    theme, (low, high) = scene.theme, scene.limits
    altitude = scene.record.manifest.altitude
    unit = f", {altitude.unit}" if altitude.unit else ""
    symbol = "$r(s)$" if scene.is_exact else "$r$"
    name = altitude.name.replace(" - ", " − ")
    axes.text(0, top, f"Altitude = {name} {symbol}{unit}", fontsize=NAME, color=theme.ink, va="top")
    image = axes.imshow(
        theme.colormap()(np.linspace(0, 1, 256))[None],
        extent=(0, width, top - 0.36, top - 0.22),
        aspect="auto",
        interpolation="bilinear",
        zorder=1,
    )
    image.set_gid("ramp")
    axes.set_xlim(0, width)
    axes.set_ylim(0, axes.get_ylim()[1])
    step = round_step((high - low) / 5)
    for k in range(int(np.ceil(low / step)), int(np.floor(high / step)) + 1):
        place = width * (k * step - low) / (high - low)
        side = "left" if place < 0.06 * width else "right" if place > 0.94 * width else "center"
        axes.plot([place, place], [top - 0.36, top - 0.395], color=theme.muted, linewidth=0.6)
        axes.text(place, top - 0.41, signed(k * step), fontsize=6.8, color=theme.muted, va="top", ha=side)
    return top - 0.72
