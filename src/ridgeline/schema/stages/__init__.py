"""One file per stage: its options, each documented under itself."""

from __future__ import annotations

from typing import Annotated, get_args

from pydantic import Field

from ridgeline.schema.stages.collect import CollectStage
from ridgeline.schema.stages.common import StageConfig
from ridgeline.schema.stages.distill import DistillStage
from ridgeline.schema.stages.evaluate import EvaluateStage
from ridgeline.schema.stages.merge import MergeStage
from ridgeline.schema.stages.preference import PreferenceStage
from ridgeline.schema.stages.reject import RejectStage
from ridgeline.schema.stages.reward_model import RewardModelStage
from ridgeline.schema.stages.rl import RlStage
from ridgeline.schema.stages.sft import SftStage
from ridgeline.schema.stages.unpaired import UnpairedStage

_AnyStage = (
    SftStage
    | CollectStage
    | RewardModelStage
    | PreferenceStage
    | UnpairedStage
    | RlStage
    | RejectStage
    | DistillStage
    | MergeStage
    | EvaluateStage
)
Stage = Annotated[_AnyStage, Field(discriminator="type")]

STAGE_TYPES: dict[str, type[StageConfig]] = {
    stage.model_fields["type"].default: stage for stage in get_args(_AnyStage)
}
"""Every kind of stage by the word that recipes use for it."""

__all__ = [
    "STAGE_TYPES",
    "CollectStage",
    "DistillStage",
    "EvaluateStage",
    "MergeStage",
    "PreferenceStage",
    "RejectStage",
    "RewardModelStage",
    "RlStage",
    "SftStage",
    "Stage",
    "UnpairedStage",
]
