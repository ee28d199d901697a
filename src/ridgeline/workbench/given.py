"""What Python callers give (rows, functions, models in memory) as a recipe can hold it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ridgeline.workbench.rewards import reward_name

if TYPE_CHECKING:
    from ridgeline.models.load import LanguageModel

Data = str | Path | Sequence[Mapping[str, Any]]
Reward = str | Callable[..., Any]
SOURCES = ("data", "prompts", "heldout")
"""Options that name rows; in Python they may be the rows."""
REWARDS = ("reward", "rewards", "monitor")
"""Options that list rewards; in Python they may be functions."""


def recipe_values(options: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """``options`` as a recipe can hold them: functions by name, then (names may be refused) rows in files."""
    return _with_files(_with_names(options), folder)


def _with_names(options: Mapping[str, Any]) -> dict[str, Any]:
    """Reward functions as names that another process can import, in inner tables too."""

    def named(key: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            return _with_names(value)
        if key in REWARDS:
            return [named("", each) for each in listed(value)]
        return reward_name(value) if callable(value) else value

    return {key: named(key, value) for key, value in options.items()}


def _with_files(options: Mapping[str, Any], folder: Path, prefix: str = "") -> dict[str, Any]:
    """Rows as names of files below ``folder``, in inner tables too."""
    found = dict(options)
    for key, value in options.items():
        if isinstance(value, Mapping):
            found[key] = _with_files(value, folder, f"{prefix}{key}-")
        elif key in SOURCES and not isinstance(value, int | float | None):
            found[key] = as_file(value, folder, f"{prefix}{key}")
    return found


def as_file(data: Any, folder: Path, name: str) -> str:
    """Rows given as a list are kept in the run folder, so that the run can be resumed from its own files."""
    if isinstance(data, str | Path):
        return str(data)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in data), encoding="utf-8")
    return str(path)


def saved(model: LanguageModel, folder: Path) -> str:
    """The weights as they are now, not those of the path they were loaded from."""
    model.save(folder)
    return str(folder.resolve())


def listed(reward: Reward | Sequence[Reward]) -> list[Reward]:
    """One reward or several, as a list."""
    return [reward] if isinstance(reward, str) or callable(reward) else list(reward)
