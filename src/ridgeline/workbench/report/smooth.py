"""Running means for noisy curves, never without the raw curve behind them."""

from __future__ import annotations

from dataclasses import replace

from ridgeline.workbench.report.chart import Series

LONG = 40
"""Curves shorter than this are readable as they are."""


def with_running_mean(series: Series) -> list[Series]:
    """The raw curve alone when short; else the raw curve, thin, under its centred running mean."""
    count = len(series.y)
    if count < LONG:
        return [series]
    half = max(2, count // 20)
    windows = [series.y[max(0, k - half) : k + half + 1] for k in range(count)]
    means = [sum(window) / len(window) for window in windows]
    raw = replace(series, thin=True)
    return [raw, replace(series, label=f"{series.label}, mean of {2 * half + 1}", y=means)]
