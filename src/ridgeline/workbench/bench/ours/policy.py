"""One whole GRPO step: sample, reward, reference, forward and backward, optimizer step, publish."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ridgeline.models.batch import completion_row
from ridgeline.models.forward import PolicyForward
from ridgeline.objectives.presets import PRESETS
from ridgeline.rollout.request import PromptRequest
from ridgeline.schema.stages.common import Sampling
from ridgeline.training.advantages import assign_advantages
from ridgeline.training.local import LocalEngine
from ridgeline.training.policy_gradient import PolicyGradient
from ridgeline.workbench.bench.ours.rollout import check_logprobs
from ridgeline.workbench.bench.ours.setup import LEARNING_RATE, Bench
from ridgeline.workbench.bench.sides.record import Record

BETA = 0.04


def grpo(bench: Bench, workload: dict[str, Any], record: Record) -> None:
    """A step for every batch of prompts, as the stage ``rl`` takes it."""
    sampler, note = bench.sampler(stop_ids=[])
    engine = bench.learner(forward=PolicyForward(entropy=True), sampler=sampler)
    bench.add_reference(engine)
    record.settings = {"sampler": note, "beta": BETA}
    record.checks = {"rows": 0, "scored tokens": 0, "prompt tokens": 0}
    record.begin()
    for step, batch in enumerate(workload["batches"]):
        tokens = _step(engine, workload, batch["prompts"], step, record)
        record.end(tokens)


def _step(
    engine: LocalEngine, workload: dict[str, Any], prompts: list[dict[str, Any]], step: int, record: Record
) -> int:
    sizes = workload["sizes"]
    requests = [
        PromptRequest(str(number), prompt["ids"], sizes["samples"]) for number, prompt in enumerate(prompts)
    ]
    with _part(record, "sample"):
        sampling = Sampling(max_new_tokens=sizes["new_tokens"])
        samples = engine.sample("policy", requests, sampling, seed=workload["seed"], step=step)
    check_logprobs(samples)
    rewards_B = torch.tensor([sample.text.count("e") / max(1, len(sample.text)) for sample in samples])
    rows = [completion_row(sample.prompt_ids, sample.completion_ids) for sample in samples]
    units = [rows[start : start + sizes["samples"]] for start in range(0, len(rows), sizes["samples"])]
    with _part(record, "reference"):
        known = engine.score("reference", units)
    for row, sample, scores in zip(rows, samples, known, strict=True):
        row.fields["sampler_logp"] = np.asarray(sample.logprobs, dtype=np.float32)
        row.fields["ref_logp"] = scores["logp"]
    objective = replace(PRESETS["grpo"], kl_coefficient=BETA, kl_placement="loss", kl_estimator="k3")
    assign_advantages(rows, rewards_B.view(len(prompts), -1), objective, kl_coefficient=BETA)
    with _part(record, "forward and backward"):
        engine.forward_backward("policy", units, PolicyGradient(objective, kl_coefficient=BETA))
    with _part(record, "optimizer"):
        engine.step("policy", LEARNING_RATE)
        engine.publish("policy")
    tokens = sum(len(row.targets) for row in rows)
    record.checks["rows"] += len(rows)
    record.checks["scored tokens"] += tokens
    record.checks["prompt tokens"] += sum(len(sample.prompt_ids) for sample in samples)
    return tokens


@contextmanager
def _part(record: Record, name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    record.part(name, time.perf_counter() - start)
