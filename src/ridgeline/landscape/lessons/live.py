"""A step of a lesson as a live world: the script done, the numbers of the formula, and pairs to judge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ridgeline.landscape.lessons import numbers as figures
from ridgeline.landscape.lessons.annotator import MOST_PAIRS, Annotator
from ridgeline.landscape.lessons.lesson import load
from ridgeline.landscape.lessons.script import Script, script
from ridgeline.landscape.world.live import DRAGGING, PARTS, RESTING, Part, World
from ridgeline.landscape.world.session import Session
from ridgeline.schema.errors import DataError, UsageError

Blocks = dict[str, np.ndarray]
Answer = tuple[dict[str, Any], Blocks]

JUDGED = 11
"""The lesson whose reader is the annotator."""


@dataclass(frozen=True)
class Result:
    """What a step shows: meta and blocks of the scene, and the live numbers of the formula."""

    meta: dict[str, Any]
    blocks: Blocks
    numbers: dict[str, float]


class Live:
    """A step that has been brought about. Messages that follow act on `world`; `judge` is for lesson 11.

    Raises UsageError for a lesson or step that does not exist, DataError when a message of the script is
    refused: the text is broken then.
    """

    def __init__(self, number: int, step: int, seed: int) -> None:
        self.lesson = load(number)
        self.step = step
        self._script = script(self.lesson, step, seed)
        session = Session(seed)
        self._annotator: Annotator | None = None
        for message in self._script:
            if message["type"] == "judge":
                self._judged(session.world, message)
                continue
            meta, _ = session.handle(message)
            if not meta["ok"]:
                raise DataError(f"lesson {number}, step {step}: {meta['error']}")
            if message["type"] == "open" and number == JUDGED:
                self._annotator = Annotator(session.world.terrain, session.world.learner.reference, seed)
        self.world: World = session.world

    def messages(self) -> Script:
        """The script: the messages that led here, in order."""
        return [dict(message) for message in self._script]

    def numbers(self) -> dict[str, float]:
        """The numbers of the formula that the world, as it is now, has to give."""
        found = figures.live(self.lesson.number, self.world)
        return found if self._annotator is None else {**found, **self._annotator.numbers()}

    def scene(self, resolution: int = RESTING) -> Answer:
        """Everything the world shows, with the lesson's numbers and, in lesson 11, the pair to judge."""
        world = self.world
        meta = {**world.numbers(resolution), "optimum": world.best(), "playing": False, **self._about()}
        blocks = {**world.blocks(PARTS, resolution), **self._pair(resolution)}
        return meta, {**blocks, **figures.lines(self.lesson.number, world)}

    def judge(self, answer: str, count: int = 30, noise: float = 0.0) -> Answer:
        """Take an answer to the pair on show, or simulate `count` of them; the ground that was learned.

        answer: "a", "b", "tie", "skip" or "simulate". noise: share of the simulated answers that are wrong.
        Raises UsageError in lessons without pairs and for numbers out of range.
        """
        message = {"answer": answer, "count": count, "noise": noise}
        self._judged(self.world, message)
        parts: tuple[Part, ...] = ("terrain", "value", "reference", "paths")
        meta = {**self.world.progress(), **self._about(), "playing": False, "pin": self.world.pin_numbers()}
        return meta, {**self.world.blocks(parts), **self._pair(DRAGGING)}

    def _judged(self, world: World, message: dict[str, Any]) -> None:
        if self._annotator is None:
            raise UsageError(
                f"there is no pair to judge in lesson {self.lesson.number}; open lesson {JUDGED}."
            )
        count, noise = message.get("count", 30), message.get("noise", 0.0)
        if message["answer"] == "simulate":
            self._annotator.simulate(count, noise)
        else:
            self._annotator.answer(message["answer"], world.learner.policy)
        world.change_terrain(self._annotator.ground(world.terrain))

    def _about(self) -> dict[str, Any]:
        about: dict[str, Any] = {
            "number": self.lesson.number,
            "step": self.step,
            "numbers": self.numbers(),
            "filled": self.lesson.formula.filled(self.numbers()),
        }
        if self._annotator is not None:
            about |= {"pairs": self._annotator.judged, "most_pairs": MOST_PAIRS}
        return {"lesson": about}

    def _pair(self, resolution: int) -> Blocks:
        if self._annotator is None:
            return {}
        return self._annotator.blocks(resolution)


def live(number: int, step: int, seed: int = 0) -> Live:
    """Step `step` (from 0) of lesson `number` (from 1), the same for the same seed. Errors as `Live`."""
    return Live(number, step, seed)


def run(number: int, step: int, seed: int = 0) -> Result:
    """The scene of a step on the 33 grid. Errors as `Live`."""
    found = live(number, step, seed)
    meta, blocks = found.scene(DRAGGING)
    return Result(meta, blocks, found.numbers())
