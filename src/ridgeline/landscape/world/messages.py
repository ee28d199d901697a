"""The messages a live world understands, checked: types, ranges and sizes; nothing else reaches the world."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ridgeline.schema.errors import UsageError, nearest

MAX_PATHS = 2048
MAX_ITERATIONS = 500
MAX_BUMPS = 64
MAX_HORIZON = 200
MAX_ROUTE = 200
MAX_IMAGE = 129
MAX_JUDGEMENTS = 1000
LESSONS = 12

Coordinate = Annotated[float, Field(ge=-3.0, le=3.0)]
Place = tuple[Coordinate, Coordinate]
BumpRow = tuple[
    Coordinate,
    Coordinate,
    Annotated[float, Field(ge=0.05, le=6.0)],
    Annotated[float, Field(ge=-100.0, le=100.0)],
]
"""x, y, width, height."""
Altitude = Annotated[float, Field(ge=-100.0, le=100.0)]
Heights = Annotated[
    list[Annotated[list[Altitude], Field(min_length=2, max_length=MAX_IMAGE)]],
    Field(min_length=2, max_length=MAX_IMAGE),
]
LayerName = Literal["gold", "proxy"]


class Message(BaseModel):
    """What every message is: unknown keys, nan and inf are refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True, frozen=True)


class Open(Message):
    """A terrain by name or inline, and optionally the seed and the settings of the learner."""

    terrain: str | dict[str, Any]
    seed: int = Field(0, ge=0, le=2**31 - 1)
    settings: dict[str, Any] = Field(default_factory=dict)


class Set(Message):
    """Some settings of the learner."""

    settings: dict[str, Any]


class Pin(Message):
    """The pin put somewhere."""

    x: Coordinate
    y: Coordinate


class Image(Message):
    """A painted height map of one layer: rows from the lowest y, columns from the lowest x."""

    layer: LayerName = "gold"
    heights: Heights

    @model_validator(mode="after")
    def _square(self) -> Image:
        if any(len(row) != len(self.heights) for row in self.heights):
            raise ValueError("must be a square, as many numbers in each row as rows")
        return self


class Edit(Message):
    """Bumps of some layers in place of those there are, a painted height map, the sea level: any of them."""

    bumps: dict[LayerName, Annotated[list[BumpRow], Field(max_length=MAX_BUMPS)]] = Field(
        default_factory=dict
    )
    image: Image | None = None
    sea_level: Altitude | None = None


class Route(Message):
    """A drawn route, to which a new reference is fitted."""

    points: list[Place] = Field(min_length=2, max_length=MAX_ROUTE)


class Bare(Message):
    """A message without content: rest, pause."""


class Roll(Message):
    """Paths to walk with the policy as it is."""

    count: int = Field(ge=1, le=MAX_PATHS)


class Train(Message):
    """Iterations to learn."""

    iterations: int = Field(ge=1, le=MAX_ITERATIONS)


class Play(Message):
    """Learning without being asked, a frame every so many iterations."""

    every: int = Field(1, ge=1, le=MAX_ITERATIONS)


class Reset(Message):
    """The policy as the reference, or a new one with this deviation of its actions."""

    policy: Literal["reference", "new"] = "reference"
    sigma: float | None = Field(None, ge=0.02, le=3.0)


class ToLesson(Message):
    """A step of a lesson, both counted as the lessons count them."""

    number: int = Field(ge=1, le=LESSONS)
    step: int = Field(0, ge=0, le=100)


class Judge(Message):
    """The answer to the pair on show; or `count` simulated ones, of which a share `noise` is wrong."""

    answer: Literal["a", "b", "tie", "skip", "simulate"]
    count: int = Field(30, ge=1, le=MAX_JUDGEMENTS)
    noise: float = Field(0.0, ge=0.0, le=1.0)


KINDS: Mapping[str, type[Message]] = {
    "open": Open,
    "set": Set,
    "pin": Pin,
    "edit": Edit,
    "route": Route,
    "rest": Bare,
    "roll": Roll,
    "train": Train,
    "play": Play,
    "pause": Bare,
    "reset": Reset,
    "lesson": ToLesson,
    "judge": Judge,
}


def parse(message: object) -> tuple[str, Message]:
    """Type and content of a message as JSON gave it. Raises UsageError, in one sentence, for any other."""
    if not isinstance(message, dict):
        raise UsageError('a message must be a JSON object such as {"id": 1, "type": "rest"}.')
    kind = message.get("type")
    if not isinstance(kind, str) or kind not in KINDS:
        asked = kind if isinstance(kind, str) else "none"
        raise UsageError(f"unknown message type '{asked[:40]}': {nearest(asked[:40], KINDS)}")
    content = {key: value for key, value in message.items() if key not in ("id", "type")}
    try:
        return kind, KINDS[kind].model_validate_json(_json(content))
    except ValidationError as error:
        raise UsageError(f"{kind}: {_complaint(error)}.") from None


def _json(content: dict[str, Any]) -> bytes:
    """Back to JSON, in which strict validation takes a list for a tuple and 1 for 1.0."""
    try:
        return json.dumps(content).encode("utf-8", "replace")
    except (TypeError, ValueError, RecursionError):
        raise UsageError("a message must hold nothing but JSON values, not too deeply nested.") from None


def _complaint(error: ValidationError) -> str:
    """The first complaint, as one clause."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part)[:40] for part in first["loc"])
    said = first["msg"].removeprefix("Value error, ")
    return f"{place}: {said}" if place else said
