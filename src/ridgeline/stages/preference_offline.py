"""Direct alignment on pairs that exist: DPO and its relatives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ridgeline.data.order import batch_indices
from ridgeline.models.batch import Unit
from ridgeline.models.forward import PolicyForward
from ridgeline.models.load import LanguageModel
from ridgeline.objectives.pair_axes import PairObjective
from ridgeline.objectives.preference import pair_losses
from ridgeline.schema.run_folder import Metrics, read_lines
from ridgeline.schema.stages import PreferenceStage
from ridgeline.stages.context import StageContext, ends
from ridgeline.stages.preference_data import PairSets, pair_sets
from ridgeline.statistics.agreement import pairwise_accuracy_interval
from ridgeline.statistics.intervals import clustered_mean_interval
from ridgeline.training.engine import RowScores
from ridgeline.training.local import LocalEngine
from ridgeline.training.logprob_cache import reference_logprobs
from ridgeline.training.loop import StepPlan, Update
from ridgeline.training.preference import (
    PairwisePreference,
    pair_inputs,
    pair_measures,
    settle_step,
    whole_batch,
)


def run(context: StageContext, config: PreferenceStage, objective: PairObjective) -> dict[str, Any]:
    """Train on the pairs; report held-out accuracy, margin and both log-probs before and after."""
    model = context.language_model(config.model)
    assert config.data is not None
    sets = pair_sets(context, config, config.data, objective, model)
    engine = LocalEngine(context.device)
    add_roles(context, config, objective, model, engine)
    job = PreferenceJob(context, config, objective, engine, sets)
    job.compare_with_reference()
    context.train(engine, job)
    context.save_model(model)
    before, after = ends(read_lines(context.folder.evaluations))
    return {
        "objective": describe(config),
        "pairs": len(sets.train),
        "heldout_pairs": len(sets.heldout),
        "dropped": sets.dropped,
        "before": {key: value for key, value in before.items() if key != "step"},
        "after": {key: value for key, value in after.items() if key != "step"},
    }


def describe(config: PreferenceStage) -> str:
    """The objective in one word, or in the words of the recipe."""
    given = config.objective
    if isinstance(given, list):
        return " + ".join(f"{term.get('weight', 1)} {term.get('preset')}" for term in given)
    return given if isinstance(given, str) else str(given.get("preset", "mixture"))


def add_roles(
    context: StageContext,
    config: PreferenceStage,
    objective: PairObjective,
    model: LanguageModel,
    engine: LocalEngine,
    *,
    temperature: float = 1.0,
    always: bool = False,
    states: bool = False,
) -> None:
    """The policy, and the reference where the objective reads one (or ``always``); with ``states`` its
    scores tell where it sees the completions."""
    context.add_policy(
        engine,
        "policy",
        model,
        config.work,
        forward=PolicyForward(temperature, collision=objective.weighting == "wpo"),
        optimiser=config.optimiser,
        adapter=config.adapter,
        longest=config.max_length,
    )
    if objective.needs_reference or always:
        context.add_reference(
            engine,
            model,
            config.work,
            forward=PolicyForward(temperature, states=states),
            name=config.reference,
            moves=config.refresh is not None,
        )


class PreferenceJob:
    """Batches of pairs as a pure function of (seed, step); ``shift`` is the running mean of BCO."""

    def __init__(
        self,
        context: StageContext,
        config: PreferenceStage,
        objective: PairObjective,
        engine: LocalEngine,
        sets: PairSets,
    ) -> None:
        self.context, self.config, self.objective = context, config, objective
        self.engine, self.sets = engine, sets
        self.shift: float | None = None
        self.per_step = min(config.pairs_per_step, len(sets.train))
        self.steps = max(1, math.ceil(config.epochs * len(sets.train) / self.per_step))
        self.evaluate_every = config.evaluate_every
        self.checkpoint_every = config.checkpoint_every

    def compare_with_reference(self) -> None:
        """Once for all pairs where the reference stays: read from the cache when it has them."""
        if not self.objective.needs_reference or self.config.refresh is not None:
            return
        self.context.observer.phase("comparing with the reference")
        units = [*self.sets.train, *self.sets.heldout]
        found = reference_logprobs(self.engine, "reference", units)
        for row, logp in zip((row for unit in units for row in unit), found, strict=True):
            row.fields["ref_logp"] = logp

    def plan(self, step: int) -> StepPlan:
        refresh = self.config.refresh
        if refresh is not None and step and step % refresh.every == 0 and self.objective.needs_reference:
            self.engine.copy_weights("policy", "reference", refresh.share)
        chosen = batch_indices(len(self.sets.train), self.per_step, step, self.context.seed)
        units = [self.sets.train[index] for index in chosen]
        self._score_moving_reference(units)
        if self.objective.whole_step:
            scores = self.engine.score("policy", units)
            self.shift = settle_step(units, scores, self.objective, self.shift)
        update = Update("policy", units, PairwisePreference(self.objective), self.config.optimiser)
        return StepPlan([update])

    def _score_moving_reference(self, units: Sequence[Unit]) -> None:
        if self.config.refresh is None or not self.objective.needs_reference:
            return
        rows = [row for unit in units for row in unit]
        for row, score in zip(rows, self.engine.score("reference", units), strict=True):
            row.fields["ref_logp"] = score["logp"]

    def evaluate(self, step: int) -> dict[str, Any]:
        if not self.sets.heldout:
            return {}
        self._score_moving_reference(self.sets.heldout)
        scores = self.engine.score("policy", self.sets.heldout)
        if self.objective.whole_step:
            settle_step(self.sets.heldout, scores, self.objective, self.shift, learns=False)
        return heldout_report(self.sets.heldout, scores, self.objective, self.sets.heldout_prompts)

    def after_step(self, step: int, metrics: Metrics) -> None: ...

    def state(self) -> dict[str, Any]:
        return {"shift": self.shift}

    def restore(self, state: dict[str, Any]) -> None:
        self.shift = state["shift"]


def heldout_report(
    units: Sequence[Unit], scores: Sequence[RowScores], objective: PairObjective, prompts: Sequence[str]
) -> dict[str, Any]:
    """Loss, accuracy, margin (nats) and log-probs, with 95 % intervals over prompts."""
    outputs, batch = whole_batch(units, scores)
    inputs = pair_inputs(outputs, batch, objective)
    measures = {name: value.numpy().astype(np.float64) for name, value in pair_measures(inputs).items()}
    losses = torch.stack(list(pair_losses(inputs, objective).values())).sum(0)
    measures["loss"] = losses.numpy().astype(np.float64)
    agreement = measures.pop("agreement")
    accuracy = pairwise_accuracy_interval(agreement, np.zeros_like(agreement), list(prompts))
    del measures["accuracy"]
    rest = {name: clustered_mean_interval(value, list(prompts)).as_dict() for name, value in measures.items()}
    return {"accuracy": accuracy.as_dict(), **rest}
