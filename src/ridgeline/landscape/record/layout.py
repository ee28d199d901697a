"""Names, types and shapes of the blocks that a frame may hold; the writer and the reader check the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]

POINT = ("x", "y", "reward", "gold", "advantage", "kl", "length", "prompt")
"""Columns of ``points``."""
PATH_POINT = ("x", "y", "altitude", "value", "advantage", "kl")
"""Columns of ``path_points``; advantage and KL belong to the step that leads to the point."""
ARROW = ("x", "y", "dx", "dy", "sigma_x", "sigma_y")
"""Columns of ``arrows`` and ``reference_arrows``: a state, the mean action there and its spread."""

SHAPES: dict[str, tuple[str, tuple[int | None, ...]]] = {
    "points": ("float32", (None, len(POINT))),
    "point_ids": ("int32", (None, 2)),
    "path_offsets": ("int32", (None,)),
    "path_points": ("float32", (None, len(PATH_POINT))),
    "corridor_mean": ("float32", (None, 2)),
    "corridor_cov": ("float32", (None, 2, 2)),
    "contour_offsets": ("int32", (None,)),
    "contour_points": ("float32", (None, 2)),
    "contour_levels": ("float32", (None,)),
    "value": ("float32", (None, None)),
    "beams": ("float32", (None, 3)),
    "arrows": ("float32", (None, len(ARROW))),
    "reference_arrows": ("float32", (None, len(ARROW))),
    "occupancy": ("float32", (None, None)),
}
"""Block -> type and shape; None is any length."""

GROUPS = (
    ("path_offsets", "path_points"),
    ("corridor_mean", "corridor_cov"),
    ("contour_offsets", "contour_points", "contour_levels"),
)
"""Blocks that mean something only together."""


def as_stored(name: str, values: Any) -> Array:
    """``values`` in the type that the layout gives the block.

    Raises:
        ValueError: the name is unknown or the shape is wrong.
    """
    if name not in SHAPES:
        raise ValueError(f"a frame has no block {name!r}; it may have {', '.join(SHAPES)}")
    dtype, shape = SHAPES[name]
    array = np.ascontiguousarray(values, dtype=dtype)
    if not _fits(array, shape):
        raise ValueError(f"block {name!r} has shape {_shown(array.shape)} where {_shown(shape)} is right")
    return array


def problem_in(blocks: Mapping[str, Array]) -> str | None:
    """What is wrong with the blocks of a frame, as a clause; None when they agree with one another."""
    for name, array in blocks.items():
        if name in SHAPES and not _fits(array, SHAPES[name][1]):
            return f"block {name!r} has shape {_shown(array.shape)} where {_shown(SHAPES[name][1])} is right"
    for group in GROUPS:
        present = [name for name in group if name in blocks]
        if present and len(present) < len(group):
            missing = next(name for name in group if name not in blocks)
            return f"block {present[0]!r} needs {missing!r} beside it"
    for offsets, points in (("path_offsets", "path_points"), ("contour_offsets", "contour_points")):
        if offsets in blocks and not _divides(blocks[offsets], len(blocks[points])):
            return f"{offsets!r} does not divide the {len(blocks[points])} rows of {points!r}"
    if "contour_levels" in blocks and len(blocks["contour_levels"]) + 1 != len(blocks["contour_offsets"]):
        return "'contour_levels' should hold one level per contour"
    if "corridor_mean" in blocks and len(blocks["corridor_mean"]) != len(blocks["corridor_cov"]):
        return "'corridor_mean' and 'corridor_cov' should be of one length"
    return None


def _fits(array: Array, shape: tuple[int | None, ...]) -> bool:
    return array.ndim == len(shape) and all(
        right is None or size == right for size, right in zip(array.shape, shape, strict=True)
    )


def _divides(offsets: Array, rows: int) -> bool:
    """Whether offsets begin at 0, never fall and end at ``rows``."""
    return bool(
        len(offsets) and offsets[0] == 0 and offsets[-1] == rows and (np.diff(offsets.astype(int)) >= 0).all()
    )


def _shown(shape: tuple[int | None, ...]) -> str:
    return "[" + ", ".join("any" if size is None else str(size) for size in shape) + "]"
