"""The steps of policy optimisation as the loop sees them: one rollout, then its optimizer steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ridgeline.data.order import batch_indices
from ridgeline.models.batch import Unit, pack_units, unpack_units
from ridgeline.objectives.axes import PolicyObjective
from ridgeline.objectives.controllers import AdaptiveEntropy
from ridgeline.objectives.kl import AdaptiveCoefficient
from ridgeline.schema.run_folder import Metrics, mean
from ridgeline.schema.stages import RlStage
from ridgeline.stages.rollouts import Collector
from ridgeline.training.loop import StepPlan, Update
from ridgeline.training.next_token import NextToken
from ridgeline.training.policy_gradient import PolicyGradient, ValueRegression


class RlJob:
    """A rollout serves ``updates_per_rollout * epochs_per_rollout`` steps of the loop, one update each.

    ``repeat`` rounds of ``config.steps`` rollouts follow one another; ``pretraining`` holds the rows of a
    pretraining mix, a unit each.
    """

    def __init__(
        self,
        config: RlStage,
        objective: PolicyObjective,
        collector: Collector,
        pretraining: Sequence[Unit] = (),
    ) -> None:
        self.config = config
        self.objective = objective
        self.collector = collector
        self.pretraining = pretraining
        self.per_rollout = config.updates_per_rollout * config.epochs_per_rollout
        self.steps = config.repeat * config.steps * self.per_rollout
        self.evaluate_every = config.evaluate_every * self.per_rollout
        self.checkpoint_every = config.checkpoint_every
        self.units: list[Unit] = []
        self.signal: list[bool] = []
        target = config.kl.target if config.kl is not None else None
        self.adaptive = None if target is None else AdaptiveCoefficient(objective.kl_coefficient, target)
        self.entropy = None if config.entropy is None else AdaptiveEntropy(**config.entropy.model_dump())

    @property
    def kl_coefficient(self) -> float:
        return self.objective.kl_coefficient if self.adaptive is None else self.adaptive.value

    @property
    def entropy_coefficient(self) -> float:
        return self.objective.entropy_coefficient if self.entropy is None else self.entropy.value

    def plan(self, step: int) -> StepPlan:
        rollout, part = divmod(step, self.per_rollout)
        metrics: Metrics = {}
        if part == 0:
            if rollout > 0 and rollout % self.config.steps == 0:
                self.collector.engine.copy_weights("policy", "reference")
            collected = self.collector.collect(
                rollout, kl_coefficient=self.kl_coefficient, reused=self.per_rollout > 1
            )
            self.units, self.signal, metrics = collected.units, collected.signal, collected.metrics
            metrics["kl_coefficient"] = (self.kl_coefficient, 1.0)
            if self.config.repeat > 1:
                metrics["round"] = (float(rollout // self.config.steps), 1.0)
        if self.entropy is not None:
            metrics["entropy_coefficient"] = (self.entropy_coefficient, 1.0)
        chosen = range(
            part % self.config.updates_per_rollout, len(self.units), self.config.updates_per_rollout
        )
        return StepPlan(self._updates(step, list(chosen), metrics), metrics)

    def _updates(self, step: int, chosen: list[int], metrics: Metrics) -> list[Update]:
        units = [self.units[index] for index in chosen]
        updates = []
        if self.objective.needs_critic:
            regression = ValueRegression(
                coefficient=self.objective.value_coefficient, clip=self.objective.value_clip
            )
            updates.append(Update("critic", units, regression, self.config.critic.optimiser))
            if step // self.per_rollout < self.config.critic.warmup:
                return updates
        learns = self._has_gradient(chosen)
        metrics["skipped"] = (float(not learns), 1.0)
        if learns:
            gradient = PolicyGradient(
                self.objective,
                kl_coefficient=self.kl_coefficient,
                entropy_coefficient=self.entropy_coefficient,
            )
            updates.append(Update("policy", units, gradient, self.config.optimiser, self._mixed_in(step)))
        return updates

    def _has_gradient(self, chosen: Sequence[int]) -> bool:
        """Without any signal the gradient is zero, but Adam's momentum would still move the weights."""
        if self.pretraining:
            return True
        in_loss = self.objective.kl_placement == "loss" and self.kl_coefficient > 0
        moved = self.per_rollout > 1 or self.objective.anchor == "reference"
        regresses = self.objective.bounding == "regression" and moved
        # These pull on every completion, whatever its advantage.
        always = in_loss or self.entropy_coefficient > 0 or regresses
        imitates = self.objective.positive_nll > 0 and any(
            row.values["positive"] for index in chosen for row in self.units[index]
        )
        return bool(chosen) and (always or imitates or any(self.signal[index] for index in chosen))

    def _mixed_in(self, step: int) -> list[tuple[list[Unit], NextToken]]:
        mix = self.config.pretrain
        if mix is None:
            return []
        rows = batch_indices(len(self.pretraining), mix.rows_per_step, step, self.collector.seed ^ 1)
        objective = NextToken(name="pretrain", coefficient=mix.coefficient)
        return [([self.pretraining[row] for row in rows], objective)]

    def evaluate(self, step: int) -> dict[str, Any]:
        return self.collector.evaluate(step // self.per_rollout)

    def after_step(self, step: int, metrics: Metrics) -> None:
        if self.adaptive is not None and "kl_k1" in metrics:
            self.adaptive.update(mean(metrics["kl_k1"]))
        if self.entropy is not None and "entropy" in metrics:
            self.entropy.update(mean(metrics["entropy"]))

    def state(self) -> dict[str, Any]:
        """The rollout buffer matters in the middle of a rollout; between rollouts it is replaced anyway."""
        return {
            "units": pack_units(self.units),
            "signal": self.signal,
            "adaptive": None if self.adaptive is None else self.adaptive.state_dict(),
            "entropy": None if self.entropy is None else self.entropy.state_dict(),
            "prompts_drawn": self.collector.prompts.drawn,
            "versions": self.collector.engine.versions(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.units = unpack_units(state["units"])
        self.signal = state["signal"]
        self.collector.prompts.drawn = state["prompts_drawn"]
        self.collector.engine.set_versions(state["versions"])
        if self.adaptive is not None:
            self.adaptive.load_state_dict(state["adaptive"])
        if self.entropy is not None:
            self.entropy.load_state_dict(state["entropy"])
