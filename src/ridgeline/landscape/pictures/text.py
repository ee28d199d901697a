"""Measuring and wrapping text, so that nothing is printed over anything else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POINTS = 72.0


def width_of(figure: Figure, text: str, size: float, **style: Any) -> float:
    """Inches that ``text`` takes in one line."""
    probe = figure.text(0, 0, text, fontsize=size, **style)
    extent = probe.get_window_extent(figure.canvas.get_renderer())  # type: ignore[attr-defined]
    probe.remove()
    return float(extent.width) / figure.dpi


def wrapped(figure: Figure, text: str, width: float, size: float, **style: Any) -> list[str]:
    """Lines of at most ``width`` inches, broken at spaces (a longer word stays whole)."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if line and width_of(figure, longer, size, **style) > width:
            lines.append(line)
            line = word
        else:
            line = longer
    return [*lines, line] if line else lines


def shortened(figure: Figure, text: str, width: float, size: float, **style: Any) -> str:
    """``text``, or as much of its beginning as fits into ``width`` inches, with an ellipsis."""
    if width_of(figure, text, size, **style) <= width:
        return text
    while text and width_of(figure, text + "…", size, **style) > width:
        text = text[:-1]
    return text.rstrip() + "…"
