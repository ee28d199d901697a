"""What a recipe will do, before anything runs: resolved values, batch arithmetic, memory and time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ridgeline.models.hardware import resolve_device, resolve_dtype
from ridgeline.rollout.native import NATIVE
from ridgeline.schema.errors import RidgelineError, UsageError
from ridgeline.schema.recipe import Recipe
from ridgeline.schema.stages import DistillStage, Stage
from ridgeline.stages.pipeline import check_stages
from ridgeline.training.allocator import tune_allocator
from ridgeline.workbench.costs import Setting, StageWork
from ridgeline.workbench.facts import ModelFacts, local_tokenizer, model_facts
from ridgeline.workbench.machine import available_memory, resident_memory
from ridgeline.workbench.memory import Parts, stage_memory
from ridgeline.workbench.passes import Passes
from ridgeline.workbench.sources import data_of_stages
from ridgeline.workbench.stand_in import StandIns
from ridgeline.workbench.work import stage_work

METHOD = (
    "Estimates. Time: this library's own passes, timed now or during the last day on one to a few layers of "
    "the model with random weights, and extrapolated to all of them; rewards, files and what is done once "
    "are left out. "
    "Memory: exact tensor shapes, activations counted on the same layers."
)
AT_MOST = (
    "Lengths of completions are not known before: they count at their limit, so times are at most these."
)
STAND_IN_SHARE = 0.25
"""Of the available memory, what the layers that are timed may take."""


@dataclass(frozen=True)
class StagePlan:
    """One stage: counts to read, memory by part (bytes), seconds by kind of work."""

    stage: Stage
    work: StageWork
    memory: Parts
    assumed: list[str]
    """Data and teachers that are not on this machine, for which sizes were assumed."""

    @property
    def peak(self) -> float:
        return sum(self.memory.values())

    def as_dict(self) -> dict[str, Any]:
        dominant = self.work.dominant
        return {
            "name": self.stage.name,
            "type": self.stage.type,
            "counts": self.work.counts,
            "memory_bytes": self.memory,
            "seconds": self.work.seconds,
            "seconds_per_step": self.work.seconds_per_step,
            "dominant": None if dominant is None else {"part": dominant[0], "share": dominant[1]},
            "at_most": self.work.at_most,
            "assumed": self.assumed,
        }


@dataclass(frozen=True)
class Machine:
    """Where the plan was made: the working format, what samples, and memory (bytes; None: unknown).

    ``available`` is what this process may hold in all, ``resident`` what it held before any model.
    """

    device: str
    dtype: str
    sampler: str
    available: int | None
    resident: int

    def as_dict(self) -> dict[str, Any]:
        return {
            "device": self.device,
            "dtype": self.dtype,
            "sampler": self.sampler,
            "available_bytes": self.available,
        }


@dataclass(frozen=True)
class Plan:
    """The whole recipe. ``smaller`` says that even single layers were too large to be timed as they are."""

    recipe: Recipe
    facts: ModelFacts
    machine: Machine
    stages: list[StagePlan]
    smaller: bool = False

    @property
    def available(self) -> int | None:
        return self.machine.available

    @property
    def peak(self) -> float:
        """Bytes of this process in the hungriest stage."""
        return self.machine.resident + max(stage.peak for stage in self.stages)

    @property
    def seconds(self) -> float:
        return sum(stage.work.total_seconds for stage in self.stages)

    @property
    def at_most(self) -> bool:
        return any(stage.work.at_most for stage in self.stages)

    @property
    def shortage(self) -> str | None:
        """One sentence on memory that will not suffice, and what would help; None: it will, or is unknown."""
        if self.available is None or self.peak <= self.available:
            return None
        stage = max(self.stages, key=lambda each: each.peak)
        return (
            f"stage '{stage.stage.name}' needs about {self.peak / 1e9:.1f} GB of memory where "
            f"{self.available / 1e9:.1f} GB are available; {remedies(stage.stage, stage.memory)}."
        )

    @property
    def method(self) -> str:
        smaller = " The layers that were timed are smaller than the model's, and scaled by operations."
        return METHOD + (smaller if self.smaller else "") + (f" {AT_MOST}" if self.at_most else "")

    def as_dict(self) -> dict[str, Any]:
        return {
            "recipe": self.recipe.model_dump(mode="json"),
            "model": self.facts.as_dict(),
            "machine": self.machine.as_dict(),
            "stages": [stage.as_dict() for stage in self.stages],
            "peak_bytes": self.peak,
            "shortage": self.shortage,
            "seconds": self.seconds,
            "method": self.method,
        }


def make_plan(recipe: Recipe, *, timed: bool = True, mean_tokens: float | None = None) -> Plan:
    """Plan ``recipe`` on this machine; reads data files and the model's configuration, downloads nothing.

    ``mean_tokens`` is the expected length of completions (None: their limit). Without ``timed`` memory is
    planned alone, in a fraction of a second, and all seconds are 0.

    Raises:
        UsageError, DataError: whatever would stop the run at its start.
    """
    check_stages(recipe)
    resident = resident_memory()
    device = resolve_device(recipe.device)
    dtype = resolve_dtype(recipe.dtype, device)
    free = available_memory(device)
    facts = model_facts(recipe.model)
    if timed:
        tune_allocator()  # as a run does
    models = StandIns(facts, device=device, dtype=dtype, room=None if free is None else STAND_IN_SHARE * free)
    passes = Passes(models, local_tokenizer(recipe.model, recipe.chat_template), timed=timed)
    sampler, slots = passes.sampler()
    sources = data_of_stages(recipe)
    stages = []
    for stage in recipe.stage:
        teachers, unknown = _teachers(stage, recipe, facts)
        setting = Setting(
            recipe, sources[stage.name], facts, passes, sampler == NATIVE, slots, teachers, mean_tokens
        )
        stages.append(_stage_plan(stage, setting, unknown))
    own = resident if device.type == "cpu" else 0
    available = None if free is None else free + own
    machine = Machine(str(device), str(dtype).removeprefix("torch."), sampler, available, own)
    return Plan(recipe, facts, machine, stages, models.is_smaller and timed)


def memory_shortage(recipe: Recipe) -> str | None:
    """``Plan.shortage``, cheaply; None also where nothing can be planned, since the run will say why."""
    try:
        return make_plan(recipe, timed=False).shortage
    except RidgelineError:
        return None


def remedies(stage: Stage, memory: Parts) -> str:
    """What would lower ``memory`` of ``stage``, what saves most first."""
    work = getattr(stage, "work", None)
    saved = {}
    if work is not None:
        waiting = memory.get("activations", 0.0)
        saved["lower work.tokens_per_microbatch"] = 0.5 * (waiting + memory.get("logits", 0.0))
        if not work.checkpointing:
            saved["set work.checkpointing = true"] = 0.8 * waiting
    if getattr(stage, "adapter", False) is None:
        state = ("float32 masters", "Adam moments", "gradients", "reference")
        saved["train an adapter (adapter = { rank = 16 })"] = sum(memory.get(part, 0.0) for part in state)
    saved["sample fewer or shorter completions"] = 0.5 * memory.get("key-value cache", 0.0)
    helping = sorted((name for name, size in saved.items() if size), key=lambda name: -saved[name])
    return ", or ".join([*helping, "take a smaller model"])


def _stage_plan(stage: Stage, setting: Setting, unknown: list[str]) -> StagePlan:
    work = stage_work(stage, setting)
    assumed = [source for source, found in setting.data.items() if not found.counted]
    return StagePlan(stage, work, stage_memory(stage, setting, work), [*assumed, *unknown])


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
