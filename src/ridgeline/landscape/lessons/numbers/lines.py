"""The lines of lessons 6 and 12: return and KL along directions in parameter space, exact."""

from __future__ import annotations

import numpy as np

from ridgeline.landscape.lessons.numbers import ruler, trust_region
from ridgeline.landscape.lessons.numbers.setup import moved, moved_kl, moved_return, returns
from ridgeline.landscape.world.live import World

POINTS = 13

Lines = dict[str, np.ndarray]


def lines(number: int, world: World) -> Lines:
    """Blocks that lesson 6 or 12 shows beside the ground; none for the others.

    6: "line.natural", "line.plain" `[13, 3]`: KL of the step (nats a path), gain of J, gain of the surrogate
    (reward units), from the policy as it is up to the settings' budget.
    12: "line.random", "line.training", "line.spread" `[13, 3]`: signed length of the step, J, KL, from the
    reference.
    """
    return _LINES[number](world) if number in _LINES else {}


def _promises(world: World) -> Lines:
    learner = world.learner
    here, before = learner.policy.flat(), returns(learner, world.settings.layer)
    limit = world.settings.budget * world.terrain.horizon
    found = {}
    for name, direction in trust_region.directions(learner).items():
        whole = trust_region.at_kl(learner, direction, limit).flat() - here
        rows = []
        for share in np.linspace(0.0, 1.0, POINTS):
            policy = moved(learner.policy, here + share * whole)
            gain = moved_return(learner, policy) - before
            rows.append(
                [
                    moved_kl(learner, policy, learner.policy),
                    gain,
                    trust_region.surrogate_gain(learner, policy),
                ]
            )
        found[f"line.{name}"] = np.array(rows, dtype=np.float32)
    return found


def _directions(world: World) -> Lines:
    learner = world.learner
    reference = learner.reference
    found = {}
    for name, direction in ruler.directions(
        ruler.trail(world.seed)[-1] - reference.flat(), world.seed
    ).items():
        rows = []
        for length in np.linspace(-ruler.NORM, ruler.NORM, POINTS):
            policy = moved(reference, reference.flat() + length * direction)
            rows.append([length, moved_return(learner, policy), moved_kl(learner, policy, reference)])
        found[f"line.{name}"] = np.array(rows, dtype=np.float32)
    return found


_LINES = {6: _promises, 12: _directions}
