"""The run folder as the report reads it: whatever is missing or broken becomes a note, never an exception."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ridgeline.schema.records import Sample
from ridgeline.schema.run_folder import RunFolder, StageFolder, read_lines
from ridgeline.workbench.report.clock import stage_seconds

T = TypeVar("T")
LOOPED = ("sft", "reward_model", "preference", "unpaired", "rl", "reject", "distill")
"""Stage types that go through the training loop."""
Curve = tuple[list[float], list[float]]


@dataclass
class StageData:
    """What one stage left behind; ``result`` is None while it has not finished."""

    folder: StageFolder
    name: str
    kind: str
    config: dict[str, Any]
    present: bool
    result: dict[str, Any] | None = None
    metrics: list[dict[str, Any]] = field(default_factory=list)
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    timings: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    _files: dict[Path, list[Sample]] = field(default_factory=dict)

    def curve(self, name: str) -> Curve:
        """Step and mean of a (sum, count) metric; steps without it are left out."""
        points = [
            (float(line["step"]), value[0] / value[1])
            for line in self.metrics
            if is_pair(value := line["metrics"].get(name)) and value[1]
        ]
        return [x for x, _ in points], [y for _, y in points]

    def names(self) -> set[str]:
        """Names of all metrics logged."""
        return {name for line in self.metrics for name in line["metrics"]}

    def samples(self, pattern: str) -> list[list[Sample]]:
        """Samples of the files below ``samples/`` that match ``pattern``: a list per file, by name."""
        return [self.sample_file(path) for path in sorted(self.folder.samples.glob(pattern))]

    def sample_file(self, path: Path) -> list[Sample]:
        """The samples of one file; none, and a note, where it cannot be read."""
        from ridgeline.rollout.store import read_samples

        if path not in self._files:
            # A damaged Parquet file fails in as many ways as there are bytes in it.
            try:
                self._files[path] = read_samples(path)
            except Exception as error:
                self.notes.append(f"samples/{path.name} could not be read ({type(error).__name__}).")
                self._files[path] = []
        return self._files[path]


@dataclass
class RunData:
    """A run folder, read."""

    path: Path
    recipe: dict[str, Any]
    recipe_text: str
    environment: dict[str, Any]
    events: list[dict[str, Any]]
    stages: list[StageData]
    notes: list[str]

    @property
    def name(self) -> str:
        return str(self.recipe.get("name") or self.path.name)

    def of_kind(self, kind: str) -> list[StageData]:
        """Stages of one type that have left anything, in order."""
        return [stage for stage in self.stages if stage.kind == kind and stage.present]

    def named(self, name: str) -> StageData | None:
        return next((stage for stage in self.stages if stage.name == name), None)


def read_run(path: Path) -> RunData:
    """Read everything the report needs from the run folder ``path``."""
    notes: list[str] = []
    text = _attempt(lambda: (path / "recipe.toml").read_text(encoding="utf-8"), "", "recipe.toml", notes)
    recipe: dict[str, Any] = _attempt(lambda: tomllib.loads(text), {}, "recipe.toml", notes)
    environment = _object(path / "environment.json", notes)
    events = _lines(path / "events.jsonl", notes)
    stages = [_stage(folder, config, events) for folder, config in _stage_folders(path, recipe)]
    return RunData(path, recipe, text, environment, events, stages, notes)


def _stage_folders(path: Path, recipe: dict[str, Any]) -> list[tuple[StageFolder, dict[str, Any]]]:
    """Stages of the recipe, begun or not; without a readable recipe, whatever folders exist."""
    run = RunFolder(path)
    configs = [stage for stage in recipe.get("stage", []) if isinstance(stage, dict) and "name" in stage]
    if configs:
        return [(run.stage(number, config["name"]), config) for number, config in enumerate(configs)]
    return [(folder, {"name": folder.name, "type": "unknown"}) for folder in run.stages()]


def _stage(folder: StageFolder, config: dict[str, Any], events: list[dict[str, Any]]) -> StageData:
    stage = StageData(
        folder, str(config["name"]), str(config.get("type", "unknown")), config, folder.path.is_dir()
    )
    if not stage.present:
        return stage
    stage.result = _object(folder.path / "result.json", stage.notes, missing_is_fine=True) or None
    stage.metrics = [
        line for line in _lines(folder.metrics, stage.notes) if "step" in line and _is_object(line, "metrics")
    ]
    stage.evaluations = [line for line in _lines(folder.evaluations, stage.notes) if "step" in line]
    stage.timings = [
        line for line in _lines(folder.timings, stage.notes) if "step" in line and _is_object(line, "seconds")
    ]
    if stage.result is not None:
        stage.notes += [f"{path.name} is missing." for path in _expected(stage) if not path.is_file()]
    stage.seconds = stage_seconds(stage.name, events, stage.timings)
    return stage


def _expected(stage: StageData) -> list[Path]:
    """The files of lines that a finished stage of this kind leaves."""
    config = stage.config
    if stage.kind not in LOOPED or config.get("train") is False:
        return []
    online = config.get("online")
    heldout = online.get("heldout") if isinstance(online, dict) else config.get("heldout")
    counts = [value for key, value in (stage.result or {}).items() if key.startswith("heldout_")]
    measured = heldout and 0 not in counts
    return [stage.folder.metrics, stage.folder.timings, *([stage.folder.evaluations] if measured else [])]


def is_pair(value: Any) -> bool:
    """Whether ``value`` is a (sum, count) pair of numbers."""
    return (
        isinstance(value, list) and len(value) == 2 and all(isinstance(part, int | float) for part in value)
    )


def number_in(values: Any, *path: str) -> float | None:
    """The finite number at ``path`` of nested objects, or None."""
    for key in path:
        values = values.get(key) if isinstance(values, dict) else None
    good = isinstance(values, int | float) and not isinstance(values, bool) and math.isfinite(values)
    return float(values) if good else None


def _is_object(line: dict[str, Any], key: str) -> bool:
    return isinstance(line.get(key), dict)


def _lines(path: Path, notes: list[str]) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = _attempt(lambda: read_lines(path), [], path.name, notes)
    written = _attempt(lambda: path.read_bytes().count(b"\n"), 0, path.name, []) if lines else 0
    if written > len(lines):
        damaged = written - len(lines)
        notes.append(f"{path.name}: {damaged} damaged line{'s' if damaged > 1 else ''} left out.")
    return [line for line in lines if isinstance(line, dict)]


def _object(path: Path, notes: list[str], *, missing_is_fine: bool = False) -> dict[str, Any]:
    if missing_is_fine and not path.is_file():
        return {}
    value: object = _attempt(lambda: json.loads(path.read_text(encoding="utf-8")), {}, path.name, notes)
    return value if isinstance(value, dict) else {}


def _attempt(read: Callable[[], T], otherwise: T, name: str, notes: list[str]) -> T:
    try:
        return read()
    except FileNotFoundError:
        note = f"{name} is missing."
    except (OSError, ValueError) as error:
        note = f"{name} could not be read ({type(error).__name__})."
    if note not in notes:
        notes.append(note)
    return otherwise
