"""Instruction tuning: next-token loss on what the assistant says."""

from __future__ import annotations

import math
from typing import Any

from ridgeline.data.formats import Instruction, instructions
from ridgeline.data.order import batch_indices
from ridgeline.data.sources import iter_rows
from ridgeline.data.split import holdout
from ridgeline.data.supervised import SupervisedData, build
from ridgeline.models.forward import PolicyForward
from ridgeline.models.load import LanguageModel
from ridgeline.schema.run_folder import Metrics, read_lines
from ridgeline.schema.stages import SftStage
from ridgeline.stages.context import StageContext, ends
from ridgeline.training.local import LocalEngine
from ridgeline.training.loop import StepPlan, Update
from ridgeline.training.next_token import NextToken


def run(context: StageContext, config: SftStage) -> dict[str, Any]:
    """Train, save the model, report held-out loss before and after (nats per trained token; None
    without held-out rows)."""
    model = context.language_model(config.model)
    train_set, heldout_set = _datasets(context, config, model)
    engine = LocalEngine(context.device)
    context.add_policy(
        engine,
        "policy",
        model,
        config.work,
        forward=PolicyForward(),
        optimiser=config.optimiser,
        adapter=config.adapter,
        longest=config.max_length,
    )
    context.train(engine, SftJob(config, engine, train_set, heldout_set, context.seed))
    context.save_model(model)
    before, after = ends(read_lines(context.folder.evaluations))
    return {
        "rows": len(train_set.rows),
        "trained_tokens": train_set.trained_tokens,
        "heldout_rows": len(heldout_set.rows),
        "dropped": train_set.dropped,
        "truncated": train_set.truncated,
        "heldout_nll_before": before.get("nll"),
        "heldout_nll_after": after.get("nll"),
    }


def _datasets(
    context: StageContext, config: SftStage, model: LanguageModel
) -> tuple[SupervisedData, SupervisedData]:
    context.observer.phase("preparing data")
    rows = instructions(iter_rows(config.data), config.data)
    if isinstance(config.heldout, str):
        heldout = instructions(iter_rows(config.heldout), config.heldout)
    else:
        rows, heldout = holdout(rows, config.heldout, _first_words, context.seed)
    sets = [
        build(
            part,
            model.tokenizer,
            train_on=config.train_on,
            max_length=config.max_length,
            overlong=config.overlong,
        )
        if part
        else SupervisedData()  # heldout = 0
        for part in (rows, heldout)
    ]
    for dataset in sets:
        for reason, count in dataset.dropped.items():
            context.warn(f"{count} rows dropped: {reason}")
        if dataset.truncated:
            context.warn(f"{dataset.truncated} rows cut to {config.max_length} tokens")
    return sets[0], sets[1]


def _first_words(row: Instruction) -> str:
    """Rows with the same first user turn stay on one side of the split."""
    return next(message.content for message in row.messages if message.role == "user")


class SftJob:
    """Batches of rows as a pure function of (seed, step)."""

    def __init__(
        self,
        config: SftStage,
        engine: LocalEngine,
        train_set: SupervisedData,
        heldout_set: SupervisedData,
        seed: int,
    ) -> None:
        self.config = config
        self.engine = engine
        self.units = [[row] for row in train_set.rows]
        self.heldout = [[row] for row in heldout_set.rows]
        self.seed = seed
        self.steps = max(1, math.ceil(config.epochs * len(self.units) / config.rows_per_step))
        self.evaluate_every = config.evaluate_every
        self.checkpoint_every = config.checkpoint_every

    def plan(self, step: int) -> StepPlan:
        chosen = batch_indices(len(self.units), self.config.rows_per_step, step, self.seed)
        units = [self.units[index] for index in chosen]
        return StepPlan([Update("policy", units, NextToken(self.config.loss), self.config.optimiser)])

    def evaluate(self, step: int) -> dict[str, Any]:
        if not self.heldout:
            return {}
        scores = self.engine.score("policy", self.heldout)
        tokens = sum(len(score["logp"]) for score in scores)
        total = -sum(float(score["logp"].astype("float64").sum()) for score in scores)
        return {"nll": total / tokens, "tokens": tokens}

    def after_step(self, step: int, metrics: Metrics) -> None: ...

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> None: ...
