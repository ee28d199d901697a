"""One file per stage: its options, each documented under itself."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ridgeline.schema.stages.collect import CollectStage
from ridgeline.schema.stages.evaluate import EvaluateStage
from ridgeline.schema.stages.reward_model import RewardModelStage
from ridgeline.schema.stages.rl import RlStage
from ridgeline.schema.stages.sft import SftStage

Stage = Annotated[
    SftStage | CollectStage | RewardModelStage | RlStage | EvaluateStage, Field(discriminator="type")
]

STAGE_TYPES: dict[
    str,
    type[SftStage] | type[CollectStage] | type[RewardModelStage] | type[RlStage] | type[EvaluateStage],
] = {
    "sft": SftStage,
    "collect": CollectStage,
    "reward_model": RewardModelStage,
    "rl": RlStage,
    "evaluate": EvaluateStage,
}

__all__ = [
    "STAGE_TYPES",
    "CollectStage",
    "EvaluateStage",
    "RewardModelStage",
    "RlStage",
    "SftStage",
    "Stage",
]
