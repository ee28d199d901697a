"""Reading a recorded landscape, also one that is being written, as far as it goes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from ridgeline.landscape import blocks as container
from ridgeline.landscape.record.layout import SHAPES, Array, problem_in
from ridgeline.landscape.record.manifest import FrameEntry, Manifest
from ridgeline.schema.errors import DataError, RidgelineError, UsageError


@dataclass(frozen=True)
class LayerGrid:
    """One layer: ``mean`` and ``error`` [n, n], ``shown`` [n, n] bool (False where nothing was sampled)."""

    mean: Array
    error: Array
    shown: Array

    @property
    def height(self) -> Array:
        """The mean, nan where nothing is known."""
        return np.where(self.shown, self.mean, np.nan)


@dataclass(frozen=True)
class TerrainGrid:
    """The ground on an n x n grid over ``x`` and ``y`` (row 0 is the lowest y)."""

    n: int
    x: tuple[float, float]
    y: tuple[float, float]
    layers: Mapping[str, LayerGrid]

    @property
    def axis_x(self) -> Array:
        return np.linspace(*self.x, self.n)

    @property
    def axis_y(self) -> Array:
        return np.linspace(*self.y, self.n)


@dataclass(frozen=True)
class Frame:
    """One step of the record; a block that the step does not have is None."""

    index: int
    step: int
    honesty: str
    scalars: Mapping[str, float | None]
    blocks: Mapping[str, Array]

    def __getattr__(self, name: str) -> Any:
        if name in SHAPES:
            return self.blocks.get(name)
        raise AttributeError(name)

    @property
    def paths(self) -> list[Array]:
        """Every path as its own [length, 6] array; columns as in ``layout.PATH_POINT``."""
        return self._cut("path_offsets", "path_points")

    @property
    def contours(self) -> list[tuple[float, Array]]:
        """(level, polyline [K, 2]) of the reference's highest-density regions."""
        lines = self._cut("contour_offsets", "contour_points")
        return [
            (float(level), line)
            for level, line in zip(self.blocks.get("contour_levels", ()), lines, strict=True)
        ]

    def _cut(self, offsets: str, points: str) -> list[Array]:
        if offsets not in self.blocks:
            return []
        ends = self.blocks[offsets].astype(int)
        return [self.blocks[points][a:b] for a, b in itertools.pairwise(ends)]


class Record:
    """A recorded landscape. The manifest is read at once, terrain and frames when they are asked for.

    Raises:
        UsageError: there is no such folder, or no record in it.
        DataError: the manifest is damaged, or of a newer version.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        path = self.folder / "manifest.json"
        if not path.is_file():
            raise UsageError(
                f"{self.folder} holds no landscape (no manifest.json); make one with: ridgeline landscape "
                "train or ridgeline landscape map RUN."
            )
        try:
            self.manifest = Manifest.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise DataError(f"{path} is damaged: {_complaint(error)}; make the landscape again.") from None

    @property
    def frames(self) -> tuple[FrameEntry, ...]:
        """The frames that the manifest lists."""
        return self.manifest.frames

    @cached_property
    def terrain(self) -> TerrainGrid:
        """The ground.

        Raises:
            DataError: ``terrain.bin`` is missing or damaged, or lacks a layer that the manifest names.
        """
        path = self.folder / "terrain.bin"
        meta, found = self._decoded(path)
        try:
            n = int(meta["n"])
            x, y = (_pair(meta[name]) for name in ("x", "y"))
            layers = {
                name: LayerGrid(
                    _square(found[f"{name}.mean"], n),
                    _square(found[f"{name}.se"], n),
                    _square(found[f"{name}.mask"], n).astype(bool),
                )
                for name in self.manifest.altitude.layers
            }
        except (KeyError, TypeError, ValueError) as error:
            reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
            raise DataError(f"{path} is damaged: {reason}; make the landscape again.") from None
        return TerrainGrid(n, x, y, layers)

    def frame(self, index: int = -1) -> Frame:
        """The frame at ``index`` in the list; negative counts from the end.

        Raises:
            UsageError: there is no such frame.
            DataError: its file is missing or damaged.
        """
        count = len(self.frames)
        if not -count <= index < count:
            known = f"frames are 0 to {count - 1}" if count else "it has no frames yet"
            raise UsageError(f"{self.folder} has no frame {index}; {known}.")
        entry = self.frames[index]
        path = self.folder / entry.file
        _, found = self._decoded(path)
        problem = problem_in(found)
        if problem is not None:
            raise DataError(f"{path} is damaged: {problem}; make the landscape again.")
        return Frame(index % count, entry.step, entry.honesty, entry.scalars, found)

    def index_of(self, step: int) -> int:
        """Index of the frame of ``step``.

        Raises:
            UsageError: no frame is of that step.
        """
        for index, entry in enumerate(self.frames):
            if entry.step == step:
                return index
        steps = [entry.step for entry in self.frames]
        known = (
            f"nearest is {min(steps, key=lambda other: abs(other - step))}"
            if steps
            else "it has no frames yet"
        )
        raise UsageError(f"{self.folder} has no frame of step {step}; {known}.")

    def _decoded(self, path: Path) -> tuple[dict[str, Any], dict[str, Array]]:
        inside = path.resolve().is_relative_to(self.folder.resolve())
        if not inside or not path.is_file():
            raise DataError(f"{path} is missing, which {self.folder / 'manifest.json'} names.")
        try:
            return container.decode(path.read_bytes())
        except RidgelineError as error:
            raise DataError(f"{path} is damaged: {str(error).rstrip('.')}.") from None


def _pair(value: Any) -> tuple[float, float]:
    low, high = (float(each) for each in value)
    if not low < high:
        raise ValueError("a range that does not rise")
    return low, high


def _square(array: Array, n: int) -> Array:
    if array.shape != (n, n):
        raise ValueError(f"a grid of shape {list(array.shape)} where [{n}, {n}] is right")
    return array


def _complaint(error: ValidationError) -> str:
    """The first of pydantic's complaints, as one clause."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else str(first["msg"])
