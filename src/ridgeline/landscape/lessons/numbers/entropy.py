"""Lesson 10: where a narrow and a wide start end on two hills, and what an entropy bonus changes."""

from __future__ import annotations

from ridgeline.landscape.lessons.numbers.setup import Numbers, learner_of, returns, spread_entropy
from ridgeline.landscape.world.live import World
from ridgeline.landscape.world.policy import GaussianPolicy

NARROW, WIDE, BONUS = 0.4, 1.0, 0.02
ITERATIONS = 100
CASES = {"narrow": (NARROW, 0.0), "wide": (WIDE, 0.0), "bonus": (NARROW, BONUS)}


def compute(seed: int) -> Numbers:
    """Exact return and entropy of each case after 100 iterations; the entropy of the narrow start."""
    found: Numbers = {}
    for name, (sigma, bonus) in CASES.items():
        learner = learner_of(10, seed, policy=GaussianPolicy(seed, sigma), entropy=bonus)
        if name == "narrow":
            found["entropy_start"] = spread_entropy(learner)
        for _ in range(ITERATIONS):
            learner.step(exact=False)
        found |= {name: returns(learner), f"entropy_{name}": spread_entropy(learner)}
    return found


def live(world: World) -> Numbers:
    """Return and entropy of the policy as it is, named by the case that started as this one did."""
    learner = world.learner
    now = spread_entropy(learner)
    first = world.history[0]["scalars"]["entropy"] if world.history else now
    wide = abs(first - _entropy(WIDE)) < abs(first - _entropy(NARROW))
    name = "wide" if wide else "bonus" if world.settings.entropy > 0 else "narrow"
    return {name: returns(learner), f"entropy_{name}": now}


def _entropy(sigma: float) -> float:
    return float(GaussianPolicy(0, sigma).entropy().detach())
