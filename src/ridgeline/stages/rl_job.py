"""The steps of policy optimisation as the loop sees them: one rollout, then its optimizer steps."""

from __future__ import annotations

from typing import Any

from ridgeline.models.batch import Unit, pack_units, unpack_units
from ridgeline.objectives.axes import PolicyObjective
from ridgeline.objectives.kl import AdaptiveCoefficient
from ridgeline.schema.run_folder import Metrics, mean
from ridgeline.schema.stages import RlStage
from ridgeline.stages.rollouts import Collector
from ridgeline.training.loop import StepPlan, Update
from ridgeline.training.policy_gradient import PolicyGradient, ValueRegression


class RlJob:
    """A rollout serves ``updates_per_rollout * epochs_per_rollout`` steps of the loop, one update each."""

    def __init__(self, config: RlStage, objective: PolicyObjective, collector: Collector) -> None:
        self.config = config
        self.objective = objective
        self.collector = collector
        self.per_rollout = config.updates_per_rollout * config.epochs_per_rollout
        self.steps = config.steps * self.per_rollout
        self.evaluate_every = config.evaluate_every * self.per_rollout
        self.checkpoint_every = config.checkpoint_every
        self.units: list[Unit] = []
        self.signal: list[bool] = []
        target = config.kl.target if config.kl is not None else None
        self.adaptive = None if target is None else AdaptiveCoefficient(objective.kl_coefficient, target)

    @property
    def kl_coefficient(self) -> float:
        return self.objective.kl_coefficient if self.adaptive is None else self.adaptive.value

    def plan(self, step: int) -> StepPlan:
        rollout, part = divmod(step, self.per_rollout)
        metrics: Metrics = {}
        if part == 0:
            collected = self.collector.collect(
                rollout, kl_coefficient=self.kl_coefficient, reused=self.per_rollout > 1
            )
            self.units, self.signal, metrics = collected.units, collected.signal, collected.metrics
            metrics["kl_coefficient"] = (self.kl_coefficient, 1.0)
        chosen = range(
            part % self.config.updates_per_rollout, len(self.units), self.config.updates_per_rollout
        )
        return StepPlan(self._updates(rollout, list(chosen), metrics), metrics)

    def _updates(self, rollout: int, chosen: list[int], metrics: Metrics) -> list[Update]:
        units = [self.units[index] for index in chosen]
        updates = []
        if self.objective.needs_critic:
            regression = ValueRegression(
                coefficient=self.objective.value_coefficient, clip=self.objective.value_clip
            )
            updates.append(Update("critic", units, regression, self.config.critic.optimiser))
            if rollout < self.config.critic.warmup:
                return updates
        learns = any(self.signal[index] for index in chosen)
        in_loss = self.objective.kl_placement == "loss" and self.kl_coefficient > 0
        # Without any signal the gradient is zero, but Adam's momentum would still move the weights.
        metrics["skipped"] = (float(not (learns or in_loss)), 1.0)
        if learns or in_loss:
            gradient = PolicyGradient(self.objective, kl_coefficient=self.kl_coefficient)
            updates.append(Update("policy", units, gradient, self.config.optimiser))
        return updates

    def evaluate(self, step: int) -> dict[str, Any]:
        return self.collector.evaluate(step // self.per_rollout)

    def after_step(self, step: int, metrics: Metrics) -> None:
        if self.adaptive is not None and "kl_k1" in metrics:
            self.adaptive.update(mean(metrics["kl_k1"]))

    def state(self) -> dict[str, Any]:
        """The rollout buffer matters in the middle of a rollout; between rollouts it is replaced anyway."""
        return {
            "units": pack_units(self.units),
            "signal": self.signal,
            "adaptive": None if self.adaptive is None else self.adaptive.state_dict(),
            "versions": self.collector.engine.versions(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.units = unpack_units(state["units"])
        self.signal = state["signal"]
        self.collector.engine.set_versions(state["versions"])
        if self.adaptive is not None:
            self.adaptive.load_state_dict(state["adaptive"])
