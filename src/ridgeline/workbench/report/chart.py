"""Line charts as inline SVG.

Colours are CSS variables of the page (``--tone``), so one picture serves light, dark and print. Text stays
text. Nothing here knows about runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from ridgeline.workbench.report.markup import number, text
from ridgeline.workbench.report.scale import Scale, extent, tick_label

Ends = Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Series:
    """One curve; ``low`` and ``high`` draw its band, ``tone`` names a colour, ``dash`` is a second cue."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    tone: str = "ink"
    low: Ends = ()
    high: Ends = ()
    dash: str = ""
    dots: bool = False
    thin: bool = False
    end_label: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """A horizontal line at a value that matters, such as a ceiling."""

    y: float
    label: str
    tone: str = "muted"


@dataclass(frozen=True, slots=True)
class Pin:
    """A point of a curve worth a name; a line drops from it to the axis."""

    x: float
    y: float
    label: str
    tone: str = "pin"


@dataclass(frozen=True)
class Chart:
    """What to draw and how large; sizes are in the picture's own units."""

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    rules: Sequence[Rule] = ()
    pins: Sequence[Pin] = ()
    width: int = 460
    height: int = 290
    root_x: bool = False
    y_range: tuple[float, float] | None = None
    right: int = 14
    between: tuple[int, int] | None = None
    """Two series with the same x whose gap is shaded."""
    description: str = ""
    include: Sequence[float] = field(default=())
    """Values that the y axis has to show."""
    shade: tuple[float, str] | None = None
    """From this x to the right the ground is tinted, under this name."""


TOP, BOTTOM, LEFT = 28, 44, 46


def draw(chart: Chart) -> str:
    """The SVG of ``chart``."""
    x, y = _scales(chart)
    shapes = [
        _shade(chart, x),
        _frame(chart, x, y),
        _gap(chart, x, y),
        *(_band(series, x, y) for series in chart.series),
        *(_rule(rule, chart, y) for rule in chart.rules),
        *(_pin_line(pin, chart, x, y) for pin in chart.pins),
        *(_line(series, x, y) for series in chart.series),
        _end_labels(chart, x, y),
        *(_pin_label(pin, chart, x, y) for pin in chart.pins),
    ]
    label = text(f"{chart.title}. {chart.description or describe(chart)}")
    return (
        f'<svg viewBox="0 0 {chart.width} {chart.height}" role="img" aria-label="{label}">'
        + "".join(shapes)
        + "</svg>"
    )


def legend(series: Sequence[Series]) -> str:
    """The key to the curves, as page text that wraps."""
    items = "".join(
        f'<li><svg viewBox="0 0 26 10" aria-hidden="true"{_tone(s.tone)}>'
        f'<path class="line{" thin" if s.thin else ""}" d="M1 5H25"{_dash(s.dash)}/>'
        + ('<circle class="dot" cx="13" cy="5" r="3"/>' if s.dots else "")
        + f"</svg>{text(s.label)}</li>"
        for s in series
        if s.label
    )
    return f'<ul class="legend">{items}</ul>' if items else ""


def describe(chart: Chart) -> str:
    """The curves in words, for who cannot see them."""
    parts = []
    for series in chart.series:
        points = [(a, b) for a, b in zip(series.x, series.y, strict=True) if math.isfinite(b)]
        if points:
            (x0, y0), (x1, y1) = points[0], points[-1]
            parts.append(
                f"{series.label or chart.y_label}: {number(y0)} at {number(x0)}, {number(y1)} at {number(x1)}"
            )
    return f"{chart.y_label} by {chart.x_label}. " + "; ".join(parts) + "."


def _scales(chart: Chart) -> tuple[Scale, Scale]:
    xs = [value for series in chart.series for value in series.x]
    ys = [value for series in chart.series for part in (series.y, series.low, series.high) for value in part]
    low_x, high_x = (min(xs), max(xs)) if xs else (0.0, 1.0)
    if chart.root_x:
        low_x, high_x = 0.0, high_x * 1.02 or 1.0
    low, high = chart.y_range or extent(ys, include=[*(rule.y for rule in chart.rules), *chart.include])
    if low < 0 <= min((value for value in ys if value is not None and math.isfinite(value)), default=-1.0):
        low = 0.0  # A count or a share has no room below zero.
    return (
        Scale(low_x, high_x, LEFT + 4, chart.width - chart.right - 4, root=chart.root_x),
        Scale(low, high, chart.height - BOTTOM, TOP),
    )


def _frame(chart: Chart, x: Scale, y: Scale) -> str:
    right, bottom = chart.width - chart.right, chart.height - BOTTOM
    parts = [f'<text class="axis name" x="0" y="12">{text(chart.y_label)}</text>']
    for value in y.ticks(max(4, (bottom - TOP) // 50)):
        at = y(value)
        parts.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{right}"/>')
        parts.append(
            f'<text class="axis" x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{tick_label(value)}</text>'
        )
    for value in x.ticks(max(4, (right - LEFT) // 90)):
        at = x(value)
        parts.append(f'<path class="tick" d="M{at:.1f} {bottom}v4"/>')
        parts.append(
            f'<text class="axis" x="{at:.1f}" y="{bottom + 18}" '
            f'text-anchor="middle">{tick_label(value)}</text>'
        )
    parts.append(f'<path class="base" d="M{LEFT} {bottom}H{right}"/>')
    middle = (LEFT + right) / 2
    parts.append(
        f'<text class="axis name" x="{middle:.0f}" y="{chart.height - 5}" text-anchor="middle">'
        f"{text(chart.x_label)}</text>"
    )
    return "".join(parts)


def _runs(points: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """Stretches without a missing value: a gap in the data stays a gap."""
    runs: list[list[tuple[float, float]]] = [[]]
    for a, b in points:
        if math.isfinite(a) and math.isfinite(b):
            runs[-1].append((a, b))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _path(points: Sequence[tuple[float, float]], x: Scale, y: Scale) -> str:
    return "L".join(f"{x(a):.1f} {y(b):.1f}" for a, b in points)


def _line(series: Series, x: Scale, y: Scale) -> str:
    points = list(zip(series.x, series.y, strict=True))
    runs = _runs(points)
    path = "".join(f"M{_path(run, x, y)}" for run in runs if len(run) > 1)
    kind = "line thin" if series.thin else "line"
    parts = [f'<path class="{kind}" d="{path}"{_dash(series.dash)}/>'] if path else []
    for run in runs:
        if series.dots or len(run) == 1:
            parts += [
                f'<circle class="dot" cx="{x(a):.1f}" cy="{y(b):.1f}" r="3.2">'
                f"<title>{text(series.label)}: {number(b)} at {number(a)}</title></circle>"
                for a, b in run
            ]
    return f"<g{_tone(series.tone)}>{''.join(parts)}</g>"


def _band(series: Series, x: Scale, y: Scale) -> str:
    if not series.low or not series.high:
        return ""
    rows = [
        (a, low, high)
        for a, low, high in zip(series.x, series.low, series.high, strict=True)
        if low is not None and high is not None and math.isfinite(low) and math.isfinite(high)
    ]
    if not rows:
        return ""
    upper = _path([(a, high) for a, _, high in rows], x, y)
    lower = _path([(a, low) for a, low, _ in reversed(rows)], x, y)
    whiskers = "".join(f"M{x(a):.1f} {y(low):.1f}V{y(high):.1f}" for a, low, high in rows)
    return (
        f'<g{_tone(series.tone)}><path class="band" d="M{upper}L{lower}Z"/>'
        f'<path class="whisker" d="{whiskers}"/></g>'
    )


def _gap(chart: Chart, x: Scale, y: Scale) -> str:
    if chart.between is None:
        return ""
    upper, lower = (chart.series[index] for index in chart.between)
    there = list(zip(upper.x, upper.y, strict=True))
    back = list(zip(lower.x, lower.y, strict=True))[::-1]
    return f'<path class="gap" d="M{_path(there, x, y)}L{_path(back, x, y)}Z"/>'


def _shade(chart: Chart, x: Scale) -> str:
    if chart.shade is None:
        return ""
    start, name = chart.shade
    left, right, height = x(start), chart.width - chart.right, chart.height - BOTTOM - TOP
    return (
        f'<rect class="shade" x="{left:.1f}" y="{TOP}" width="{right - left:.1f}" height="{height}"/>'
        f'<text class="mark" style="--tone:var(--pin)" x="{right - 8:.1f}" y="{TOP + 18}" '
        f'text-anchor="end">{text(name)}</text>'
    )


def _rule(rule: Rule, chart: Chart, y: Scale) -> str:
    at, right = y(rule.y), chart.width - chart.right
    return (
        f'<g{_tone(rule.tone)}><path class="rule" d="M{LEFT} {at:.1f}H{right}"/>'
        f'<text class="mark" x="{right}" y="{at - 5:.1f}" text-anchor="end">{text(rule.label)}</text></g>'
    )


def _pin_line(pin: Pin, chart: Chart, x: Scale, y: Scale) -> str:
    bottom = chart.height - BOTTOM
    return f'<path class="drop"{_tone(pin.tone)} d="M{x(pin.x):.1f} {y(pin.y):.1f}V{bottom}"/>'


def _pin_label(pin: Pin, chart: Chart, x: Scale, y: Scale) -> str:
    at, bottom = x(pin.x), chart.height - BOTTOM
    left = at > (chart.width - chart.right + LEFT) / 2
    place = f'x="{at - 8:.1f}" text-anchor="end"' if left else f'x="{at + 8:.1f}"'
    lines = pin.label.split("\n")
    words = "".join(
        f'<text class="mark" {place} y="{bottom - 10 - 16 * (len(lines) - 1 - k)}">{text(line)}</text>'
        for k, line in enumerate(lines)
    )
    return f'<g{_tone(pin.tone)}><circle class="pin" cx="{at:.1f}" cy="{y(pin.y):.1f}" r="5.5"/>{words}</g>'


def _end_labels(chart: Chart, x: Scale, y: Scale) -> str:
    """Names at the ends of the curves, pushed apart where they would touch."""
    named = [s for s in chart.series if s.end_label and s.y and math.isfinite(s.y[-1])]
    ends = sorted(((y(s.y[-1]), x(s.x[-1]), s) for s in named), key=lambda end: end[0])
    parts, free = [], -math.inf
    for at, across, series in ends:
        if series.thin:
            # A side curve ends in the middle of the picture: its name goes above it, out of the others' way.
            place = f'x="{across - 2:.1f}" y="{at - 11:.1f}" text-anchor="end"'
        else:
            free = max(at, free) + 16
            place = f'x="{across + 9:.1f}" y="{free - 12:.1f}"'
        parts.append(f'<text class="mark end"{_tone(series.tone)} {place}>{text(series.end_label)}</text>')
    return "".join(parts)


def _tone(name: str) -> str:
    return f' style="--tone:var(--{name})"'


def _dash(pattern: str) -> str:
    return f' stroke-dasharray="{pattern}"' if pattern else ""
