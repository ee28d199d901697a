"""A learner on the exact world, and the criterion by which it counts as having learned."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch

from ridgeline.landscape.world.learning import Learner
from ridgeline.landscape.world.paths import Paths
from ridgeline.landscape.world.policy import GaussianPolicy
from ridgeline.landscape.world.reference import clone_route
from ridgeline.landscape.world.settings import Settings
from ridgeline.landscape.world.terrain import Terrain
from ridgeline.landscape.world.terrain_file import load_terrain

ALGORITHMS = ("reinforce", "rloo", "ppo", "trpo", "grpo")
ITERATIONS = 8
GAIN = 4.0
"""Reward units of J. Over seeds 0 to 3 the slowest, trpo, gains 6.1 to 7.2, the others 13 to 16."""


@lru_cache
def ravine() -> tuple[Terrain, GaussianPolicy]:
    terrain = load_terrain("ravine")
    return terrain, clone_route(terrain.route, terrain)


def learner(algorithm: str = "ppo", *, terrain: Terrain | None = None, **settings: Any) -> Learner:
    """Starts at the reference of the ravine."""
    ground, reference = ravine()
    chosen = Settings(algorithm=algorithm, **settings)  # type: ignore[arg-type]
    return Learner(terrain or ground, reference.copy(), reference, chosen)


def gold(walker: Learner) -> float:
    return walker.measures.expected_return(walker.policy, "gold", 1.0)


def gain(algorithm: str, seed: int, spoil: Callable[[Paths], Paths] | None = None) -> float:
    """Exact J after a few iterations less that of the reference. spoil: what happens to the walked paths."""
    walker = learner(algorithm, seed=seed)
    if spoil is not None:
        walk = walker.walk
        walker.walk = lambda count=None: spoil(walk(count))  # type: ignore[method-assign]
    before = gold(walker)
    for _ in range(ITERATIONS):
        walker.step(exact=False)
    return gold(walker) - before


def moved(seed: int = 0, size: float = 0.05) -> GaussianPolicy:
    """The reference with noise on its parameters, sigmas included: some nats per path away."""
    policy = ravine()[1].copy()
    noise = torch.randn(356, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    policy.assign(policy.flat() + size * noise)
    return policy
