"""One frame of a map as blocks of the record: points, paths in the air, value beams, contours, numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from ridgeline.landscape.maps.scene import Scene
from ridgeline.statistics.inputs import Floats, Integers

MOST_PATHS = 64
OUTLINE_GRID = 97


def frame_blocks(scene: Scene, frame: int, most: int) -> dict[str, Any]:
    """Blocks of ``frame``: at most ``most`` points, the held-out ones first, and 64 paths among them."""
    shown = np.flatnonzero(scene.table.frame_N == frame)
    shown = shown[np.argsort(~scene.table.evaluated_N[shown], kind="stable")][:most]
    indices = [scene.table.samples[place].index for place in shown.tolist()]
    walked = _spread_over_prompts(scene, shown)[:MOST_PATHS]
    return {
        "points": _points(scene, shown),
        "point_ids": np.stack([scene.table.prompt_N[shown], indices], axis=1),
        **_paths(scene, walked),
        **_contours(scene),
    }


def frame_scalars(scene: Scene, frame: int) -> dict[str, float | None]:
    """Numbers of one frame; None where unknown."""
    inside = scene.table.frame_N == frame
    scalars = scene.drifts[frame].scalars()
    for layer, heights_N in scene.heights.shown.items():
        known = heights_N[inside & np.isfinite(heights_N)]
        scalars[f"altitude_{layer}"] = float(known.mean()) if len(known) else None
    scalars["length"] = float(scene.table.length_N[inside].mean())
    scalars["samples"] = float(inside.sum())
    scalars["prompts"] = float(len(np.unique(scene.table.prompt_N[inside])))
    return scalars


def _points(scene: Scene, shown: Integers) -> Floats:
    table, tokens = scene.table, scene.tokens
    gold = scene.heights.shown.get("gold", np.full(len(table), np.nan))
    columns = (
        scene.points_N2[shown, 0],
        scene.points_N2[shown, 1],
        scene.heights.shown[scene.active][shown],
        gold[shown],
        _mean_known(tokens.advantage_NF[shown]),
        tokens.kl_NF[shown].sum(1),
        table.length_N[shown],
        table.prompt_N[shown],
    )
    return np.stack([np.asarray(column, dtype=np.float64) for column in columns], axis=1)


def _paths(scene: Scene, walked: Integers) -> dict[str, Any]:
    """Altitude only at the end: an unfinished text has no reward."""
    segments = scene.places_NF2.shape[1]
    altitude = np.full((len(walked), segments), np.nan)
    altitude[:, -1] = scene.heights.shown[scene.active][walked]
    value = scene.values.value_NF[walked]
    columns = (
        scene.places_NF2[walked, :, 0],
        scene.places_NF2[walked, :, 1],
        altitude,
        value,
        scene.tokens.advantage_NF[walked],
        scene.tokens.kl_NF[walked],
    )
    rows = np.stack(columns, axis=-1).reshape(-1, len(columns))
    beams = rows[np.isfinite(rows[:, 3])][:, [0, 1, 3]]
    return {
        "path_offsets": np.arange(len(walked) + 1) * segments,
        "path_points": rows,
        "beams": beams if len(beams) else None,
    }


def _contours(scene: Scene) -> dict[str, Any]:
    lines = scene.corridor.outlines(OUTLINE_GRID)
    return {
        "contour_offsets": np.cumsum([0, *(len(line) for _, line in lines)]),
        "contour_points": np.concatenate([line for _, line in lines]) if lines else np.zeros((0, 2)),
        "contour_levels": np.array([level for level, _ in lines]),
    }


def _spread_over_prompts(scene: Scene, shown: Integers) -> Integers:
    """One sample of every prompt before the second of any."""
    seen: dict[int, int] = {}
    turn = []
    for prompt in scene.table.prompt_N[shown].tolist():
        seen[prompt] = seen.get(prompt, -1) + 1
        turn.append(seen[prompt])
    return shown[np.argsort(turn, kind="stable")]


def _mean_known(values_NF: Floats) -> Floats:
    known = np.isfinite(values_NF)
    with np.errstate(invalid="ignore"):
        means: Floats = np.where(known, values_NF, 0.0).sum(1) / known.sum(1)
    return means
