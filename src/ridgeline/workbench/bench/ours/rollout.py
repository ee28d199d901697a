"""A rollout: completions of forced lengths, with their log-probs."""

from __future__ import annotations

import math
from typing import Any

from ridgeline.rollout.request import PromptRequest
from ridgeline.schema.records import Sample
from ridgeline.schema.stages.common import Sampling
from ridgeline.workbench.bench.ours.lengths import force_lengths
from ridgeline.workbench.bench.ours.setup import Bench
from ridgeline.workbench.bench.sides.record import Record


def rollout(bench: Bench, workload: dict[str, Any], record: Record) -> None:
    """Sample every batch; a step is a batch."""
    sampler, note = bench.sampler(stop_ids=[])
    slots = workload["sizes"]["batch"]
    if hasattr(sampler, "slots"):
        sampler.slots = slots
    else:
        sampler.rows = slots  # type: ignore[attr-defined]
    record.settings = {"sampler": note, "batch": slots, "log-probs": "recorded"}
    made: list[int] = []
    prompts = 0
    record.begin()
    for step, batch in enumerate(workload["batches"]):
        requests = [
            PromptRequest(str(number), ids, batch["samples"]) for number, ids in enumerate(batch["prompts"])
        ]
        wanted = batch["lengths"]
        with force_lengths(sampler, requests, wanted):
            sampling = Sampling(max_new_tokens=max(wanted))
            samples = sampler(requests, sampling, seed=workload["seed"], step=step)
        record.end(sum(len(sample.completion_ids) for sample in samples))
        check_logprobs(samples)
        made += [len(sample.completion_ids) for sample in samples]
        prompts += sum(len(sample.prompt_ids) for sample in samples)
    record.checks = {"prompt tokens": prompts, "lengths": made}


def check_logprobs(samples: list[Sample]) -> None:
    """Each token has one, finite and not above 0.

    Raises:
        RuntimeError: some do not.
    """
    for sample in samples:
        fits = len(sample.logprobs) == len(sample.completion_ids)
        if not fits or not all(math.isfinite(logp) and logp <= 1e-3 for logp in sample.logprobs):
            raise RuntimeError(f"log-probs of prompt {sample.prompt_id} are missing or impossible")
