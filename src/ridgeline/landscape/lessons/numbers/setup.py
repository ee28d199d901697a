"""What the measurements of the lessons share: learners as a lesson sets them up, and what they are asked."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ridgeline.landscape.lessons.lesson import load
from ridgeline.landscape.world.exact import trajectory_kl
from ridgeline.landscape.world.learning import Learner
from ridgeline.landscape.world.paths import sample_paths
from ridgeline.landscape.world.policy import GaussianPolicy
from ridgeline.landscape.world.reference import clone_route
from ridgeline.landscape.world.settings import Settings
from ridgeline.landscape.world.terrain import Terrain
from ridgeline.landscape.world.terrain_file import load_terrain
from ridgeline.landscape.world.updates import gradient_of

Numbers = dict[str, float]


@lru_cache(maxsize=32)
def reference_of(terrain: Terrain, seed: int) -> GaussianPolicy:
    """The reference that a world of this seed has; not to be changed."""
    return clone_route(terrain.route, terrain, seed=seed)


def learner_of(
    number: int,
    seed: int,
    *,
    terrain: Terrain | None = None,
    policy: GaussianPolicy | None = None,
    **changes: Any,
) -> Learner:
    """A learner with the lesson's settings and these changes, at the reference unless a policy is given."""
    lesson = load(number)
    ground = load_terrain(lesson.terrain) if terrain is None else terrain
    settings = Settings(seed=seed).changed(lesson.settings).changed(changes)
    reference = reference_of(ground, seed)
    return Learner(ground, reference.copy() if policy is None else policy.copy(), reference, settings)


def returns(learner: Learner, layer: str = "gold") -> float:
    """J of the policy, exact."""
    return learner.measures.expected_return(learner.policy, layer, learner.gamma)


def path_kl(learner: Learner) -> float:
    """KL of the policy's paths to the reference's, exact. Nats per path."""
    return learner.measures.trajectory_kl(learner.policy)


def moved(policy: GaussianPolicy, flat: Tensor) -> GaussianPolicy:
    """A policy of the same form with other parameters."""
    found = policy.copy()
    found.assign(flat)
    return found


def moved_return(learner: Learner, policy: GaussianPolicy) -> float:
    """J of another policy on the learner's ground and layer, exact."""
    return learner.measures.expected_return(policy, learner.settings.layer, learner.gamma)


def moved_kl(learner: Learner, policy: GaussianPolicy, old: GaussianPolicy) -> float:
    """KL(policy || old) of whole paths, exact. Nats per path."""
    measures = learner.measures
    return trajectory_kl(learner.terrain, measures.operator(policy), old, measures.grid)


def spread_entropy(learner: Learner) -> float:
    """Entropy of an action. Nats."""
    return float(learner.policy.entropy().detach())


def cosines(learner: Learner, batches: int, seed: int) -> Tensor:
    """Cosine of the estimated gradient to the exact one, for each of some batches of paths. `[batches]`"""
    settings = learner.settings
    exact = learner.measures.gradient(learner.policy, settings.layer, learner.gamma, settings.beta)
    found = []
    for number in range(batches):
        paths = sample_paths(
            learner.terrain, learner.policy, settings.paths, [seed, 3, number], layer=settings.layer
        )
        gradient = gradient_of(learner.policy, learner.batch(paths), learner.objective)
        found.append(torch.nn.functional.cosine_similarity(gradient, exact, dim=0))
    return torch.stack(found)
