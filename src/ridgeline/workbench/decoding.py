"""Seconds of decoding on this machine, timed with the sampler that the model would get."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ridgeline.rollout.native import new_sampler
from ridgeline.rollout.request import PromptRequest
from ridgeline.schema.stages.common import Sampling
from ridgeline.workbench.rates import Rates, Timer
from ridgeline.workbench.shapes import coarse

_SHORT, _LONG = 2, 14
"""New tokens of two timed samplings; their difference is what steps cost without reading the prompt."""
_MOST_ROWS = 256
"""Up to so many rows, decoding is timed at powers of 4 and is nearly linear in between."""
_SHARING = 4
"""Completions of a prompt where it has more than one: what steps cost hardly depends on how many."""


@dataclass(frozen=True)
class Decoding:
    """``step``: one more token of one completion of ``rows``; ``read``: one token of a prompt."""

    step: Rates
    read: Rates


class DecodingProbe:
    """What decoding costs, by rows and coarse length; each is timed once, the first time it is asked for."""

    def __init__(self, timer: Timer, tokenizer: PreTrainedTokenizerBase) -> None:
        self.timer, self.models, self.tokenizer = timer, timer.models, tokenizer
        self._found: dict[object, Decoding] = {}

    def __call__(self, rows: int, samples: int, prompt: float, sampling: Sampling) -> Decoding:
        """``rows`` completions side by side, ``samples`` of each prompt, at their mean length so far."""
        # Timed in the middle of a completion, where as much context is read as on average.
        read = max(1, round(prompt + sampling.max_new_tokens / 2))
        positions = getattr(self.models.facts.config.get_text_config(), "max_position_embeddings", None)
        read = coarse(read) if positions is None else min(coarse(read), positions - _LONG)
        if rows > _MOST_ROWS:
            return self._at(coarse(rows), samples, read, sampling)
        below = 4 ** ((rows.bit_length() - 1) // 2)
        found = self._at(below, samples, read, sampling)
        if below == rows:
            return found
        # Seconds of a step are linear in rows; rates are per row.
        above, share = self._at(4 * below, samples, read, sampling), (rows - below) / (3 * below)
        return Decoding(
            found.step.towards(above.step, 4 * below * share / rows), found.read.towards(above.read, share)
        )

    def _at(self, rows: int, samples: int, read: int, sampling: Sampling) -> Decoding:
        samples = min(_SHARING, rows) if samples > 1 else 1
        how = sampling.model_copy(update={"max_new_tokens": 1}).model_dump_json()
        key = ("decode", rows, samples, read, how)
        if key not in self._found:

            def measure() -> tuple[Rates, Rates]:
                found = self._time(rows, samples, read, sampling)
                return found.step, found.read

            self._found[key] = Decoding(*self.timer.rates(key, measure))
        return self._found[key]

    def _time(self, rows: int, samples: int, prompt: int, sampling: Sampling) -> Decoding:
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
                    _SHORT: self.timer.best(lambda: run(_SHORT)),
                    _LONG: self.timer.best(lambda: run(_LONG)),
                }
            return found[module][new]

        def step(module: PreTrainedModel) -> float:
            return (timed(module, _LONG) - timed(module, _SHORT)) / (_LONG - _SHORT)

        def reading(module: PreTrainedModel) -> float:
            return max(timed(module, _SHORT) - _SHORT * step(module), 0.0)

        return Decoding(
            self.timer.apart(step, None, rows, rows), self.timer.apart(reading, None, len(sizes) * prompt, 1)
        )
