"""Distillation: bring a student's next-token distributions to those of a teacher."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ridgeline.models.batch import Unit, completion_row
from ridgeline.models.distributions import DistillForward
from ridgeline.models.forward import PolicyForward
from ridgeline.models.load import LanguageModel
from ridgeline.rewards.combine import RewardSet
from ridgeline.schema.run_folder import read_lines
from ridgeline.schema.stages.distill import DistillStage
from ridgeline.stages.collecting import sample_in_parts
from ridgeline.stages.context import StageContext, ends, requests_for
from ridgeline.stages.distill_data import Texts, load_texts
from ridgeline.stages.distill_job import DistillJob, Heldout
from ridgeline.stages.distill_teachers import add_mixture, add_teachers
from ridgeline.stages.distill_texts import GivenText, StudentText, TextSource
from ridgeline.stages.judging import reward_set
from ridgeline.stages.privileged import PrivilegedView
from ridgeline.training.distillation import DenseDivergence, MiniLlm, sampled_gradient
from ridgeline.training.local import LocalEngine
from ridgeline.training.next_token import NextToken
from ridgeline.training.objective import Objective


def run(context: StageContext, config: DistillStage) -> dict[str, Any]:
    """Train, save the student, report divergence and NLL on held-out rows before and after."""
    model = context.language_model(config.model)
    train, heldout = load_texts(context, config, model.tokenizer)
    if len(train.prompts) < config.rows_per_step:
        context.warn(f"rows_per_step = {config.rows_per_step}, but there are only {len(train.prompts)} rows")
    engine, forward = _roles(context, config, model, train, heldout)
    rewards = None
    if config.privileged is not None and config.privileged.reward:
        rewards = reward_set(context, engine, config.privileged.reward)
    try:
        job = _job(context, config, engine, model, forward, train, heldout, rewards)
        context.train(engine, job)
        _warn_of_rewards(context, rewards)
    finally:
        if rewards is not None:
            rewards.close()
    context.save_model(model)
    before, after = ends(read_lines(context.folder.evaluations))
    return {
        "mode": config.mode,
        "divergence": config.measure.model_dump(exclude_none=True),
        "teachers": [teacher.model for teacher in config.teacher],
        "rows": len(train.prompts),
        "heldout_rows": len(heldout.prompts),
        "epochs": config.steps * config.rows_per_step / len(train.prompts),
        "before": {key: value for key, value in before.items() if key != "step"},
        "after": {key: value for key, value in after.items() if key != "step"},
    }


def _roles(
    context: StageContext, config: DistillStage, model: LanguageModel, train: Texts, heldout: Texts
) -> tuple[LocalEngine, DistillForward]:
    """The student as ``policy``, beside it whoever is its teacher."""
    engine = LocalEngine(context.device)
    sampled = config.mode in ("policy_gradient", "minillm")
    forward = DistillForward(config.measure, temperature=config.sampling.temperature if sampled else 1.0)
    by_token = config.mode in ("sequence", "policy_gradient")
    context.add_policy(
        engine,
        "policy",
        model,
        config.work,
        forward=PolicyForward(forward.temperature, entropy=True) if by_token else forward,
        optimiser=config.optimiser,
        adapter=config.adapter,
        longest=config.max_length,
    )
    add_teachers(context, config, engine, model, forward, [*train.demonstrations, *heldout.demonstrations])
    if config.mode == "minillm" and config.teacher_share > 0:
        add_mixture(config, engine, model, forward)
    return engine, forward


def _job(
    context: StageContext,
    config: DistillStage,
    engine: LocalEngine,
    model: LanguageModel,
    forward: DistillForward,
    train: Texts,
    heldout: Texts,
    rewards: RewardSet | None,
) -> DistillJob:
    own = None
    if config.student_writes:
        own = StudentText(
            engine=engine,
            config=config,
            forward=forward,
            requests=requests_for(model, train.prompts, config.samples_per_prompt),
            demonstrations=train.demonstrations,
            sampler="mixture" if "mixture" in engine.roles else "policy",
            view=_view(context, config, model, train),
            rewards=rewards,
            seed=context.seed,
            folder=context.folder,
            observer=context.observer,
        )
    watched = None
    if own is not None:
        asked = requests_for(model, heldout.prompts, config.samples_per_prompt)
        watched = replace(own, requests=asked, view=_view(context, config, model, heldout))
    measured = Heldout(heldout.demonstrations, compared=config.mode != "self", own=watched)
    source = own or _given(context, config, engine, model, train)
    return DistillJob(config, engine, source, _objective(config), forward, measured, context.seed)


def _view(
    context: StageContext, config: DistillStage, model: LanguageModel, texts: Texts
) -> PrivilegedView | None:
    if config.privileged is None:
        return None
    prompts = {row.id: row for row in texts.prompts}
    limit = getattr(model.module.config, "max_position_embeddings", None)
    return PrivilegedView(config.privileged, prompts, model.tokenizer, context.seed, limit)


def _given(
    context: StageContext, config: DistillStage, engine: LocalEngine, model: LanguageModel, train: Texts
) -> TextSource:
    """Demonstrations or, in mode ``sequence``, what the teacher writes before training begins."""
    units: list[Unit] = [[row] for row in train.demonstrations]
    if config.mode == "sequence":
        requests = requests_for(model, train.prompts, config.samples_per_prompt)
        folder = context.folder.samples
        samples = sample_in_parts(
            context, engine, "teacher", requests, config.sampling, folder, lambda written: None
        )
        if cut := sum(sample.truncated for sample in samples):
            context.warn(f"{cut} of {len(samples)} completions of the teacher were cut at the limit")
        units = [[completion_row(sample.prompt_ids, sample.completion_ids)] for sample in samples]
    return GivenText(units, config.rows_per_step, context.seed)


def _objective(config: DistillStage) -> Objective:
    if config.mode == "sequence":
        return NextToken()
    if config.mode == "policy_gradient":
        return sampled_gradient(config.clip)
    if config.mode == "minillm":
        return MiniLlm(teacher_share=config.teacher_share, normalise=config.length_normalisation)
    return DenseDivergence()


def _warn_of_rewards(context: StageContext, rewards: RewardSet | None) -> None:
    if rewards is None:
        return
    for sentence in rewards.failures().values():
        context.warn(sentence)
    for name, count in rewards.counts().items():
        context.warn(f"{count} completions without a reward: {name}")
