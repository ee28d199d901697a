"""What ``manifest.json`` says: which axes, which altitude, how each number was estimated, which frames."""

from __future__ import annotations

import datetime
import math
from importlib import metadata
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from ridgeline.schema.config import Config


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _library() -> str:
    return metadata.version("ridgeline")


class Axis(Config):
    """One direction of the ground plane."""

    name: str
    unit: str = ""
    range: tuple[float, float]

    @field_validator("range")
    @classmethod
    def _rises(cls, value: tuple[float, float]) -> tuple[float, float]:
        low, high = value
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError("should be two finite numbers, the lower one first")
        return value


class Axes(Config):
    """The ground plane: the state itself, or a linear projection that was fitted once and then frozen."""

    method: Literal["state", "reward_axis", "pca", "drift"]
    x: Axis
    y: Axis
    fitted_on: str | None = None
    samples: int | None = None
    file: str | None = None


class Altitude(Config):
    """What is up. ``r2`` and ``residual`` are held-out; None where the altitude is exact."""

    name: str = "reward"
    unit: str = ""
    layers: tuple[str, ...] = Field(min_length=1)
    active: str
    range: tuple[float, float]
    r2: dict[str, float | None] = Field(default_factory=dict)
    residual: dict[str, float | None] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _known(self) -> Altitude:
        if self.active not in self.layers:
            raise ValueError(f"active should be one of the layers {', '.join(self.layers)}")
        return self


class Value(Config):
    """Where V comes from; ``kind`` is None when the record has none."""

    kind: Literal["exact", "critic", "regression"] | None = None
    note: str = ""


class Kl(Config):
    """Which estimator of the KL divergence to the reference, and per what."""

    estimator: Literal["exact", "k1", "k3"]
    unit: Literal["nats per path", "nats per completion"]


class Corridor(Config):
    """How the neighbourhood of the reference is drawn."""

    kind: Literal["tube", "contours"] | None = None
    levels: tuple[float, ...] = (0.5, 0.9, 0.99)
    note: str = ""


class FrameEntry(Config):
    """One frame in the list: its step, its file and the numbers that are drawn as curves."""

    step: int
    file: str
    honesty: str
    scalars: dict[str, float | None] = Field(default_factory=dict)


class Manifest(Config):
    """``manifest.json``. ``details`` is free room for what only one kind of map has to say."""

    version: Literal[1] = 1
    kind: Literal["exact", "lm", "slice"]
    title: str
    created: str = Field(default_factory=_now)
    library: str = Field(default_factory=_library)
    seeds: tuple[int, ...] = ()
    axes: Axes
    altitude: Altitude
    value: Value = Value()
    kl: Kl
    corridor: Corridor = Corridor()
    scalars: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    details: dict[str, Any] = Field(default_factory=dict)
    frames: tuple[FrameEntry, ...] = ()
