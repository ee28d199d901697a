"""Terrain as a printed map shows it: hill-shaded colour, fog where nothing is known, contours."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ridgeline.landscape.pictures.theme import Theme
from ridgeline.landscape.record import LayerGrid, TerrainGrid

Array: TypeAlias = NDArray[Any]

LIGHTS = ((315.0, 42.0, 0.62), (270.0, 50.0, 0.22), (15.0, 55.0, 0.16))
"""Azimuth, elevation (degrees) and weight of each light: from the north-west, as maps are lit, softened."""
SIZE = 900
"""Pixels along one side of the relief."""
FADE = 0.45
"""At this standard error, as a share of the altitude range, the ground has lost half of its colour."""


def colour_limits(low: float, high: float) -> tuple[float, float]:
    """Limits of the ramp: those of the manifest, so that all frames and layers share them."""
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def refined(field: Array, size: int) -> Array:
    """``field`` [n, n] on ``size`` points a side, by cubic splines.

    Unknown cells are continued smoothly from known ones, so that the slope at an edge means something.
    """
    known = np.isfinite(field)
    return _resampled(field if known.all() else _continued(field, known), size, 3)


def _continued(field: Array, known: Array) -> Array:
    """The nearest known value everywhere, smoothed where nothing is known."""
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    filled = field[tuple(nearest)]
    smooth: Array = ndimage.gaussian_filter(filled, 1.5, mode="nearest")
    return np.where(known, field, smooth)


def refined_mask(shown: Array, size: int) -> Array:
    """The mask on ``size`` points a side, its edge halfway between cells and without stairs."""
    if shown.all():
        return np.ones((size, size), dtype=bool)
    soft = ndimage.gaussian_filter(shown.astype(float), 0.9, mode="nearest")
    return _resampled(soft, size, 1) >= 0.5


def _resampled(field: Array, size: int, order: int) -> Array:
    rows, columns = (np.linspace(0, count - 1, size) for count in field.shape)
    places = np.meshgrid(rows, columns, indexing="ij")
    found: Array = ndimage.map_coordinates(field.astype(float), places, order=order, mode="nearest")
    return found


def relief(
    terrain: TerrainGrid, layer: LayerGrid, theme: Theme, limits: tuple[float, float], size: int = SIZE
) -> Array:
    """RGBA [size, size, 4] of the layer, row 0 the lowest y; transparent where nothing is known."""
    low, high = limits
    height = refined(layer.height, size)
    colour = theme.colormap()(np.clip((height - low) / (high - low), 0, 1))[..., :3]
    shade = hillshade(height / (high - low), terrain)
    lit, shaded = _rgb(theme.lit), _rgb(theme.shaded)
    up, down = np.clip(shade, 0, 1)[..., None], np.clip(-shade, 0, 1)[..., None]
    colour = colour * (1 - 0.45 * up) + lit * 0.45 * up
    colour = colour * (1 - 0.48 * down) + shaded * 0.48 * down
    doubt = refined(np.where(layer.shown, layer.error, np.nan), size) if layer.error.any() else 0 * height
    trust = (1 / (1 + (np.clip(doubt, 0, None) / (FADE * (high - low))) ** 2))[..., None]
    colour = colour * trust + _rgb(theme.paper) * (1 - trust)
    return np.concatenate([colour, refined_mask(layer.shown, size)[..., None].astype(float)], -1)


def hillshade(height: Array, terrain: TerrainGrid, exaggeration: float = 1.5) -> Array:
    """Light on the slope minus light on flat ground, in [-1, 1]; ``height`` as a share of its range.

    The slope is taken with the plane scaled to a side of 4, so that the shading of a map does not depend
    on the units of its axes.
    """
    spacing = 4.0 / (len(height) - 1)
    slope_y, slope_x = np.gradient(height * exaggeration, spacing)
    length = np.sqrt(1 + slope_x**2 + slope_y**2)
    total = np.zeros_like(height)
    for azimuth, elevation, weight in LIGHTS:
        a, e = math.radians(azimuth), math.radians(elevation)
        east, north, up = math.sin(a) * math.cos(e), math.cos(a) * math.cos(e), math.sin(e)
        total += weight * ((up - east * slope_x - north * slope_y) / length - up)
    return np.clip(2.2 * total, -1, 1)


def _rgb(colour: str) -> Array:
    from matplotlib.colors import to_rgb

    return np.array(to_rgb(colour))


@dataclass(frozen=True)
class Levels:
    """Contour levels: every one, and which of them are drawn stronger and labelled."""

    step: float
    values: tuple[float, ...]
    index: tuple[float, ...]


def contour_levels(low: float, high: float, wanted: int = 26, every: int = 4) -> Levels:
    """Levels at a round step, offset by half a step so that none lies on a plateau at a round height."""
    step = round_step((high - low) / wanted)
    first, last = math.floor(low / step), math.ceil(high / step)
    numbers = [k for k in range(first, last + 1) if low < (k + 0.5) * step < high]
    values = tuple((k + 0.5) * step for k in numbers)
    return Levels(step, values, tuple((k + 0.5) * step for k in numbers if k % every == 0))


def round_step(size: float) -> float:
    """The round number 1, 2 or 5 x 10^k nearest to ``size`` from above."""
    power = 10 ** math.floor(math.log10(size))
    return float(next(power * factor for factor in (1, 2, 5, 10) if power * factor >= size * 0.999))


def contour_lines(
    field: Array, axis_x: Array, axis_y: Array, levels: tuple[float, ...]
) -> list[tuple[float, Array]]:
    """(level, polyline [K, 2]) of ``field``, traced on a grid refined three times; nan has none."""
    from contourpy import contour_generator

    size = 3 * (len(axis_x) - 1) + 1
    fine = refined(field, size)
    fine = np.where(refined_mask(np.isfinite(field), size), fine, np.nan)
    x, y = np.linspace(axis_x[0], axis_x[-1], size), np.linspace(axis_y[0], axis_y[-1], size)
    tracer = contour_generator(x, y, np.ma.masked_invalid(fine))
    return [(level, np.asarray(line)) for level in levels for line in tracer.lines(level) if len(line) > 3]


def label_places(
    lines: list[tuple[float, Array]], taken: list[Array], apart: float, inside: tuple[Array, Array]
) -> list[tuple[int, int]]:
    """(line, vertex) of each label: one on every long line, ``apart`` from others and from ``taken``.

    The flattest stretch of the line is preferred, as it reads best. ``inside`` are the corners within which
    a label may stand.
    """
    chosen: list[tuple[int, int]] = []
    occupied = [np.asarray(place) for place in taken]
    order = sorted(range(len(lines)), key=lambda k: -_length(lines[k][1]))
    for k in order:
        line = lines[k][1]
        if _length(line) < 3 * apart:
            continue
        direction = np.gradient(line, axis=0)
        tilt = np.abs(np.arctan2(direction[:, 1], direction[:, 0]))
        tilt = np.minimum(tilt, np.pi - tilt)
        for vertex in np.argsort(tilt, kind="stable"):
            place = line[vertex]
            free = all(np.hypot(*(place - other)) > apart for other in occupied)
            if free and (place > inside[0]).all() and (place < inside[1]).all():
                chosen.append((k, int(vertex)))
                occupied.append(place)
                break
    return chosen


def _length(line: Array) -> float:
    return float(np.hypot(*np.diff(line, axis=0).T).sum())


def without_gap(line: Array, place: Array, gap: float) -> list[Array]:
    """The line without the stretch closer than ``gap`` to a label's ``place``."""
    far = np.hypot(*(line - place).T) > gap
    edges = np.flatnonzero(np.diff(far.astype(int))) + 1
    cuts = [0, *edges.tolist(), len(line)]
    return [line[a:b] for a, b in itertools.pairwise(cuts) if far[a] and b - a > 1]
