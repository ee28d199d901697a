"""Which files of samples a stage has, and their tables: read once, the newest few kept."""

from __future__ import annotations

import os
import re
import stat
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ridgeline.studio.safe import MEGABYTE, Problem, inside
from ridgeline.studio.stage_reader import StageReader

NAME = re.compile(r"(?P<kind>[^/]{1,100})-(?P<step>[0-9]{1,12})\.parquet")
FILES = 100_000
FILE_LIMIT = 512 * MEGABYTE
KEPT_BYTES = 512 * MEGABYTE
KEPT_COUNTS = 50_000
TEXT_COLUMNS = ("prompt_id", "index", "text", "stop_reason", "rewards", "row")
Mark = tuple[str, int, int]
"""A file as it is now: path, time of change, size."""
Stamp = tuple[int, int] | None
"""Time of change and size; None: there is no file."""


@dataclass(frozen=True)
class SampleFile:
    """``samples/step-000003.parquet`` is kind ``step``, step 3; ``samples/sft/part-000000.parquet`` is kind
    ``sft/part``, step 0."""

    kind: str
    step: int
    path: Path
    trace: Path
    """Where the trace of the same samples would be."""


def sample_files(stage: StageReader) -> list[SampleFile]:
    """Training steps first, then evaluations, then everything else, each by step."""
    root, found = stage.folder / "samples", []
    for folder, prefix in [(root, ""), *((root / name, f"{name}/") for name in _folders(root))]:
        for name in _names(folder):
            match = NAME.fullmatch(name)
            if match is not None:
                # Files of one folder of samples share one trace, which bears the folder's name.
                trace = stage.folder / "traces" / (f"{prefix[:-1]}.parquet" if prefix else name)
                kind = prefix + match["kind"]
                found.append(SampleFile(kind, int(match["step"]), folder / name, trace))
    order = {"step": 0, "evaluation": 1}
    return sorted(found[:FILES], key=lambda file: (order.get(file.kind, 2), file.kind, file.step))


def sample_file(stage: StageReader, kind: str, step: int) -> SampleFile:
    """Raises Problem 404 where the stage has no such file."""
    for file in sample_files(stage):
        if (file.kind, file.step) == (kind, step):
            return file
    raise Problem(404, "This stage stored no samples of that kind and step; /steps lists those that it has.")


class Tables:
    """Parquet tables by file and columns, the most recently used ones, up to ``KEPT_BYTES``."""

    def __init__(self) -> None:
        self.rows_read = 0
        self._tables: OrderedDict[tuple[Mark, tuple[str, ...]], pa.Table] = OrderedDict()
        self._counts: OrderedDict[Mark, int] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, root: Path, path: Path, columns: Sequence[str]) -> pa.Table:
        """Those of ``columns`` that the file has.

        Raises:
            Problem: 404 without the file, 422 for a damaged or too large one.
        """
        mark = self._mark(root, path)
        key = (mark, tuple(columns))
        with self._lock:
            if key in self._tables:
                self._tables.move_to_end(key)
                return self._tables[key]
        table = _parquet(path, columns)
        with self._lock:
            self.rows_read += table.num_rows
            self._tables[key] = table
            while len(self._tables) > 1 and sum(t.nbytes for t in self._tables.values()) > KEPT_BYTES:
                self._tables.popitem(last=False)
        return table

    def count(self, root: Path, path: Path) -> int | None:
        """Samples in the file, from its footer; None where it cannot be read."""
        try:
            mark = self._mark(root, path)
            with self._lock:
                if mark in self._counts:
                    return self._counts[mark]
            rows = int(pq.read_metadata(path).num_rows)
        except (Problem, OSError, pa.ArrowException, ValueError):
            return None
        with self._lock:
            self._counts[mark] = rows
            while len(self._counts) > KEPT_COUNTS:
                self._counts.popitem(last=False)
        return rows

    @staticmethod
    def mark_of(path: Path) -> Stamp:
        """Time of change and size; None where there is no file."""
        try:
            found = path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size

    def _mark(self, root: Path, path: Path) -> Mark:
        try:
            found = path.stat()
        except OSError:
            raise Problem(404, f"{path.name} is not there (any more).") from None
        if not stat.S_ISREG(found.st_mode) or not inside(root, path):
            raise Problem(404, f"{path.name} is no file of this run.")
        if found.st_size > FILE_LIMIT:
            raise Problem(422, f"{path.name} is larger than {FILE_LIMIT // MEGABYTE} MB.")
        return str(path), found.st_mtime_ns, found.st_size


def _parquet(path: Path, columns: Sequence[str]) -> pa.Table:
    # A damaged Parquet file fails in as many ways as there are bytes in it.
    try:
        file = pq.ParquetFile(path)
        if (
            sum(file.metadata.row_group(g).total_byte_size for g in range(file.metadata.num_row_groups))
            > 4 * FILE_LIMIT
        ):
            raise Problem(422, f"{path.name} is too large once it is unpacked.")
        names = [name for name in columns if name in file.schema_arrow.names]
        return file.read(columns=names)
    except Problem:
        raise
    except Exception as error:
        raise Problem(422, f"{path.name} could not be read ({type(error).__name__}).") from None


def column(table: pa.Table, name: str, otherwise: Any = None) -> list[Any]:
    """A column as Python values; ``otherwise`` everywhere where the table lacks it."""
    if name not in table.column_names:
        return [otherwise] * table.num_rows
    values: list[Any] = table.column(name).to_pylist()
    return values


def _names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if entry.name.isprintable()]
    except OSError:
        return []


def _folders(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if e.name.isprintable() and e.is_dir())
    except OSError:
        return []
