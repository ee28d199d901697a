"""The rewards that a stage names, as components: earlier reward models, built-ins, the user's functions."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ridgeline.models.batch import Unit
from ridgeline.models.score_model import score_forward
from ridgeline.rewards.combine import Component, RewardSet, function_reward
from ridgeline.rewards.reward_model import ModelReward
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
    """All components; ``rewards`` add up to the total, ``monitors`` are only recorded."""
    return RewardSet(
        [(component_for(context, engine, spec), spec.weight) for spec in rewards],
        [component_for(context, engine, spec) for spec in monitors],
    )


def component_for(context: StageContext, engine: LocalEngine, spec: RewardSpec) -> Component:
    """An earlier stage's reward model runs on the engine; anything else in a process that can be killed."""
    if not context.is_stage(spec.function):
        return function_reward(spec.function, timeout=spec.timeout)
    role = f"judge {spec.function}"
    if role not in engine.roles:
        model = context.score_model(spec.function)
        work = Work()
        engine.add(role, model, score_forward, tokens_per_microbatch=work.tokens_per_microbatch)

    def score(units: Sequence[Unit]) -> list[float]:
        return [float(scores["score"]) for scores in engine.score(role, units)]

    return ModelReward(spec.function, score)


def rewards_tensor(samples: Sequence[Sample], prompts: int, name: str = "total") -> torch.Tensor:
    """``[P, G]`` in prompt-major order, nan where the reward is not applicable."""
    values = [sample.rewards.get(name) for sample in samples]
    flat = torch.tensor([float("nan") if value is None else value for value in values], dtype=torch.float32)
    return flat.view(prompts, -1)
