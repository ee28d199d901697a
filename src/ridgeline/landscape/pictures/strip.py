"""The altitude strip: the told path unrolled, a bar for the reward of every step, their sum beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ridgeline.landscape.pictures.ground import CAPTION, signed
from ridgeline.landscape.pictures.scene import ADVANTAGE, ALTITUDE, VALUE, Scene

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_strip(axes: Axes, scene: Scene) -> None:
    """Bars of altitude along the told path where every step is rewarded, else V with the final reward."""
    path, theme = scene.told, scene.theme
    if path is None:
        return
    axes.set_facecolor("none")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_visible(False)
    axes.axhline(0, color=theme.ink, linewidth=0.7, zorder=3)
    # The beginning of a text has a value, and no reward: it is shown; the start of a walk is not.
    axes.set_xlim(0.4 if scene.is_exact else -0.4, len(path) - 0.4)
    axes.tick_params(length=0, labelsize=7, labelcolor=theme.muted, pad=3)
    steps = np.arange(1, len(path))
    heights = path[1:, ALTITUDE].astype(float)
    rewarded = np.isfinite(heights)
    if not rewarded.all() and np.isfinite(path[:, VALUE]).any():
        (line,) = axes.plot(
            np.arange(len(path)),
            path[:, VALUE],
            color=theme.value,
            linewidth=1.4,
            linestyle=(0, (4, 2.2)),
            zorder=2,
        )
        line.set_gid("strip-value")
    positive = np.nan_to_num(path[1:, ADVANTAGE]) >= 0
    for name, colour, chosen, hatch in (
        ("up", theme.accent, positive & rewarded, None),
        ("down", theme.cool, ~positive & rewarded, "/////"),
    ):
        bars = axes.bar(
            steps[chosen],
            heights[chosen],
            width=0.78 if scene.is_exact else 0.16,
            color=colour,
            edgecolor=theme.paper,
            hatch=hatch,
            linewidth=0,
            zorder=2,
        )
        for bar, step in zip(bars, steps[chosen], strict=True):
            bar.set_gid(f"strip-{name}-{step}")
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, 0) - 0.02 * (high - low), max(high, 0) + 0.12 * (high - low))
    if scene.pin_row > 0:
        mark = axes.scatter(
            scene.pin_row, axes.get_ylim()[1], s=26, color=theme.pin, marker="v", clip_on=False, zorder=4
        )
        mark.set_gid("strip-pin")
    axes.set_yticks(_ticks(*axes.get_ylim()))
    axes.set_yticklabels([signed(tick) for tick in axes.get_yticks()])
    _draw_times(axes, scene, len(path))
    what = (
        f"Altitude strip: the {scene.layer} reward of every step"
        if rewarded.all()
        else "Value on the way, reward at the end"
    )
    axes.set_title(what, fontsize=8.5, color=theme.ink, loc="left", pad=9)


def _draw_times(axes: Axes, scene: Scene, rows: int) -> None:
    """Steps of a walk; of a text the shares of its tokens that have been written."""
    if scene.is_exact:
        stride = max(1, round((rows - 1) / 12))
        axes.set_xticks(range(stride, rows, stride))
        name = "step t of the path drawn strongest"
    else:
        places = range(rows - 1, -1, -max(1, rows // 8))[::-1]
        axes.set_xticks(places, [f"{100 * (row + 1) / rows:.0f} %" for row in places])
        name = "share of the text of the path drawn strongest"
    axes.set_xlabel(name, fontsize=CAPTION, color=scene.theme.muted, loc="right", labelpad=2)


def strip_sum(scene: Scene) -> float:
    """The sum of the bars: the undiscounted return of the told path."""
    return 0.0 if scene.told is None else float(np.nansum(scene.told[1:, ALTITUDE]))


def _ticks(low: float, high: float) -> list[float]:
    from ridgeline.landscape.pictures.relief import round_step

    step = round_step((high - low) / 3)
    return [step * k for k in range(int(np.ceil(low / step)), int(np.floor(high / step)) + 1)]
