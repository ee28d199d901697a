"""The native sampler of one model, and when it can be used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ridgeline.models.architecture import Unsupported
from ridgeline.rollout.draws import stream_keys
from ridgeline.rollout.native.batch import Batch
from ridgeline.rollout.native.decoder import NativeDecoder
from ridgeline.rollout.plain import PlainSampler
from ridgeline.rollout.request import PromptRequest, Sampler
from ridgeline.schema.records import Sample
from ridgeline.schema.stages.common import Sampling

NATIVE = "native"
"""What `new_sampler` says of the native sampler."""
SLOTS = 64, 256
"""Completions at one time: so many in any case, and so many where their keys and values fit."""
PAGES = 2 * 2**30
"""Bytes that keys and values of more than the smaller number of slots may take."""


def new_sampler(
    module: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, stop_ids: list[int]
) -> tuple[Sampler, str]:
    """The native sampler where the model allows it, else the plain one; and which, with the reason."""
    plain = PlainSampler(module, tokenizer, stop_ids)
    if module.device.type != "cpu":
        return plain, f"plain (the native sampler runs on CPUs, not on {module.device.type})"
    try:
        return NativeSampler(plain, NativeDecoder(module)), NATIVE
    except Unsupported as reason:
        return plain, f"plain ({reason})"


@dataclass
class NativeSampler:
    """Draws the same tokens as `PlainSampler`, up to the rounding of logits.

    ``slots`` bounds the completions that are decoded at one time.
    """

    plain: PlainSampler
    decoder: NativeDecoder
    slots: int = SLOTS[1]
    weight_version: int = 0

    @torch.no_grad()
    def __call__(
        self, requests: Sequence[PromptRequest], sampling: Sampling, *, seed: int, step: int
    ) -> list[Sample]:
        """All samples of the first request, then of the second, and so on.

        Raises:
            DataError: an empty prompt, or a prompt with the new tokens beyond the model's positions.
            UsageError: a bias on what is not one token of the model.
        """
        self.plain.check(requests, sampling)
        rules = self.plain.rules(sampling)
        self.decoder.weights.refresh()
        asked = [(request, request.first + i) for request in requests for i in range(request.samples)]
        streams = stream_keys(seed, step, [request.id for request, _ in asked], [index for _, index in asked])
        if not asked:
            return []
        slots = min(self.slots, len(asked))
        longest = max(len(request.prompt_ids) for request in requests)
        # The completions of a prompt share its keys and values.
        shared = longest * min(slots, len(requests)) / slots
        slots = min(slots, self.room(sampling.max_new_tokens + shared))
        done = Batch(self.decoder, requests, rules, streams, slots).run()
        return [
            rules.finished(request, index, tokens, logprobs, self.weight_version)
            for (request, index), (tokens, logprobs) in zip(asked, done, strict=True)
        ]

    def room(self, positions: float) -> int:
        """Slots whose keys and values, for so many positions each, fit into `PAGES`; within `SLOTS`."""
        body, numbers = self.decoder.body, 2 * self.plain.module.dtype.itemsize
        bytes_each = positions * len(body.layers) * body.kv_heads * body.size * numbers
        return max(SLOTS[0], min(SLOTS[1], int(PAGES / bytes_each)))
