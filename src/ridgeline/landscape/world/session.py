"""One person's live world: messages in, blocks of numbers out. No web code, and no message that breaks it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from ridgeline.landscape.world import messages
from ridgeline.landscape.world.live import DRAGGING, PARTS, RESTING, Part, World
from ridgeline.landscape.world.settings import Settings
from ridgeline.landscape.world.terrain import Bump, Layer, Terrain
from ridgeline.landscape.world.terrain_file import load_terrain, terrain_from_dict, terrain_names
from ridgeline.schema.errors import DataError, RidgelineError, UsageError, nearest

Answer = tuple[dict[str, Any], dict[str, np.ndarray]]
"""meta, a JSON object, and named blocks; what `landscape.blocks.encode` takes."""

MAX_ERROR = 400
MAX_WORK = 40_000_000
"""Actions times epochs in one answer: somebody waits for it, about a minute at a million a second."""


class LiveLesson(Protocol):
    """A step of a lesson, as `landscape.lessons.live` makes it.

    world: where the lesson stands; the messages that follow act on it. scene, judge: meta and blocks.
    """

    world: World

    def scene(self) -> Answer: ...

    def judge(self, answer: str, count: int = ..., noise: float = ...) -> Answer: ...


class Session:
    """One live world and what is playing on it.

    `handle` answers every message; while `playing`, the owner of the session calls `advance` for frames.
    seed: of worlds that are opened without one.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.playing = False
        self.every = 1
        self._world: World | None = None
        self._lesson: LiveLesson | None = None
        self._answers: Mapping[str, Callable[[Any], Answer]] = {
            "open": self._open,
            "set": self._set,
            "pin": self._pin,
            "edit": self._edit,
            "route": self._route,
            "rest": self._rest,
            "roll": self._roll,
            "train": self._train,
            "play": self._play,
            "pause": self._pause,
            "reset": self._reset,
            "lesson": self._to_lesson,
            "judge": self._judge,
        }

    def handle(self, message: object) -> Answer:
        """Answer one message. Nonsense gets {"id", "ok": false, "error": one sentence}."""
        started = time.perf_counter()
        number = _id(message)
        try:
            kind, content = messages.parse(message)
            meta, blocks = self._answers[kind](content)
        except RidgelineError as error:
            return {"id": number, "ok": False, "error": _sentence(str(error))}, {}
        seconds = round(time.perf_counter() - started, 5)
        return {"id": number, "type": kind, "ok": True, **_plain(meta), "seconds": seconds}, blocks

    def advance(self) -> Answer:
        """The next frame of what is playing, `every` iterations on; like a refused message where none plays.

        What cannot go on (a policy that ran away) pauses.
        """
        started = time.perf_counter()
        try:
            if not self.playing:
                raise UsageError("nothing plays; send play first.")
            meta, blocks = self._trained(self.every)
        except RidgelineError as error:
            self.playing = False
            return {"id": None, "type": "frame", "ok": False, "error": _sentence(str(error))}, {}
        seconds = round(time.perf_counter() - started, 5)
        return {"id": None, "type": "frame", "ok": True, **_plain(meta), "seconds": seconds}, blocks

    @property
    def world(self) -> World:
        """The world in force. Raises UsageError before any was opened."""
        if self._world is None:
            raise UsageError('no world is open yet; send {"type": "open", "terrain": "ravine"} first.')
        return self._world

    def _open(self, message: messages.Open) -> Answer:
        terrain = _terrain(message.terrain)
        seed = message.seed if "seed" in message.model_fields_set else self.seed
        settings = Settings(seed=seed).changed(message.settings)
        _bounded(settings)
        self._world = World(terrain, settings, seed)
        self._lesson, self.playing = None, False
        return self._scene(PARTS, RESTING)

    def _set(self, message: messages.Set) -> Answer:
        world = self.world
        _bounded(world.learner.given.changed(message.settings))
        before = world.settings
        world.change_settings(message.settings)
        ground = (before.layer, before.gamma) != (world.settings.layer, world.settings.gamma)
        return self._scene(("value", "reference", "paths") if ground else (), DRAGGING)

    def _pin(self, message: messages.Pin) -> Answer:
        world = self.world
        world.pin = (message.x, message.y)
        return {"pin": world.pin_numbers()}, {}

    def _edit(self, message: messages.Edit) -> Answer:
        world = self.world
        changed = {layer.name: layer for layer in world.terrain.layers}
        for name, rows in message.bumps.items():
            image = changed[name].image if name in changed else None
            changed[name] = Layer(name, tuple(Bump(*row) for row in rows), image)
        if message.image is not None:
            name = message.image.layer
            bumps = changed[name].bumps if name in changed else ()
            changed[name] = Layer(name, bumps, np.array(message.image.heights))
        layers = tuple(changed[name] for name in ("gold", "proxy") if name in changed)
        sea_level = world.terrain.sea_level if message.sea_level is None else message.sea_level
        world.change_terrain(world.terrain.replace(layers=layers, sea_level=sea_level))
        return self._scene(("terrain", "value", "reference", "paths"), DRAGGING)

    def _route(self, message: messages.Route) -> Answer:
        self.world.change_route(message.points)
        return self._scene(PARTS, DRAGGING)

    def _rest(self, _: messages.Bare) -> Answer:
        return self._scene(PARTS, RESTING)

    def _roll(self, message: messages.Roll) -> Answer:
        mean, error = self.world.show_rolled(message.count)
        blocks = self.world.blocks(("paths",))
        return {"returns": {"mean": mean, "se": error}, "count": message.count}, blocks

    def _train(self, message: messages.Train) -> Answer:
        return self._trained(message.iterations)

    def _trained(self, iterations: int) -> Answer:
        world = self.world
        _affordable(world, iterations)
        world.train(iterations)
        meta = {
            **world.progress(),
            "history": world.history,
            "pin": world.pin_numbers(),
            "playing": self.playing,
        }
        return {**meta, "resolution": DRAGGING}, world.blocks(("value", "policy", "paths"))

    def _play(self, message: messages.Play) -> Answer:
        _ = self.world
        self.playing, self.every = True, message.every
        return {"playing": True, "every": self.every}, {}

    def _pause(self, _: messages.Bare) -> Answer:
        self.playing = False
        return {"playing": False}, {}

    def _reset(self, message: messages.Reset) -> Answer:
        self.world.reset(message.policy, message.sigma)
        return self._scene(("value", "policy", "paths"), DRAGGING)

    def _to_lesson(self, message: messages.ToLesson) -> Answer:
        from ridgeline.landscape import lessons  # lessons open worlds, so they import this package

        lesson: LiveLesson = lessons.live(message.number, message.step, self.seed)
        self._lesson, self._world, self.playing = lesson, lesson.world, False
        return lesson.scene()

    def _judge(self, message: messages.Judge) -> Answer:
        if self._lesson is None:
            raise UsageError("there is no pair to judge; open lesson 11 first.")
        return self._lesson.judge(message.answer, message.count, message.noise)

    def _scene(self, parts: tuple[Part, ...], resolution: int) -> Answer:
        world = self.world
        meta = {**world.numbers(resolution), "playing": self.playing}
        if resolution == RESTING or not parts:
            meta["optimum"] = world.best()
        return meta, world.blocks(parts, resolution)


def _terrain(given: str | dict[str, Any]) -> Terrain:
    """By name (never by path: messages come from the network) or inline."""
    if isinstance(given, str):
        if given not in terrain_names():
            raise UsageError(f"no terrain is called '{given[:40]}'; {nearest(given[:40], terrain_names())}")
        terrain = load_terrain(given)
    else:
        terrain = terrain_from_dict(given)
    if terrain.horizon > messages.MAX_HORIZON:
        raise DataError(
            f"horizon: {terrain.horizon} is more than the {messages.MAX_HORIZON} steps of a live world."
        )
    return terrain


def _bounded(settings: Settings) -> None:
    """What a live world allows on top of `Settings`: answers have to come while somebody waits."""
    if settings.paths > messages.MAX_PATHS:
        raise UsageError(f"paths = {settings.paths} is more than the {messages.MAX_PATHS} of a live world.")


def _affordable(world: World, iterations: int) -> None:
    settings = world.settings
    assert settings.epochs is not None
    work = iterations * settings.paths * settings.epochs * world.terrain.horizon
    if work > MAX_WORK:
        most = MAX_WORK * iterations // work
        raise UsageError(
            f"{iterations} iterations at once would take minutes; ask for {max(most, 1)} at most, "
            "or for fewer paths or epochs."
        )


def _id(message: object) -> int | str | None:
    """The message's id where it is one that can be sent back."""
    number = message.get("id") if isinstance(message, dict) else None
    if isinstance(number, str):
        return _clean(number)[:100]
    whole = isinstance(number, int) and not isinstance(number, bool) and abs(number) < 2**53
    return number if whole else None


def _sentence(text: str) -> str:
    return _clean(" ".join(text.split()))[:MAX_ERROR]


def _clean(text: str) -> str:
    """Without lone surrogates, which UTF-8 does not have."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _plain(value: Any) -> Any:
    """The value as strict JSON has it: None for nan and inf, text that UTF-8 can hold."""
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, str):
        return _clean(value)
    if isinstance(value, float):
        return float(value) if np.isfinite(value) else None
    return value
