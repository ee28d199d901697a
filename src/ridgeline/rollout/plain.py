"""The plain sampler: transformers' own forward and cache. The oracle for every faster one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ridgeline.rollout.decoder import Decoder, ModelDecoder
from ridgeline.rollout.distribution import draw, log_distribution
from ridgeline.rollout.draws import stream_keys, uniforms
from ridgeline.rollout.request import PromptRequest
from ridgeline.schema.errors import DataError
from ridgeline.schema.records import Sample
from ridgeline.schema.stages.common import Sampling


@dataclass
class PlainSampler:
    """Prefills every prompt once for all of its samples and drops finished rows.

    ``rows`` bounds the completions that are decoded at one time; it changes speed and memory, and results
    only by the rounding of matrix products of another shape. ``new_decoder`` makes what is drawn from; None:
    the module itself.
    """

    module: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    stop_ids: list[int]
    rows: int = 256
    weight_version: int = 0
    new_decoder: Callable[[], Decoder] | None = None

    @torch.no_grad()
    def __call__(
        self, requests: Sequence[PromptRequest], sampling: Sampling, *, seed: int, step: int
    ) -> list[Sample]:
        """All samples of the first request, then of the second, and so on.

        Raises:
            DataError: an empty prompt, or a prompt with the new tokens beyond the model's positions.
        """
        self.check(requests, sampling)
        samples: list[Sample] = []
        for part in _parts(requests, self.rows):
            samples += self._decode(part, sampling, seed, step)
        return samples

    def check(self, requests: Sequence[PromptRequest], sampling: Sampling) -> None:
        """Raises DataError for a prompt that is empty, or too long for the model with its new tokens."""
        limit = getattr(self.module.config, "max_position_embeddings", None)
        for request in requests:
            if not request.prompt_ids:
                raise DataError(f"prompt '{request.id}' is empty after tokenisation.")
            if limit is not None and len(request.prompt_ids) + sampling.max_new_tokens > limit:
                raise DataError(
                    f"prompt '{request.id}' has {len(request.prompt_ids)} tokens; with max_new_tokens = "
                    f"{sampling.max_new_tokens} it exceeds the model's {limit} positions."
                )

    def _decode(
        self, requests: Sequence[PromptRequest], sampling: Sampling, seed: int, step: int
    ) -> list[Sample]:
        owners = [number for number, request in enumerate(requests) for _ in range(request.samples)]
        indices = [request.first + i for request in requests for i in range(request.samples)]
        streams = stream_keys(seed, step, [requests[number].id for number in owners], indices)
        decoder = self.new_decoder() if self.new_decoder is not None else ModelDecoder(self.module)
        logits_BV = decoder.prefill(requests, owners)
        tokens: list[list[int]] = [[] for _ in owners]
        logprobs: list[list[float]] = [[] for _ in owners]
        alive = np.arange(len(owners))
        stops = torch.tensor(self.stop_ids, device=self.module.device)
        for position in range(sampling.max_new_tokens):
            logp_BV = log_distribution(logits_BV, sampling)
            chosen = draw(logp_BV, torch.from_numpy(uniforms(streams[alive], position)))
            picked = logp_BV.gather(-1, chosen[:, None])[:, 0]
            for row, token, logp in zip(alive.tolist(), chosen.tolist(), picked.tolist(), strict=True):
                tokens[row].append(token)
                logprobs[row].append(logp)
            going = (~torch.isin(chosen, stops)).nonzero()[:, 0]
            if len(going) == 0 or position + 1 == sampling.max_new_tokens:
                break
            if len(going) < len(alive):
                alive = alive[going.cpu().numpy()]
                decoder.keep(going)
                chosen = chosen[going]
            logits_BV = decoder.step(chosen)
        return [
            finished_sample(
                self, requests[number], index, tokens[row], logprobs[row], sampling, self.weight_version
            )
            for row, (number, index) in enumerate(zip(owners, indices, strict=True))
        ]


def finished_sample(
    sampler: PlainSampler,
    request: PromptRequest,
    index: int,
    tokens: list[int],
    logprobs: list[float],
    sampling: Sampling,
    weight_version: int,
) -> Sample:
    """The record of one completion; its text is without the token that ended it."""
    stopped = tokens[-1] in sampler.stop_ids
    text = str(sampler.tokenizer.decode(tokens[:-1] if stopped else tokens, skip_special_tokens=True))
    return Sample(
        prompt_id=request.id,
        index=index,
        prompt_ids=list(request.prompt_ids),
        completion_ids=tokens,
        logprobs=logprobs,
        generated=[True] * len(tokens),
        stop_reason="stop" if stopped else "length",
        text=text,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        weight_version=weight_version,
        row=request.row,
    )


def _parts(requests: Sequence[PromptRequest], rows: int) -> list[list[PromptRequest]]:
    """Whole prompts, at most ``rows`` completions at a time; a larger group is cut and prefilled per part."""
    parts: list[list[PromptRequest]] = []
    room = 0
    for request in requests:
        first, left = request.first, request.samples
        while left:
            take = min(left, rows)
            if not parts or take > room:
                parts.append([])
                room = rows
            parts[-1].append(PromptRequest(request.id, request.prompt_ids, take, first, request.row))
            first, left, room = first + take, left - take, room - take
    return parts
