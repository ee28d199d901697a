"""Lesson 6: a step within a budget, natural against plain at equal exact KL, and promise against truth."""

from __future__ import annotations

import torch
from torch import Tensor

from ridgeline.landscape.lessons.lesson import load
from ridgeline.landscape.lessons.numbers.setup import (
    Numbers,
    learner_of,
    moved,
    moved_kl,
    moved_return,
    returns,
)
from ridgeline.landscape.world.exact import altitude, occupancy
from ridgeline.landscape.world.learning import Learner
from ridgeline.landscape.world.live import World
from ridgeline.landscape.world.policy import GaussianPolicy
from ridgeline.landscape.world.trust_region import mean_kl, natural_direction
from ridgeline.landscape.world.updates import gradient_of

GREEDY = 0.5
"""The budget that is too large, nats per action."""
TRAINED = 15
"""Iterations before natural and plain are compared."""
_HALVINGS = 40


def compute(seed: int) -> Numbers:
    """budget, kl_step (nats per action) of the first iteration; the rest after 15 iterations.

    gain_natural, gain_plain: J along the exact gradient at kl_equal nats per path; noisy_*: along that of 64
    walks. promised, kept: gain of the surrogate and of J for a natural step of 0.5 nats per action.
    """
    learner = learner_of(6, seed)
    found: Numbers = {"budget": learner.settings.budget, "kl_equal": _equal(learner), **_taken(learner)}
    for _ in range(TRAINED - 1):
        learner.step(exact=False)
    found |= {f"gain_{name}": gain for name, gain in _gains(learner, directions(learner)).items()}
    found |= {f"noisy_{name}": gain for name, gain in _gains(learner, _estimated(learner)).items()}
    long = at_kl(learner, directions(learner)["natural"], GREEDY * learner.terrain.horizon)
    kept = moved_return(learner, long) - returns(learner)
    return {**found, "promised": surrogate_gain(learner, long), "kept": kept}


def live(world: World) -> Numbers:
    """budget; after one iteration the mean KL it used; after 15 the gains of natural and plain steps."""
    learner = world.learner
    found = {"budget": world.settings.budget}
    if learner.iteration == 1:
        states = world.paths.states[:, :-1]
        with torch.no_grad():
            found["kl_step"] = float(mean_kl(learner.reference, learner.policy, states))
    if learner.iteration == TRAINED:
        gains = _gains(learner, directions(learner))
        found |= {f"gain_{name}": gain for name, gain in gains.items()}
    return found


def surrogate_gain(learner: Learner, policy: GaussianPolicy) -> float:
    """sum_t E_{rho_t of the old} E_{a of the new} A_t(s, a): what the old policy's advantages promise.

    Exact, reward units per path. Source: Kakade and Langford 2002; Schulman et al. 2015, equation 3.
    """
    measures, old, ground = learner.measures, learner.policy, learner.terrain
    layer = learner.settings.layer
    values = measures.values(old, layer, learner.gamma)
    visits = occupancy(ground, measures.operator(old), measures.grid)
    step, reward = measures.operator(policy), altitude(ground, measures.grid, layer)
    return sum(
        float((visits[t] * (step.apply(reward + learner.gamma * values[t + 1]) - values[t])).sum())
        for t in range(ground.horizon)
    )


def _taken(learner: Learner) -> Numbers:
    """One iteration of TRPO: the mean KL it used."""
    old = learner.policy.copy()
    done = learner.step(exact=False)
    with torch.no_grad():
        return {"kl_step": float(mean_kl(old, learner.policy, done.paths.states[:, :-1]))}


def _equal(learner: Learner) -> float:
    """The KL at which steps are compared: the lesson's budget, summed over a walk. Nats per path."""
    return float(load(6).settings["budget"]) * learner.terrain.horizon


def directions(learner: Learner) -> dict[str, Tensor]:
    """The exact gradient, and the natural one with the Fisher matrix of the next iteration's walks."""
    settings = learner.settings
    exact = learner.measures.gradient(learner.policy, settings.layer, learner.gamma, settings.beta)
    return _both(learner, exact)


def _estimated(learner: Learner) -> dict[str, Tensor]:
    """The same with the gradient that those walks give."""
    return _both(learner, gradient_of(learner.policy, learner.batch(learner.walk()), learner.objective))


def _both(learner: Learner, gradient: Tensor) -> dict[str, Tensor]:
    unit = gradient / gradient.norm()
    natural, _ = natural_direction(learner.policy, unit, learner.walk().states[:, :-1])
    return {"natural": natural, "plain": unit}


def _gains(learner: Learner, along: dict[str, Tensor]) -> Numbers:
    """Exact gain of a step of `_equal` nats along each direction. Reward units."""
    before = returns(learner)
    return {
        name: moved_return(learner, at_kl(learner, direction, _equal(learner))) - before
        for name, direction in along.items()
    }


def at_kl(learner: Learner, direction: Tensor, nats: float) -> GaussianPolicy:
    """The policy along a direction whose paths are `nats` away from the learner's: by bisection."""
    old, start = learner.policy, learner.policy.flat()
    unit = direction / direction.norm()
    low, high = 0.0, 0.1
    while moved_kl(learner, moved(old, start + high * unit), old) < nats:
        low, high = high, 2 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (
            (middle, high)
            if moved_kl(learner, moved(old, start + middle * unit), old) < nats
            else (low, middle)
        )
        if high - low < 1e-4 * high:
            break
    return moved(old, start + high * unit)
