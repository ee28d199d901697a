"""The batches of a reward model, and what the loop measures on the way."""

from __future__ import annotations

import math
from typing import Any

from ridgeline.data.order import batch_indices
from ridgeline.models.score_heads import HeadKind
from ridgeline.schema.run_folder import Metrics
from ridgeline.schema.stages import RewardModelStage
from ridgeline.stages.reward_model_data import Judged
from ridgeline.stages.reward_model_reports import heldout_report
from ridgeline.training.local import LocalEngine
from ridgeline.training.loop import StepPlan, Update
from ridgeline.training.objective import Objective

ROLE = "reward"


class RewardModelJob:
    """Batches of units as a pure function of (seed, step)."""

    def __init__(
        self,
        config: RewardModelStage,
        engine: LocalEngine,
        objective: Objective,
        kind: HeadKind,
        train: Judged,
        heldout: Judged,
        seed: int,
    ) -> None:
        self.config = config
        self.engine = engine
        self.objective = objective
        self.kind = kind
        self.units = train.units
        self.heldout = heldout
        self.seed = seed
        self.per_step = min(config.pairs_per_step, len(self.units))
        self.steps = max(1, math.ceil(config.epochs * len(self.units) / self.per_step))
        self.evaluate_every = config.evaluate_every
        self.checkpoint_every = config.checkpoint_every

    def plan(self, step: int) -> StepPlan:
        chosen = batch_indices(len(self.units), self.per_step, step, self.seed)
        units = [self.units[index] for index in chosen]
        return StepPlan([Update(ROLE, units, self.objective, self.config.optimiser)])

    def evaluate(self, step: int) -> dict[str, Any]:
        if not self.heldout.units:
            return {}
        return heldout_report(self.heldout, self.engine.score(ROLE, self.heldout.units), self.kind)

    def after_step(self, step: int, metrics: Metrics) -> None: ...

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> None: ...
