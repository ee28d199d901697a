"""What the arithmetic of every stage rests on: counts to read, and seconds of passes over tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ridgeline.rollout.plain import PlainSampler
from ridgeline.schema.recipe import Recipe
from ridgeline.schema.stages.common import Adapter
from ridgeline.workbench.data_facts import DataFacts
from ridgeline.workbench.facts import ModelFacts
from ridgeline.workbench.machine import Speed

Numbers = dict[str, float | str]


@dataclass
class StageWork:
    """Counts to read, seconds by kind of work, and what memory depends on.

    Lengths of completions are unknown before sampling, so each is taken at its limit: an upper bound.
    ``completions`` are sampled at one time (0: the stage samples nothing); ``unit_tokens`` is the length of
    what a micro-batch never splits.
    """

    counts: Numbers = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    completions: int = 0
    prompt_tokens: float = 0.0
    unit_tokens: float = 0.0

    @property
    def total_seconds(self) -> float:
        return sum(self.seconds.values())


@dataclass(frozen=True)
class Setting:
    """The recipe, its data by source, its model, other models by name, and how fast this machine is."""

    recipe: Recipe
    data: Mapping[str, DataFacts]
    facts: ModelFacts
    speed: Speed
    teachers: Mapping[str, ModelFacts] = field(default_factory=dict)

    def forward(self, tokens: float, facts: ModelFacts | None = None) -> float:
        """Seconds of forward passes with all logits; ``facts`` of another model than the recipe's."""
        return self.speed.forward(per_token(facts or self.facts) * tokens)

    def decode(self, tokens: float, facts: ModelFacts | None = None) -> float:
        """Seconds of sampling ``tokens``, prompts included."""
        return self.speed.decode(per_token(facts or self.facts) * tokens)

    def learn(self, stage: Any, tokens: float) -> float:
        """Seconds of forward and backward passes of ``stage``."""
        return self.speed.train(learning_passes(stage, self.facts) * per_token(self.facts) * tokens)

    def split(self, whole: DataFacts, heldout: str | float) -> tuple[int, DataFacts]:
        """Rows to learn from, and what is held out: a file, or a share of ``whole``."""
        if isinstance(heldout, str):
            return whole.rows, self.data[heldout]
        held = round(heldout * whole.rows)
        return whole.rows - held, DataFacts(held, whole.tokens, whole.counted, whole.sides)


def per_token(facts: ModelFacts) -> float:
    """Operations of one token through layers and head, forward."""
    return facts.token_operations() + facts.head_operations


def learning_passes(stage: Any, facts: ModelFacts) -> float:
    """A step in forward passes: forward, gradient of the activations, and of the weights that learn.

    Activations that are not kept are computed once more.
    """
    return 2.0 + learning_share(stage, facts) + float(stage.work.checkpointing)


def learning_share(stage: Any, facts: ModelFacts) -> float:
    """Share of the weights that learns."""
    adapter = adapter_of(stage)
    return 1.0 if adapter is None else facts.adapter_parameters(adapter) / facts.parameters


def adapter_of(stage: Any) -> Adapter | None:
    """The adapter that ``stage`` trains."""
    adapter: Adapter | None = getattr(stage, "adapter", None)
    return adapter


def evaluations(steps: int, every: int) -> int:
    """Held-out evaluations: before, after, and every so many steps."""
    return 2 + (steps - 1) // every if every else 2


def micro_batches(units: int, tokens_per_unit: float, budget: int) -> int:
    """Whole units fill each micro-batch; a unit beyond the budget has one of its own."""
    fitting = max(1, int(budget // max(tokens_per_unit, 1.0)))
    return math.ceil(units / fitting)


def sampled_at_once(completions: int) -> int:
    """Completions that are decoded side by side."""
    return min(completions, PlainSampler.rows)
