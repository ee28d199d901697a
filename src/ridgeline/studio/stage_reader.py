"""One stage of a run, followed while it is written."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ridgeline.studio.bulk import read_block
from ridgeline.studio.lines import HIGH, LOW, PARSERS
from ridgeline.studio.safe import Damaged, inside, read_object
from ridgeline.studio.tables import Table
from ridgeline.studio.tail import Tail

Points = list[dict[str, float]]


@dataclass
class Source:
    """One JSONL file of the stage: its cursor, and its numbers once somebody asked for them."""

    tail: Tail
    kind: str
    table: Table | None = None
    last: dict[str, Any] | None = None
    """The newest whole line."""


@dataclass
class StageReader:
    """Reads what is new at each ``refresh``; its history only when a curve is asked for.

    ``step`` of points and curves is that of the training loop.
    """

    root: Path
    folder: Path
    id: str
    name: str
    type: str
    config: dict[str, Any]
    sources: dict[str, Source] = field(default_factory=dict)
    result: dict[str, Any] | None = None
    problems: dict[str, str] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    """Held while curves are read or grow."""
    _result_mark: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for kind in PARSERS:
            source = Source(Tail(self.root, self.folder / f"{kind}.jsonl"), kind)
            source.last = source.tail.skip_to_end()
            self.sources[kind] = source
        self._refresh_result()

    def refresh(self) -> tuple[Points, bool]:
        """The rows written since the last call, and whether a file was begun anew (a resumed run).

        Nothing while somebody else reads the curves: the next call brings it, and all other stages need not
        wait meanwhile.
        """
        if not self.lock.acquire(blocking=False):
            return [], False
        try:
            points, anew = self._read_new()
        finally:
            self.lock.release()
        self._refresh_result()
        return ([], True) if anew else (points, False)

    def _read_new(self) -> tuple[Points, bool]:
        points: Points = []
        anew = False
        for source in self.sources.values():
            rows, restarted = source.tail.read()
            if restarted:
                anew = True
                source.last = None
                if source.table is not None:
                    source.table = Table()
            points += self._take(source, rows)
        return points, anew

    def tables(self) -> dict[str, Table]:
        """All numbers of the stage; the first call reads the files from their beginning."""
        with self.lock:
            for source in self.sources.values():
                if source.table is None:
                    self._load(source)
            return {kind: source.table for kind, source in self.sources.items() if source.table is not None}

    def forget(self) -> None:
        """Give the memory of the curves back; cursors stay where they are."""
        with self.lock:
            for source in self.sources.values():
                source.table = None

    @property
    def bytes(self) -> int:
        """Memory of the curves."""
        return sum(source.table.bytes for source in self.sources.values() if source.table is not None)

    @property
    def bytes_read(self) -> int:
        """Bytes read from this stage's files so far."""
        return sum(source.tail.bytes_read for source in self.sources.values())

    @property
    def steps_done(self) -> int:
        """Steps of the training loop that have been written down."""
        last = self.sources["metrics"].last
        row = PARSERS["metrics"](last) if last is not None else None
        return 0 if row is None else max(0, row[0] + 1)

    @property
    def last_metrics(self) -> dict[str, Any]:
        """The newest line of metrics as it stands in the file."""
        last = self.sources["metrics"].last or {}
        metrics = last.get("metrics")
        return metrics if isinstance(metrics, dict) else {}

    @property
    def started(self) -> bool:
        return self.folder.is_dir()

    def has(self, name: str) -> bool:
        """Whether the stage has a folder ``name`` (samples, traces, landscape)."""
        folder = self.folder / name
        marker = folder / "manifest.json" if name == "landscape" else folder
        return marker.exists() and inside(self.root, folder)

    def damage(self) -> list[str]:
        """Sentences about what could not be read."""
        lines = [
            f"{source.kind}.jsonl of {self.name}: {source.tail.damaged} damaged "
            f"line{'s' if source.tail.damaged > 1 else ''} left out."
            for source in self.sources.values()
            if source.tail.damaged
        ]
        return lines + [f"{self.name}: {text}" for text in self.problems.values()]

    def _load(self, source: Source) -> None:
        """What lies before the cursor; what comes after it is told as points too, when it is read."""
        history = Tail(self.root, source.tail.path)
        source.table = Table()
        for chunk in history.history(source.tail.offset):
            block = read_block(chunk, source.kind)
            if block is not None:
                source.table.extend(*block)
            else:
                self._take(source, history.objects(chunk), told=False)
        source.tail.bytes_read += history.bytes_read
        source.tail.damaged += history.damaged

    def _take(self, source: Source, rows: list[dict[str, Any]], *, told: bool = True) -> Points:
        """Rows into the table, where there is one; their means as points, if they are to be ``told``."""
        points: Points = []
        for line in rows:
            row = PARSERS[source.kind](line)
            if row is None:
                source.tail.damaged += 1
                continue
            source.last = line
            step, values = row
            if source.table is not None:
                source.table.append(step, values)
            if told:
                means = {name: value for name, value in values.items() if not name.endswith((LOW, HIGH))}
                points.append({"step": step, **means})
        return points

    def _refresh_result(self) -> None:
        path = self.folder / "result.json"
        try:
            found = path.stat()
            mark = (found.st_mtime_ns, found.st_size)
        except OSError:
            self.result, self._result_mark = None, None
            self.problems.pop("result", None)
            return
        if mark == self._result_mark:
            return
        self._result_mark = mark
        try:
            self.result = read_object(self.root, path)
            self.problems.pop("result", None)
        except Damaged as error:
            self.result = None
            self.problems["result"] = str(error)
