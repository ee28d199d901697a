"""Lesson 6: a step within a budget, natural against plain at equal exact KL, and promise against truth."""

from __future__ import annotations

import torch
from torch import Tensor

from ridgeline.landscape.lessons.numbers.setup import Numbers, learner_of, returns
from ridgeline.landscape.world.exact import altitude, occupancy, trajectory_kl
from ridgeline.landscape.world.learning import Learner
from ridgeline.landscape.world.live import World
from ridgeline.landscape.world.policy import GaussianPolicy
from ridgeline.landscape.world.trust_region import mean_kl, natural_direction
from ridgeline.landscape.world.updates import gradient_of

GREEDY = 0.5
"""The budget that is too large, nats per action."""
_HALVINGS = 40


def compute(seed: int) -> Numbers:
    """budget, kl_step (nats per action); gain_natural, gain_plain at kl_equal nats per path; promised, kept."""
    learner = learner_of(6, seed)
    budget = learner.settings.budget
    paths = learner.walk()
    states = paths.states[:, :-1]
    gradient = gradient_of(learner.policy, learner.batch(paths), learner.objective)
    natural, _ = natural_direction(learner.policy, gradient, states)
    target = budget * learner.terrain.horizon
    start = returns(learner)
    found: Numbers = {"budget": budget, "kl_equal": target, "greedy": GREEDY}
    for name, direction in (("natural", natural), ("plain", gradient)):
        found[f"gain_{name}"] = _value(learner, _at_kl(learner, direction, target)) - start
    long = _at_kl(learner, natural, GREEDY * learner.terrain.horizon)
    found |= {"promised": surrogate_gain(learner, long), "kept": _value(learner, long) - start}
    found |= _taken(learner, states)
    greedy = learner_of(6, seed, budget=GREEDY)
    trials = greedy.step(exact=False).update.trials
    found["rejected"] = float(sum(not trial.taken for trial in trials))
    return found


def live(world: World) -> Numbers:
    """budget, and the mean KL of the step once one was taken from the reference. Nats per action."""
    found = {"budget": world.settings.budget}
    if world.learner.iteration == 1 and world.settings.algorithm == "trpo":
        states = world.paths.states[:, :-1]
        with torch.no_grad():
            found["kl_step"] = float(mean_kl(world.learner.reference, world.learner.policy, states))
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


def _taken(learner: Learner, states: Tensor) -> Numbers:
    """One iteration of TRPO: the mean KL it used, and the exact return it gained."""
    old, before = learner.policy.copy(), returns(learner)
    learner.step(exact=False)
    with torch.no_grad():
        used = float(mean_kl(old, learner.policy, states))
    return {"kl_step": used, "gain_step": returns(learner) - before}


def _at_kl(learner: Learner, direction: Tensor, nats: float) -> GaussianPolicy:
    """The policy along a direction whose paths are `nats` away from the learner's: by bisection."""
    start = learner.policy.flat()
    unit = direction / direction.norm()
    low, high = 0.0, 0.1
    while _kl(learner, start + high * unit) < nats:
        low, high = high, 2 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _kl(learner, start + middle * unit) < nats else (low, middle)
        if high - low < 1e-4 * high:
            break
    return _moved(learner.policy, start + high * unit)


def _kl(learner: Learner, flat: Tensor) -> float:
    measures = learner.measures
    moved = _moved(learner.policy, flat)
    return trajectory_kl(learner.terrain, measures.operator(moved), learner.policy, measures.grid)


def _value(learner: Learner, policy: GaussianPolicy) -> float:
    return learner.measures.expected_return(policy, learner.settings.layer, learner.gamma)


def _moved(policy: GaussianPolicy, flat: Tensor) -> GaussianPolicy:
    moved = policy.copy()
    moved.assign(flat)
    return moved
