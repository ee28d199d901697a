"""Lesson 4: how well 8 walks point, by what their returns are compared with."""

from __future__ import annotations

from typing import Any

from ridgeline.landscape.lessons.numbers.setup import Numbers, cosines, learner_of
from ridgeline.landscape.world.live import World

WAYS: dict[str, dict[str, Any]] = {
    "cosine_time": {"baseline": "time"},
    "cosine_exact": {"baseline": "exact", "lam": 0.95},
    "cosine_exact_0": {"baseline": "exact", "lam": 0.0},
    "cosine_exact_1": {"baseline": "exact", "lam": 1.0},
}
BATCHES = 60
LIVE_BATCHES = 8


def compute(seed: int) -> Numbers:
    """Mean cosine to the exact gradient over 60 batches of 8 walks, for each way."""
    learner = learner_of(4, seed)
    found: Numbers = {}
    for name, changes in WAYS.items():
        learner.configure(learner.given.changed(changes))
        found[name] = float(cosines(learner, BATCHES, seed).mean())
    return found


def live(world: World) -> Numbers:
    """Over 8 batches, for the way in force, where it is one of the lesson's."""
    settings = world.settings.as_dict()
    for name, changes in WAYS.items():
        if all(settings[key] == value for key, value in changes.items()):
            return {name: float(cosines(world.learner, LIVE_BATCHES, world.seed).mean())}
    return {}
