"""One optimizer step of SFT, of a reward model and of DPO."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ridgeline.models.batch import Unit, completion_row
from ridgeline.models.score_model import score_forward, score_model_from
from ridgeline.objectives.pair_axes import PairObjective, PairTerm
from ridgeline.training.local import LocalEngine
from ridgeline.training.next_token import NextToken
from ridgeline.training.objective import Objective
from ridgeline.training.pairwise import PairwiseRanking
from ridgeline.training.preference import PairwisePreference
from ridgeline.workbench.bench.ours.setup import LEARNING_RATE, Bench
from ridgeline.workbench.bench.sides.record import Record

DPO_BETA = 0.1


def sft(bench: Bench, workload: dict[str, Any], record: Record) -> None:
    """Rows whose completions are learned."""
    engine = bench.learner()
    steps = [
        [[completion_row(row["prompt"], row["completion"])] for row in batch["rows"]]
        for batch in workload["batches"]
    ]
    learn(engine, steps, NextToken(), record)


def reward(bench: Bench, workload: dict[str, Any], record: Record) -> None:
    """Pairs, on a model of scores with a given head; the whole backbone learns."""
    model = score_model_from(bench.model, layer=None, pooling="last", take=True)
    linear: Any = model.head.linear
    with torch.no_grad():
        linear.weight.copy_(torch.tensor(workload["head"])[None])
    # transformers' head has no bias, and a difference of two scores does not move it.
    linear.bias.requires_grad_(False)
    engine = bench.learner(model, score_forward)
    learn(engine, _pairs(workload), PairwiseRanking(), record)
    record.checks["scored tokens"] = record.checks["rows"]


def dpo(bench: Bench, workload: dict[str, Any], record: Record) -> None:
    """Pairs, compared with a frozen reference whose forward pass is part of every step."""
    engine = bench.learner()
    bench.add_reference(engine)

    def refer(units: Sequence[Unit]) -> None:
        start = time.perf_counter()
        rows = [row for unit in units for row in unit]
        for row, scores in zip(rows, engine.score("reference", units), strict=True):
            row.fields["ref_logp"] = scores["logp"]
        record.part("reference", time.perf_counter() - start)

    objective = PairObjective(terms=(PairTerm(loss="dpo", options={"beta": DPO_BETA}),))
    learn(engine, _pairs(workload), PairwisePreference(objective), record, before=refer)


def learn(
    engine: LocalEngine,
    steps: Sequence[Sequence[Unit]],
    objective: Objective,
    record: Record,
    before: Callable[[Sequence[Unit]], None] | None = None,
) -> None:
    """An optimizer step on each of ``steps``; ``before`` is part of it."""
    record.begin()
    for number, units in enumerate(steps):
        if before is not None:
            before(units)
        start = time.perf_counter()
        metrics = engine.forward_backward("policy", units, objective)
        middle = time.perf_counter()
        norm = engine.step("policy", LEARNING_RATE)
        record.part("forward and backward", middle - start)
        record.part("optimizer", time.perf_counter() - middle)
        record.end(sum(len(row) for unit in units for row in unit))
        if number == 0:
            losses = [total / count for name, (total, count) in metrics.items() if name.startswith("loss/")]
            record.checks |= {"loss": sum(losses), "gradient norm": norm}
    rows = [row for units in steps for unit in units for row in unit]
    record.checks |= {"rows": len(rows), "scored tokens": sum(len(row.targets) for row in rows)}


def _pairs(workload: dict[str, Any]) -> list[list[Unit]]:
    return [
        [
            [
                completion_row(pair["prompt"], pair["chosen"]),
                completion_row(pair["prompt"], pair["rejected"]),
            ]
            for pair in batch["pairs"]
        ]
        for batch in workload["batches"]
    ]
