"""One run folder, followed while it is written: its state, its stages, its events."""

from __future__ import annotations

import re
import threading
import time
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ridgeline.studio.headlines import headline, steps_planned
from ridgeline.studio.locks import is_locked
from ridgeline.studio.safe import Damaged, finite, inside, read_object, read_text, sendable, whole
from ridgeline.studio.stage_reader import Points, StageReader
from ridgeline.studio.tail import Tail

FRESH = 15.0
"""Seconds since its last write for which a run without a lock (copied from elsewhere) counts as running."""
EVENTS = 5000
STAGES = 200
STAGE_ID = re.compile(r"[0-9]{1,6}-[^/\\\0]{1,200}")
WORLD_STAGE = "-"


@dataclass
class Changes:
    """What a refresh found: points and events that are new, and whether curves have to be fetched anew."""

    points: list[tuple[str, Points]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    anew: bool = False


class RunReader:
    """Everything is read as far as it goes; what is missing or broken becomes a sentence in ``problem``."""

    def __init__(self, root: Path, path: Path, id_: str, kind: str = "run") -> None:
        self.root = root
        self.path = path
        self.id = id_
        self.kind = kind
        self.recipe: dict[str, Any] = {}
        self.recipe_text: str | None = None
        self.events: list[dict[str, Any]] = []
        self.stages: dict[str, StageReader] = {}
        self.locked = False
        self.problems: dict[str, str] = {}
        self.lock = threading.RLock()
        self._recipe_mark: tuple[int, int] | None = None
        self._event_tail = Tail(root, path / "events.jsonl")
        self.refresh(None)

    def refresh(self, held: frozenset[int] | None) -> Changes:
        """Read what is new. ``held``: see ``locks.held_locks``."""
        with self.lock:
            return self._refresh(held)

    def _refresh(self, held: frozenset[int] | None) -> Changes:
        changes = Changes()
        self.locked = is_locked(self.path, held)
        if self.kind == "run":
            self._refresh_recipe()
            changes.events = self._refresh_events()
        self._refresh_stages()
        for stage in self.stages.values():
            points, anew = stage.refresh()
            changes.anew |= anew
            if points:
                changes.points.append((stage.id, points))
        return changes

    @property
    def name(self) -> str:
        return str(self.recipe.get("name") or self.path.name)

    @property
    def updated(self) -> float | None:
        """When anything was last written (seconds since the epoch)."""
        times = [self._time("events.jsonl"), self._time("metrics.jsonl"), self._time("recipe.toml")]
        for stage in self.stages.values():
            times += [_changed(stage.folder / f"{kind}.jsonl") for kind in stage.sources]
            times += [_changed(stage.folder / "samples")]
        known = [each for each in times if each is not None]
        return max(known) if known else None

    @property
    def state(self) -> str:
        """running, finished, interrupted, failed or damaged."""
        kinds = [event.get("kind") for event in self.events]
        last = kinds[-1] if kinds else None
        if self.locked:
            return "running"
        if self.kind == "run" and (self.recipe_text is None or "recipe" in self.problems):
            return "damaged"
        if last == "run finished":
            return "finished"
        if last == "interrupted":
            return "interrupted"
        if last == "nonfinite":
            return "failed"
        if self._is_evaluation:
            return "finished"
        if time.time() - (self.updated or 0.0) < FRESH:
            return "running"
        if self.kind == "world":
            return "finished"
        return "interrupted" if self.events else "damaged"

    @property
    def _is_evaluation(self) -> bool:
        """``ridgeline evaluate`` writes a folder of finished stages, and no events."""
        stages = [stage for stage in self.stages.values() if stage.started]
        return not self.events and bool(stages) and all(each.result is not None for each in stages)

    @property
    def problem(self) -> str | None:
        """What is wrong with the folder, in sentences; None where nothing is."""
        state = self.state
        told = list(self.problems.values())
        if self.kind == "run":
            if self.recipe_text is None:
                told.append("recipe.toml is missing.")
            if not self.events and not self._is_evaluation:
                told.append("events.jsonl holds no events.")
            ended = self.events[-1].get("kind") if self.events else None
            if state == "interrupted" and ended != "interrupted":
                told.append(
                    f"The run ended without a word; to continue it: ridgeline resume {self.path.name}."
                )
            if state == "failed":
                told.append("The loss became nan or infinite; the batch is kept beside the stage.")
        if self._event_tail.damaged:
            told.append(f"events.jsonl: {self._event_tail.damaged} damaged lines left out.")
        for stage in self.stages.values():
            told += stage.damage()
        return " ".join(told[:8]) or None

    @property
    def started(self) -> float | None:
        first = finite(self.events[0].get("time")) if self.events else None
        return self._time("recipe.toml") if first is None else first

    def summary(self) -> dict[str, Any]:
        """The run as the list of runs shows it."""
        with self.lock:
            return self._summary()

    def _summary(self) -> dict[str, Any]:
        state = self.state
        text = {key: self.recipe.get(key) for key in ("model", "seed")}
        return {
            "id": self.id,
            "name": self.name,
            "state": state,
            "problem": self.problem,
            "started": self.started,
            "updated": self.updated,
            "model": None if text["model"] is None else str(text["model"]),
            "seed": whole(text["seed"]),
            "kind": self.kind,
            "stages": [self._stage(stage, state) for stage in self.stages.values()],
        }

    def details(self) -> dict[str, Any]:
        """The summary, and the texts of the run."""
        environment, summary = (self._document(name) for name in ("environment.json", "summary.json"))
        return self.summary() | {
            "recipe": self.recipe_text,
            "environment": environment,
            "summary": summary,
            "events": self.events,
        }

    def _stage(self, stage: StageReader, state: str) -> dict[str, Any]:
        return {
            "id": stage.id,
            "name": stage.name,
            "type": stage.type,
            "state": self._stage_state(stage, state),
            "steps_done": stage.steps_done,
            "steps": steps_planned(stage.type, stage.config) or (stage.steps_done if stage.result else None),
            "headline": headline(stage.name, stage.type, stage.config, stage.result, stage.last_metrics),
            "has": {name: stage.has(name) for name in ("samples", "landscape", "traces")},
        }

    def _stage_state(self, stage: StageReader, state: str) -> str:
        if self.kind == "world":
            return state
        if stage.result is not None:
            return "finished"
        if not stage.started:
            return "waiting"
        current = next((e["stage"] for e in reversed(self.events) if isinstance(e.get("stage"), str)), None)
        if state in ("running", "failed") and current == stage.name:
            return state
        return "interrupted"

    def _refresh_recipe(self) -> None:
        path = self.path / "recipe.toml"
        try:
            found = path.stat()
            mark = (found.st_mtime_ns, found.st_size)
        except OSError:
            self.recipe, self.recipe_text, self._recipe_mark = {}, None, None
            return
        if mark == self._recipe_mark:
            return
        self._recipe_mark = mark
        try:
            self.recipe_text = read_text(self.root, path, 1 << 20) or ""
            self.recipe = sendable(tomllib.loads(self.recipe_text))
            self.problems.pop("recipe", None)
        except (Damaged, ValueError, RecursionError) as error:
            reason = str(error) if isinstance(error, Damaged) else "recipe.toml could not be read as TOML."
            self.recipe, self.problems["recipe"] = {}, reason
            self.recipe_text = self.recipe_text or ""

    def _refresh_events(self) -> list[dict[str, Any]]:
        rows, anew = self._event_tail.read()
        if anew:
            self.events = []
        fresh = [sendable(row) for row in rows if isinstance(row.get("kind"), str)]
        fresh = [row | {"time": finite(row.get("time"))} for row in fresh]
        self.events = (self.events + fresh)[-EVENTS:]
        return fresh

    def _refresh_stages(self) -> None:
        """Stages of the recipe in order, begun or not; then folders that the recipe does not know."""
        if self.kind == "world":
            if not self.stages:
                stage = StageReader(self.root, self.path, WORLD_STAGE, self.path.name, "world", {})
                self.stages = {stage.id: stage}
            return
        wanted: dict[str, tuple[str, str, dict[str, Any]]] = {}
        configs = self.recipe.get("stage")
        for number, config in enumerate(configs[:STAGES] if isinstance(configs, list) else []):
            name = config.get("name") if isinstance(config, dict) else None
            if isinstance(name, str) and STAGE_ID.fullmatch(id_ := f"{number + 1:02d}-{name}"):
                wanted[id_] = (name, str(config.get("type", "unknown")), config)
        for id_ in self._stage_folders():
            wanted.setdefault(id_, (id_.split("-", 1)[1], "unknown", {}))
        for id_, (name, type_, config) in wanted.items():
            known = self.stages.get(id_)
            if known is None:
                folder = self.path / "stages" / id_
                if not folder.exists() or inside(self.root, folder):
                    self.stages[id_] = StageReader(self.root, folder, id_, name, type_, config)
            elif (known.type, known.config) != (type_, config):
                known.type, known.config = type_, config
        order = [id_ for id_ in wanted if id_ in self.stages]
        if list(self.stages) != order:
            self.stages = {id_: self.stages[id_] for id_ in order}

    def _stage_folders(self) -> list[str]:
        try:
            names = sorted(entry.name for entry in (self.path / "stages").iterdir() if entry.is_dir())
        except OSError:
            return []
        return [name for name in names if STAGE_ID.fullmatch(name) and name.isprintable()][:STAGES]

    def _document(self, name: str) -> dict[str, Any] | None:
        try:
            found = read_object(self.root, self.path / name)
            self.problems.pop(name, None)
        except Damaged as error:
            self.problems[name] = str(error)
            return None
        return found

    def _time(self, name: str) -> float | None:
        return _changed(self.path / name)


def _changed(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None
