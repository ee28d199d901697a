"""Direct alignment on pairs made on the way: sample, judge, step (Online DPO, Nash-MD, XPO, D2PO)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from ridgeline.models.batch import Row, Unit, completion_row, pack_units, unpack_units
from ridgeline.models.load import LanguageModel
from ridgeline.objectives.kl import k1
from ridgeline.objectives.pair_axes import PairObjective
from ridgeline.objectives.presets import PRESETS
from ridgeline.rewards.combine import Component, RewardSet
from ridgeline.rollout.decoder import MixtureDecoder, ModelDecoder
from ridgeline.rollout.plain import PlainSampler
from ridgeline.rollout.request import PromptRequest
from ridgeline.rollout.store import write_samples
from ridgeline.rollout.traces import Pieces
from ridgeline.schema.records import Sample
from ridgeline.schema.run_folder import Metrics, read_lines
from ridgeline.schema.stages import PreferenceStage
from ridgeline.schema.stages.preference import Online
from ridgeline.stages.context import StageContext, ends, requests_for, stop_ids
from ridgeline.stages.discriminator import DiscriminatorJudge
from ridgeline.stages.duels import Duel, Duels, left_out, step_name
from ridgeline.stages.judging import component_for
from ridgeline.stages.measuring import measurements
from ridgeline.stages.preference_offline import add_roles, describe
from ridgeline.stages.recording import Key, Recorder, key_of
from ridgeline.training.engine import RowScores
from ridgeline.training.local import LocalEngine
from ridgeline.training.loop import StepPlan, Update
from ridgeline.training.policy_gradient import PolicyGradient
from ridgeline.training.preference import PairwisePreference, settle_step

GRADIENT = PRESETS["reinforce"]
"""How Nash-MD steps: the plain score function; baseline (1/2) and KL are in the advantage already."""


def run(
    context: StageContext, config: PreferenceStage, online: Online, objective: PairObjective
) -> dict[str, Any]:
    """Train, save the policy, report held-out rewards and KL before and after."""
    model = context.language_model(config.model)
    engine = LocalEngine(context.device)
    temperature = online.sampling.temperature
    add_roles(
        context,
        config,
        objective,
        model,
        engine,
        temperature=temperature,
        always=True,
        states=online.features,
    )
    _add_opponent(online, model, engine)
    judge = None
    if online.discriminator is not None:
        judge = DiscriminatorJudge(context, engine, online.discriminator)
    rewards = _rewards(context, engine, online, [] if judge is None else [judge.component])
    heldout = context.prompts(online.heldout) if online.heldout else []
    try:
        duels = Duels(
            engine=engine,
            online=online,
            rewards=rewards,
            requests=requests_for(model, context.prompts(online.prompts), online.samples_per_prompt),
            seed=context.seed,
            folder=context.folder,
            observer=context.observer,
        )
        held = requests_for(model, heldout, online.evaluation_samples)
        recorder = Recorder(context.folder, Pieces(model.tokenizer))
        context.train(engine, OnlineJob(config, online, objective, engine, duels, judge, held, recorder))
        for sentence in rewards.failures().values():
            context.warn(sentence)
    finally:
        rewards.close()
        if judge is not None:
            judge.close()
    context.save_model(model)
    before, after = ends(read_lines(context.folder.evaluations))
    return {
        "objective": describe(config) if online.method != "nash_md" else "nash_md",
        "method": online.method,
        "steps": online.steps,
        "before": {key: value for key, value in before.items() if key != "step"},
        "after": {key: value for key, value in after.items() if key != "step"},
    }


def _add_opponent(online: Online, model: LanguageModel, engine: LocalEngine) -> None:
    """Who the policy's completion is compared with: the reference, or a mixture of both."""
    reference = engine.roles["reference"]
    if online.method == "xpo":
        engine.add_view("opponent", "reference", reference.forward, reference.sampler)
    if online.method == "nash_md":
        frozen = reference.module
        assert isinstance(frozen, PreTrainedModel)
        # The reference may be the policy with its adapter off.
        off = model.adapter.disable_adapter if model.adapter and frozen is model.module else nullcontext

        def mixture() -> MixtureDecoder:
            return MixtureDecoder(ModelDecoder(model.module), ModelDecoder(frozen, off), online.mixture)

        sampler = PlainSampler(model.module, model.tokenizer, stop_ids(model), new_decoder=mixture)
        engine.add_view("opponent", "policy", engine.roles["policy"].forward, sampler)


def _rewards(
    context: StageContext, engine: LocalEngine, online: Online, judges: Sequence[Component]
) -> RewardSet:
    given = [(component_for(context, engine, spec), spec.weight) for spec in online.reward]
    monitors = [component_for(context, engine, spec) for spec in online.monitor]
    return RewardSet([*given, *((judge, 1.0) for judge in judges)], monitors)


@dataclass
class OnlineJob:
    """One round of duels and one optimizer step per step; ``shift`` is the running mean of BCO."""

    config: PreferenceStage
    online: Online
    objective: PairObjective
    engine: LocalEngine
    duels: Duels
    judge: DiscriminatorJudge | None
    heldout: Sequence[PromptRequest]
    recorder: Recorder
    shift: float | None = None
    steps: int = field(init=False)
    evaluate_every: int = field(init=False)
    checkpoint_every: int = field(init=False)

    def __post_init__(self) -> None:
        self.steps = self.online.steps
        self.evaluate_every = self.config.evaluate_every
        self.checkpoint_every = self.config.checkpoint_every

    def plan(self, step: int) -> StepPlan:
        refresh = self.config.refresh
        if refresh is not None and step and step % refresh.every == 0:
            self.engine.copy_weights("policy", "reference", refresh.share)
        made = self.duels.fight(step)
        duels, metrics = made.duels, made.metrics
        known: dict[Key, RowScores] = {}
        updates: list[Update] = []
        if duels and self.online.method == "nash_md":
            units = self._gradient_units(duels, metrics, known)
            gradient = PolicyGradient(GRADIENT, kl_coefficient=0.0)
            updates.append(Update("policy", units, gradient, self.config.optimiser))
        elif duels:
            exploration = self.online.exploration if self.online.method == "xpo" else 0.0
            pairwise = PairwisePreference(self.objective, exploration=exploration)
            updates.append(Update("policy", self._pairs(duels, known), pairwise, self.config.optimiser))
        self.recorder.save(step_name(step), made.samples, known, left_out(made, known))
        if self.judge is not None:
            more, measured = self.judge.updates(step, duels)
            updates += more
            metrics |= measured
        return StepPlan(updates, metrics)

    def _pairs(self, duels: Sequence[Duel], known: dict[Key, RowScores]) -> list[Unit]:
        """Winner and loser; what is scored on the way goes into ``known``."""
        units = [[_row(duel.winner), _row(duel.loser)] for duel in duels]
        samples = [sample for duel in duels for sample in (duel.winner, duel.loser)]
        self._compare(units, samples, known)
        for unit, duel in zip(units, duels, strict=True):
            better, worse = (float(sample.rewards["total"] or 0.0) for sample in (duel.winner, duel.loser))
            unit[0].values |= {"reward": better, "margin": better - worse}
            unit[1].values["reward"] = worse
            if self.objective.takes_labels:
                unit[0].values["soft_label"] = duel.probability
            for row, sample in zip(unit, (duel.winner, duel.loser), strict=True):
                row.values["explore"] = float(self.online.method == "xpo" and sample.index == 1)
        if self.objective.whole_step:
            scores = self.engine.score("policy", units)
            for sample, score in zip(samples, scores, strict=True):
                known[key_of(sample)]["old_logp"] = score["logp"]
            self.shift = settle_step(units, scores, self.objective, self.shift)
        return units

    def _gradient_units(
        self, duels: Sequence[Duel], metrics: Metrics, known: dict[Key, RowScores]
    ) -> list[Unit]:
        """The policy's own completions with P(own beats mixture) - 1/2 - tau log(pi / ref) as advantage.

        Munos et al. 2024, Nash-MD-PG.
        """
        own = [_own(duel) for duel in duels]
        units = [[_row(sample)] for sample, _ in own]
        self._compare(units, [sample for sample, _ in own], known)
        wins = 0.0
        for unit, (sample, preferred) in zip(units, own, strict=True):
            row = unit[0]
            row.fields["sampler_logp"] = np.asarray(sample.logprobs, dtype=np.float32)
            logp, ref_logp = (torch.from_numpy(row.fields[name]) for name in ("sampler_logp", "ref_logp"))
            divergence = float(k1(logp, ref_logp).sum())
            advantage = preferred - 0.5 - self.online.kl * divergence
            row.fields["advantage"] = np.full(len(row.targets), advantage, dtype=np.float32)
            row.values["positive"] = float(advantage > 0)
            known[key_of(sample)]["advantage"] = row.fields["advantage"]
            wins += preferred
        metrics["preferred"] = (wins, float(len(duels)))
        return units

    def _compare(self, units: Sequence[Unit], samples: Sequence[Sample], known: dict[Key, RowScores]) -> None:
        rows = [row for unit in units for row in unit]
        scores = self.engine.score("reference", units)
        for row, sample, score in zip(rows, samples, scores, strict=True):
            row.fields["ref_logp"] = score.pop("logp")
            known[key_of(sample)] = {**score, "ref_logp": row.fields["ref_logp"]}

    def evaluate(self, step: int) -> dict[str, Any]:
        """Held-out rewards, KL to the reference, length and stop share; the same draws every time."""
        if not self.heldout:
            return {}
        seed = self.duels.seed ^ 1
        samples = self.engine.sample("policy", self.heldout, self.online.sampling, seed=seed, step=0)
        self.duels.rewards.score(samples)
        name = f"evaluation-{step:06d}"
        write_samples(self.duels.folder.samples / f"{name}.parquet", samples)
        save = partial(self.recorder.save, name, samples)
        return {"samples": len(samples), **measurements(self.engine, "policy", samples, save=save)}

    def after_step(self, step: int, metrics: Metrics) -> None: ...

    def state(self) -> dict[str, Any]:
        labelled = [] if self.judge is None else self.judge.labelled
        return {
            "shift": self.shift,
            "versions": self.engine.versions(),
            "labelled": pack_units(labelled),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.shift = state["shift"]
        self.engine.set_versions(state["versions"])
        if self.judge is not None:
            self.judge.labelled = unpack_units(state["labelled"])


def _row(sample: Sample) -> Row:
    return completion_row(sample.prompt_ids, sample.completion_ids)


def _own(duel: Duel) -> tuple[Sample, float]:
    """The policy's side of a duel, and how likely it is the better one."""
    if duel.winner.index == 0:
        return duel.winner, duel.probability
    return duel.loser, 1 - duel.probability
