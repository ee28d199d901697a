"""What a line of metrics, timings or evaluations says, as named numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from ridgeline.studio.safe import finite, sendable, whole

Row = tuple[int, dict[str, float]]
NUMBERS = (int, float)
LOW, HIGH = "\0low", "\0high"
"""Suffixes of the columns that hold the ends of an interval; no name of a file can hold them."""


def metrics_row(line: Mapping[str, Any]) -> Row | None:
    """``{"step", "metrics": {name: [sum, count]}}``; worlds write plain numbers, beside the step or below."""
    step = whole(line.get("step"))
    if step is None:
        return None
    named = line.get("metrics", line.get("scalars"))
    if not isinstance(named, dict):
        named = {key: value for key, value in line.items() if key != "step"}
    values = {}
    for name, value in named.items():
        number = _mean(value)
        if number is not None:
            values[clean_name(name)] = number
    return step, values


def timings_row(line: Mapping[str, Any]) -> Row | None:
    """``{"step", "seconds": {name: s}}`` as ``seconds/NAME``."""
    step, named = whole(line.get("step")), line.get("seconds")
    if step is None or not isinstance(named, dict):
        return None
    numbers = {f"seconds/{clean_name(name)}": finite(value) for name, value in named.items()}
    return step, {name: value for name, value in numbers.items() if value is not None}


def evaluations_row(line: Mapping[str, Any]) -> Row | None:
    """Estimates ``{"value", "low", "high"}`` as ``evaluation/NAME`` with the ends of their interval."""
    step = whole(line.get("step"))
    if step is None:
        return None
    values: dict[str, float] = {}
    for key, item in line.items():
        if key == "step":
            continue
        name = f"evaluation/{clean_name(key)}"
        estimate = item if isinstance(item, dict) else {"value": item}
        value = finite(estimate.get("value"))
        if value is None:
            continue
        values[name] = value
        for suffix, end in ((LOW, finite(estimate.get("low"))), (HIGH, finite(estimate.get("high")))):
            if end is not None:
                values[name + suffix] = end
    return step, values


PARSERS: Mapping[str, Callable[[Mapping[str, Any]], Row | None]] = {
    "metrics": metrics_row,
    "timings": timings_row,
    "evaluations": evaluations_row,
}
"""By the name of the file, without its ending."""


def _mean(value: Any) -> float | None:
    # Half a million lines pass here when fifty runs are opened: the usual case comes first.
    if type(value) is list and len(value) == 2:
        total, count = value
        if type(total) not in NUMBERS or type(count) not in NUMBERS or not count:
            return None
        try:
            mean = total / count
        except OverflowError:
            return None
        return float(mean) if math.isfinite(mean) else None
    return finite(value)


@lru_cache(maxsize=4096)
def clean_name(name: str) -> str:
    """A name that can be sent on, of at most 200 characters."""
    return str(sendable(name)).replace("\0", "")[:200]
