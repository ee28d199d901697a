"""Seconds of this library's own passes on this machine, by kind and shape of the micro-batch."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ridgeline.models.batch import MicroBatch
from ridgeline.models.forward import PolicyForward
from ridgeline.models.probe import supports_packing
from ridgeline.models.recompute import enable_recomputing, recomputing
from ridgeline.rollout.native import new_sampler
from ridgeline.schema.stages.common import Adapter, Optimiser, Sampling
from ridgeline.training.optimiser import MasterAdamW
from ridgeline.workbench.decoding import Decoding, DecodingProbe
from ridgeline.workbench.rates import Rates, Timer
from ridgeline.workbench.shapes import Shape
from ridgeline.workbench.stand_in import FEW, StandIns

TOKENS = 2048
"""Tokens of a timed pass, at most."""
_OPERATIONS = 1e11
"""Operations in the layers of a timed forward pass, at most: large models are timed on fewer tokens."""
_LEAST_TOKENS = 256
"""With fewer, writing the gradients of the weights would outweigh what a token costs."""
_SLICE = 2**24
"""Parameters on which the optimizer is timed."""
_FREE = Decoding(Rates(), Rates())


@dataclass(frozen=True)
class _Pass:
    """A pass of one micro-batch, as the engine makes it."""

    scores: PolicyForward
    learns: bool
    recomputes: bool = False

    def __call__(self, module: PreTrainedModel, batch: MicroBatch, packed: bool) -> None:
        if not self.learns:
            with torch.no_grad():
                self.scores(module, batch, packed)
            return
        if self.recomputes:
            enable_recomputing(module)
        with recomputing(module) if self.recomputes else nullcontext():
            self.scores(module, batch, packed)["logp"].sum().backward()
        for parameter in module.parameters():
            parameter.grad = None


class Passes:
    """What passes cost, by kind and coarse shape; each is timed once, the first time it is asked for.

    With ``timed`` off nothing is timed and everything costs 0, for whoever wants to know memory alone.
    """

    def __init__(self, models: StandIns, tokenizer: PreTrainedTokenizerBase, *, timed: bool = True) -> None:
        self.models, self.tokenizer, self.timed = models, tokenizer, timed
        self._rates: dict[object, Rates] = {}
        self._optimiser: tuple[float, float] | None = None
        self._packs: dict[int, bool] = {}
        self._timer = Timer(models)
        self._decoding = DecodingProbe(self._timer, tokenizer)

    def packs(self, longest: int) -> bool:
        """Whether the model's rows can be laid end to end."""
        if longest not in self._packs:
            self._packs[longest] = supports_packing(self.models.get(FEW, self.models.small), longest)
        return self._packs[longest]

    def sampler(self) -> tuple[str, int]:
        """What samples, with the reason if it is not the native one, and completions decoded at a time."""
        found, name = new_sampler(self.models.get(FEW, self.models.small), self.tokenizer, [])
        return name, int(getattr(found, "slots", None) or getattr(found, "rows"))  # noqa: B009

    def forward(self, shape: Shape, packed: bool, *, states: bool = False) -> Rates:
        """A pass without gradients."""
        return self._timed(shape, packed, _Pass(PolicyForward(states=states), learns=False), TOKENS, None)

    def train(
        self,
        shape: Shape,
        packed: bool,
        *,
        entropy: bool = False,
        adapter: Adapter | None = None,
        checkpointing: bool = False,
        tokens: int = TOKENS,
    ) -> Rates:
        """Forward and backward passes of micro-batches of ``tokens``."""
        run = _Pass(PolicyForward(entropy=entropy), learns=True, recomputes=checkpointing)
        return self._timed(shape, packed, run, tokens, adapter)

    def decode(self, rows: int, samples: int, prompt: float, sampling: Sampling) -> Decoding:
        """``rows`` completions side by side, ``samples`` of each prompt, at their mean length so far."""
        return self._decoding(rows, samples, prompt, sampling) if self.timed else _FREE

    def _timed(self, shape: Shape, packed: bool, run: _Pass, tokens: int, adapter: Adapter | None) -> Rates:
        if not self.timed:
            return Rates()
        limit = min(tokens, TOKENS, self._affordable())
        small = shape.coarse().within(limit).rounded()
        key = (small, packed, run, limit, str(adapter))
        if key not in self._rates:
            (self._rates[key],) = self._timer.rates(
                key, lambda: (self._time_pass(small, packed, run, limit, adapter),)
            )
        return self._rates[key]

    def _time_pass(
        self, small: Shape, packed: bool, run: _Pass, limit: int, adapter: Adapter | None
    ) -> Rates:
        generator = np.random.default_rng(0)
        count = max(1, int(limit // small.padded_tokens))
        units = [small.unit(self.models.small, generator) for _ in range(count)]
        batch = MicroBatch.of(units, self.models.device)
        return self._timer.apart(
            lambda module: self._timer.best(lambda: run(module, batch, packed)),
            adapter,
            count * small.tokens(packed),
            count * small.scored,
        )

    def _affordable(self) -> int:
        """Tokens of a pass through the larger stand-in that a machine does in about a tenth of a second."""
        return max(_LEAST_TOKENS, int(_OPERATIONS / (2 * self.models.more * self.models.facts.per_layer)))

    def optimiser(self) -> tuple[float, float]:
        """Seconds per parameter: adding up the gradients of a micro-batch, and an optimizer step."""
        if not self.timed:
            return 0.0, 0.0
        if self._optimiser is None:
            adding, stepping = self._timer.kept.get(("optimiser", _SLICE), self._time_optimiser)
            self._optimiser = adding, stepping
        return self._optimiser

    def _time_optimiser(self) -> tuple[float, float]:
        side = int(_SLICE**0.5)
        module = nn.Linear(side, side, bias=False, device=self.models.device, dtype=self.models.dtype)
        adam = MasterAdamW(module, Optimiser())
        gradient = torch.full_like(module.weight, 1e-3)

        def accumulate() -> None:
            module.weight.grad = gradient
            adam.accumulate()

        def step() -> None:
            accumulate()
            adam.step(1e-5, adam.gradient_norm())

        both = self._timer.best(step, least=4)
        adding = self._timer.best(accumulate, least=4)
        return adding / _SLICE, max(both - adding, 0.0) / _SLICE
