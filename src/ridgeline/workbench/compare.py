"""Two runs side by side: what was different in their recipes, and what came out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ridgeline.schema.run_folder import RunFolder
from ridgeline.workbench.launch import existing_run, read_summary
from ridgeline.workbench.results import Figure, StageTable, kinds_of, stage_tables


@dataclass(frozen=True)
class Difference:
    """One key of the recipe; None where a run does not have it."""

    key: str
    first: Any
    second: Any

    def as_dict(self) -> dict[str, Any]:
        return {"key": self.key, "first": self.first, "second": self.second}


@dataclass(frozen=True)
class Measured:
    """One final measurement of a stage in both runs (``model`` where the stage compared several)."""

    stage: str
    measure: str
    model: str
    first: Figure | None
    second: Figure | None

    @property
    def overlap(self) -> bool | None:
        """Whether the intervals overlap; None without two intervals."""
        if self.first is None or self.second is None:
            return None
        return self.first.overlaps(self.second)

    def as_dict(self) -> dict[str, Any]:
        return {
            "stage": self.stage,
            "measure": self.measure,
            "model": self.model,
            "first": self.first.as_dict() if self.first else None,
            "second": self.second.as_dict() if self.second else None,
            "intervals_overlap": self.overlap,
        }


@dataclass(frozen=True)
class Comparison:
    """Recipe differences and measurements, in the order of the first run's stages."""

    first: str
    second: str
    differences: list[Difference]
    measured: list[Measured]

    def as_dict(self) -> dict[str, Any]:
        return {
            "first": self.first,
            "second": self.second,
            "recipe": [each.as_dict() for each in self.differences],
            "measured": [each.as_dict() for each in self.measured],
        }


def compare(first: str | Path, second: str | Path) -> Comparison:
    """Compare two run folders; an unfinished run is compared by the stages it has finished.

    Overlapping intervals do not prove equality, and each interval describes one run: prompts vary in it,
    seeds do not.

    Raises:
        UsageError: a folder holds no run.
    """
    runs = existing_run(first), existing_run(second)
    recipes = [flatten(run.recipe_as_started()) for run in runs]
    keys = list(dict.fromkeys([*recipes[0], *recipes[1]]))
    differences = [
        Difference(key, recipes[0].get(key), recipes[1].get(key))
        for key in keys
        if recipes[0].get(key) != recipes[1].get(key)
    ]
    finals = [_final_figures(run) for run in runs]
    measured = [
        Measured(*key, finals[0].get(key), finals[1].get(key))
        for key in dict.fromkeys([*finals[0], *finals[1]])
    ]
    return Comparison(str(first), str(second), differences, measured)


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested tables as ``stage.key`` paths; lists of tables go by their ``name`` or ``function``."""
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        items = [
            (str(item.get("name") or item.get("function") or index), item) for index, item in enumerate(value)
        ]
    else:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, item in items:
        path = key if prefix in ("", "stage") else f"{prefix}.{key}"
        flat |= flatten(item, path)
    return flat


def _final_figures(run: RunFolder) -> dict[tuple[str, str, str], Figure]:
    """(stage, measure, model) -> the figure at the end of the stage."""
    figures: dict[tuple[str, str, str], Figure] = {}
    for table in stage_tables(read_summary(run), kinds_of(run.recipe_as_started())):
        for measure, row in table.rows.items():
            for model, found in _finals(table, row).items():
                if found is not None:
                    figures[table.stage, measure, model] = found
    return figures


def _finals(table: StageTable, row: list[Figure | None]) -> dict[str, Figure | None]:
    if table.kind == "evaluate":
        return dict(zip(table.columns, row, strict=True))
    return {"": row[-1]}
