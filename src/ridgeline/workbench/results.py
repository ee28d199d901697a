"""What the stages of a run measured, as tables of numbers with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

BEFORE_AFTER = ("before", "after")
COUNTERS = ("step", "rollout", "tokens")
"""Where a measurement was taken, not what was measured."""
SETTINGS = ("kl", "annotators", "dropped", "divergence")
"""Tables in a result that say how a stage was set up or what it left out."""


@dataclass(frozen=True)
class Figure:
    """A number and, where it is known, its 95 % interval."""

    value: float
    low: float | None = None
    high: float | None = None

    def overlaps(self, other: Figure) -> bool | None:
        """Whether the two intervals overlap; None when one of them is unknown."""
        if self.low is None or self.high is None or other.low is None or other.high is None:
            return None
        return self.low <= other.high and other.low <= self.high

    def as_dict(self) -> dict[str, float | None]:
        return {"value": self.value, "low": self.low, "high": self.high}

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return number(self.value)
        digits = 1 if max(abs(self.value), abs(self.low), abs(self.high)) >= 100 else 3
        return f"{self.value:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


@dataclass
class StageTable:
    """Rows are measures; columns are ``before`` and ``after``, or the models that were compared."""

    stage: str
    kind: str
    columns: tuple[str, ...]
    rows: dict[str, list[Figure | None]] = field(default_factory=dict)


def number(value: float) -> str:
    """Three decimals for small numbers, fewer for large ones, integers as they are."""
    if value != value:
        return "nan"
    if float(value).is_integer() and abs(value) < 1e9:
        return str(int(value))
    if abs(value) >= 100:
        return f"{value:.1f}"
    return f"{value:.3f}" if abs(value) >= 0.001 else f"{value:.1e}"


def figure(value: Any) -> Figure | None:
    """A plain number, or the dict of an estimate; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return Figure(float(value))
    if isinstance(value, Mapping) and isinstance(value.get("value"), int | float):
        return Figure(float(value["value"]), value.get("low"), value.get("high"))
    return None


def stage_tables(summary: Mapping[str, Any], kinds: Mapping[str, str]) -> list[StageTable]:
    """One table per finished stage; ``kinds`` gives each stage's type."""
    tables = []
    for name, result in summary["stages"].items():
        if result is not None:
            kind = kinds.get(name, "")
            tables.append(
                _evaluation(name, result) if kind == "evaluate" else _before_after(name, kind, result)
            )
    return tables


def plain(reward: str) -> str:
    """A reward as people call it: ``path/to/rewards.py:short`` and ``package.module:short`` are ``short``."""
    return reward.rpartition(":")[2]


def kinds_of(recipe: Mapping[str, Any]) -> dict[str, str]:
    """Type of every stage of a recipe given as a dict."""
    return {stage["name"]: stage["type"] for stage in recipe["stage"]}


def _before_after(name: str, kind: str, result: Mapping[str, Any]) -> StageTable:
    table = StageTable(name, kind, BEFORE_AFTER)
    before, after = result.get("before") or {}, result.get("after") or {}
    for key in [*after, *(key for key in before if key not in after)]:
        _add(table, key, before.get(key), after.get(key))
    for key, value in result.items():
        if key.endswith("_before"):
            base = key.removesuffix("_before")
            _add(table, base, value, result.get(f"{base}_after"))
        elif not key.endswith("_after") and key not in ("before", "after"):
            _add_single(table, key, value)
    return table


def _add_single(table: StageTable, key: str, value: Any) -> None:
    """A measure without a before; a nested table (such as ``ceiling``) gives a row per entry."""
    if figure(value) is not None:
        _add(table, key, None, value)
    elif isinstance(value, Mapping) and key not in SETTINGS:
        for inner, item in value.items():
            _add(table, f"{key} {inner}", None, item)


def _add(table: StageTable, key: str, before: Any, after: Any) -> None:
    if key in COUNTERS:
        return
    figures = [figure(before), figure(after)]
    if any(figures):
        table.rows[_unless_taken(key, table)] = figures


def _unless_taken(key: str, table: StageTable) -> str:
    """``key`` with its reward in short, wherever no other row is called so."""
    head, mark, reward = key.partition("reward/")
    short = f"{head}{mark}{plain(reward)}" if mark else key
    return key if short in table.rows else short


def _evaluation(name: str, result: Mapping[str, Any]) -> StageTable:
    models: Mapping[str, Mapping[str, Any]] = result["models"]
    table = StageTable(name, "evaluate", tuple(models))
    measures = list(dict.fromkeys(key for measured in models.values() for key in measured))
    for key in measures:
        table.rows[_unless_taken(key, table)] = [figure(measured.get(key)) for measured in models.values()]
    baseline, against = result.get("baseline", ""), result.get("against_baseline", {})
    for key, label in (("win_rate", "win rate"), ("difference", "difference")):
        row = [figure(against.get(model, {}).get(key)) for model in models]
        if any(row):
            table.rows[f"{label} against {baseline} ({plain(result.get('deciding_reward', 'reward'))})"] = row
    return table
