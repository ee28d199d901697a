"""A square grid over the world, bilinear weights on it, and fields read off at any state.

Fields are `[n, n]`: row 0 is the lowest y, column 0 the lowest x. Flattened, node (row, column) has the index
row * n + column, as in `Grid.points`.
"""

from __future__ import annotations

from functools import cached_property
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

BOUND = 3.0
"""The world is the square [-BOUND, BOUND]^2."""

States = TypeVar("States", np.ndarray, Tensor)


def corners(states: np.ndarray, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """The four nodes around each state and their bilinear weights, on a grid that spans the world.

    states: `[..., 2]`, taken to the nearest point of the square when outside. Returns (indices, weights),
    both `[..., 4]`: flat indices row * columns + column, and weights of at least 0 that sum to 1.
    """
    x0, fx = _cell(states[..., 0], columns)
    y0, fy = _cell(states[..., 1], rows)
    base = y0 * columns + x0
    indices = np.stack([base, base + 1, base + columns, base + columns + 1], -1)
    weights = np.stack([(1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx], -1)
    return indices, weights


def bilinear(field: np.ndarray, states: States) -> States:
    """A field `[rows, columns]` that spans the world, at states `[..., 2]` (numpy or torch): `[...]`."""
    if isinstance(states, Tensor):
        found = bilinear(field, states.detach().cpu().numpy())
        return torch.as_tensor(found, dtype=states.dtype, device=states.device)
    indices, weights = corners(states, *field.shape)
    return np.asarray((field.reshape(-1)[indices] * weights).sum(-1))


class Grid:
    """n x n nodes over [-3, 3]^2, n of at least 2, BOUND and -BOUND included."""

    def __init__(self, n: int) -> None:
        if n < 2:
            raise ValueError(f"a grid needs at least 2 nodes a side, got {n}")
        self.n = n
        self.spacing = 2 * BOUND / (n - 1)
        self.axis = np.linspace(-BOUND, BOUND, n)

    @cached_property
    def points(self) -> np.ndarray:
        """`[n * n, 2]`: (x, y) of every node, x running fastest."""
        y, x = np.meshgrid(self.axis, self.axis, indexing="ij")
        return np.stack([x.ravel(), y.ravel()], -1)

    def interpolate(self, field: np.ndarray, states: States) -> States:
        """A field `[n, n]` at states `[..., 2]` (numpy or torch), bilinear: `[...]`."""
        return bilinear(field, states)

    def interpolate_steps(self, fields: np.ndarray, states: Tensor) -> Tensor:
        """Field t of `[T, n, n]` at state t of paths `[B, T, 2]`: `[B, T]`, a constant."""
        indices, weights = corners(states.detach().cpu().numpy(), self.n, self.n)
        steps = np.arange(len(fields))[:, None]
        found = (fields.reshape(len(fields), -1)[steps, indices] * weights).sum(-1)
        return torch.as_tensor(found, dtype=states.dtype, device=states.device)

    def box(self, centre: tuple[float, float], spread: float) -> np.ndarray:
        """Mass `[n * n]` of the uniform distribution on the square centre +- spread, integrated exactly.

        The mass of a node is the mean of its bilinear weight over the square, so that mass . V is the mean of
        the interpolated V. spread 0 puts a state between its four corners. The square must lie in the world.
        """
        x, y = (self._interval(middle, spread) for middle in centre)
        return np.outer(y, x).ravel()

    def _interval(self, middle: float, spread: float) -> np.ndarray:
        """Mean of every node's hat function over [middle - spread, middle + spread]."""
        offset = (middle + BOUND) / self.spacing - np.arange(self.n)
        half = spread / self.spacing
        if half == 0:
            return np.asarray(np.maximum(0.0, 1 - np.abs(offset)))
        return np.asarray((_hat_integral(offset + half) - _hat_integral(offset - half)) / (2 * half))


def _cell(coordinate: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Lower node of the cell that holds each coordinate, and how far along the cell it lies, in [0, 1]."""
    position = np.clip((coordinate + BOUND) * ((count - 1) / (2 * BOUND)), 0.0, count - 1)
    lower = np.minimum(position.astype(np.int32), count - 2)
    return lower, position - lower


def _hat_integral(t: np.ndarray) -> np.ndarray:
    """Integral of max(0, 1 - |u|) from minus infinity to t."""
    t = np.clip(t, -1.0, 1.0)
    return np.where(t < 0, (1 + t) ** 2 / 2, 1 - (1 - t) ** 2 / 2)
