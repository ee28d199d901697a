"""The messages that bring a step of a lesson about, from nothing: the same step is always the same world."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ridgeline.landscape.lessons.lesson import Lesson
from ridgeline.landscape.world.terrain import Layer
from ridgeline.landscape.world.terrain_file import load_terrain, terrain_to_dict
from ridgeline.schema.errors import UsageError

FRAMES = 20
"""Points of the history that one `train` of a script gives, at most."""
_UNDONE = ("train", "roll")
"""What a reset makes as if it had not been."""

Script = list[dict[str, Any]]


def script(lesson: Lesson, step: int, seed: int) -> Script:
    """Open the lesson's terrain with its settings, then what steps 0 to `step` do.

    Training that a later reset undoes is left out; the rest is cut into pieces, so that the history is a
    curve. Raises UsageError for a step that the lesson has not.
    """
    if not 0 <= step < len(lesson.steps):
        raise UsageError(
            f"lesson {lesson.number} has no step {step}; its steps are 0 to {len(lesson.steps) - 1}."
        )
    messages: Script = [_open(lesson, seed)]
    for done in lesson.steps[: step + 1]:
        for message in done.do:
            if message["type"] == "reset":
                messages = [kept for kept in messages if kept["type"] not in _UNDONE]
            messages += _pieces(message)
    return messages


def _open(lesson: Lesson, seed: int) -> dict[str, Any]:
    terrain: Any = lesson.terrain
    if lesson.settings.get("layer") == "proxy" and not load_terrain(terrain).has("proxy"):
        ground = load_terrain(terrain)  # flat until somebody judges
        terrain = terrain_to_dict(ground.replace(layers=(*ground.layers, Layer("proxy"))))
    settings = {**lesson.settings, "seed": seed}
    return {"type": "open", "terrain": terrain, "seed": seed, "settings": settings}


def _pieces(message: Mapping[str, Any]) -> Script:
    if message["type"] != "train":
        return [dict(message)]
    left = int(message["iterations"])
    size = max(1, -(-left // FRAMES))
    return [{"type": "train", "iterations": min(size, left - at)} for at in range(0, left, size)]
