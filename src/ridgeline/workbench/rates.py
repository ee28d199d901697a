"""Seconds of work on this machine, timed on stand-ins of the model.

Three stand-ins tell the parts of a pass apart: few layers, more layers, and few layers with the whole
vocabulary. The difference of the first two is what layers cost, that of the last to the first is the head.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import astuple, dataclass
from functools import cached_property

import torch
from transformers import PreTrainedModel

from ridgeline.schema.stages.common import Adapter
from ridgeline.workbench.kept_timings import KeptTimings
from ridgeline.workbench.stand_in import FEW, StandIns

_BEST_OF = 3
_ENOUGH = 0.15
"""Runs of what is timed, and seconds after which there are no more than two."""


@dataclass(frozen=True)
class Rates:
    """Seconds of a pass: per token and layer, per token besides, and per scored token in the head."""

    layer: float = 0.0
    rest: float = 0.0
    head: float = 0.0

    def seconds(self, tokens: float, scored: float, layers: float) -> float:
        return tokens * (layers * self.layer + self.rest) + scored * self.head

    def towards(self, other: Rates, share: float) -> Rates:
        """These, moved towards ``other`` by ``share`` of the way."""
        mixed = ((1.0 - share) * a + share * b for a, b in zip(astuple(self), astuple(other), strict=True))
        return Rates(*mixed)


class Timer:
    """Times work on the stand-ins ``models``."""

    def __init__(self, models: StandIns) -> None:
        self.models = models

    @cached_property
    def kept(self) -> KeptTimings:
        """What was timed during the last day."""
        return KeptTimings(self.models)

    def rates(self, asked: tuple[object, ...], measure: Callable[[], tuple[Rates, ...]]) -> list[Rates]:
        """Rates that were kept for ``asked``, or are measured now."""
        flat = self.kept.get(asked, lambda: [value for rates in measure() for value in astuple(rates)])
        return [Rates(*flat[first : first + 3]) for first in range(0, len(flat), 3)]

    def apart(
        self,
        seconds: Callable[[PreTrainedModel], float],
        adapter: Adapter | None,
        tokens: float,
        scored: float,
    ) -> Rates:
        """Layer, rest and head of what ``seconds`` measures."""
        models = self.models
        few = seconds(models.get(FEW, models.small, adapter))
        whole = seconds(models.get(FEW, models.vocabulary, adapter))
        layer = few / FEW
        if models.more > FEW:
            more = seconds(models.get(models.more, models.small, adapter))
            layer = max(more - few, 0.0) / (models.more - FEW)
        return Rates(
            layer=models.layer_scale * layer / tokens,
            rest=max(few - FEW * layer, 0.0) / tokens,
            head=models.head_scale * max(whole - few, 0.0) / scored,
        )

    def best(self, work: Callable[[], object], *, least: int = 2) -> float:
        """Seconds of the fastest of a few runs: warming up, and other work on the machine, only add."""
        taken: list[float] = []
        while len(taken) < least or (len(taken) < _BEST_OF and sum(taken) < _ENOUGH):
            start = time.perf_counter()
            work()
            if self.models.device.type != "cpu":
                torch.accelerator.synchronize()
            taken.append(time.perf_counter() - start)
        return min(taken)
