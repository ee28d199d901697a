"""A stage in a few words: how far it is planned to go, and the numbers that matter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ridgeline.studio.figures import polished
from ridgeline.studio.safe import finite, sendable, whole


def steps_planned(kind: str, config: Mapping[str, Any]) -> int | None:
    """Optimizer steps that the recipe asks for; None where they depend on the data."""
    settings = config
    if kind == "preference" and isinstance(config.get("online"), Mapping):
        settings = config["online"]
    elif kind != "rl":
        return None
    total = 1
    for name in ("steps", "repeat", "updates_per_rollout", "epochs_per_rollout"):
        value = whole(settings.get(name, 1))
        if value is None or not 0 < value < 10**9:
            return None
        total *= value
    return total if total < 10**12 else None


def headline(
    name: str, kind: str, config: Mapping[str, Any], result: Mapping[str, Any] | None, last: Mapping[str, Any]
) -> str | None:
    """What a reader asks for first: before and after of a finished stage, else its newest numbers."""
    from ridgeline.workbench.progress import highlight, shown_metrics

    try:
        if result is not None:
            return polished(str(sendable(highlight(name, kind, result)))) or None
        pairs = {key: (value[0], value[1]) for key, value in last.items() if _is_pair(value)}
        return polished(str(sendable(shown_metrics(kind, pairs, _monitors(kind, config))))) or None
    except (TypeError, ValueError, KeyError, AttributeError, IndexError, OverflowError, ZeroDivisionError):
        return None  # a result that somebody wrote by hand has no headline


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(finite(part) is not None for part in value)


def _monitors(kind: str, config: Mapping[str, Any]) -> list[str]:
    source = config.get("online") if kind == "preference" else config
    specs = source.get("monitor") if isinstance(source, Mapping) else None
    from ridgeline.workbench.report.rl_view import function_names

    return function_names(specs) if isinstance(specs, list) else []
