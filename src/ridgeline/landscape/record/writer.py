"""Writing a recorded landscape so that it can be read at any moment while it grows."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ridgeline.landscape import blocks as container
from ridgeline.landscape.record.layout import Array, as_stored, problem_in
from ridgeline.landscape.record.manifest import FrameEntry, Manifest
from ridgeline.schema.errors import RunError

Bounds = tuple[tuple[float, float], tuple[float, float]]
"""((lowest x, highest x), (lowest y, highest y))."""


class RecordWriter:
    """Writes manifest, terrain and frames into ``folder``; every file is complete or absent.

    Call :meth:`manifest` first, then :meth:`terrain`, then :meth:`frame` as steps are done. A manifest that
    already lists frames (of a run that is being resumed) is continued behind them.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._manifest: Manifest | None = None

    def manifest(self, manifest: Manifest) -> None:
        """Begin the record, or replace what the manifest says; frame files that it does not list go.

        Raises:
            RunError: the folder cannot be written.
        """
        try:
            (self.folder / "frames").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot make the folder {self.folder}: {error.strerror}.") from None
        self._save(manifest)
        listed = {self.folder / frame.file for frame in manifest.frames}
        for path in (self.folder / "frames").glob("*.bin"):
            if path not in listed:
                path.unlink(missing_ok=True)

    def terrain(self, layers: Mapping[str, tuple[Any, Any, Any]], bounds: Bounds) -> None:
        """The ground: layer -> (mean, standard error, mask), each [n, n], row 0 the lowest y.

        A standard error of None is 0 (exact), a mask of None shows everything.

        Raises:
            ValueError: the grids are not square or not of one size.
        """
        stored: dict[str, Array] = {}
        sizes = set()
        for name, (mean, error, mask) in layers.items():
            height = np.ascontiguousarray(mean, dtype="float32")
            stored[f"{name}.mean"] = height
            stored[f"{name}.se"] = (
                np.zeros_like(height) if error is None else np.ascontiguousarray(error, dtype="float32")
            )
            stored[f"{name}.mask"] = (
                np.isfinite(height).astype("uint8")
                if mask is None
                else np.ascontiguousarray(mask, dtype="uint8")
            )
            sizes |= {stored[f"{name}.{part}"].shape for part in ("mean", "se", "mask")}
        if len(sizes) != 1 or any(len(size) != 2 or size[0] != size[1] for size in sizes):
            raise ValueError(f"terrain grids should be square and of one size, not {sorted(sizes)}")
        (low_x, high_x), (low_y, high_y) = bounds
        meta = {
            "n": int(sizes.pop()[0]),
            "x": [float(low_x), float(high_x)],
            "y": [float(low_y), float(high_y)],
        }
        write_bytes(self.folder / "terrain.bin", container.encode(meta, stored))

    def frame(
        self, step: int, scalars: Mapping[str, float | None], honesty: str, **blocks: Any
    ) -> FrameEntry:
        """Add one frame; a block of None is left out. The file is there before the manifest names it.

        Raises:
            ValueError: an unknown block, or blocks that do not fit each other.
        """
        manifest = self._begun()
        stored = {name: as_stored(name, values) for name, values in blocks.items() if values is not None}
        problem = problem_in(stored)
        if problem is not None:
            raise ValueError(problem)
        known = {name: _number(value) for name, value in scalars.items()}
        entry = FrameEntry(
            step=step, file=f"frames/{len(manifest.frames):06d}.bin", honesty=honesty, scalars=known
        )
        meta = {"step": step, "scalars": known, "honesty": honesty}
        write_bytes(self.folder / entry.file, container.encode(meta, stored))
        names = (*manifest.scalars, *(name for name in known if name not in manifest.scalars))
        self._save(manifest.model_copy(update={"frames": (*manifest.frames, entry), "scalars": names}))
        return entry

    def _begun(self) -> Manifest:
        if self._manifest is None:
            raise ValueError("call manifest() before frame()")
        return self._manifest

    def _save(self, manifest: Manifest) -> None:
        write_bytes(self.folder / "manifest.json", (manifest.model_dump_json(indent=1) + "\n").encode())
        self._manifest = manifest


def _number(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def write_bytes(path: Path, data: bytes) -> None:
    """Written aside, fsynced and renamed: readers see the old file or the new one.

    Raises:
        RunError: it could not be written (a full disk, say); the old file is untouched.
    """
    aside = path.with_name(f".{path.name}.writing")
    try:
        with open(aside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}.") from None
