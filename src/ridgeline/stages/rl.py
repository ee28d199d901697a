"""Policy optimisation: sample, score, and move toward what scored better than expected, under a KL leash."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ridgeline.models.batch import Unit
from ridgeline.models.forward import PolicyForward
from ridgeline.models.load import LanguageModel
from ridgeline.models.score_model import ScoreModel, score_model_from, value_forward
from ridgeline.objectives.axes import PolicyObjective
from ridgeline.objectives.axis_names import GROUP_ADVANTAGES
from ridgeline.objectives.presets import PRESETS
from ridgeline.rewards.combine import RewardSet
from ridgeline.rollout.traces import Pieces
from ridgeline.schema.errors import UsageError, nearest
from ridgeline.schema.run_folder import read_lines
from ridgeline.schema.stages import RlStage
from ridgeline.stages.context import StageContext, ends, requests_for
from ridgeline.stages.drawing import Prompts
from ridgeline.stages.judging import reward_set
from ridgeline.stages.pretraining import pretraining_units
from ridgeline.stages.recording import Recorder
from ridgeline.stages.rl_job import RlJob
from ridgeline.stages.rollouts import Collector
from ridgeline.stages.shaped_rewards import ShapedRewards
from ridgeline.training.local import LocalEngine


def run(context: StageContext, config: RlStage) -> dict[str, Any]:
    """Train, save the policy, report held-out rewards and KL before and after."""
    objective = objective_of(config)
    model = context.language_model(config.model)
    rows = context.prompts(config.prompts)
    heldout = context.prompts(config.heldout) if config.heldout else []
    if len(rows) < config.prompts_per_step:
        context.warn(f"prompts_per_step = {config.prompts_per_step}, but there are only {len(rows)} prompts")
    mix = _pretraining(context, config, model)
    engine = LocalEngine(context.device)
    _add_roles(context, config, objective, model, engine)
    rewards = reward_set(context, engine, config.reward, config.monitor)
    try:
        collector = Collector(
            engine=engine,
            config=config,
            objective=objective,
            rewards=ShapedRewards(rewards, config, model.tokenizer),
            prompts=Prompts(requests_for(model, rows, config.samples_per_prompt), context.seed),
            heldout=requests_for(model, heldout, config.evaluation_samples),
            seed=context.seed,
            folder=context.folder,
            observer=context.observer,
            recorder=Recorder(context.folder, Pieces(model.tokenizer)),
        )
        context.train(engine, RlJob(config, objective, collector, mix))
        _warn_of_failures(context, rewards)
    finally:
        rewards.close()
    context.save_model(model)
    return _result(context, config, objective)


def _result(context: StageContext, config: RlStage, objective: PolicyObjective) -> dict[str, Any]:
    before, after = ends(read_lines(context.folder.evaluations))
    chosen = config.objective
    result = {
        "objective": chosen if isinstance(chosen, str) else chosen.get("preset"),
        "kl": {
            "coefficient": objective.kl_coefficient,
            "estimator": objective.kl_estimator,
            "placement": objective.kl_placement,
        },
        "rollouts": config.steps * config.repeat,
        "before": {key: value for key, value in before.items() if key != "step"},
        "after": {key: value for key, value in after.items() if key != "step"},
    }
    if config.max_resampling:
        lines = [line["metrics"] for line in read_lines(context.folder.metrics)]
        for name in ("resampled_groups", "unfilled_groups"):
            result[name] = int(sum(line[name][0] for line in lines if name in line))
        if result["unfilled_groups"]:
            context.warn(
                f"{result['unfilled_groups']} groups stayed without signal after max_resampling = "
                f"{config.max_resampling} attempts, so their steps learned from fewer prompts"
            )
    return result


def _warn_of_failures(context: StageContext, rewards: RewardSet) -> None:
    for sentence in rewards.failures().values():
        context.warn(sentence)
    for name, count in rewards.counts().items():
        context.warn(f"{count} completions without a reward: {name}")


def _pretraining(context: StageContext, config: RlStage, model: LanguageModel) -> list[Unit]:
    if config.pretrain is None:
        return []
    units, cut = pretraining_units(config.pretrain, model.tokenizer)
    if cut:
        context.warn(f"pretrain: {cut} of {len(units)} rows were cut at {config.pretrain.max_length} tokens")
    return units


def objective_of(config: RlStage) -> PolicyObjective:
    """The preset with the stage's changes: its own axes, its KL, and the completion limit as fixed length.

    Raises:
        UsageError: an unknown preset or axis, axes that cannot work together or with the stage's options.
    """
    where = f"stage '{config.name}': objective"
    given = {"preset": config.objective} if isinstance(config.objective, str) else config.objective
    table: dict[str, Any] = dict(given)
    preset = str(table.pop("preset", "grpo"))
    if preset not in PRESETS:
        raise UsageError(f"{where} = '{preset}' is not a preset; {nearest(preset, PRESETS)}")
    axes = PolicyObjective.__dataclass_fields__
    for key, value in table.items():
        if key not in axes:
            raise UsageError(f"{where}: unknown axis '{key}'; {nearest(key, axes)}")
        table[key] = tuple(value) if isinstance(value, list) else value
    if config.kl is not None:
        names = {"coefficient", "estimator", "placement", "corrected"}
        asked = config.kl.model_dump(include=names, exclude_none=True)
        table |= {f"kl_{axis}": value for axis, value in asked.items()}
    try:
        objective = replace(PRESETS[preset], **table)
        if objective.aggregation == "fixed" and objective.length is None:
            objective = replace(objective, length=config.sampling.max_new_tokens)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{where}: {error}.") from None
    complaint = _complaint(config, objective)
    if complaint is not None:
        raise UsageError(f"{where}: {complaint}.")
    return objective


def _complaint(config: RlStage, objective: PolicyObjective) -> str | None:
    """Why the objective cannot work with the stage's other options."""
    advantage, compares = objective.advantage, objective.advantage in GROUP_ADVANTAGES
    if compares and advantage != "process_zscore" and config.samples_per_prompt < 2:
        return f"{advantage} compares samples of one prompt; set samples_per_prompt >= 2"
    if config.kl is not None and config.kl.target is not None and objective.kl_coefficient == 0:
        return "kl.target adapts a coefficient that is 0; set kl.coefficient above 0"
    if config.entropy is not None and objective.entropy_coefficient > 0:
        return "entropy adapts the coefficient that entropy_coefficient fixes; drop one of the two"
    if config.max_resampling and not compares:
        return (
            f"max_resampling replaces groups of equal rewards, but these carry signal with {advantage}; "
            "set max_resampling = 0"
        )
    if (config.step_separator is not None) != (advantage == "process_zscore"):
        return "step_separator and advantage 'process_zscore' need one another"
    if objective.components == "separate" and config.truncation == "penalty":
        return "truncation = 'penalty' replaces the total, which separate components do not use; use overlong"
    if advantage == "max_rl" and (config.whiten_rewards or config.overlong or config.truncation == "penalty"):
        return "max_rl needs rewards that are 0 or 1; drop whiten_rewards, overlong and truncation"
    if config.whiten_rewards and (objective.components == "separate" or advantage == "process_zscore"):
        return "whiten_rewards does nothing here: the advantage scales every reward by itself"
    return None


def _add_roles(
    context: StageContext,
    config: RlStage,
    objective: PolicyObjective,
    model: LanguageModel,
    engine: LocalEngine,
) -> None:
    temperature = config.sampling.temperature
    scoring = PolicyForward(temperature=temperature, states=config.features)
    if objective.needs_critic:
        engine.add(
            "critic",
            _critic(context, config, model),
            value_forward,
            tokens_per_microbatch=config.work.tokens_per_microbatch,
            optimiser=config.critic.optimiser,
            recompute=config.work.checkpointing,
        )
    bonus = config.entropy is not None or objective.entropy_coefficient > 0
    learning = PolicyForward(temperature=temperature, entropy=True, differentiable_entropy=bonus)
    context.add_policy(
        engine,
        "policy",
        model,
        config.work,
        forward=learning,
        optimiser=config.optimiser,
        adapter=config.adapter,
    )
    moves = config.repeat > 1
    context.add_reference(engine, model, config.work, forward=scoring, name=config.reference, moves=moves)


def _critic(context: StageContext, config: RlStage, model: LanguageModel) -> ScoreModel:
    source = config.critic.initialise_from
    if source == "policy":
        return score_model_from(model, layer=None, pooling="last")
    critic = context.score_model(source)
    critic.kind.check_is_value()
    return critic
