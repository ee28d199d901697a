"""What a round tells about its pool and its reward: was there a choice, was it informed, what did it give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ridgeline.rewards.combine import TOTAL
from ridgeline.schema.records import Sample
from ridgeline.schema.stages.reject import RejectStage
from ridgeline.stages.heldout import differences
from ridgeline.stages.rejecting import Round
from ridgeline.statistics.best_of_n import argmax_hits, best_of_n, decidable, kl_of_best_of_n
from ridgeline.statistics.inputs import Floats
from ridgeline.statistics.intervals import (
    Estimate,
    clustered_mean_interval,
    clustered_share_interval,
    mean_interval,
)
from ridgeline.statistics.paired import paired_difference

BINS = 20


def describe(made: Round, config: RejectStage, truth: str) -> dict[str, Any]:
    """Everything that is reported of a round; ``truth`` names the reward by which completions are good.

    ``rewards``: means over the pool and over what was selected, and the difference paired by prompt.
    ``best_of_n``: what the best of n by reward is expected to have, beside the bound of its KL (nats).
    ``decidable``: the share of prompts with good and bad completions, and how often the best by reward is
    good there, beside a random choice. Prompts with a completion that has no value are left out of both.
    """
    selected = {sample.prompt_id for sample in made.selected}
    report: dict[str, Any] = {
        "round": made.number + 1,
        "samples": len(made.pool),
        "selected": len(made.selected),
        "control": len(made.control),
        "prompts": len(made.rewards_PG),
        "selected_prompts": len(selected),
        "left_out": made.left_out,
        "rewards": _rewards(made),
    }
    values = {name: _matrix(made.pool, name, config) for name in made.pool[0].rewards}
    if config.samples_per_prompt > 1:
        report["best_of_n"] = _curves(values)
    cut = _cut(values[truth], config)
    if cut is not None:
        report["decidable"] = {
            "reward": truth,
            "good_from": cut,
            **_decidable(values[TOTAL], values[truth] >= cut),
        }
    report["histogram"] = _histogram(made, None if cut is None else (truth, cut))
    return report


def _matrix(pool: Sequence[Sample], name: str, config: RejectStage) -> Floats:
    """Values ``[prompts, samples]``; nan where there is none."""
    values = [np.nan if (value := sample.rewards[name]) is None else value for sample in pool]
    return np.array(values, dtype=np.float64).reshape(-1, config.samples_per_prompt)


def _rewards(made: Round) -> dict[str, dict[str, Any]]:
    gains = differences(made.pool, made.selected) if made.selected else {}
    report = {}
    for name in made.pool[0].rewards:
        parts = {"pool": made.pool, "selected": made.selected, "control": made.control}
        means = {part: mean for part, samples in parts.items() if (mean := _mean(samples, name)) is not None}
        gain = gains.get(f"reward/{name}")
        report[name] = means | ({} if gain is None else {"gain": gain})
    return report


def _mean(samples: Sequence[Sample], name: str) -> dict[str, Any] | None:
    known = [(v, s.prompt_id) for s in samples if (v := s.rewards[name]) is not None]
    if not known:
        return None
    shares = all(value in (0.0, 1.0) for value, _ in known)
    interval = clustered_share_interval if shares else clustered_mean_interval
    return interval([value for value, _ in known], [prompt for _, prompt in known]).as_dict()


def _curves(values: Mapping[str, Floats]) -> dict[str, Any]:
    """Expected value of the best of n by the total reward, for n = 1..N, by name of what is read off it."""
    samples = values[TOTAL].shape[1]
    numbers = range(1, samples + 1)
    curves: dict[str, Any] = {"n": list(numbers), "kl_bound": [kl_of_best_of_n(n) for n in numbers]}
    for name, values_PG in values.items():
        whole_P = ~np.isnan(values[TOTAL] + values_PG).any(axis=1)
        if whole_P.any():
            rewards, read = values[TOTAL][whole_P], values_PG[whole_P]
            shares = bool(np.isin(read, (0.0, 1.0)).all())
            curves[name] = [_interval(best_of_n(rewards, n, read), shares).as_dict() for n in numbers]
    return curves


def _interval(means_P: Floats, shares: bool) -> Estimate:
    # What is 1 on paper may be a rounding error below it, which is not a spread between prompts.
    return clustered_share_interval(means_P.round(12)) if shares else mean_interval(means_P)


def _cut(values_PG: Floats, config: RejectStage) -> float | None:
    """From where on a completion is good; None where that is not defined."""
    if config.good_from is not None:
        return config.good_from
    if not config.monitor and config.threshold is not None:
        return config.threshold
    known = values_PG[~np.isnan(values_PG)]
    return 1.0 if len(known) and np.isin(known, (0.0, 1.0)).all() else None


def _decidable(rewards_PG: Floats, good_PG: Any) -> dict[str, Any]:
    whole_P = ~np.isnan(rewards_PG).any(axis=1)
    if not whole_P.any():
        return {}
    rewards, good = rewards_PG[whole_P], good_PG[whole_P].astype(np.float64)
    report: dict[str, Any] = {
        "fraction": clustered_share_interval(decidable(good)).as_dict(),
        "good": clustered_share_interval(good).as_dict(),
    }
    hits = argmax_hits(rewards, good)
    if len(hits.hit_D):
        report["hit_rate"] = clustered_share_interval(hits.hit_D).as_dict()
        report["chance"] = clustered_share_interval(hits.chance_D).as_dict()
        report["gain"] = paired_difference(hits.chance_D, hits.hit_D).as_dict()
    return report


def _histogram(made: Round, good: tuple[str, float] | None) -> dict[str, Any]:
    """Counts of the total reward: of the pool, what was selected and, where it is known, what is good."""
    parts = {"pool": made.pool, "selected": made.selected, "control": made.control}
    if good is not None:
        name, cut = good
        rated = [(s, v) for s in made.pool if (v := s.rewards[name]) is not None]
        parts["good"] = [sample for sample, value in rated if value >= cut]
        parts["bad"] = [sample for sample, value in rated if value < cut]
    known = {
        part: [value for sample in samples if (value := sample.rewards[TOTAL]) is not None]
        for part, samples in parts.items()
    }
    edges = np.histogram_bin_edges([*known["pool"], *known["control"]], bins=BINS)
    counts = {part: np.histogram(values, edges)[0].tolist() for part, values in known.items() if values}
    return {"edges": edges.tolist(), **counts}
