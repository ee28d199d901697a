"""Policy optimisation: sample, score, and move toward what scored better than expected, under a KL leash."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ridgeline.models.forward import PolicyForward
from ridgeline.models.load import LanguageModel
from ridgeline.models.score_model import ScoreModel, score_model_from, value_forward
from ridgeline.objectives.axes import PRESETS, PolicyObjective
from ridgeline.schema.errors import UsageError, nearest
from ridgeline.schema.run_folder import read_lines
from ridgeline.schema.stages import RlStage
from ridgeline.stages.context import StageContext, ends, requests_for
from ridgeline.stages.judging import reward_set
from ridgeline.stages.rl_job import RlJob
from ridgeline.stages.rollouts import Collector
from ridgeline.training.local import LocalEngine


def run(context: StageContext, config: RlStage) -> dict[str, Any]:
    """Train, save the policy, report held-out rewards and KL before and after."""
    objective = objective_of(config)
    model = context.language_model(config.model)
    rows = context.prompts(config.prompts)
    heldout = context.prompts(config.heldout) if config.heldout else []
    if len(rows) < config.prompts_per_step:
        context.warn(f"prompts_per_step = {config.prompts_per_step}, but there are only {len(rows)} prompts")
    engine = LocalEngine(context.device)
    _add_roles(context, config, objective, model, engine)
    rewards = reward_set(context, engine, config.reward, config.monitor)
    try:
        collector = Collector(
            engine=engine,
            config=config,
            objective=objective,
            rewards=rewards,
            train=requests_for(model, rows, config.samples_per_prompt),
            heldout=requests_for(model, heldout, config.evaluation_samples),
            seed=context.seed,
            folder=context.folder,
            observer=context.observer,
        )
        context.train(engine, RlJob(config, objective, collector))
        for sentence in rewards.failures().values():
            context.warn(sentence)
        for name, count in rewards.counts().items():
            context.warn(f"{count} completions without a reward: {name}")
    finally:
        rewards.close()
    context.observer.phase("saving the model")
    model.save(context.folder.model)
    before, after = ends(read_lines(context.folder.evaluations))
    return {
        "objective": config.objective
        if isinstance(config.objective, str)
        else config.objective.get("preset"),
        "kl": {
            "coefficient": objective.kl_coefficient,
            "estimator": objective.kl_estimator,
            "placement": objective.kl_placement,
        },
        "rollouts": config.steps,
        "before": {key: value for key, value in before.items() if key != "step"},
        "after": {key: value for key, value in after.items() if key != "step"},
    }


def objective_of(config: RlStage) -> PolicyObjective:
    """The preset with the stage's changes: its own axes, its KL, and the completion limit as fixed length.

    Raises:
        UsageError: an unknown preset or axis, or axes that cannot work together.
    """
    where = f"stage '{config.name}': objective"
    table = {"preset": config.objective} if isinstance(config.objective, str) else dict(config.objective)
    preset = str(table.pop("preset", "grpo"))
    if preset not in PRESETS:
        raise UsageError(f"{where} = '{preset}' is not a preset; {nearest(preset, PRESETS)}")
    axes = PolicyObjective.__dataclass_fields__
    for key in table:
        if key not in axes:
            raise UsageError(f"{where}: unknown axis '{key}'; {nearest(key, axes)}")
    if config.kl is not None:
        asked = config.kl.model_dump(include={"coefficient", "estimator", "placement"}, exclude_none=True)
        table |= {f"kl_{axis}": value for axis, value in asked.items()}
    try:
        objective = replace(PRESETS[preset], **table)
        if objective.aggregation == "fixed" and objective.length is None:
            objective = replace(objective, length=config.sampling.max_new_tokens)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{where}: {error}.") from None
    if objective.advantage == "leave_one_out" and config.samples_per_prompt < 2:
        raise UsageError(
            f"{where}: leave_one_out compares samples of one prompt; set samples_per_prompt >= 2."
        )
    if config.kl is not None and config.kl.target is not None and not objective.needs_reference:
        raise UsageError(f"{where}: kl.target adapts a coefficient that is 0; set kl.coefficient above 0.")
    return objective


def _add_roles(
    context: StageContext,
    config: RlStage,
    objective: PolicyObjective,
    model: LanguageModel,
    engine: LocalEngine,
) -> None:
    temperature = config.sampling.temperature
    reference = model.snapshot() if config.reference is None else context.language_model(config.reference)
    scoring = PolicyForward(temperature=temperature)
    context.add_policy(engine, "reference", reference, config.work, forward=scoring)
    if objective.needs_critic:
        engine.add(
            "critic",
            _critic(context, config, model),
            value_forward,
            tokens_per_microbatch=config.work.tokens_per_microbatch,
            optimiser=config.critic.optimiser,
        )
    learning = PolicyForward(temperature=temperature, entropy=True)
    context.add_policy(engine, "policy", model, config.work, forward=learning, optimiser=config.optimiser)


def _critic(context: StageContext, config: RlStage, model: LanguageModel) -> ScoreModel:
    source = config.critic.initialise_from
    if source == "policy":
        return score_model_from(model, layer=None, pooling="last")
    return context.score_model(source)
