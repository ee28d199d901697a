"""Lesson 11: gold while the ground learned from so many judged pairs is optimised."""

from __future__ import annotations

from ridgeline.landscape.lessons.annotator import Annotator
from ridgeline.landscape.lessons.lesson import load
from ridgeline.landscape.lessons.numbers.setup import Numbers, learner_of, reference_of, returns
from ridgeline.landscape.world.live import World
from ridgeline.landscape.world.terrain_file import load_terrain

COUNTS = (30, 300, 1000)
ITERATIONS = 60
EVERY = 4


def compute(seed: int) -> Numbers:
    """For 30, 300 and 1,000 simulated pairs: agreement_N, gold_peak_N, gold_end_N. Without N: of 30."""
    found: Numbers = {"pairs": float(COUNTS[0])}
    for count in COUNTS:
        found |= {f"{name}_{count}": value for name, value in learned(seed, count, 0.0).items()}
    return {
        **found,
        **{name: found[f"{name}_{COUNTS[0]}"] for name in ("agreement", "gold_peak", "gold_end")},
    }


def learned(seed: int, count: int, noise: float) -> Numbers:
    """agreement, gold_peak and gold_end for one number of simulated pairs, a share `noise` of them wrong."""
    gold = load_terrain(load(11).terrain)
    annotator = Annotator(gold, reference_of(gold, seed), seed)
    annotator.simulate(count, noise)
    learner = learner_of(11, seed, terrain=annotator.ground(gold))
    golds = [returns(learner)]
    for number in range(1, ITERATIONS + 1):
        learner.step(exact=False)
        if number % EVERY == 0:
            golds.append(returns(learner))
    return {
        "agreement": annotator.numbers()["agreement"],
        "gold_peak": max(golds),
        "gold_end": golds[-1],
    }


def live(world: World) -> Numbers:
    """Peak of the history and gold return now; pairs and agreement are the annotator's to say."""
    golds = [entry["scalars"]["return_gold"] for entry in world.history]
    now = returns(world.learner)
    return {"gold_peak": max([*golds, now]), "gold_end": now}
