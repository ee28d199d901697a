"""What one picture shows: a frame of a record, one layer of its terrain, the told path and its pin."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ridgeline.landscape.pictures.relief import colour_limits
from ridgeline.landscape.pictures.theme import Theme
from ridgeline.landscape.record import Frame, LayerGrid, Record, TerrainGrid
from ridgeline.schema.errors import UsageError, nearest

Array: TypeAlias = NDArray[Any]
X, Y, ALTITUDE, VALUE, ADVANTAGE, KL = range(6)


@dataclass(frozen=True)
class Compass:
    """The policy at one state: mean action and spread, the reference's beside it, and the action taken."""

    mean: Array
    sigma: Array
    reference_mean: Array | None
    reference_sigma: Array | None
    budget: float | None

    @property
    def reach(self) -> float:
        """The furthest that anything is drawn from the centre, in action units."""
        far = float(np.linalg.norm(self.mean) + self.sigma.max())
        if self.reference_mean is not None:
            far = max(far, float(np.linalg.norm(self.reference_mean)) + self.ring)
        return far

    @property
    def ring(self) -> float:
        """sigma_ref * sqrt(2 budget): how far the mean may move at equal spread; 0 without a budget."""
        if self.budget is None or self.reference_sigma is None:
            return 0.0
        return float(self.reference_sigma.mean()) * math.sqrt(2 * self.budget)


@dataclass(frozen=True)
class Scene:
    """A frame, ready to be drawn in one theme. ``layer`` is the one whose altitude is under the path."""

    record: Record
    frame: Frame
    theme: Theme
    layer: str

    @property
    def terrain(self) -> TerrainGrid:
        return self.record.terrain

    @property
    def grid(self) -> LayerGrid:
        return self.terrain.layers[self.layer]

    @property
    def limits(self) -> tuple[float, float]:
        """Of the colour ramp: the manifest's, and so the same in every frame and layer."""
        return colour_limits(*self.record.manifest.altitude.range)

    @property
    def is_exact(self) -> bool:
        return self.record.manifest.kind == "exact"

    @property
    def width(self) -> float:
        """Of the plane, in its own units."""
        return self.terrain.x[1] - self.terrain.x[0]

    def detail(self, name: str) -> Any:
        return self.record.manifest.details.get(name)

    @cached_property
    def paths(self) -> tuple[Array, ...]:
        """The path with the median return first, then the others in their order."""
        paths = [path for path in self.frame.paths if len(path) > 1]
        if not paths:
            return ()
        returns = [float(np.nansum(path[1:, ALTITUDE])) for path in paths]
        median = int(np.argsort(returns, kind="stable")[len(paths) // 2])
        return (paths[median], *paths[:median], *paths[median + 1 :])

    @property
    def told(self) -> Array | None:
        """The path with the median return: the one that is drawn strongest and told in the strip."""
        return self.paths[0] if self.paths else None

    @cached_property
    def pin_row(self) -> int:
        """The row of the told path where the pin stands: halfway between its ends; the end of a text."""
        if self.told is None:
            return 0
        if not self.is_exact:
            return len(self.told) - 1
        places = self.told[:, :2].astype(float)
        behind, ahead = (np.hypot(*(places - end).T) for end in (places[0], places[-1]))
        return max(1, int(np.argmin(np.abs(behind - ahead))))

    @property
    def pin(self) -> Array | None:
        return None if self.told is None else self.told[self.pin_row, :2].astype(float)

    @cached_property
    def compass(self) -> Compass | None:
        """The policy at the pin, between the four nearest states of the recorded lattice."""
        if self.pin is None or self.frame.arrows is None:
            return None
        own = between(self.frame.arrows, self.pin)
        reference = self.frame.reference_arrows
        known = None if reference is None else between(reference, self.pin)
        return Compass(
            own[:2],
            own[2:],
            None if known is None else known[:2],
            None if known is None else known[2:],
            self._budget(),
        )

    def _budget(self) -> float | None:
        """Nats per step: what the frame has used, on average over the horizon."""
        kl, horizon = self.frame.scalars.get("kl"), self.detail("horizon")
        return None if kl is None or not horizon else max(kl, 0.0) / float(horizon)


def between(arrows: Array, place: Array) -> Array:
    """Columns 2: of a regular lattice of ``arrows``, bilinear at ``place``."""
    from scipy.interpolate import RegularGridInterpolator

    xs, ys = np.unique(arrows[:, 0]), np.unique(arrows[:, 1])
    order = np.lexsort((arrows[:, 1], arrows[:, 0]))
    values = arrows[order, 2:].reshape(len(xs), len(ys), -1).astype(float)
    inside = np.clip(place, (xs[0], ys[0]), (xs[-1], ys[-1]))
    found: Array = RegularGridInterpolator((xs, ys), values)(inside)[0]
    return found


def scene_of(record: Record, frame: int, theme: Theme, layer: str | None) -> Scene:
    """The scene of a frame; without a layer, of the one that is walked on.

    Raises:
        UsageError: the record has no such layer or frame.
    """
    layers = record.manifest.altitude.layers
    name = layer or record.manifest.altitude.active
    if name not in layers:
        raise UsageError(f"the landscape has no layer {name!r}; {nearest(name, layers)}")
    return Scene(record, record.frame(frame), theme, name)
