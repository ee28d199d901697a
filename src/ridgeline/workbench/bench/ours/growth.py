"""Seconds of a rollout and of a training step as one size grows and the others stay."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ridgeline.models.batch import completion_row
from ridgeline.rollout.request import PromptRequest
from ridgeline.schema.stages.common import Sampling
from ridgeline.training.next_token import NextToken
from ridgeline.workbench.bench.ours.setup import LEARNING_RATE, Bench
from ridgeline.workbench.bench.sides.record import Record


def growth(bench: Bench, workload: dict[str, Any], record: Record) -> None:
    """Every point of the workload, ``repeats`` times; the parts of the record hold their seconds by name."""
    sampler, note = bench.sampler(stop_ids=[])
    engine = bench.learner(sampler=sampler)
    record.settings = {"sampler": note}
    vocabulary = int(bench.model.module.config.vocab_size)
    draw = np.random.default_rng(workload["seed"])

    def tokens(count: int) -> list[int]:
        found: list[int] = draw.integers(3, vocabulary, count).tolist()
        return found

    def rollout(point: dict[str, int]) -> None:
        requests = [
            PromptRequest(str(number), tokens(point["prompt tokens"]), point["group"])
            for number in range(point["prompts"])
        ]
        engine.sample("policy", requests, Sampling(max_new_tokens=point["new tokens"]), seed=1, step=0)

    def learn(point: dict[str, int]) -> None:
        units = []
        for _ in range(point["prompts"]):
            prompt = tokens(point["prompt tokens"])
            units.append([completion_row(prompt, tokens(point["new tokens"])) for _ in range(point["group"])])
        engine.forward_backward("policy", units, NextToken())
        engine.step("policy", LEARNING_RATE)

    works: dict[str, Callable[[dict[str, int]], None]] = {"rollout": rollout, "training step": learn}
    record.begin()
    for point in workload["points"]:
        # Once untimed: a shape that is new costs what it costs once.
        for number in range(1 + workload["repeats"]):
            start = time.perf_counter()
            works[point["work"]](point["sizes"])
            if number:
                record.part(point["name"], time.perf_counter() - start)
    record.end()
    record.checks = {"parameters": sum(p.numel() for p in bench.model.module.parameters())}
