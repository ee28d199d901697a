"""Lesson 2: altitude and V in the ravine and on the side hill."""

from __future__ import annotations

import torch

from ridgeline.landscape.lessons.numbers.setup import Numbers, learner_of
from ridgeline.landscape.world.learning import Learner
from ridgeline.landscape.world.live import World

PLACES = {"ravine": (0.0, 0.2), "hill": (-1.6, 1.5)}
ITERATIONS = 60


def compute(seed: int) -> Numbers:
    """Reward and value of both places for the reference and after 60 iterations of PPO."""
    learner = learner_of(2, seed)
    before = {f"{name}_reference": value for name, value in _places(learner).items() if "value" in name}
    for _ in range(ITERATIONS):
        learner.step(exact=False)
    return {**before, **_places(learner)}


def live(world: World) -> Numbers:
    """Of the policy as it is."""
    return _places(world.learner)


def _places(learner: Learner) -> Numbers:
    layer, measures = learner.settings.layer, learner.measures
    first = measures.values(learner.policy, layer, learner.gamma)[0]
    found = {}
    for name, place in PLACES.items():
        here = torch.tensor([place], dtype=torch.float64)
        found[f"{name}_reward"] = float(learner.terrain.height(here, layer)[0])
        found[f"{name}_value"] = float(measures.grid.interpolate(first, here)[0])
    return found
