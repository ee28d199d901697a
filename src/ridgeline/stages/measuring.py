"""What is measured on held-out completions, the same in every stage: rewards, KL, length, stop share."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from ridgeline.models.batch import completion_row
from ridgeline.objectives.kl import k1, k3
from ridgeline.schema.records import Sample
from ridgeline.stages.recording import Key, key_of
from ridgeline.statistics.intervals import clustered_mean_interval, clustered_share_interval
from ridgeline.training.engine import RowScores
from ridgeline.training.local import LocalEngine


def measurements(
    engine: LocalEngine,
    role: str,
    samples: Sequence[Sample],
    reference: str = "reference",
    save: Callable[[Mapping[Key, RowScores]], None] | None = None,
) -> dict[str, dict[str, Any]]:
    """Means with 95 % intervals over prompts, by name.

    ``kl_k1`` and ``kl_k3`` are nats per completion, estimated on the samples of ``role``; ``length`` counts
    tokens; ``stopped`` and rewards that are only ever 0 or 1 are shares. A reward nobody has is left out.
    ``save`` is given what both roles say about every sample, under the names of traces.
    """
    units = [
        [completion_row(sample.prompt_ids, sample.completion_ids) for sample in group]
        for _, group in itertools.groupby(samples, key=lambda sample: sample.prompt_id)
    ]
    own, compared = engine.score(role, units), engine.score(reference, units)
    if save is not None:
        save(_known(samples, own, compared))
    pairs = [
        (torch.from_numpy(new["logp"]), torch.from_numpy(ref["logp"]))
        for new, ref in zip(own, compared, strict=True)
    ]
    values: dict[str, list[float | None]] = {
        "kl_k1": [float(k1(new, ref).sum()) for new, ref in pairs],
        "kl_k3": [float(k3(new, ref).sum()) for new, ref in pairs],
        "length": [float(len(sample.completion_ids)) for sample in samples],
        "stopped": [float(not sample.truncated) for sample in samples],
    }
    for name in samples[0].rewards:
        values[f"reward/{name}"] = [sample.rewards[name] for sample in samples]
    return _intervals(values, [sample.prompt_id for sample in samples])


def _known(
    samples: Sequence[Sample], own: Sequence[RowScores], compared: Sequence[RowScores]
) -> dict[Key, RowScores]:
    known = {}
    for sample, new, ref in zip(samples, own, compared, strict=True):
        scores = {"old_logp": new["logp"], "ref_logp": ref["logp"]}
        scores |= {"entropy": new["entropy"]} if "entropy" in new else {}
        scores |= {"states": ref["states"]} if "states" in ref else {}
        known[key_of(sample)] = scores
    return known


def _intervals(
    values: Mapping[str, Sequence[float | None]], prompts: Sequence[str]
) -> dict[str, dict[str, Any]]:
    report = {}
    for name, numbers in values.items():
        known = [(value, prompt) for value, prompt in zip(numbers, prompts, strict=True) if value is not None]
        if not known:
            continue
        may_be_share = name == "stopped" or name.startswith("reward/")
        shares = may_be_share and all(value in (0.0, 1.0) for value, _ in known)
        interval = clustered_share_interval if shares else clustered_mean_interval
        report[name] = interval([value for value, _ in known], [prompt for _, prompt in known]).as_dict()
    return report
