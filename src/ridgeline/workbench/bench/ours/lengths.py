"""Completions of given lengths, out of samplers that end at a stop token and at one limit for all.

The logits of a row leave the stop token no chance until its last token, which can be nothing else. Everything
else about a sampler stays as it is: slots fall free and are filled again where rows end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from ridgeline.rollout.decoder import ModelDecoder
from ridgeline.rollout.native import NativeSampler
from ridgeline.rollout.plain import PlainSampler
from ridgeline.rollout.request import PromptRequest, Sampler

_NEVER = -3e4
"""A logit that no draw can reach; finite, because the difference of two infinities is no number."""


@contextmanager
def force_lengths(
    sampler: Sampler, requests: Sequence[PromptRequest], lengths: Sequence[int]
) -> Iterator[None]:
    """Inside, ``sampler`` writes exactly ``lengths`` tokens for ``requests`` (at least two each).

    Equal lengths need nothing but the limit. Unequal ones take one sample of each of distinct prompts, since
    a decoder is told of prompts and not of completions.
    """
    plain = sampler.plain if isinstance(sampler, NativeSampler) else sampler
    assert isinstance(plain, PlainSampler)
    if len(set(lengths)) == 1:
        yield
        return
    wanted = {tuple(request.prompt_ids): n for request, n in zip(requests, lengths, strict=True)}
    if len(wanted) < len(lengths) or min(lengths) < 2 or any(request.samples > 1 for request in requests):
        raise ValueError("unequal lengths need distinct prompts, one sample of each, two tokens or more")
    before, stop = plain.stop_ids, 0
    plain.stop_ids = [stop]
    try:
        if isinstance(sampler, NativeSampler):
            own: Any = sampler.decoder
            sampler.decoder = ForcedSlots(own, wanted, stop)  # type: ignore[assignment]
            try:
                yield
            finally:
                sampler.decoder = own
        else:
            plain.new_decoder = lambda: ForcedRows(plain, wanted, stop)
            try:
                yield
            finally:
                plain.new_decoder = None
    finally:
        plain.stop_ids = before


def _force(logits_BV: torch.Tensor, last_B: torch.Tensor, stop: int) -> torch.Tensor:
    logits_BV[:, stop] = _NEVER
    rows = last_B.nonzero()[:, 0]
    logits_BV[rows] = _NEVER
    logits_BV[rows, stop] = 0.0
    return logits_BV


class ForcedSlots:
    """A native decoder whose rows end when they should; prompts are told apart by the page they are in."""

    def __init__(self, decoder: Any, wanted: dict[tuple[int, ...], int], stop: int) -> None:
        self._decoder = decoder
        self._wanted = wanted
        self._stop = stop
        self._lengths = torch.zeros(0, dtype=torch.long)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._decoder, name)

    def prefill(self, prompts: Sequence[Sequence[int]], pages: Sequence[int]) -> torch.Tensor:
        longest = max(pages) + 1
        if longest > len(self._lengths):
            self._lengths = torch.cat([self._lengths, self._lengths.new_zeros(longest - len(self._lengths))])
        for prompt, page in zip(prompts, pages, strict=True):
            self._lengths[page] = self._wanted[tuple(prompt)]
        logits_PV: torch.Tensor = self._decoder.prefill(prompts, pages)
        return _force(logits_PV, torch.zeros(len(prompts), dtype=torch.bool), self._stop)

    def step(self, rows: Any) -> torch.Tensor:
        # Read is token number `written`, from 0, so what is drawn makes `written` + 2.
        last_B = self._lengths[rows.prompts] == rows.written + 2
        return _force(self._decoder.step(rows), last_B, self._stop)


class ForcedRows(ModelDecoder):
    """The plain decoder whose rows end when they should."""

    def __init__(self, sampler: PlainSampler, wanted: dict[tuple[int, ...], int], stop: int) -> None:
        super().__init__(sampler.module)
        self._wanted, self._stop = wanted, stop
        self._lengths = torch.zeros(0, dtype=torch.long)
        self._drawn = 1

    def prefill(self, requests: Sequence[PromptRequest], owners: Sequence[int]) -> torch.Tensor:
        self._lengths = torch.tensor([self._wanted[tuple(requests[n].prompt_ids)] for n in owners])
        logits_BV = super().prefill(requests, owners)
        return _force(logits_BV, self._lengths == 1, self._stop)

    def step(self, chosen: torch.Tensor) -> torch.Tensor:
        self._drawn += 1
        return _force(super().step(chosen), self._lengths == self._drawn, self._stop)

    def keep(self, rows: torch.Tensor) -> None:
        super().keep(rows)
        self._lengths = self._lengths[rows]
