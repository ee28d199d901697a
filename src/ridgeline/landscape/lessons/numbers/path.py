"""Lesson 1: the mean return of sampled walks beside the exact J."""

from __future__ import annotations

import math

from ridgeline.landscape.lessons.numbers.setup import Numbers, learner_of, returns
from ridgeline.landscape.world.live import World
from ridgeline.landscape.world.paths import Paths

WALKS = 200


def compute(seed: int) -> Numbers:
    """Of 200 walks of the reference: mean, its standard error, and the exact J."""
    learner = learner_of(1, seed)
    return {**_mean(learner.walk(WALKS)), "exact": returns(learner)}


def live(world: World) -> Numbers:
    """Of the walks on show."""
    return {**_mean(world.paths), "exact": returns(world.learner, world.settings.layer)}


def _mean(paths: Paths) -> Numbers:
    found = paths.returns
    error = {"error": float(found.std()) / math.sqrt(len(found))} if len(found) > 1 else {}
    return {"walks": float(len(found)), "mean": float(found.mean()), **error}
