"""Several frames as small maps on the same colour limits, and the return over the distance that was gone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ridgeline.landscape.pictures.corridor import draw_corridor
from ridgeline.landscape.pictures.ground import draw_ground, signed
from ridgeline.landscape.pictures.overlays import draw_paths, draw_points, draw_route
from ridgeline.landscape.pictures.relief import round_step
from ridgeline.landscape.pictures.scene import Scene
from ridgeline.landscape.pictures.sheet import MARGIN, blank, draw_foot, draw_head, foot_lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, APART, CAPTION = 11.6, 0.3, 0.34
"""Inches: of a row of small maps, between two, and of a caption."""
MOST = 8
CURVE = 2.3
GOLD = ("return_gold", "gold", "reward")
PROXY = ("return_proxy", "proxy")


def series_sheet(scene: Scene, layers: tuple[str, ...]) -> Figure:
    """Up to eight frames, spread evenly over the record, of the layer that is walked on; curves beneath."""
    del layers  # small maps show one layer: the one of the scene
    record = scene.record
    chosen = spread(len(record.frames), MOST)
    across = 4 if len(chosen) in (4, 7, 8) else 3
    rows = math.ceil(len(chosen) / across)
    small = (WIDTH - (across - 1) * APART) / across
    width = 2 * MARGIN + WIDTH
    body = rows * (small + CAPTION + 0.12)
    foot = foot_lines(blank(width, 10, scene.theme.paper), scene, width - 2 * MARGIN)
    sheet = blank(width, 1.0 + body + 0.35 + CURVE + 0.6 + len(foot) * 0.145 + 0.45, scene.theme.paper)
    draw_head(sheet, scene, width - 2 * MARGIN)
    for number, index in enumerate(chosen):
        row, column = divmod(number, across)
        left, top = MARGIN + column * (small + APART), 1.0 + row * (small + CAPTION + 0.12)
        part = Scene(record, record.frame(index), scene.theme, scene.layer)
        axes = sheet.axes(left, top, small, small)
        draw_small(axes, part)
        sheet.write(left, top + small + 0.07, _caption(part), 8.0, scene.theme.ink)
    top = 1.0 + body + 0.35
    half = (width - 2 * MARGIN - 0.9) / 2
    draw_curve(sheet.axes(MARGIN + 0.4, top, half, CURVE), scene, chosen, root_kl=True)
    draw_curve(sheet.axes(MARGIN + 0.4 + half + 0.5, top, half, CURVE), scene, chosen, root_kl=False)
    draw_foot(sheet, scene, foot)
    return sheet.figure


def spread(count: int, most: int) -> list[int]:
    """At most ``most`` of ``count`` indices, evenly spaced, the first and the last among them."""
    return sorted({round(each) for each in np.linspace(0, count - 1, min(count, most))})


def draw_small(axes: Axes, scene: Scene) -> None:
    """A map without numbers: relief, corridor, paths or points."""
    draw_ground(axes, scene, scene.layer, None)
    draw_corridor(axes, scene)
    draw_points(axes, scene)
    draw_route(axes, scene)
    draw_paths(axes, scene, 0.5)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel("")
    axes.set_ylabel("")
    axes.set_xlim(*scene.terrain.x)
    axes.set_ylim(*scene.terrain.y)


def _caption(scene: Scene) -> str:
    parts = [f"step {scene.frame.step:,}"]
    for names, label in ((GOLD, "gold"), (PROXY, "proxy"), (("kl",), "KL")):
        value = next((v for n in names if (v := scene.frame.scalars.get(n)) is not None), None)
        if value is not None:
            parts.append(f"{label} {signed(round(value, 2))}")
    return "  ·  ".join(parts)


def draw_curve(axes: Axes, scene: Scene, chosen: list[int], *, root_kl: bool) -> None:
    """Gold and proxy over sqrt(KL), or over the steps; the frames that are shown as maps are dots."""
    theme, frames = scene.theme, scene.record.frames
    axes.set_facecolor("none")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(theme.muted)
        axes.spines[side].set_linewidth(0.6)
    axes.tick_params(length=3, width=0.6, color=theme.muted, labelsize=7, labelcolor=theme.muted)
    axes.grid(axis="y", color=theme.line, linewidth=0.6)
    axes.set_axisbelow(True)
    for names, label, colour, dash in (
        (GOLD, "gold", theme.ink, "-"),
        (PROXY, "proxy", theme.proxy, (0, (4, 2))),
    ):
        known = [
            (index, x, y)
            for index, frame in enumerate(frames)
            if (y := next((v for n in names if (v := frame.scalars.get(n)) is not None), None)) is not None
            and (x := _across(frame.scalars.get("kl") if root_kl else float(frame.step), root=root_kl))
            is not None
        ]
        if not known:
            continue
        (line,) = axes.plot(
            [x for _, x, _ in known], [y for *_, y in known], color=colour, linewidth=1.6, linestyle=dash
        )
        line.set_gid(f"curve-{label}-{'kl' if root_kl else 'step'}")
        dots = [(x, y) for index, x, y in known if index in chosen]
        axes.scatter([x for x, _ in dots], [y for _, y in dots], s=16, color=colour, linewidths=0, zorder=3)
        axes.annotate(
            label,
            dots[-1],
            (6, 0),
            textcoords="offset points",
            fontsize=8,
            color=colour,
            va="center",
            annotation_clip=False,
        )
    kl = scene.record.manifest.kl
    name = rf"$\sqrt{{\mathrm{{KL}}}}$, KL in {kl.unit} ({kl.estimator})" if root_kl else "step"
    axes.set_xlabel(name, fontsize=7.5, color=theme.muted, loc="right", labelpad=3)
    symbol = "$J$, return" if scene.is_exact else "mean reward"
    axes.set_title(
        f"{symbol} over {'distance from the reference' if root_kl else 'training'}",
        fontsize=8.5,
        color=theme.ink,
        loc="left",
    )
    axes.margins(x=0.08)
    for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        step = round_step((high - low) / 6)
        ticks = np.arange(math.ceil(low / step), math.floor(high / step) + 1) * step
        axis.set_ticks(ticks.tolist(), [signed(tick) for tick in ticks])


def _across(value: float | None, *, root: bool) -> float | None:
    if value is None:
        return None
    return math.sqrt(max(value, 0.0)) if root else value
