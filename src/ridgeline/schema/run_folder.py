"""The run folder: the interface between training, which writes it, and everything else, which reads it.

    runs/<name>/recipe.toml  environment.json  events.jsonl  summary.json  report.html
                stages/NN-name/  metrics.jsonl  timings.jsonl  evaluations.jsonl  result.json
                                 samples/  traces/  features/  checkpoints/  model/

``metrics.jsonl`` is a pure function of recipe and seed; what depends on the clock is in ``timings.jsonl``.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import tomli_w

from ridgeline.schema.errors import RunError, UsageError
from ridgeline.schema.recipe import Recipe

Metrics = dict[str, tuple[float, float]]
"""Named (sum, count) pairs: merged exactly by adding, averaged only by readers."""


class RunFolder:
    """One run on disk. Writers hold its lock; readers need none."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock: IO[str] | None = None

    def open_for_writing(self) -> None:
        """Create the folder and take its lock.

        Raises:
            UsageError: the folder cannot be made, or another process is writing to it.
        """
        try:
            (self.path / "stages").mkdir(parents=True, exist_ok=True)
            lock = open(self.path / ".lock", "w", encoding="utf-8")  # noqa: SIM115 (held while the run lives)
        except OSError as error:
            raise UsageError(f"cannot write the run folder {self.path}: {error.strerror}.") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise UsageError(
                f"the run folder {self.path} is in use by another process; wait, or choose another --out."
            ) from None
        self._lock = lock

    def close(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def stage(self, number: int, name: str) -> StageFolder:
        """Folder of the stage at position ``number`` (from 0)."""
        return StageFolder(self.path / "stages" / f"{number + 1:02d}-{name}")

    def stages(self) -> list[StageFolder]:
        """Stage folders present, in order."""
        return [StageFolder(path) for path in sorted((self.path / "stages").glob("[0-9][0-9]*-*"))]

    def event(self, kind: str, **details: Any) -> None:
        """Append to ``events.jsonl`` (wall-clock seconds since the epoch)."""
        append_line(self.path / "events.jsonl", {"time": round(time.time(), 3), "kind": kind, **details})

    def write_recipe(self, recipe: Recipe) -> None:
        """``recipe.toml`` to read, and a copy that tells later whether anybody edited it."""
        values = without_none(recipe.model_dump(mode="json"))
        write_atomic(self.path / "recipe.toml", tomli_w.dumps(values))
        write_atomic(self.path / ".recipe.json", json.dumps(values) + "\n")

    def recipe_as_started(self) -> dict[str, Any]:
        """The resolved recipe that the run was started with."""
        values: dict[str, Any] = json.loads((self.path / ".recipe.json").read_text(encoding="utf-8"))
        return values

    @property
    def is_occupied(self) -> bool:
        """Whether a run left something to lose; a start that failed at once (a mistyped model) did not."""
        return self.has_recipe and any(path.is_file() for path in (self.path / "stages").rglob("*"))

    @property
    def has_recipe(self) -> bool:
        return (self.path / ".recipe.json").is_file()


class StageFolder:
    """One stage of a run on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def create(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)

    @property
    def name(self) -> str:
        return self.path.name.split("-", 1)[1]

    @property
    def model(self) -> Path:
        """The model that the stage made."""
        return self.path / "model"

    @property
    def adapter(self) -> Path:
        """The adapter of that model by itself, where one was trained."""
        return self.path / "adapter"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    @property
    def traces(self) -> Path:
        """What a step knew of every token of its samples: a file per file of samples."""
        return self.path / "traces"

    @property
    def features(self) -> Path:
        """Where the reference sees the samples: a file per file of samples."""
        return self.path / "features"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def evaluations(self) -> Path:
        return self.path / "evaluations.jsonl"

    @property
    def timings(self) -> Path:
        return self.path / "timings.jsonl"

    def result(self) -> dict[str, Any] | None:
        """What the finished stage reported; None while it is not finished."""
        path = self.path / "result.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def finish(self, result: Mapping[str, Any]) -> None:
        """Record the result; from here on the stage counts as done."""
        write_atomic(self.path / "result.json", json.dumps(result, indent=1) + "\n")

    def truncate_lines(self, step: int) -> None:
        """Forget lines of steps >= ``step``: a resumed run writes them again, identically."""
        for path in (self.metrics, self.evaluations, self.timings):
            if path.is_file():
                kept = [line for line in read_lines(path) if line["step"] < step]
                write_atomic(path, "".join(json.dumps(line) + "\n" for line in kept))


def append_line(path: Path, value: Mapping[str, Any]) -> None:
    """One JSON object on one line, flushed to the system."""
    try:
        with open(path, "a+b") as file:
            if file.tell() and not _ends_a_line(file):
                file.write(b"\n")  # a kill cut the last line; this one must not be glued to it
            file.write((json.dumps(value) + "\n").encode())
    except OSError as error:
        raise RunError(
            f"cannot write {path}: {error.strerror}; free some space, then: ridgeline resume."
        ) from None


def _ends_a_line(file: IO[bytes]) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Lines of a JSONL file that training wrote; a line cut by a kill is left out, no file is empty."""
    if not path.is_file():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return lines


def write_atomic(path: Path, text: str) -> None:
    """Written aside, fsynced and renamed: readers see the old file or the new one.

    Raises:
        RunError: it could not be written (a full disk, say); the old file is untouched.
    """
    aside = path.with_name(f".{path.name}.writing")
    try:
        with open(aside, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        raise RunError(
            f"cannot write {path}: {error.strerror}; free some space, then: ridgeline resume."
        ) from None


def mean(metric: tuple[float, float] | list[float]) -> float:
    """The average of a (sum, count) pair; nan when nothing was counted."""
    total, count = metric
    return total / count if count else float("nan")


def without_none(value: Any) -> Any:
    """TOML has no null: an absent key means None."""
    if isinstance(value, dict):
        return {key: without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_none(item) for item in value]
    return value
