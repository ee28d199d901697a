"""What a recipe will do, before anything runs: resolved values, batch arithmetic, memory and time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ridgeline.models.hardware import resolve_device, resolve_dtype
from ridgeline.schema.errors import UsageError
from ridgeline.schema.recipe import Recipe
from ridgeline.schema.stages import DistillStage, Stage
from ridgeline.stages.pipeline import check_stages
from ridgeline.workbench.costs import Setting, StageWork
from ridgeline.workbench.facts import ModelFacts, model_facts
from ridgeline.workbench.machine import Speed, available_memory, measure_speed
from ridgeline.workbench.memory import Parts, stage_memory
from ridgeline.workbench.sources import data_of_stages
from ridgeline.workbench.work import stage_work

METHOD = (
    "Estimates. Time: operations of the matrix products, over the rate that a short timing of this machine "
    "gave, times the share of it that whole passes reach on the embedded model (rough: a factor of 2 either "
    "way, more when the machine is busy). Memory: exact tensor shapes, activations by a rule of thumb. "
    "Completions count at their longest."
)


@dataclass(frozen=True)
class StagePlan:
    """One stage: counts to read, memory by part (bytes), seconds by kind of work."""

    stage: Stage
    work: StageWork
    memory: Parts
    assumed: list[str]
    """Data and teachers that are not on this machine, for which sizes were assumed."""

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.stage.name,
            "type": self.stage.type,
            "counts": self.work.counts,
            "memory_bytes": self.memory,
            "seconds": self.work.seconds,
            "assumed": self.assumed,
        }


@dataclass(frozen=True)
class Plan:
    """The whole recipe."""

    recipe: Recipe
    facts: ModelFacts
    speed: Speed
    stages: list[StagePlan]
    available: int | None

    @property
    def peak(self) -> float:
        """Bytes of the hungriest stage."""
        return max(sum(stage.memory.values()) for stage in self.stages)

    @property
    def seconds(self) -> float:
        return sum(stage.work.total_seconds for stage in self.stages)

    def as_dict(self) -> dict[str, Any]:
        return {
            "recipe": self.recipe.model_dump(mode="json"),
            "model": self.facts.as_dict(),
            "machine": {**self.speed.as_dict(), "available_bytes": self.available},
            "stages": [stage.as_dict() for stage in self.stages],
            "peak_bytes": self.peak,
            "seconds": self.seconds,
            "method": METHOD,
        }


def make_plan(recipe: Recipe) -> Plan:
    """Plan ``recipe`` on this machine; reads data files and the model's configuration, downloads nothing.

    Raises:
        UsageError, DataError: whatever would stop the run at its start.
    """
    check_stages(recipe)
    device = resolve_device(recipe.device)
    dtype = resolve_dtype(recipe.dtype, device)
    facts = model_facts(recipe.model)
    speed = measure_speed(device, dtype, hidden=facts.hidden, intermediate=facts.intermediate)
    sources = data_of_stages(recipe)
    itemsize = torch.finfo(dtype).bits // 8
    stages = []
    for stage in recipe.stage:
        teachers, unknown = _teachers(stage, recipe, facts)
        setting = Setting(recipe, sources[stage.name], facts, speed, teachers)
        stages.append(_stage_plan(stage, setting, itemsize, unknown))
    return Plan(recipe, facts, speed, stages, available_memory(device))


def _stage_plan(stage: Stage, setting: Setting, itemsize: int, unknown: list[str]) -> StagePlan:
    work = stage_work(stage, setting)
    memory = stage_memory(stage, setting, work, itemsize=itemsize)
    assumed = [source for source, found in setting.data.items() if not found.counted]
    return StagePlan(stage, work, memory, [*assumed, *unknown])


def _teachers(stage: Stage, recipe: Recipe, facts: ModelFacts) -> tuple[dict[str, ModelFacts], list[str]]:
    """Sizes of the models that ``stage`` learns from, and those of them that are taken for the student's."""
    teachers: dict[str, ModelFacts] = {}
    unknown = []
    own = {"base", *(each.name for each in recipe.stage)}
    for teacher in stage.teacher if isinstance(stage, DistillStage) else []:
        try:
            teachers[teacher.model] = facts if teacher.model in own else model_facts(teacher.model)
        except UsageError:
            teachers[teacher.model] = facts
            unknown.append(teacher.model)
    return teachers, unknown
