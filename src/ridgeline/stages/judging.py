"""The rewards that a stage names, as components: earlier reward models, built-ins, the user's functions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch

from ridgeline.data.steps import step_ends
from ridgeline.models.load import load_tokenizer
from ridgeline.models.score_model import ScoreModel, score_forward
from ridgeline.rewards.combine import Component, RewardSet, function_reward
from ridgeline.rewards.reward_model import EnsembleDoubt, JudgeReward
from ridgeline.schema.records import Sample
from ridgeline.schema.stages.common import RewardSpec, Work
from ridgeline.stages.context import StageContext
from ridgeline.training.local import LocalEngine


def reward_set(
    context: StageContext,
    engine: LocalEngine,
    rewards: Sequence[RewardSpec],
    monitors: Sequence[RewardSpec] = (),
) -> RewardSet:
    """All components; ``rewards`` add up to the total, ``monitors`` are only recorded.

    A reward model of several heads has a monitor beside it, which records how far they differ.
    """
    weighted = [(component_for(context, engine, spec), spec.weight) for spec in rewards]
    watched = [component_for(context, engine, spec) for spec in monitors]
    return RewardSet(weighted, [*watched, *doubts([*(component for component, _ in weighted), *watched])])


def doubts(components: Sequence[Component]) -> list[Component]:
    """A monitor for each component that is a reward model of several heads."""
    return [EnsembleDoubt(each) for each in components if isinstance(each, JudgeReward) and each.heads > 1]


def component_for(context: StageContext, engine: LocalEngine, spec: RewardSpec) -> Component:
    """An earlier stage's reward model runs on the engine; anything else in a process that can be killed."""
    if not context.is_stage(spec.function):
        return function_reward(spec.function, timeout=spec.timeout)
    return judge_reward(context, engine, spec.function)


def judge_reward(context: StageContext, engine: LocalEngine, stage: str) -> JudgeReward:
    """The reward model that ``stage`` made, loaded once per engine; process models give step scores too."""
    role = f"judge {stage}"
    if role not in engine.roles:
        work = Work()
        engine.add(
            role, context.score_model(stage), score_forward, tokens_per_microbatch=work.tokens_per_microbatch
        )
    model = engine.roles[role].module
    assert isinstance(model, ScoreModel)

    ends = None
    if model.kind.has_steps:
        tokenizer = load_tokenizer(str(context.output_of(stage).model))
        ends = partial(step_ends, tokenizer=tokenizer, separator=model.kind.step_separator)
    return JudgeReward(stage, partial(engine.score, role), step_ends=ends, heads=len(model.kind.combining))


def rewards_tensor(samples: Sequence[Sample], prompts: int, name: str = "total") -> torch.Tensor:
    """``[P, G]`` in prompt-major order, nan where the reward is not applicable."""
    values = [sample.rewards.get(name) for sample in samples]
    flat = torch.tensor([float("nan") if value is None else value for value in values], dtype=torch.float32)
    return flat.view(prompts, -1)
