"""Terrain: reward as altitude over the square world, with a start, a horizon and a drawn reference route."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ridgeline.landscape.world.grid import BOUND as BOUND
from ridgeline.landscape.world.grid import States, bilinear
from ridgeline.schema.errors import DataError

STEP = 0.30
"""How far the world moves for an action of length 1: s' = clip(s + STEP a)."""

LAYERS = ("gold", "proxy")
MAX_BUMPS = 64
MAX_IMAGE = 513
MAX_HORIZON = 500
MAX_ALTITUDE = 100.0
MAX_ROUTE = 500


@dataclass(frozen=True)
class Bump:
    """height * exp(-|s - (x, y)|^2 / (2 width^2)); height below 0 digs a pit. Centre inside the world."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, eq=False)
class Layer:
    """One surface: the sum of its bumps and, where given, a painted height map.

    image: `[rows, columns]` altitudes that span the world, row 0 the lowest y; bilinear between its points.
    """

    name: str
    bumps: tuple[Bump, ...] = ()
    image: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.image is not None:
            frozen = np.array(self.image, dtype=np.float64)
            frozen.setflags(write=False)
            object.__setattr__(self, "image", frozen)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Layer):
            return NotImplemented
        images = (self.image, other.image)
        same = all(i is None for i in images) or (
            self.image is not None and other.image is not None and np.array_equal(self.image, other.image)
        )
        return same and (self.name, self.bumps) == (other.name, other.bumps)

    def __hash__(self) -> int:
        return hash((self.name, self.bumps, None if self.image is None else self.image.tobytes()))

    def height(self, states: States) -> States:
        """Altitude of this surface at states `[..., 2]`: `[...]`."""
        if isinstance(states, Tensor):
            total = torch.zeros_like(states[..., 0])
            for bump, distance2 in self._distances(states):
                total = total + bump.height * torch.exp(-distance2 / (2 * bump.width**2))
        else:
            total = np.zeros(states.shape[:-1])
            for bump, distance2 in self._distances(states):
                total = total + bump.height * np.exp(-distance2 / (2 * bump.width**2))
        return total if self.image is None else total + bilinear(self.image, states)

    def _distances(self, states: Any) -> Any:
        for bump in self.bumps:
            yield bump, (states[..., 0] - bump.x) ** 2 + (states[..., 1] - bump.y) ** 2


@dataclass(frozen=True)
class Terrain:
    """A world to walk in. Raises DataError, naming the field, for nonsense.

    layers: "gold", what is wanted, and optionally "proxy", what is measured in its stead.
    start, start_spread: the first state is uniform on the square start +- start_spread.
    horizon: steps of a path. gamma: discount of a step, in (0, 1].
    route: the drawn path that the reference policy imitates, walked evenly over the horizon.
    sigma: standard deviation of the reference's actions. sea_level: added to every altitude.
    goal: (x, y, radius); a path whose *last* state lies in this disc earns 1 more on every layer.
    """

    name: str
    title: str
    layers: tuple[Layer, ...]
    start: tuple[float, float]
    start_spread: float
    horizon: int
    gamma: float
    route: tuple[tuple[float, float], ...]
    sigma: float
    goal: tuple[float, float, float] | None = None
    sea_level: float = 0.0

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", self.name):
            raise DataError(f"name: {self.name!r} must be 1 to 64 letters, digits, _ or -, no path")
        _check_layers(self.layers)
        _number("start_spread", self.start_spread, 0.0, 1.0)
        _point("start", self.start, BOUND - self.start_spread)
        if not 1 <= self.horizon <= MAX_HORIZON:
            raise DataError(f"horizon: {self.horizon} must lie between 1 and {MAX_HORIZON} steps")
        if not 0 < self.gamma <= 1:
            raise DataError(f"gamma: {self.gamma} must lie above 0 and at most at 1")
        _number("sigma", self.sigma, 0.02, 3.0)
        _number("sea_level", self.sea_level, -MAX_ALTITUDE, MAX_ALTITUDE)
        if not 2 <= len(self.route) <= MAX_ROUTE:
            raise DataError(f"route: {len(self.route)} points; draw 2 to {MAX_ROUTE}")
        for index, point in enumerate(self.route):
            _point(f"route[{index}]", point, BOUND)
        if self.goal is not None:
            _point("goal", self.goal[:2], BOUND)
            _number("goal.radius", self.goal[2], 0.02, 2 * BOUND)

    def has(self, layer: str) -> bool:
        """Whether there is a surface of this name."""
        return any(candidate.name == layer for candidate in self.layers)

    def layer(self, name: str) -> Layer:
        """The surface of this name. Raises DataError where there is none."""
        for candidate in self.layers:
            if candidate.name == name:
                return candidate
        have = ", ".join(candidate.name for candidate in self.layers)
        raise DataError(f"terrain '{self.name}' has no layer '{name}'; it has: {have}")

    def height(self, states: States, layer: str = "gold") -> States:
        """Altitude (= reward of stepping there) at states `[..., 2]`, sea level included: `[...]`."""
        return self.layer(layer).height(states) + self.sea_level

    def in_goal(self, states: States) -> States:
        """Whether each state `[..., 2]` lies in the goal; False everywhere without one. Boolean `[...]`."""
        x, y, radius = self.goal if self.goal is not None else (0.0, 0.0, -1.0)
        distance2 = (states[..., 0] - x) ** 2 + (states[..., 1] - y) ** 2
        return distance2 <= math.copysign(radius**2, radius)

    def rewards(self, landed: Tensor, layer: str = "gold") -> Tensor:
        """Reward of each step of whole paths, from the states stepped on `[B, T, 2]`: `[B, T]`.

        The altitude there; the last step also earns 1 in the goal.
        """
        rewards = self.height(landed, layer)
        if self.goal is not None:
            rewards[:, -1] += self.in_goal(landed[:, -1])
        return rewards

    def replace(self, **changes: Any) -> Terrain:
        """This terrain with other values of some fields, checked anew."""
        return dataclasses.replace(self, **changes)


def _check_layers(layers: tuple[Layer, ...]) -> None:
    names = [layer.name for layer in layers]
    if names not in (["gold"], ["gold", "proxy"]):
        raise DataError(f"layers: {names}; a terrain has 'gold' and then, if wanted, 'proxy'")
    for layer in layers:
        key = f"layers.{layer.name}"
        if len(layer.bumps) > MAX_BUMPS:
            raise DataError(f"{key}.bumps: {len(layer.bumps)} bumps, more than {MAX_BUMPS}; paint an image")
        for index, bump in enumerate(layer.bumps):
            _point(f"{key}.bumps[{index}]", (bump.x, bump.y), BOUND)
            _number(f"{key}.bumps[{index}].width", bump.width, 0.05, 2 * BOUND)
            _number(f"{key}.bumps[{index}].height", bump.height, -MAX_ALTITUDE, MAX_ALTITUDE)
        if layer.image is not None:
            _check_image(f"{key}.image", layer.image)


def _check_image(key: str, image: np.ndarray) -> None:
    if image.ndim != 2 or not all(2 <= size <= MAX_IMAGE for size in image.shape):
        raise DataError(
            f"{key}: shape {list(image.shape)}; a height map is 2 x 2 to {MAX_IMAGE} x {MAX_IMAGE}"
        )
    if not (np.isfinite(image).all() and np.abs(image).max() <= MAX_ALTITUDE):
        raise DataError(f"{key}: every altitude must be a finite number of at most {MAX_ALTITUDE:g} in size")


def _number(key: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # nan fails as well
        raise DataError(f"{key}: {value} must be a number between {low:g} and {high:g}")


def _point(key: str, point: tuple[float, ...], bound: float) -> None:
    if len(point) != 2 or not all(abs(value) <= bound for value in point):
        raise DataError(
            f"{key}: {list(point)} must be (x, y) within {bound:g} of 0: the world is the square +-3"
        )
