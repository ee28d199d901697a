"""``--set stage.key=value``: changes to a recipe from the command line."""

from __future__ import annotations

import copy
import tomllib
from typing import Any

from ridgeline.schema.errors import UsageError, nearest


def apply_overrides(values: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """A copy of ``values`` with each ``key=value`` or ``stage.key[.key]=value`` applied.

    The value is read as TOML (numbers, booleans, lists, inline tables) and else taken as a string.

    >>> apply_overrides({"seed": 1, "stage": [{"name": "sft", "epochs": 1}]}, ["sft.epochs=2", "seed=7"])
    {'seed': 7, 'stage': [{'name': 'sft', 'epochs': 2}]}
    """
    result = copy.deepcopy(values)
    listed = result.get("stage")
    tables = [stage for stage in listed if isinstance(stage, dict)] if isinstance(listed, list) else []
    stages = {str(stage.get("name")): stage for stage in tables}
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key.strip():
            raise UsageError(f"--set {override}: write it as stage.key=value or key=value.")
        path = key.strip().split(".")
        target: Any = result
        if len(path) > 1:
            if path[0] not in stages:
                raise UsageError(
                    f"--set {override}: no stage is named '{path[0]}'; {nearest(path[0], stages)}"
                )
            target = stages[path[0]]
            path = path[1:]
        for part in path[:-1]:
            target = target.setdefault(part, {})
            if not isinstance(target, dict):
                raise UsageError(f"--set {override}: '{part}' is not a table, so it has no '{path[-1]}'.")
        target[path[-1]] = parse_value(text.strip())
    return result


def parse_value(text: str) -> Any:
    """``text`` as a TOML value, or as a plain string when it is none."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
