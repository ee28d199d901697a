"""What a recipe will do, before anything runs: resolved values, batch arithmetic, memory and time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ridgeline.models.hardware import resolve_device, resolve_dtype
from ridgeline.schema.recipe import Recipe
from ridgeline.schema.stages import CollectStage, RewardModelStage, SftStage, Stage
from ridgeline.stages.pipeline import check_stages
from ridgeline.workbench.facts import DataFacts, ModelFacts, data_facts, local_tokenizer, model_facts
from ridgeline.workbench.machine import Speed, available_memory, measure_speed
from ridgeline.workbench.memory import Parts, stage_memory
from ridgeline.workbench.work import StageWork, stage_work

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
    """Sources that are not on this machine, for which sizes were assumed."""

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
    sources = _sources(recipe)
    stages = [
        _stage_plan(stage, recipe, sources[stage.name], facts, speed, torch.finfo(dtype).bits // 8)
        for stage in recipe.stage
    ]
    return Plan(recipe, facts, speed, stages, available_memory(device))


def _stage_plan(
    stage: Stage,
    recipe: Recipe,
    data: dict[str, DataFacts],
    facts: ModelFacts,
    speed: Speed,
    itemsize: int,
) -> StagePlan:
    work = stage_work(stage, recipe, data, facts, speed)
    memory = stage_memory(
        stage,
        recipe,
        facts,
        itemsize=itemsize,
        prompt_tokens=work.prompt_tokens,
        completions=work.completions,
    )
    held = {name: size for name, size in memory.items() if size}
    return StagePlan(stage, work, held, [source for source, found in data.items() if not found.counted])


def _sources(recipe: Recipe) -> dict[str, dict[str, DataFacts]]:
    """Per stage, what is in each of its sources; output of an earlier stage counts as it was asked for."""
    tokenizer = local_tokenizer(recipe.model, recipe.chat_template)
    made: dict[str, DataFacts] = {}
    found: dict[str, dict[str, DataFacts]] = {}
    seen: dict[tuple[str, str], DataFacts] = {}
    for stage in recipe.stage:
        found[stage.name] = {}
        for key in ("data", "prompts", "heldout"):
            source = vars(stage).get(key)
            if not isinstance(source, str):
                continue
            kind = _kind(stage)
            if source in made:
                facts = made[source]
            else:
                facts = seen.get((source, kind)) or data_facts(source, kind, tokenizer)
                seen[source, kind] = facts
            found[stage.name][source] = facts
        if isinstance(stage, CollectStage):
            prompts = found[stage.name][stage.prompts]
            made[stage.name] = DataFacts(stage.pairs, prompts.tokens + stage.sampling.max_new_tokens)
    return found


def _kind(stage: Stage) -> str:
    if isinstance(stage, SftStage):
        return "instruction"
    return "preference" if isinstance(stage, RewardModelStage) else "prompt"
