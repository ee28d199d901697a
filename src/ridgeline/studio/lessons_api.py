"""Terrains and lessons of the library, imported when they are first asked for: they bring torch along."""

from __future__ import annotations

from typing import Any

from ridgeline.schema.errors import RidgelineError
from ridgeline.studio.safe import Problem, sendable

LESSONS = 12
TERRAIN_LIMIT = 4 << 20


def terrain_names() -> list[str]:
    """Names of the terrains that come with the library."""
    from importlib import resources

    files = (resources.files("ridgeline.landscape") / "terrains").iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def terrain(name: str) -> dict[str, Any]:
    """A terrain by name. Raises Problem 404."""
    if name not in terrain_names():
        raise Problem(404, f"There is no such terrain; there are {', '.join(terrain_names())}.")
    from ridgeline.landscape.world.terrain_file import load_terrain, terrain_to_dict

    found: dict[str, Any] = sendable(terrain_to_dict(load_terrain(name)))
    return found


def parse_terrain(content: bytes) -> dict[str, Any]:
    """The terrain of a TOML text, which may name no files. Raises Problem 422."""
    from ridgeline.landscape.world.terrain_file import parse_terrain as parse_text
    from ridgeline.landscape.world.terrain_file import terrain_to_dict

    try:
        found: dict[str, Any] = sendable(terrain_to_dict(parse_text(content.decode("utf-8"))))
    except UnicodeDecodeError:
        raise Problem(422, "The terrain is no UTF-8 text.") from None
    except RidgelineError as error:
        raise Problem(422, str(sendable(str(error)))) from None
    return found


def lesson_summaries() -> list[dict[str, Any]]:
    """Number, slug, title and summary of every lesson. Raises Problem 404."""
    from ridgeline.landscape import lessons

    try:
        return [sendable(each) for each in lessons.summaries()]
    except RidgelineError as error:
        raise _absent(error) from None


def lesson(number: int) -> dict[str, Any]:
    """A whole lesson. Raises Problem 404."""
    from ridgeline.landscape import lessons

    try:
        found: dict[str, Any] = sendable(lessons.load(number).as_dict())
    except RidgelineError as error:
        raise _absent(error) from None
    return found


def lesson_frames(number: int) -> bytes:
    """The recorded frames of a lesson, a container of blocks. Raises Problem 404."""
    from ridgeline.landscape import lessons

    try:
        return lessons.recorded(number)
    except RidgelineError as error:
        raise _absent(error) from None


def _absent(error: RidgelineError) -> Problem:
    return Problem(404, str(sendable(str(error))))
