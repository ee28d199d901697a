"""Lesson 5: what one iteration of PPO does with 1 epoch, with 20, and with 20 and no clip."""

from __future__ import annotations

from typing import Any

from ridgeline.landscape.lessons.numbers.setup import Numbers, learner_of, path_kl
from ridgeline.landscape.world.live import World

CASES: dict[str, dict[str, Any]] = {
    "1": {"epochs": 1},
    "5": {"epochs": 5},
    "20": {"epochs": 20},
    "open": {"epochs": 20, "clip": 0.0},
}
MORE = 5


def compute(seed: int) -> Numbers:
    """Per case, exact KL of the step (nats per path), share outside the interval, largest ratio."""
    found: Numbers = {}
    for name, changes in CASES.items():
        learner = learner_of(5, seed, **changes)
        scalars = learner.step(exact=False).scalars
        found |= _named(name, path_kl(learner), scalars["outside_fraction"], scalars["ratio_max"])
        if name == "20":
            for _ in range(MORE):
                learner.step(exact=False)
            found["kl_more"] = path_kl(learner)
    return found


def live(world: World) -> Numbers:
    """Of the one iteration done from the reference, for the case in force; none after more iterations."""
    settings = {"epochs": world.settings.epochs, "clip": world.settings.clip}
    if world.learner.iteration != 1 or not world.history:
        return {}
    scalars = world.history[-1]["scalars"]
    for name, changes in CASES.items():
        if settings == {"clip": 0.2, **changes}:
            return _named(name, scalars["kl"], scalars["outside_fraction"], scalars["ratio_max"])
    return {}


def _named(case: str, kl: float | None, outside: float | None, ratio: float | None) -> Numbers:
    found = {f"kl_{case}": kl, f"clip_{case}": outside, f"ratio_{case}": ratio}
    return {name: value for name, value in found.items() if value is not None}
