"""Dot plots with intervals, and the reliability plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ridgeline.workbench.report.markup import number, text
from ridgeline.workbench.report.scale import Scale, extent, tick_label


@dataclass(frozen=True, slots=True)
class Dot:
    """One row: a name, a value and its interval (None: unbounded)."""

    label: str
    value: float
    low: float | None
    high: float | None
    tone: str = "ink"


def dot_plot(title: str, x_label: str, rows: Sequence[Dot], *, reference: float | None = None) -> str:
    """One row per name, top to bottom; ``reference`` draws a vertical line, such as 0.5 for a draw."""
    width, row, top = 460, 34, 12
    left = min(170, 20 + 7 * max((len(r.label) for r in rows), default=0))
    bottom = top + row * len(rows)
    include = [] if reference is None else [reference]
    low, high = extent([end for r in rows for end in (r.value, r.low, r.high)], include=include)
    x = Scale(low, high, left, width - 62)
    parts = [_axis(x, x_label, width, left, top, bottom)]
    if reference is not None:
        parts.append(f'<path class="rule" d="M{x(reference):.1f} {top}V{bottom}"/>')
    for position, dot in enumerate(rows):
        at = top + row * (position + 0.5)
        parts.append(_row(dot, x, at, left, width))
    words = "; ".join(f"{r.label} {number(r.value)} [{number(r.low)}, {number(r.high)}]" for r in rows)
    return (
        f'<svg viewBox="0 0 {width} {bottom + 44}" role="img" '
        f'aria-label="{text(f"{title}. {x_label}: {words}.")}">' + "".join(parts) + "</svg>"
    )


def _row(dot: Dot, x: Scale, at: float, left: float, width: float) -> str:
    bar = ""
    if dot.low is not None and dot.high is not None:
        bar = f'<path class="bar" d="M{x(dot.low):.1f} {at:.1f}H{x(dot.high):.1f}"/>'
    return (
        f'<text class="label" x="{left - 12}" y="{at + 4:.1f}" text-anchor="end">{text(dot.label)}</text>'
        f'<g style="--tone:var(--{dot.tone})">{bar}'
        f'<circle class="dot" cx="{x(dot.value):.1f}" cy="{at:.1f}" r="5"/></g>'
        f'<text class="label n" x="{width - 4}" y="{at + 4:.1f}" text-anchor="end">{number(dot.value)}</text>'
    )


def _axis(x: Scale, label: str, width: float, left: float, top: float, bottom: float) -> str:
    parts = [f'<path class="base" d="M{left} {bottom}H{width - 62}"/>']
    for value in x.ticks(4):
        at = x(value)
        parts.append(f'<path class="grid" d="M{at:.1f} {top}V{bottom}"/>')
        parts.append(
            f'<text class="axis" x="{at:.1f}" y="{bottom + 17}" '
            f'text-anchor="middle">{tick_label(value)}</text>'
        )
    middle = (left + width - 62) / 2
    parts.append(
        f'<text class="axis name" x="{middle:.0f}" y="{bottom + 38}" '
        f'text-anchor="middle">{text(label)}</text>'
    )
    return "".join(parts)
