"""All runs below one folder: found, followed, and looked up by an id that no path can be built from."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from pathlib import Path

from ridgeline.studio.locks import held_locks
from ridgeline.studio.run_reader import Changes, RunReader
from ridgeline.studio.safe import Damaged, Problem, inside, read_object
from ridgeline.studio.stage_reader import StageReader

DEPTH = 3
RUNS = 2000
FOLDERS = 20_000
CURVE_MEMORY = 1 << 30
"""Bytes of curves held at once; beyond it those asked for longest ago are dropped and read again."""


class RunsIndex:
    """Runs of ``root`` by id. All methods may be called from any thread."""

    def __init__(self, root: Path) -> None:
        self.given = root
        self.root = root.resolve()
        self.lock = threading.RLock()
        self._runs: dict[str, RunReader] = {}
        self._asked: OrderedDict[tuple[str, str], StageReader] = OrderedDict()
        self.scan()

    def scan(self) -> bool:
        """Look for new and vanished run folders; whether any vanished."""
        found = discover(self.root)
        with self.lock:
            gone = [id_ for id_, run in self._runs.items() if id_ not in found or found[id_][0] != run.path]
            for id_ in gone:
                del self._runs[id_]
            for id_, (path, kind) in found.items():
                if id_ not in self._runs:
                    self._runs[id_] = RunReader(self.root, path, id_, kind)
            self._runs = {id_: self._runs[id_] for id_ in found}
        return bool(gone)

    def refresh(self) -> dict[str, Changes]:
        """Read what is new in every run."""
        held = held_locks()
        return {run.id: run.refresh(held) for run in self.all()}

    def all(self) -> list[RunReader]:
        with self.lock:
            return list(self._runs.values())

    def run(self, id_: str) -> RunReader:
        """Raises Problem 404 for an unknown id."""
        with self.lock:
            found = self._runs.get(id_)
        if found is None:
            raise Problem(404, "There is no such run; /api/runs lists those that there are.")
        return found

    def stage(self, run: str, id_: str) -> StageReader:
        """Raises Problem 404 for an unknown id."""
        found = self.run(run).stages.get(id_)
        if found is None:
            raise Problem(404, "This run has no such stage.")
        return found

    def note_use(self, run: str, stage: StageReader) -> None:
        """Curves of ``stage`` were asked for: drop those of others where all together are too large."""
        with self.lock:
            self._asked[run, stage.id] = stage
            self._asked.move_to_end((run, stage.id))
            while len(self._asked) > 1 and sum(each.bytes for each in self._asked.values()) > CURVE_MEMORY:
                _, oldest = self._asked.popitem(last=False)
                oldest.forget()


def discover(root: Path) -> dict[str, tuple[Path, str]]:
    """Id -> folder and kind, newest id order by path; ids are relative paths with ``~`` for ``/``."""
    kind = kind_of(root, root)
    if kind is not None:
        return {root.name: (root, kind)}
    found: dict[str, tuple[Path, str]] = {}
    looked = 0
    level = [root]
    for _ in range(DEPTH):
        deeper: list[Path] = []
        for folder in level:
            for path in _subfolders(root, folder):
                looked += 1
                if looked > FOLDERS or len(found) >= RUNS:
                    return dict(sorted(found.items()))
                kind = kind_of(root, path)
                if kind is None:
                    deeper.append(path)
                else:
                    found.setdefault("~".join(path.relative_to(root).parts), (path, kind))
        level = deeper
    return dict(sorted(found.items()))


def kind_of(root: Path, path: Path) -> str | None:
    """``run`` or ``world``; None where the folder is neither, not even a damaged one."""
    recipe, events, stages = ((path / name).exists() for name in ("recipe.toml", "events.jsonl", "stages"))
    if (recipe and (events or stages)) or (events and stages):
        return "run"
    if (path / "landscape" / "manifest.json").exists() and (path / "metrics.jsonl").exists():
        try:
            manifest = read_object(root, path / "landscape" / "manifest.json")
        except Damaged:
            return None
        return "world" if manifest is not None and manifest.get("kind") == "exact" else None
    return None


def _subfolders(root: Path, folder: Path) -> list[Path]:
    """Folders that are shown: not hidden, with a printable name, and still in ``root`` behind a link."""
    try:
        with os.scandir(folder) as entries:
            named = [(entry.name, entry.is_symlink()) for entry in entries if entry.is_dir()]
    except OSError:
        return []
    return [
        folder / name
        for name, linked in sorted(named)
        if not name.startswith(".") and name.isprintable() and (not linked or inside(root, folder / name))
    ]
