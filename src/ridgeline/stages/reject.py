"""Rejection sampling: sample, keep the best, fine-tune on them, and compare with a choice by chance."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ridgeline.models.forward import PolicyForward
from ridgeline.models.load import LanguageModel
from ridgeline.rewards.combine import RewardSet
from ridgeline.rollout.traces import Pieces
from ridgeline.schema.errors import UsageError
from ridgeline.schema.recipe import Recipe
from ridgeline.schema.run_folder import read_lines
from ridgeline.schema.stages.common import MODEL_STAGES
from ridgeline.schema.stages.reject import RejectStage
from ridgeline.stages.context import StageContext, ends, requests_for
from ridgeline.stages.judging import reward_set
from ridgeline.stages.recording import Recorder
from ridgeline.stages.reject_diagnostics import describe
from ridgeline.stages.reject_job import CONTROL, POLICY, Heldout, RejectJob, as_sampled, shortfalls
from ridgeline.stages.reject_outputs import write_outputs
from ridgeline.stages.rejecting import Round, Rounds
from ridgeline.statistics.best_of_n import kl_of_best_of_n
from ridgeline.training.local import LocalEngine


def run(context: StageContext, config: RejectStage) -> dict[str, Any]:
    """Select, learn, save the model; report rounds, held-out measures and the difference to the control."""
    model = context.language_model(config.model)
    rows = context.prompts(config.prompts)
    engine = LocalEngine(context.device)
    _add_roles(context, config, model, engine)
    rewards = reward_set(context, engine, config.reward, config.monitor)
    requests = requests_for(model, rows, config.samples_per_prompt)
    rounds = Rounds(
        context, engine, config, rewards, requests, Recorder(context.folder, Pieces(model.tokenizer))
    )
    try:
        if config.train:
            heldout = _heldout(context, config, model, engine, rewards)
            context.train(engine, RejectJob(config, engine, rounds, heldout, context.seed))
        made = [rounds.round(number) for number in range(config.repeat)]
        for sentence in rewards.failures().values():
            context.warn(sentence)
    finally:
        rewards.close()
    if config.train:
        context.save_model(model)
    else:
        for sentence in shortfalls(made[0], config):
            context.warn(f"the pool: {sentence}")
    messages = {row.id: row.messages for row in rows}
    written = write_outputs(context.folder.path, config, made, messages, context.seed)
    if written.get("pairs") == 0:
        context.warn("no pair was written: no prompt has two completions of different rewards and texts")
    return {**written, **_result(context, config, made, rewards.names)}


def check_users(recipe: Recipe) -> None:
    """Refuse what later stages want from a reject stage that does not make it.

    Raises:
        UsageError: a model from one with ``train = false``, or pairs from one without ``preferences``.
    """
    made = {stage.name: stage for stage in recipe.stage if isinstance(stage, RejectStage)}
    for stage in recipe.stage:
        for reference in stage.references():
            source = made.get(reference.name)
            if source is None:
                continue
            where = f"stage '{stage.name}': {reference.key} = '{reference.name}'"
            if reference.kinds == MODEL_STAGES and not source.train:
                raise UsageError(f"{where} makes no model, since it has train = false; remove that.")
            if reference.kinds != MODEL_STAGES and source.preferences is None:
                raise UsageError(f'{where} writes no pairs; give it preferences = "best_worst".')


def _add_roles(context: StageContext, config: RejectStage, model: LanguageModel, engine: LocalEngine) -> None:
    if not config.train:
        context.add_policy(engine, POLICY, model, config.work, forward=PolicyForward())
        return
    learning = PolicyForward(entropy=True)
    scoring = PolicyForward(temperature=config.sampling.temperature or 1.0)
    models = {POLICY: model}
    if config.control:
        models[CONTROL] = context.language_model(config.model)
    for role, own in models.items():
        context.add_policy(
            engine,
            role,
            own,
            config.work,
            forward=learning,
            optimiser=config.optimiser,
            adapter=config.adapter,
        )
        engine.add_view(as_sampled(role), role, scoring)
    if config.heldout is not None:
        seen = replace(scoring, states=config.features)
        context.add_reference(engine, model, config.work, forward=seen)


def _heldout(
    context: StageContext,
    config: RejectStage,
    model: LanguageModel,
    engine: LocalEngine,
    rewards: RewardSet,
) -> Heldout | None:
    if config.heldout is None:
        return None
    requests = requests_for(model, context.prompts(config.heldout), config.evaluation_samples)
    recorder = Recorder(context.folder, Pieces(model.tokenizer))
    return Heldout(engine, config, rewards, requests, context.seed, context.folder, recorder)


def _result(
    context: StageContext, config: RejectStage, made: list[Round], rewards: list[str]
) -> dict[str, Any]:
    truth = rewards[len(config.reward)] if config.monitor else "total"
    result: dict[str, Any] = {
        "selection": config.selection,
        "samples": sum(len(each.pool) for each in made),
        "selected": sum(len(each.selected) for each in made),
        "rounds": [describe(each, config, truth) for each in made],
    }
    if config.selection == "top_per_prompt" and config.number == 1:
        result["kl_bound"] = kl_of_best_of_n(config.samples_per_prompt)
    before, after = ends(read_lines(context.folder.evaluations) if config.train else [])
    besides = ("step", "round", "samples", "control", "against_control")
    result["before"] = {key: value for key, value in before.items() if key not in besides}
    result["after"] = {key: value for key, value in after.items() if key not in besides}
    for key in ("control", "against_control"):
        if key in after:
            result[key] = after[key]
    return result
