"""``axes.bin``: the plane as it was fitted, so that later steps are placed on the same ground."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ridgeline.landscape import blocks
from ridgeline.landscape.maps.axes import Plane
from ridgeline.landscape.record.writer import write_bytes
from ridgeline.schema.errors import DataError
from ridgeline.statistics.inputs import Floats

NAME = "axes.bin"


def save_plane(folder: Path, plane: Plane, made_from: Mapping[str, Any], mean_H: Floats) -> None:
    """Blocks ``axes`` [2, H] (unit vectors), ``scale`` [2] (state units), ``basis`` [64, H] and ``mean`` [H].

    A new text is placed at (state - mean of its prompt's reference states, else ``mean``) . axes / scale.
    ``made_from`` says which options and model the plane belongs to.
    """
    meta = {
        "method": plane.method,
        "share": plane.share,
        "fit_r2": plane.fit_r2 if math.isfinite(plane.fit_r2) else None,
        "fitting": plane.fitting,
        "samples": plane.samples,
        "made_from": dict(made_from),
    }
    stored = {"axes": plane.axes_2H, "scale": plane.scale_2, "basis": plane.basis_KH, "mean": mean_H}
    data = blocks.encode(meta, {name: block.astype(np.float32) for name, block in stored.items()})
    write_bytes(folder / NAME, data)


def load_plane(folder: Path, made_from: Mapping[str, Any]) -> Plane | None:
    """The plane that was saved for the same options and model; None where there is none."""
    try:
        meta, found = blocks.decode((folder / NAME).read_bytes())
        if meta["made_from"] != dict(made_from):
            return None
        return Plane(
            method=meta["method"],
            axes_2H=found["axes"].astype(np.float64),
            scale_2=found["scale"].astype(np.float64),
            basis_KH=found["basis"].astype(np.float64),
            share=float(meta["share"]),
            fit_r2=math.nan if meta["fit_r2"] is None else float(meta["fit_r2"]),
            fitting=str(meta["fitting"]),
            samples=int(meta["samples"]),
        )
    except (OSError, DataError, KeyError, TypeError, ValueError):
        return None
