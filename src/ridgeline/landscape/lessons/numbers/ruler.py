"""Lesson 12: three parameter steps of one length in nats, and what principal components make of a path."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ridgeline.landscape.lessons.numbers.setup import Numbers, learner_of, moved, moved_kl, moved_return
from ridgeline.landscape.world.learning import Learner
from ridgeline.landscape.world.live import World

NORM = 0.5
ITERATIONS = 60


def compute(seed: int) -> Numbers:
    """kl_* and gain_* of the three steps; variance_training and variance_walk: share of two components."""
    learner, points = learner_of(12, seed), trail(seed)
    found = _steps(learner, points[-1] - points[0], seed)
    found["variance_training"] = two_components(torch.stack(points).numpy())
    found["variance_walk"] = two_components(_random_walk(points, seed))
    return found


def live(world: World) -> Numbers:
    """The steps of `compute`; once the policy has left the reference, its way is the training."""
    learner = world.learner
    gone = learner.policy.flat() - learner.reference.flat()
    training = gone if float(gone.norm()) > 0 else trail(world.seed)[-1] - learner.reference.flat()
    return _steps(learner, training, world.seed)


@lru_cache(maxsize=8)
def trail(seed: int) -> list[Tensor]:
    """Flat parameters of the reference and after each of 60 iterations."""
    learner = learner_of(12, seed)
    found = [learner.policy.flat()]
    for _ in range(ITERATIONS):
        learner.step(exact=False)
        found.append(learner.policy.flat())
    return found


def two_components(points: np.ndarray) -> float:
    """Share of the variance of points `[N, D]` that their first two principal components hold."""
    squared = np.linalg.svd(points - points.mean(0), compute_uv=False) ** 2
    return float(squared[:2].sum() / squared.sum())


def directions(training: Tensor, seed: int) -> dict[str, Tensor]:
    """Unit vectors: random, of training, and of log sigma alone (the first two parameters), narrower."""
    random = torch.from_numpy(np.random.default_rng([seed, 12]).standard_normal(len(training)))
    spread = torch.zeros_like(training)
    spread[:2] = -1 / math.sqrt(2)
    return {"random": random / random.norm(), "training": training / training.norm(), "spread": spread}


def _steps(learner: Learner, training: Tensor, seed: int) -> Numbers:
    reference = learner.reference
    before = moved_return(learner, reference)
    found: Numbers = {}
    for name, direction in directions(training, seed).items():
        policy = moved(reference, reference.flat() + NORM * direction)
        found[f"kl_{name}"] = moved_kl(learner, policy, reference)
        found[f"gain_{name}"] = moved_return(learner, policy) - before
    return found


def _random_walk(trail: list[Tensor], seed: int) -> np.ndarray:
    """As many steps of the same sizes, in directions drawn at random."""
    sizes = np.array([float((b - a).norm()) for a, b in pairwise(trail)])
    steps = np.random.default_rng([seed, 13]).standard_normal((len(sizes), len(trail[0])))
    steps *= (sizes / np.linalg.norm(steps, axis=1))[:, None]
    return np.concatenate([np.zeros((1, len(trail[0]))), steps.cumsum(0)])
