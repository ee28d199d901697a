"""A block of land, seen without perspective: heights and colours of a plane as an image."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ridgeline.landscape.pictures.scene import Array

YAW, PITCH = math.radians(-28.0), math.radians(38.0)
BASE = 0.06
"""Thickness of the block under its lowest point, in sides of the plane."""
CLIFF = 0.01
"""A rise of the ground from one place to the next that only the edge of the known land can have."""
COLUMNS = 1800
"""Pixels across the picture of the block; drawn at this size, shown at half of it."""


@dataclass(frozen=True)
class Camera:
    """Orthographic view of the plane, scaled to [-1/2, 1/2] a side; z is up, in sides of the plane."""

    yaw: float = YAW
    pitch: float = PITCH

    def project(self, x: Array, y: Array, z: Array) -> tuple[Array, Array]:
        """Paper coordinates (right, up)."""
        right = math.cos(self.yaw) * x - math.sin(self.yaw) * y
        depth = math.sin(self.yaw) * x + math.cos(self.yaw) * y
        return right, depth * math.sin(self.pitch) + z * math.cos(self.pitch)

    def ground(self, right: Array, depth: Array) -> tuple[Array, Array]:
        """The point of the plane at a place across and a depth."""
        x = math.cos(self.yaw) * right + math.sin(self.yaw) * depth
        y = -math.sin(self.yaw) * right + math.cos(self.yaw) * depth
        return x, y


@dataclass(frozen=True)
class Block:
    """Heights and colours of the land: ``z`` [n, n] in sides of the plane, ``texture`` [n, n, 3]."""

    z: Array
    texture: Array
    wall: Array


def rendered(block: Block, camera: Camera) -> tuple[Array, tuple[float, float, float, float]]:
    """RGBA image (top row first) of the block, and its extent on paper.

    Every column of the picture looks along one line of the plane. Marching away from the eye, what rises
    above all that came before is seen: the running maximum of the projected height tells which ground each
    pixel shows. Below the nearest ground is the wall.
    """
    reach = math.sqrt(0.5)
    columns = COLUMNS
    rights = np.linspace(-reach, reach, columns)
    depths = np.linspace(-reach, reach, 2 * columns)
    top = float(block.z.max()) * math.cos(camera.pitch) + reach * math.sin(camera.pitch)
    bottom = -reach * math.sin(camera.pitch) - BASE * math.cos(camera.pitch)
    rows = round(columns * (top - bottom) / (2 * reach))
    levels = np.linspace(bottom, top, rows)
    image = np.zeros((rows, columns, 4))
    for column, right in enumerate(rights):
        image[:, column] = _column(block, camera, float(right), depths, levels)
    image = image[: rows // 2 * 2].reshape(rows // 2, 2, columns // 2, 2, 4)
    weight = image[..., 3:]
    covered = weight.mean((1, 3))
    colour = (image[..., :3] * weight).mean((1, 3)) / np.maximum(covered, 1e-9)
    return np.concatenate([colour, covered], -1)[::-1], (-reach, reach, bottom, top)


def _column(block: Block, camera: Camera, right: float, depths: Array, levels: Array) -> Array:
    """RGBA [rows, 4] of one column of the picture, lowest row first."""
    found = np.zeros((len(levels), 4))
    x, y = camera.ground(np.full_like(depths, right), depths)
    inside = np.flatnonzero((np.abs(x) <= 0.5) & (np.abs(y) <= 0.5))
    if not len(inside):
        return found
    x, y, depth = x[inside], y[inside], depths[inside]
    last = len(block.z) - 1
    at = (np.rint((y + 0.5) * last).astype(int), np.rint((x + 0.5) * last).astype(int))
    up = depth * math.sin(camera.pitch) + block.z[at] * math.cos(camera.pitch)
    horizon = np.maximum.accumulate(up)
    foot = depth[0] * math.sin(camera.pitch) - BASE * math.cos(camera.pitch)
    seen = np.searchsorted(horizon, levels)
    ground = (levels > up[0]) & (seen < len(up))
    first = np.clip(seen[ground], 0, len(up) - 1)
    found[ground, :3] = block.texture[at[0][first], at[1][first]]
    wall = (levels >= foot) & (levels <= up[0])
    side = x[0] >= 0.5 - 2e-3
    z = (levels[wall] - depth[0] * math.sin(camera.pitch)) / math.cos(camera.pitch)
    strata = 1 - 0.05 * (np.floor(z / 0.028) % 2)
    found[wall, :3] = block.wall * strata[:, None] * (0.88 if side else 1.0)
    cliff = ground.copy()
    cliff[ground] = np.diff(block.z[at], prepend=block.z[at][0])[first] > CLIFF
    found[cliff, :3] = block.wall * 0.94
    found[ground | wall, 3] = 1.0
    return found
