"""Seconds of this library's own passes on this machine, timed on stand-ins of the model.

Three stand-ins tell the parts of a pass apart: few layers, more layers, and few layers with the whole
vocabulary. The difference of the first two is what layers cost, that of the last to the first is the head.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import astuple, dataclass

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ridgeline.models.batch import MicroBatch
from ridgeline.models.forward import PolicyForward
from ridgeline.models.probe import supports_packing
from ridgeline.models.recompute import enable_recomputing, recomputing
from ridgeline.rollout.native import new_sampler
from ridgeline.rollout.request import PromptRequest
from ridgeline.schema.stages.common import Adapter, Optimiser, Sampling
from ridgeline.training.optimiser import MasterAdamW
from ridgeline.workbench.kept_timings import KeptTimings
from ridgeline.workbench.shapes import Shape, coarse
from ridgeline.workbench.stand_in import FEW, StandIns

TOKENS = 2048
"""Tokens of a timed pass, at most."""
_OPERATIONS = 1e11
"""Operations in the layers of a timed forward pass, at most: large models are timed on fewer tokens."""
_LEAST_TOKENS = 256
"""With fewer, writing the gradients of the weights would outweigh what a token costs."""
_SHORT, _LONG = 2, 14
"""New tokens of two timed samplings; their difference is what steps cost without reading the prompt."""
_MOST_ROWS = 256
"""Up to so many rows, decoding is timed at powers of 4 and is nearly linear in between."""
_SHARING = 4
"""Completions of a prompt where it has more than one: what steps cost hardly depends on how many."""
_SLICE = 2**24
"""Parameters on which the optimizer is timed."""
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


@dataclass(frozen=True)
class Decoding:
    """``step``: one more token of one completion of ``rows``; ``read``: one token of a prompt."""

    step: Rates = Rates()
    read: Rates = Rates()


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
        self._decoding: dict[object, Decoding] = {}
        self._optimiser: tuple[float, float] | None = None
        self._packs: dict[int, bool] = {}
        self._kept = KeptTimings(models) if timed else None

    def packs(self, longest: int) -> bool:
        """Whether the model's rows can be laid end to end."""
        if longest not in self._packs:
            self._packs[longest] = supports_packing(self.models.get(FEW, self.models.small), longest)
        return self._packs[longest]

    def sampler(self) -> tuple[str, int]:
        """What samples, with the reason if it is not the native one, and completions decoded at a time."""
        found, name = self._new_sampler(FEW, self.models.small)
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

    def _timed(self, shape: Shape, packed: bool, run: _Pass, tokens: int, adapter: Adapter | None) -> Rates:
        if not self.timed:
            return Rates()
        limit = min(tokens, TOKENS, self._affordable())
        small = shape.coarse().within(limit).rounded()
        key = (small, packed, run, limit, str(adapter))
        if key not in self._rates:
            (self._rates[key],) = self._rates_of(
                key, lambda: (self._time_pass(small, packed, run, limit, adapter),)
            )
        return self._rates[key]

    def _rates_of(self, asked: tuple[object, ...], measure: Callable[[], tuple[Rates, ...]]) -> list[Rates]:
        """Rates that were kept for ``asked``, or are measured now."""
        assert self._kept is not None
        flat = self._kept.get(asked, lambda: [value for rates in measure() for value in astuple(rates)])
        return [Rates(*flat[first : first + 3]) for first in range(0, len(flat), 3)]

    def _time_pass(
        self, small: Shape, packed: bool, run: _Pass, limit: int, adapter: Adapter | None
    ) -> Rates:
        generator = np.random.default_rng(0)
        count = max(1, int(limit // small.padded_tokens))
        units = [small.unit(self.models.small, generator) for _ in range(count)]
        batch = MicroBatch.of(units, self.models.device)
        return self._apart(
            lambda module: self._best(lambda: run(module, batch, packed)),
            adapter,
            count * small.tokens(packed),
            count * small.scored,
        )

    def _affordable(self) -> int:
        """Tokens of a pass through the larger stand-in that a machine does in about a tenth of a second."""
        return max(_LEAST_TOKENS, int(_OPERATIONS / (2 * self.models.more * self.models.facts.per_layer)))

    def _apart(
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

    def decode(self, rows: int, samples: int, prompt: float, sampling: Sampling) -> Decoding:
        """``rows`` completions side by side, ``samples`` of each prompt, at their mean length so far."""
        if not self.timed:
            return Decoding()
        # Timed in the middle of a completion, where as much context is read as on average.
        read = max(1, round(prompt + sampling.max_new_tokens / 2))
        positions = getattr(self.models.facts.config.get_text_config(), "max_position_embeddings", None)
        read = coarse(read) if positions is None else min(coarse(read), positions - _LONG)
        if rows > _MOST_ROWS:
            return self._decode_at(coarse(rows), samples, read, sampling)
        below = 4 ** ((rows.bit_length() - 1) // 2)
        found = self._decode_at(below, samples, read, sampling)
        if below == rows:
            return found
        # Seconds of a step are linear in rows; rates are per row.
        above, share = self._decode_at(4 * below, samples, read, sampling), (rows - below) / (3 * below)
        return Decoding(
            found.step.towards(above.step, 4 * below * share / rows), found.read.towards(above.read, share)
        )

    def _decode_at(self, rows: int, samples: int, read: int, sampling: Sampling) -> Decoding:
        samples = min(_SHARING, rows) if samples > 1 else 1
        how = sampling.model_copy(update={"max_new_tokens": 1}).model_dump_json()
        key = ("decode", rows, samples, read, how)
        if key not in self._decoding:

            def measure() -> tuple[Rates, Rates]:
                found = self._decode(rows, samples, read, sampling)
                return found.step, found.read

            self._decoding[key] = Decoding(*self._rates_of(key, measure))
        return self._decoding[key]

    def _decode(self, rows: int, samples: int, prompt: int, sampling: Sampling) -> Decoding:
        generator = np.random.default_rng(0)
        sizes = [min(samples, rows - first) for first in range(0, rows, samples)]
        requests = [
            PromptRequest(str(number), generator.integers(0, self.models.small, prompt).tolist(), size)
            for number, size in enumerate(sizes)
        ]
        found: dict[PreTrainedModel, dict[int, float]] = {}

        def timed(module: PreTrainedModel, new: int) -> float:
            if module not in found:
                sampler, _ = new_sampler(module, self.tokenizer, [])

                def run(length: int) -> object:
                    asked = sampling.model_copy(update={"max_new_tokens": length})
                    return sampler(requests, asked, seed=0, step=0)

                found[module] = {
                    _SHORT: self._best(lambda: run(_SHORT)),
                    _LONG: self._best(lambda: run(_LONG)),
                }
            return found[module][new]

        def step(module: PreTrainedModel) -> float:
            return (timed(module, _LONG) - timed(module, _SHORT)) / (_LONG - _SHORT)

        def reading(module: PreTrainedModel) -> float:
            return max(timed(module, _SHORT) - _SHORT * step(module), 0.0)

        return Decoding(
            self._apart(step, None, rows, rows), self._apart(reading, None, len(sizes) * prompt, 1)
        )

    def _new_sampler(self, layers: int, vocabulary: int) -> tuple[object, str]:
        return new_sampler(self.models.get(layers, vocabulary), self.tokenizer, [])

    def optimiser(self) -> tuple[float, float]:
        """Seconds per parameter: adding up the gradients of a micro-batch, and an optimizer step."""
        if not self.timed:
            return 0.0, 0.0
        if self._optimiser is None:
            assert self._kept is not None
            adding, stepping = self._kept.get(("optimiser", _SLICE), self._time_optimiser)
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

        both = self._best(step, least=4)
        adding = self._best(accumulate, least=4)
        return adding / _SLICE, max(both - adding, 0.0) / _SLICE

    def _best(self, work: Callable[[], object], *, least: int = 2) -> float:
        """Seconds of the fastest of a few runs: warming up, and other work on the machine, only add."""
        taken: list[float] = []
        while len(taken) < least or (len(taken) < _BEST_OF and sum(taken) < _ENOUGH):
            start = time.perf_counter()
            work()
            if self.models.device.type != "cpu":
                torch.accelerator.synchronize()
            taken.append(time.perf_counter() - start)
        return min(taken)
