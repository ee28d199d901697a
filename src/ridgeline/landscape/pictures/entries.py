"""The lines of the key: what the frame holds, in the order in which the mental model is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ridgeline.landscape.pictures.compass import compass_scale
from ridgeline.landscape.pictures.ground import signed
from ridgeline.landscape.pictures.scene import ALTITUDE, VALUE, Scene
from ridgeline.landscape.pictures.strip import strip_sum

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Entry:
    """One line of the key; ``glyph`` draws into a box of GLYPH inches around (x, y)."""

    name: str
    detail: str
    glyph: Callable[[Axes, float, float], None]


def entries(scene: Scene, *, flat: bool = True) -> list[Entry]:
    """What the frame holds, in the order in which the mental model is told."""
    if not flat:
        return [*_state(scene), *_trajectory(scene, strip=False), *_reference(scene)]
    return [*_state(scene), *_policy(scene), *_trajectory(scene), *_value(scene), *_reference(scene)]


def _state(scene: Scene) -> list[Entry]:
    path, theme = scene.told, scene.theme
    if path is None:
        return []
    row = path[scene.pin_row]
    where = f"({signed(round(float(row[0]), 2))}, {signed(round(float(row[1]), 2))})"
    numbers = [f"$r$ = {signed(round(float(row[ALTITUDE]), 2))}"] if np.isfinite(row[ALTITUDE]) else []
    numbers += [f"$V$ = {signed(round(float(row[VALUE]), 2))}"] if np.isfinite(row[VALUE]) else []

    def pin(axes: Axes, x: float, y: float) -> None:
        axes.scatter(x, y, s=62, color=theme.pin, linewidths=0)
        axes.scatter(x, y, s=9, color=theme.surface, linewidths=0)

    name = "State $s_t$" if scene.is_exact else "State $s_T$, a finished text"
    return [Entry(name, f"pin at {where}; " + ", ".join(numbers), pin)]


def _policy(scene: Scene) -> list[Entry]:
    compass, theme = scene.compass, scene.theme
    if compass is None:
        return []

    def rose(axes: Axes, x: float, y: float) -> None:
        from matplotlib.patches import Circle

        axes.add_patch(Circle((x, y), 0.13, facecolor="none", edgecolor=theme.ink, linewidth=1.0))
        _arrow(axes, (x - 0.14, y - 0.08), (x + 0.06, y + 0.04), theme.ink)

    step = scene.detail("step")
    times = f", drawn {compass_scale(scene) / step:.2g} × larger than a step" if step else ""
    found = [
        Entry(
            r"Policy $\pi_\theta(a_t\,|\,s_t)$",
            f"compass: mean action and one σ = {signed(round(float(compass.sigma.mean()), 2))}{times}",
            rose,
        )
    ]
    if compass.ring:

        def ring(axes: Axes, x: float, y: float) -> None:
            from matplotlib.patches import Circle

            axes.add_patch(
                Circle(
                    (x, y),
                    0.13,
                    facecolor="none",
                    edgecolor=theme.mint,
                    linewidth=1.5,
                    linestyle=(0, (4, 1.6)),
                )
            )
            _arrow(axes, (x - 0.14, y - 0.08), (x, y), theme.mint)

        found.append(
            Entry(
                "KL ring on the compass",
                f"around the reference's action: as far as {compass.budget:.3g} nats a step let the mean go "
                "(this frame's average)",
                ring,
            )
        )
    return found


def _trajectory(scene: Scene, *, strip: bool = True) -> list[Entry]:
    path, theme = scene.told, scene.theme
    found: list[Entry] = []

    def stroke(axes: Axes, x: float, y: float) -> None:
        for left, colour, width in ((x - 0.2, theme.accent, 2.6), (x + 0.01, theme.cool, 1.1)):
            axes.plot([left, left + 0.19], [y, y], color=colour, linewidth=width, solid_capstyle="round")

    if path is not None:
        count = len(scene.frame.paths)
        sign = "orange: advantage $A_t$ > 0, blue: $A_t$ < 0; width = |$A_t$|"
        if scene.is_exact:
            name = r"Trajectory $\tau$ and its actions $a_t$"
            found.append(Entry(name, f"{sign}; strongest: median of {count} paths", stroke))

            def bars(axes: Axes, x: float, y: float) -> None:
                for k, tall in enumerate((0.06, 0.13, 0.2, 0.24)):
                    axes.bar(
                        x - 0.15 + 0.1 * k, tall, width=0.08, bottom=y - 0.12, color=theme.accent, linewidth=0
                    )

            total = signed(round(strip_sum(scene), 2))
            where = (
                "the sum of the bars of the strip" if strip else "altitude summed along the strongest path"
            )
            found.append(Entry(rf"Return $R(\tau)$ = {total}", where, bars))
        else:
            found.append(Entry(r"Trajectory $\tau$: prefixes of a text", f"{sign}; drawn in the air", stroke))
    points = scene.frame.points
    if points is not None and len(points):

        def marks(axes: Axes, x: float, y: float) -> None:
            axes.scatter(x - 0.1, y, s=26, marker="^", color=theme.accent, linewidths=0)
            axes.scatter(x + 0.1, y, s=26, marker="v", color=theme.cool, linewidths=0)

        found.append(Entry(f"{len(points):,} completions", "up: advantage > 0, down: < 0", marks))
    return found


def _value(scene: Scene) -> list[Entry]:
    value, theme = scene.record.manifest.value, scene.theme
    if scene.frame.value is None:
        return []

    def dashes(axes: Axes, x: float, y: float) -> None:
        axes.plot([x - 0.2, x + 0.2], [y, y], color=theme.value, linewidth=1.2, linestyle=(0, (4, 2.2)))

    note = f" ({value.note})" if value.note else ""
    return [Entry("Value $V(s)$", f"reward still to come, {value.kind or 'estimated'}{note}", dashes)]


def _reference(scene: Scene) -> list[Entry]:
    theme, corridor, frame = scene.theme, scene.record.manifest.corridor, scene.frame
    found: list[Entry] = []
    if frame.corridor_mean is not None or frame.contours:

        def tube(axes: Axes, x: float, y: float) -> None:
            axes.fill_between(
                [x - 0.2, x + 0.2], y - 0.11, y + 0.11, color=theme.mint, alpha=0.25, linewidth=0
            )
            for shift, dash in ((-0.11, (0, (2, 2))), (0.11, (0, (2, 2))), (-0.05, "-"), (0.05, "-")):
                axes.plot(
                    [x - 0.2, x + 0.2],
                    [y + shift, y + shift],
                    color=theme.mint,
                    linewidth=1.0,
                    linestyle=dash,
                )

        shares = ", ".join(f"{100 * level:g}" for level in corridor.levels)
        detail = (
            f"{shares} % of the reference {r'at each step' if frame.corridor_mean is not None else 'cloud'}"
        )
        kl = frame.scalars.get("kl")
        unit = scene.record.manifest.kl.unit
        estimator = scene.record.manifest.kl.estimator
        detail += f"; KL = {kl:.2f} {unit} ({estimator})" if kl is not None else ""
        found.append(Entry(r"Corridor of $\pi_\mathrm{ref}$", detail, tube))
    if scene.detail("route"):

        def route(axes: Axes, x: float, y: float) -> None:
            axes.plot(
                [x - 0.12, x + 0.2],
                [y, y],
                color=theme.mint,
                linewidth=1.4,
                linestyle=(0, (0.1, 2.4)),
                dash_capstyle="round",
            )
            axes.scatter(x - 0.16, y, s=34, color=theme.mint, linewidths=0)

        found.append(Entry("Start $s_0$ and route", "what the reference was cloned from", route))
    return found


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
    from matplotlib.patches import FancyArrowPatch

    axes.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="-|>,head_length=3,head_width=1.7",
            shrinkA=0,
            shrinkB=0,
            linewidth=1.5,
            color=colour,
        )
    )
