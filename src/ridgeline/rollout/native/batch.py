"""Continuous batching: finished completions leave, waiting ones take their place, until all are done."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from ridgeline.rollout.distribution import draw_tokens
from ridgeline.rollout.draws import UInt64Array, uniforms
from ridgeline.rollout.native.decoder import NativeDecoder, Rows
from ridgeline.rollout.request import PromptRequest
from ridgeline.rollout.rules import Rules
from ridgeline.rollout.shaping import Written

REFILL = 4
"""Waiting prompts are read when one slot in so many is free: few, large readings, and slots seldom idle."""
READ = 2**15
"""Positions of prompts that are read at one time, padding included: memory, not speed."""

Places = npt.NDArray[np.int64]


class Batch:
    """The completions of one call: which wait, which are being written, and in which slots.

    Completions are numbered in the order in which they are asked for and admitted. Arrays that end in _S or
    _ST have a row per slot: the completion that it holds, its stream of draws, the page and length of its
    prompt, and its first ``length`` tokens with their log-probs.
    """

    def __init__(
        self,
        decoder: NativeDecoder,
        requests: Sequence[PromptRequest],
        rules: Rules,
        streams: UInt64Array,
        slots: int,
    ) -> None:
        self.decoder, self.requests, self.rules, self.streams = decoder, requests, rules, streams
        self.stop_ids = np.array(sorted(rules.stop_ids), dtype=np.int64)
        self.owners = np.repeat(np.arange(len(requests)), [request.samples for request in requests])
        self.left = [request.samples for request in requests]
        self.done: list[tuple[list[int], list[float]]] = [([], [])] * len(self.owners)
        self.waiting = 0  # the number of the first completion that waits
        self.active: Places = np.empty(0, dtype=np.int64)

        limit = rules.sampling.max_new_tokens
        self.number_S, self.page_S, self.prompt_S, self.length_S = np.zeros((4, slots), dtype=np.int64)
        self.stream_S = np.zeros(slots, dtype=np.uint64)
        self.tokens_ST = np.zeros((slots, limit), dtype=np.int64)
        self.logp_ST = np.zeros((slots, limit))
        self.free_slots = list(range(slots))
        # A prompt's page is free again when its last completion leaves: never more than slots in use.
        pages = min(slots, len(requests))
        self.free_pages = list(range(pages))
        self.page_of: dict[int, int] = {}
        self.first_logits: dict[int, torch.Tensor] = {}
        decoder.reserve(pages, max(len(request.prompt_ids) for request in requests), slots, limit)

    def run(self) -> list[tuple[list[int], list[float]]]:
        """Tokens and log-probs of every completion."""
        slots = len(self.free_slots)
        while self.waiting < len(self.owners) or len(self.active):
            enough = len(self.free_slots) * REFILL >= slots or not len(self.active)
            if self.waiting < len(self.owners) and enough:
                self._admit()
            if len(self.active):
                self.active = self._write(self.active, self.decoder.step(self._rows()))
        return self.done

    def _admit(self) -> None:
        """Waiting completions into the free slots; their prompts are read, their first tokens drawn."""
        count = min(len(self.free_slots), len(self.owners) - self.waiting)
        numbers = np.arange(self.waiting, self.waiting + count)
        slots = np.array([self.free_slots.pop() for _ in numbers])
        owners = self.owners[numbers].tolist()
        self._read([owner for owner in dict.fromkeys(owners) if owner not in self.page_of])
        self.number_S[slots], self.stream_S[slots], self.length_S[slots] = numbers, self.streams[numbers], 0
        self.page_S[slots] = [self.page_of[owner] for owner in owners]
        self.prompt_S[slots] = [len(self.requests[owner].prompt_ids) for owner in owners]
        logits_BV = torch.stack([self.first_logits[owner] for owner in owners])
        self.waiting += count
        # Admitted in order, so that completions of one prompt at most were parted.
        parted = self.owners[self.waiting : self.waiting + 1].tolist()
        self.first_logits = {owner: row for owner, row in self.first_logits.items() if owner in parted}
        self.active = np.concatenate([self.active, self._write(slots, logits_BV)])

    def _read(self, requests: list[int]) -> None:
        """Keys, values and first logits of whole prompts, not all at one time."""
        longest = max((len(self.requests[owner].prompt_ids) for owner in requests), default=1)
        together = max(1, READ // longest)
        for start in range(0, len(requests), together):
            part = requests[start : start + together]
            pages = [self.free_pages.pop() for _ in part]
            self.page_of.update(zip(part, pages, strict=True))
            logits_PV = self.decoder.prefill([self.requests[owner].prompt_ids for owner in part], pages)
            self.first_logits.update(zip(part, logits_PV, strict=True))

    def _rows(self) -> Rows:
        slots, last = self.active, self.length_S[self.active] - 1
        parts = (self.tokens_ST[slots, last], self.page_S[slots], slots, self.prompt_S[slots], last)
        return Rows(*map(torch.from_numpy, parts))

    def _write(self, slots: Places, logits_BV: torch.Tensor) -> Places:
        """Draw a token for each of ``slots`` and note it; those that end are freed, the rest returned."""
        lengths, limit = self.length_S[slots], self.rules.sampling.max_new_tokens
        uniform_B = torch.from_numpy(uniforms(self.stream_S[slots], lengths))
        tokens, logp = draw_tokens(logits_BV, self.rules.sampling, uniform_B, self._written(slots))
        self.tokens_ST[slots, lengths], self.logp_ST[slots, lengths] = tokens.numpy(), logp.numpy()
        self.length_S[slots] += 1
        ended = np.isin(tokens.numpy(), self.stop_ids) | (lengths + 1 >= limit)
        if self.rules.sampling.stop:
            for row in np.flatnonzero(~ended):
                ended[row] = self.rules.stops.ended(self._tokens(slots[row]))
        for slot in slots[ended].tolist():
            self._leave(slot)
        return slots[~ended]

    def _written(self, slots: Places) -> Written | None:
        if not self.rules.shapes:
            return None
        owners = self.owners[self.number_S[slots]].tolist()
        prompts = [self.requests[owner].prompt_ids for owner in owners]
        return Written(prompts, [self._tokens(slot) for slot in slots], self.rules.bias)

    def _tokens(self, slot: int | np.int64) -> list[int]:
        tokens: list[int] = self.tokens_ST[slot, : self.length_S[slot]].tolist()
        return tokens

    def _leave(self, slot: int) -> None:
        number = self.number_S[slot]
        self.done[number] = self._tokens(slot), self.logp_ST[slot, : self.length_S[slot]].tolist()
        self.free_slots.append(slot)
        owner = int(self.owners[number])
        self.left[owner] -= 1
        if self.left[owner] == 0:
            self.free_pages.append(self.page_of.pop(owner))
