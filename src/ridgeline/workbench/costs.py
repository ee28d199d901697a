"""What the arithmetic of every stage rests on: counts to read, and seconds of passes over units."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ridgeline.rollout.native.sampler import PAGES, SLOTS
from ridgeline.rollout.plain import PlainSampler
from ridgeline.schema.recipe import Recipe
from ridgeline.schema.stages.common import Adapter, Sampling, Work
from ridgeline.workbench.data_facts import DataFacts
from ridgeline.workbench.facts import ModelFacts
from ridgeline.workbench.passes import Passes
from ridgeline.workbench.shapes import Shape, coarse

Numbers = dict[str, float | str]
NOTHING = Shape(0.0, 0.0, 0.0)
LEARNING, STEPPING = "learning", "optimizer steps"
WITHIN_STEPS = (
    "sampling",
    "reference and scoring",
    "scoring whole steps",
    LEARNING,
    "learning from other text",
    STEPPING,
)
"""Kinds of work that every step does; the others come before, after or between steps."""


@dataclass
class StageWork:
    """Counts to read, seconds by kind of work, and what memory depends on.

    ``steps`` of the loop (0: the stage does not learn); ``in_steps`` are the kinds of work that they share.
    ``completions`` are sampled for one step, or for the stage (0: none are), from ``prompts`` prompts.
    ``shape`` is what a micro-batch never splits, with completions at their longest, and a step learns from
    ``units`` of it. ``at_most`` says that lengths nobody knows yet were taken at their limit.
    """

    counts: Numbers = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    steps: float = 0.0
    in_steps: tuple[str, ...] = WITHIN_STEPS
    completions: int = 0
    prompt_tokens: float = 0.0
    shape: Shape = NOTHING
    units: int = 0
    at_most: bool = False

    def add(self, seconds: Mapping[str, float]) -> None:
        """More of some kinds of work."""
        for kind, more in seconds.items():
            self.seconds[kind] = self.seconds.get(kind, 0.0) + more

    @property
    def total_seconds(self) -> float:
        return sum(self.seconds.values())

    @property
    def seconds_per_step(self) -> float | None:
        """Of one step of the loop, evaluations and what comes before the first left out."""
        if not self.steps:
            return None
        return sum(self.seconds.get(kind, 0.0) for kind in self.in_steps) / self.steps

    @property
    def dominant(self) -> tuple[str, float] | None:
        """The kind of work that takes longest, and its share of the stage."""
        if not self.total_seconds:
            return None
        kind = max(self.seconds, key=self.seconds.__getitem__)
        return kind, self.seconds[kind] / self.total_seconds


@dataclass(frozen=True)
class Setting:
    """The recipe, its data by source, its model, other models by name, and what passes cost here.

    ``slots`` completions are decoded side by side at most, by the ``native`` sampler or the plain one.
    ``mean_tokens`` is the expected length of a completion; None: its limit.
    """

    recipe: Recipe
    data: Mapping[str, DataFacts]
    facts: ModelFacts
    passes: Passes
    native: bool = False
    slots: int = PlainSampler.rows
    teachers: Mapping[str, ModelFacts] = field(default_factory=dict)
    mean_tokens: float | None = None

    def written(self, sampling: Sampling) -> float:
        """Tokens of a completion, as far as known."""
        limit = float(sampling.max_new_tokens)
        return limit if self.mean_tokens is None else min(limit, self.mean_tokens)

    def packed(self, stage: Any) -> bool:
        """Whether ``stage`` lays its rows end to end."""
        work = getattr(stage, "work", Work())
        return work.layout != "padded" and self.passes.packs(getattr(stage, "max_length", 0))

    def forward(
        self,
        stage: Any,
        units: float,
        shape: Shape,
        *,
        facts: ModelFacts | None = None,
        layers: int | None = None,
        head: bool = True,
        states: bool = False,
    ) -> float:
        """Seconds of scoring ``units``, with their ``states`` where they are saved.

        ``facts`` of another model than the recipe's, by its operations.
        """
        if not units:
            return 0.0
        packed = self.packed(stage)
        rates = self.passes.forward(shape, packed, states=states)
        scored = shape.scored if head else 0.0
        once = rates.seconds(shape.tokens(packed), scored, layers or self.facts.layers)
        return units * once * self._times(facts)

    def learn(
        self,
        stage: Any,
        steps: float,
        units: float,
        shape: Shape,
        *,
        entropy: bool = False,
        layers: int | None = None,
        head: bool = True,
        adapter: Adapter | None = None,
    ) -> dict[str, float]:
        """Seconds of ``steps`` steps on ``units`` units each: forward and backward passes, and the optimizer.

        ``layers`` and ``head``: what of the model is read (None: all of it).
        """
        packed, read = self.packed(stage), layers or self.facts.layers
        budget = stage.work.tokens_per_microbatch
        rates = self.passes.train(
            shape,
            packed,
            entropy=entropy,
            adapter=adapter,
            checkpointing=stage.work.checkpointing,
            tokens=coarse(min(budget, units * shape.padded_tokens)),
        )
        once = units * rates.seconds(shape.tokens(packed), shape.scored if head else 0.0, read)
        learned = self.facts.parameters if head else self.facts.backbone(read)
        if adapter is not None:
            learned = self.facts.adapter_parameters(adapter)
        adding, stepping = self.passes.optimiser()
        pieces = micro_batches(math.ceil(units), shape, budget)
        return {LEARNING: steps * (once + pieces * learned * adding), STEPPING: steps * learned * stepping}

    def decode(
        self,
        prompts: float,
        prompt_tokens: float,
        samples: float,
        sampling: Sampling,
        *,
        facts: ModelFacts | None = None,
    ) -> float:
        """Seconds of ``samples`` completions for each of ``prompts`` prompts."""
        completions = prompts * samples
        if not completions:
            return 0.0
        # Those that end early leave the rest alone: on average so many are active.
        active = completions * self.written(sampling) / sampling.max_new_tokens
        rows = self.sampled_at_once(active, prompt_tokens + sampling.max_new_tokens)
        found = self.passes.decode(rows, max(1, round(samples)), prompt_tokens, sampling)
        written = completions * self.written(sampling)
        layers = self.facts.layers
        seconds = found.step.seconds(written, written, layers)
        return (seconds + found.read.seconds(prompts * prompt_tokens, 0.0, layers)) * self._times(facts)

    def _times(self, facts: ModelFacts | None) -> float:
        """How many times more operations a model has than the recipe's."""
        return 1.0 if facts is None else per_token(facts) / per_token(self.facts)

    def sampled_at_once(self, completions: float, positions: float) -> int:
        """Completions of ``positions`` tokens with their prompt that are decoded side by side."""
        fitting = math.ceil(completions)
        if self.native:
            each = positions * self.facts.layers * self.facts.kv_width * 2 * self.passes.models.dtype.itemsize
            fitting = min(fitting, max(SLOTS[0], int(PAGES // each)))
        return max(1, min(fitting, self.slots))

    def split(self, whole: DataFacts, heldout: str | float) -> tuple[int, DataFacts]:
        """Rows to learn from, and what is held out: a file, or a share of ``whole``."""
        if isinstance(heldout, str):
            return whole.rows, self.data[heldout]
        held = round(heldout * whole.rows)
        return whole.rows - held, DataFacts(held, whole.tokens, whole.counted, whole.sides, whole.prompt)


def per_token(facts: ModelFacts) -> float:
    """Operations of one token through layers and head, forward."""
    return facts.token_operations() + facts.head_operations


def adapter_of(stage: Any) -> Adapter | None:
    """The adapter that ``stage`` trains."""
    adapter: Adapter | None = getattr(stage, "adapter", None)
    return adapter


def evaluations(steps: int, every: int) -> int:
    """Held-out evaluations: before, after, and every so many steps."""
    return 2 + (steps - 1) // every if every else 2


def units_at_once(units: int, shape: Shape, budget: int) -> int:
    """Whole units that fill a micro-batch of ``budget`` padded tokens; one beyond the budget is alone."""
    return max(1, min(units, int(budget // max(shape.padded_tokens, 1.0))))


def micro_batches(units: int, shape: Shape, budget: int) -> int:
    """Micro-batches of ``units`` units."""
    return math.ceil(units / units_at_once(units, shape, budget))
