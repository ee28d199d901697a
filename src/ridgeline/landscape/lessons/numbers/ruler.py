"""Lesson 12: three parameter steps of one length in nats, and what principal components make of a path."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ridgeline.landscape.lessons.numbers.setup import Numbers, learner_of
from ridgeline.landscape.world.exact import trajectory_kl
from ridgeline.landscape.world.learning import Learner
from ridgeline.landscape.world.live import World

NORM = 0.5
ITERATIONS = 60


def compute(seed: int) -> Numbers:
    """kl_* and gain_* of the three steps; variance_training and variance_walk: share of two components."""
    learner = learner_of(12, seed)
    start = learner.policy.copy()
    trail = [start.flat()]
    for _ in range(ITERATIONS):
        learner.step(exact=False)
        trail.append(learner.policy.flat())
    learner.policy.assign(start.flat())
    found = _steps(learner, trail[-1] - trail[0], seed)
    found["variance_training"] = two_components(torch.stack(trail).numpy())
    found["variance_walk"] = two_components(_random_walk(trail, seed))
    return found


def live(world: World) -> Numbers:
    """The steps of `compute` from the reference; the training direction once the policy has left it."""
    learner = world.learner
    return _steps(learner, learner.policy.flat() - learner.reference.flat(), world.seed)


def two_components(points: np.ndarray) -> float:
    """Share of the variance of points `[N, D]` that their first two principal components hold."""
    squared = np.linalg.svd(points - points.mean(0), compute_uv=False) ** 2
    return float(squared[:2].sum() / squared.sum())


def _steps(learner: Learner, training: Tensor, seed: int) -> Numbers:
    measures, reference = learner.measures, learner.reference
    before = measures.expected_return(reference, learner.settings.layer, learner.gamma)
    found: Numbers = {}
    for name, direction in _directions(training, seed).items():
        moved = reference.copy()
        moved.assign(reference.flat() + NORM * direction)
        operator = measures.operator(moved)
        found[f"kl_{name}"] = trajectory_kl(learner.terrain, operator, reference, measures.grid)
        gain = measures.expected_return(moved, learner.settings.layer, learner.gamma) - before
        found[f"gain_{name}"] = gain
    return found


def _directions(training: Tensor, seed: int) -> dict[str, Tensor]:
    """Unit vectors: random, of training (where there was some), and of log sigma alone."""
    random = torch.from_numpy(np.random.default_rng([seed, 12]).standard_normal(len(training)))
    spread = torch.zeros_like(training)
    spread[:2] = -1 / math.sqrt(2)
    found = {"random": random / random.norm(), "spread": spread}
    if float(training.norm()) > 0:
        found["training"] = training / training.norm()
    return found


def _random_walk(trail: list[Tensor], seed: int) -> np.ndarray:
    """As many steps of the same sizes, in directions drawn at random."""
    sizes = np.array([float((b - a).norm()) for a, b in pairwise(trail)])
    steps = np.random.default_rng([seed, 13]).standard_normal((len(sizes), len(trail[0])))
    steps *= (sizes / np.linalg.norm(steps, axis=1))[:, None]
    return np.concatenate([np.zeros((1, len(trail[0]))), steps.cumsum(0)])
