"""Lesson 3: how well 32 walks point, by sea level, without and with a baseline."""

from __future__ import annotations

from ridgeline.landscape.lessons.numbers.setup import Numbers, cosines, learner_of
from ridgeline.landscape.world.live import World

LEVELS = (0, 1, 5)
BATCHES = 40
LIVE_BATCHES = 8


def compute(seed: int) -> Numbers:
    """Mean cosine to the exact gradient over 40 batches: cosine_LEVEL, cosine_baseline_LEVEL."""
    learner = learner_of(3, seed)
    reference, ground = learner.reference, learner.terrain
    found: Numbers = {}
    for name, baseline in (("cosine", "none"), ("cosine_baseline", "time")):
        learner.configure(learner.given.changed({"baseline": baseline}))
        for level in LEVELS:
            learner.stand_on(ground.replace(sea_level=float(level)), reference)
            found[f"{name}_{level}"] = float(cosines(learner, BATCHES, seed).mean())
    return found


def live(world: World) -> Numbers:
    """Over 8 batches, for the sea level and the baseline in force, where the lesson names that pair."""
    level, baseline = world.terrain.sea_level, world.settings.baseline
    if level not in LEVELS or baseline not in ("none", "time"):
        return {}
    name = "cosine" if baseline == "none" else "cosine_baseline"
    return {f"{name}_{int(level)}": float(cosines(world.learner, LIVE_BATCHES, world.seed).mean())}
