"""Continuous batching: finished completions leave, waiting ones take their place, until all are done."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ridgeline.models import kernels
from ridgeline.models.architecture import Unsupported
from ridgeline.rollout.distribution import draw, log_distribution
from ridgeline.rollout.draws import UInt64Array, stream_keys, uniforms
from ridgeline.rollout.native.decoder import NativeDecoder, Rows
from ridgeline.rollout.plain import PlainSampler, finished_sample
from ridgeline.rollout.request import PromptRequest, Sampler
from ridgeline.schema.records import Sample
from ridgeline.schema.stages.common import Sampling

REFILL = 4
"""Waiting prompts are read when one slot in so many is free: few, large readings, and slots seldom idle."""


def new_sampler(
    module: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, stop_ids: list[int]
) -> tuple[Sampler, str]:
    """The native sampler where the model allows it, else the plain one; and which, with the reason."""
    plain = PlainSampler(module, tokenizer, stop_ids)
    if module.device.type != "cpu":
        return plain, f"plain (the native sampler runs on CPUs, not on {module.device.type})"
    try:
        return NativeSampler(plain, NativeDecoder(module)), "native"
    except Unsupported as reason:
        return plain, f"plain ({reason})"


@dataclass
class Writing:
    """One completion: its request, its number, and what it has so far."""

    request: int
    index: int
    stream: np.uint64
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)


@dataclass
class NativeSampler:
    """Draws the same tokens as `PlainSampler`, up to the rounding of logits.

    ``slots`` bounds the completions that are decoded at one time.
    """

    plain: PlainSampler
    decoder: NativeDecoder
    slots: int = 64
    weight_version: int = 0

    @torch.no_grad()
    def __call__(
        self, requests: Sequence[PromptRequest], sampling: Sampling, *, seed: int, step: int
    ) -> list[Sample]:
        """All samples of the first request, then of the second, and so on.

        Raises:
            DataError: an empty prompt, or a prompt with the new tokens beyond the model's positions.
        """
        self.plain.check(requests, sampling)
        self.decoder.weights.refresh()
        batch = _Batch(self, requests, sampling, seed, step)
        done = batch.run()
        return [
            finished_sample(
                self.plain,
                requests[writing.request],
                writing.index,
                writing.tokens,
                writing.logprobs,
                sampling,
                self.weight_version,
            )
            for writing in done
        ]


class _Batch:
    """The completions of one call: which wait, which are being written, and in which slots."""

    def __init__(
        self,
        sampler: NativeSampler,
        requests: Sequence[PromptRequest],
        sampling: Sampling,
        seed: int,
        step: int,
    ) -> None:
        self.decoder, self.requests, self.sampling = sampler.decoder, requests, sampling
        self.stops = np.array(sampler.plain.stop_ids, dtype=np.int64)
        owners = [number for number, request in enumerate(requests) for _ in range(request.samples)]
        indices = [request.first + i for request in requests for i in range(request.samples)]
        streams = stream_keys(seed, step, [requests[number].id for number in owners], indices)
        self.all = [Writing(*each) for each in zip(owners, indices, streams, strict=True)]
        self.waiting = deque(self.all)
        slots = min(sampler.slots, len(self.all))
        longest = max((len(request.prompt_ids) for request in requests), default=1)
        # A prompt's page is free again when its last completion leaves: never more than slots in use.
        self.decoder.reserve(slots, longest, slots, sampling.max_new_tokens)
        self.free_slots, self.free_pages = list(range(slots))[::-1], list(range(slots))[::-1]
        self.total = slots
        self.page_of: dict[int, int] = {}
        self.first_logits: dict[int, torch.Tensor] = {}
        self.left = [request.samples for request in requests]
        self.active: list[Writing] = []
        self.slot_of: list[int] = []

    def run(self) -> list[Writing]:
        while self.waiting or self.active:
            if self.waiting and (not self.active or len(self.free_slots) * REFILL >= self.total):
                self._admit()
            if self.active:
                self._advance()
        return self.all

    def _admit(self) -> None:
        """Waiting completions into the free slots; their prompts are read, their first tokens drawn."""
        count = min(len(self.free_slots), len(self.waiting))
        coming = [self.waiting.popleft() for _ in range(count)]
        new = [n for n in dict.fromkeys(writing.request for writing in coming) if n not in self.page_of]
        if new:
            pages = [self.free_pages.pop() for _ in new]
            self.page_of.update(zip(new, pages, strict=True))
            logits_PV = self.decoder.prefill([self.requests[number].prompt_ids for number in new], pages)
            self.first_logits.update(zip(new, logits_PV, strict=True))
        logits_BV = torch.stack([self.first_logits[writing.request] for writing in coming])
        going = self._write(coming, logits_BV)
        for writing, goes in zip(coming, going, strict=True):
            if goes:
                self.active.append(writing)
                self.slot_of.append(self.free_slots.pop())
        waiting = {writing.request for writing in self.waiting}
        self.first_logits = {number: row for number, row in self.first_logits.items() if number in waiting}

    def _advance(self) -> None:
        """One more token of every active completion; those that end with it free their slots."""
        logits_BV = self.decoder.step(self._rows())
        going = self._write(self.active, logits_BV)
        if all(going):
            return
        self.free_slots += [slot for slot, goes in zip(self.slot_of, going, strict=True) if not goes]
        self.slot_of = [slot for slot, goes in zip(self.slot_of, going, strict=True) if goes]
        self.active = [writing for writing, goes in zip(self.active, going, strict=True) if goes]

    def _rows(self) -> Rows:
        active = self.active
        return Rows(
            tokens=torch.tensor([writing.tokens[-1] for writing in active]),
            prompts=torch.tensor([self.page_of[writing.request] for writing in active]),
            slots=torch.tensor(self.slot_of),
            prompt_lengths=torch.tensor(
                [len(self.requests[writing.request].prompt_ids) for writing in active]
            ),
            written=torch.tensor([len(writing.tokens) - 1 for writing in active]),
        )

    def _write(self, rows: list[Writing], logits_BV: torch.Tensor) -> list[bool]:
        """Draw a token for each row and note it; which rows go on."""
        positions = np.array([len(writing.tokens) for writing in rows])
        streams = np.array([writing.stream for writing in rows], dtype=np.uint64)
        tokens, logprobs = self._draw(logits_BV, streams, positions)
        limit = self.sampling.max_new_tokens
        going: list[bool] = (~np.isin(tokens, self.stops) & (positions + 1 < limit)).tolist()
        for writing, token, logp, goes in zip(rows, tokens.tolist(), logprobs.tolist(), going, strict=True):
            writing.tokens.append(token)
            writing.logprobs.append(logp)
            if not goes:
                self._leave(writing.request)
        return going

    def _leave(self, request: int) -> None:
        self.left[request] -= 1
        if self.left[request] == 0:
            self.free_pages.append(self.page_of.pop(request))

    def _draw(
        self, logits_BV: torch.Tensor, streams: UInt64Array, positions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        uniform = torch.from_numpy(uniforms(streams, positions))
        sampling = self.sampling
        if sampling.temperature > 0 and not sampling.top_k and sampling.top_p == 1:
            tokens, logp = kernels.draw(logits_BV, uniform, sampling.temperature)
        else:
            logp_BV = log_distribution(logits_BV, sampling)
            tokens = draw(logp_BV, uniform)
            logp = logp_BV.gather(-1, tokens[:, None])[:, 0]
        return tokens.numpy(), logp.numpy()
