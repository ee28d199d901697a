"""Lesson 8: return and KL under a short and a long leash, beside the exact optimum of J - beta KL."""

from __future__ import annotations

from ridgeline.landscape.lessons.numbers.setup import Numbers, learner_of, path_kl, returns
from ridgeline.landscape.world.live import World
from ridgeline.statistics.best_of_n import kl_of_best_of_n

SHORT, LONG = 2.0, 0.3
ITERATIONS = 60


def compute(seed: int) -> Numbers:
    """At beta 0.3: return, kl, objective, optimum; with _short at beta 2. kl_best_of_16 for scale."""
    found: Numbers = {"kl_best_of_16": kl_of_best_of_n(16)}
    for ending, beta in (("", LONG), ("_short", SHORT)):
        learner = learner_of(8, seed, beta=beta)
        for _ in range(ITERATIONS):
            learner.step(exact=False)
        best = learner.measures.optimum(beta, learner.settings.layer)
        numbers = _numbers(returns(learner), path_kl(learner), beta, best.objective)
        found |= {f"{name}{ending}": value for name, value in numbers.items()}
        found[f"optimum_return{ending}"], found[f"optimum_kl{ending}"] = best.return_, best.kl
    return found


def live(world: World) -> Numbers:
    """Of the policy as it is and the beta in force."""
    best, learner = world.best(), world.learner
    if best is None:
        return {}
    return _numbers(returns(learner), path_kl(learner), world.settings.beta, best["objective"])


def _numbers(gained: float, kl: float, beta: float, optimum: float) -> Numbers:
    return {
        "beta": beta,
        "return": gained,
        "kl": kl,
        "objective": gained - beta * kl,
        "optimum": optimum,
    }
