"""The steps of distillation as the loop sees them, and what is measured on held-out rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ridgeline.models.batch import Row, Unit, pack_units, unpack_units
from ridgeline.models.distributions import DistillForward, is_students
from ridgeline.models.forward import PolicyForward
from ridgeline.rollout.store import write_samples
from ridgeline.schema.run_folder import Metrics
from ridgeline.schema.stages.distill import DistillStage
from ridgeline.stages.distill_texts import StudentText, TextSource
from ridgeline.statistics.intervals import clustered_mean_interval, clustered_share_interval
from ridgeline.training.distillation import mean_of
from ridgeline.training.local import LocalEngine
from ridgeline.training.loop import StepPlan, Update
from ridgeline.training.objective import Objective


@dataclass
class Heldout:
    """What evaluations look at.

    demonstrations: text that was given. compared: whether a teacher can be asked about it. own: makes units
    of the student's own completions, as in training; None where it does not write there.
    """

    demonstrations: Sequence[Row]
    compared: bool
    own: StudentText | None


class DistillJob:
    """A batch serves ``updates_per_rollout`` steps of the loop, one update each."""

    def __init__(
        self,
        config: DistillStage,
        engine: LocalEngine,
        source: TextSource,
        objective: Objective,
        forward: DistillForward,
        heldout: Heldout,
        seed: int,
    ) -> None:
        self.config = config
        self.engine = engine
        self.source = source
        self.objective = objective
        self.forward = forward
        self.heldout = heldout
        self.seed = seed
        self.per_rollout = config.updates_per_rollout
        self.steps = config.steps * self.per_rollout
        self.evaluate_every = config.evaluate_every * self.per_rollout
        self.checkpoint_every = config.checkpoint_every
        self.units: list[Unit] = []

    def plan(self, step: int) -> StepPlan:
        number, part = divmod(step, self.per_rollout)
        metrics: Metrics = {}
        if part == 0:
            batch = self.source.collect(number)
            self.units, metrics = batch.units, dict(batch.metrics)
        units = self.units[part :: self.per_rollout]
        metrics["skipped"] = (float(not units), 1.0)
        updates = [Update("policy", units, self.objective, self.config.optimiser)] if units else []
        return StepPlan(updates, metrics)

    def after_step(self, step: int, metrics: Metrics) -> None:
        """A teacher that follows the student takes its share of the new weights."""
        privileged = self.config.privileged
        if privileged is not None and 0 < privileged.average < 1 and "gradient_norm" in metrics:
            self.engine.copy_weights("policy", "teacher", privileged.average)

    def evaluate(self, step: int) -> dict[str, Any]:
        """Nats per token: ``nll`` and ``divergence`` on given text, ``own_divergence`` on the student's own.

        Every evaluation uses the same draws, so two of them differ by student and teacher only.
        """
        number = step // self.per_rollout
        return {**self._on_given_text(), **self._on_own_text(number)}

    def _on_given_text(self) -> dict[str, Any]:
        rows = self.heldout.demonstrations
        if not rows:
            return {}
        units = [[row] for row in rows]
        if not self.heldout.compared:
            scores = self.engine.score("policy", units, forward=PolicyForward())
        else:
            scores = self.engine.score("policy", units, forward=replace(self.forward, temperature=1.0))
        report = {"tokens": sum(len(row.targets) for row in rows), "nll": -mean_of(scores, rows, "logp")}
        if self.heldout.compared:
            report["divergence"] = mean_of(scores, rows, "divergence")
        return report

    def _on_own_text(self, number: int) -> dict[str, Any]:
        own = self.heldout.own
        if own is None or not own.requests:
            return {}
        samples = self.engine.sample("policy", own.requests, self.config.sampling, seed=self.seed ^ 1, step=0)
        if own.rewards is not None:
            own.rewards.score(samples)
        write_samples(own.folder.samples / f"evaluation-{number:06d}.parquet", samples)
        units, metrics = own.units(samples, 0)
        report: dict[str, Any] = {"completions": len(samples)}
        if units:
            rows = [row for unit in units for row in unit]
            scores = self.engine.score("policy", units, forward=self.forward)
            report["own_tokens"] = sum(len(row.targets) for row in rows if is_students(row))
            report["own_divergence"] = mean_of(scores, rows, "divergence")
        report |= {name: total / count for name, (total, count) in metrics.items() if count}
        for name in samples[0].rewards:
            known = [(value, s.prompt_id) for s in samples if (value := s.rewards[name]) is not None]
            if known:
                values, prompts = zip(*known, strict=True)
                share = all(value in (0.0, 1.0) for value in values)
                interval = clustered_share_interval if share else clustered_mean_interval
                report[f"reward/{name}"] = interval(values, prompts).as_dict()
        return report

    def state(self) -> dict[str, Any]:
        """The batch matters in the middle of a rollout; between rollouts it is replaced anyway."""
        return {
            "units": pack_units(self.units) if self.per_rollout > 1 else [],
            "versions": self.engine.versions(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.units = unpack_units(state["units"])
        self.engine.set_versions(state["versions"])
