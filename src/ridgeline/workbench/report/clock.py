"""Time: how long stages took, and how durations and dates are written."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any


def stage_seconds(name: str, events: list[dict[str, Any]], timings: list[dict[str, Any]]) -> float:
    """Seconds of work of a stage over all its starts.

    A start that ended in a kill left no event; then the steps' own times are the better count.
    """
    spent, started = 0.0, None
    for event in events:
        time = event.get("time")
        if event.get("stage") != name or not isinstance(time, int | float):
            continue
        if event.get("kind") == "stage started":
            started = float(time)
        elif event.get("kind") in ("stage finished", "interrupted", "nonfinite") and started is not None:
            spent += float(time) - started
            started = None
    steps = sum(
        float(value)
        for line in timings
        for value in line["seconds"].values()
        if isinstance(value, int | float)
    )
    return max(spent, steps)


def duration(seconds: float) -> str:
    """``48 s``, ``3 min 05 s`` or ``2 h 10 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def date(events: list[dict[str, Any]]) -> str | None:
    """Day and minute (UTC) of the first event."""
    times = [event["time"] for event in events if isinstance(event.get("time"), int | float)]
    return datetime.fromtimestamp(min(times), UTC).strftime("%d %B %Y, %H:%M UTC") if times else None
