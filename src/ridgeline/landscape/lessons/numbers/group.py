"""Lesson 7: how often a whole group earns the same, by the size of the group."""

from __future__ import annotations

from ridgeline.landscape.lessons.numbers.setup import Numbers, learner_of, returns
from ridgeline.landscape.world.live import World

SIZES = (4, 8, 16)
PATHS = 4096
ITERATIONS = 40


def compute(seed: int) -> Numbers:
    """success (exact), dead_G measured on 4,096 paths, expected_G by p^G + (1 - p)^G.

    success_end: exact, after 40 iterations.
    """
    found: Numbers = {}
    for size in SIZES:
        learner = learner_of(7, seed, group=size, paths=PATHS)
        dead = learner.batch(learner.walk()).estimates.dead
        assert dead is not None
        found[f"dead_{size}"] = dead
    trained = learner_of(7, seed)
    success = returns(trained)
    for _ in range(ITERATIONS):
        trained.step(exact=False)
    return {"success": success, **found, **expected(success), "success_end": returns(trained)}


def live(world: World) -> Numbers:
    """Exact success of the policy, and the shares of dead groups that follow from it."""
    success = returns(world.learner)
    shares = expected(success)
    return {"success": success, **{f"dead_{size}": shares[f"expected_{size}"] for size in SIZES}}


def expected(success: float) -> Numbers:
    """p^G + (1 - p)^G for each size."""
    return {f"expected_{size}": success**size + (1 - success) ** size for size in SIZES}
