"""From values to positions on the page, and where to put the ticks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps ``low..high`` to ``start..end``; ``root`` spaces values by their square root."""

    low: float
    high: float
    start: float
    end: float
    root: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = (self._bend(x) for x in (self.low, self.high, value))
        share = (value - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)

    def _bend(self, value: float) -> float:
        return math.sqrt(max(0.0, value)) if self.root else value

    def ticks(self, count: int = 5) -> list[float]:
        """Round values inside the range."""
        if self.root:
            return _root_ticks(self.high, count)
        step = _nice((self.high - self.low) / max(1, count))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(k * step, 12) for k in range(first, last + 1)]


def extent(
    values: Iterable[float | None], *, include: Iterable[float] = (), pad: float = 0.06
) -> tuple[float, float]:
    """Smallest and largest finite value with some air; a flat curve gets a band around it."""
    finite = [v for v in [*values, *include] if v is not None and math.isfinite(v)]
    if not finite:
        return 0.0, 1.0
    low, high = min(finite), max(finite)
    air = (high - low) * pad or max(abs(high) * 0.1, 0.05)
    return low - air, high + air


def tick_label(value: float) -> str:
    """As short as the value allows, with a true minus sign."""
    shown = f"{value:.1e}" if value and abs(value) < 0.001 else f"{value:,.10g}"
    return shown.replace("-", "−")


def _root_ticks(high: float, count: int) -> list[float]:
    """Squares of round numbers: evenly spaced on the page (0, 1, 4, 9, 16, ...)."""
    step = _nice(math.sqrt(high) / max(1, count))
    last = math.floor(math.sqrt(high) / step + 1e-9)
    return [round((k * step) ** 2, 12) for k in range(last + 1)]


def _nice(step: float) -> float:
    if step <= 0:
        return 1.0
    base: float = 10.0 ** math.floor(math.log10(step))
    return next(m * base for m in (1, 2, 5, 10) if m * base >= step * 0.75)
