"""Lesson 9: gold and proxy while the proxy is optimised: no leash, a leash, one put on too late."""

from __future__ import annotations

from ridgeline.landscape.lessons.numbers.setup import Numbers, learner_of, path_kl, returns
from ridgeline.landscape.world.learning import Learner
from ridgeline.landscape.world.live import World
from ridgeline.landscape.world.policy import GaussianPolicy

UNLEASHED, LEASHED, LATE = 60, 120, 60
LEASH, LATE_BETA = 0.45, 0.6
EVERY = 4


def compute(seed: int) -> Numbers:
    """TRPO at beta 0; PPO at beta 0.45 (leashed_); at 0.6, hacked before (late_) or not (early_).

    Returns in reward units, KL in nats per path, objectives of J_proxy - beta KL.
    """
    free = learner_of(9, seed)
    found = {"proxy_start": returns(free, "proxy"), "gold_start": returns(free)}
    golds = _train(free, UNLEASHED)
    found |= {"gold_peak": max(golds), "gold_end": golds[-1], "proxy_end": returns(free, "proxy")}
    found["kl_end"] = path_kl(free)
    leashed = _ppo(seed, LEASH)
    golds = _train(leashed, LEASHED)
    found |= {"leashed_peak": max(golds), "leashed_end": golds[-1], "leashed_kl": path_kl(leashed)}
    for name, start in (("late", free.policy), ("early", None)):
        learner = _ppo(seed, LATE_BETA, start)
        found[f"{name}_end"] = _train(learner, LATE)[-1]
        found[f"{name}_objective"] = returns(learner, "proxy") - LATE_BETA * path_kl(learner)
    return found


def live(world: World) -> Numbers:
    """Start, peak and end of what the history holds."""
    golds = [entry["scalars"]["return_gold"] for entry in world.history]
    learner = world.learner
    reference = learner.measures.expected_return(learner.reference, "gold", learner.gamma)
    start = learner.measures.expected_return(learner.reference, "proxy", learner.gamma)
    now = returns(learner)
    return {
        "gold_start": reference,
        "gold_peak": max([reference, *golds, now]),
        "gold_end": now,
        "proxy_start": start,
        "proxy_end": returns(learner, "proxy"),
        "kl_end": path_kl(learner),
    }


def _ppo(seed: int, beta: float, policy: GaussianPolicy | None = None) -> Learner:
    return learner_of(9, seed, policy=policy, algorithm="ppo", beta=beta)


def _train(learner: Learner, iterations: int) -> list[float]:
    """Gold return at the start and after every fourth iteration."""
    golds = [returns(learner)]
    for number in range(1, iterations + 1):
        learner.step(exact=False)
        if number % EVERY == 0 or number == iterations:
            golds.append(returns(learner))
    return golds
