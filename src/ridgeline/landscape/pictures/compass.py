"""The policy at the pin: mean action, its spread, the reference's mean and the ring of the KL budget."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ridgeline.landscape.pictures.scene import Array, Scene

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHARE = 0.13
"""How far the compass reaches on the map, as a share of its width."""


def compass_scale(scene: Scene) -> float:
    """Map units per unit of action in the drawn compass; 0 when there is none."""
    return 0.0 if scene.compass is None else SHARE * scene.width / max(scene.compass.reach, 1e-9)


def draw_compass(axes: Axes, scene: Scene) -> None:
    """The compass around the pin, larger than life so that the ring can be read."""
    from matplotlib.patches import Circle, Ellipse

    compass, pin, theme = scene.compass, scene.pin, scene.theme
    if compass is None or pin is None:
        return
    scale = compass_scale(scene)
    plate = Circle(
        tuple(pin),
        SHARE * scene.width,
        facecolor=theme.surface,
        edgecolor=theme.ink,
        linewidth=0.5,
        alpha=0.3,
        zorder=5.5,
    )
    axes.add_patch(plate)
    centre = pin + scale * compass.mean
    spread = Ellipse(
        tuple(centre),
        *(2 * scale * compass.sigma),
        facecolor=theme.ink,
        edgecolor="none",
        alpha=0.12,
        zorder=7,
    )
    edge = Ellipse(
        tuple(centre),
        *(2 * scale * compass.sigma),
        fill=False,
        edgecolor=theme.ink,
        linewidth=1.0,
        zorder=7.1,
    )
    edge.set_gid("compass-spread")
    axes.add_patch(spread)
    axes.add_patch(edge)
    if compass.reference_mean is not None:
        trusted = pin + scale * compass.reference_mean
        if compass.ring:
            ring = Circle(
                tuple(trusted),
                scale * compass.ring,
                fill=False,
                edgecolor=theme.mint,
                linewidth=1.5,
                linestyle=(0, (4, 1.6)),
                zorder=7.2,
            )
            ring.set_gid("compass-kl-ring")
            axes.add_patch(ring)
        _arrow(axes, pin, trusted, theme.mint, "compass-reference", 1.6)
    _arrow(axes, pin, centre, theme.ink, "compass-mean", 2.2)


def _arrow(axes: Axes, start: Array, end: Array, colour: str, name: str, width: float) -> None:
    from matplotlib.patches import FancyArrowPatch

    if np.hypot(*(end - start)) < 1e-6:
        return
    arrow = FancyArrowPatch(
        tuple(start),
        tuple(end),
        arrowstyle="-|>,head_length=4.5,head_width=2.4",
        shrinkA=0,
        shrinkB=0,
        linewidth=width,
        color=colour,
        capstyle="butt",
        joinstyle="miter",
        zorder=7.5,
    )
    arrow.set_gid(name)
    axes.add_patch(arrow)
