"""The plain sampler: transformers' own forward and cache. The oracle for every faster one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ridgeline.rollout.decoder import Decoder, ModelDecoder
from ridgeline.rollout.distribution import draw, log_distribution
from ridgeline.rollout.draws import stream_keys, uniforms
from ridgeline.rollout.request import PromptRequest
from ridgeline.rollout.rules import Rules
from ridgeline.rollout.shaping import Written, token_bias
from ridgeline.rollout.stops import StopStrings
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
            UsageError: a bias on what is not one token of the model.
        """
        self.check(requests, sampling)
        rules = self.rules(sampling)
        samples: list[Sample] = []
        for part in _parts(requests, self.rows):
            samples += self._decode(part, rules, seed, step)
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

    def rules(self, sampling: Sampling) -> Rules:
        """``sampling`` for this model.

        Raises:
            UsageError: a bias on what is not one token of the model.
        """
        head = self.module.get_output_embeddings()
        assert isinstance(head.weight, torch.Tensor)
        bias = token_bias(self.tokenizer, sampling, head.weight.shape[0])
        return Rules(sampling, StopStrings(self.tokenizer, sampling.stop), frozenset(self.stop_ids), bias)

    def _decode(self, requests: Sequence[PromptRequest], rules: Rules, seed: int, step: int) -> list[Sample]:
        owners = [number for number, request in enumerate(requests) for _ in range(request.samples)]
        indices = [request.first + i for request in requests for i in range(request.samples)]
        streams = stream_keys(seed, step, [requests[number].id for number in owners], indices)
        decoder = self.new_decoder() if self.new_decoder is not None else ModelDecoder(self.module)
        logits_BV = decoder.prefill(requests, owners)
        tokens: list[list[int]] = [[] for _ in owners]
        logprobs: list[list[float]] = [[] for _ in owners]
        alive = list(range(len(owners)))
        for position in range(rules.sampling.max_new_tokens):
            written = None
            if rules.shapes:
                prompts = [requests[owners[row]].prompt_ids for row in alive]
                written = Written(prompts, [tokens[row] for row in alive], rules.bias)
            logp_BV = log_distribution(logits_BV, rules.sampling, written)
            chosen = draw(logp_BV, torch.from_numpy(uniforms(streams[alive], position)))
            picked = logp_BV.gather(-1, chosen[:, None])[:, 0]
            for row, token, logp in zip(alive, chosen.tolist(), picked.tolist(), strict=True):
                tokens[row].append(token)
                logprobs[row].append(logp)
            going = [number for number, row in enumerate(alive) if not rules.ended(tokens[row])]
            if len(going) == 0 or position + 1 == rules.sampling.max_new_tokens:
                break
            if len(going) < len(alive):
                alive = [alive[number] for number in going]
                kept = torch.tensor(going, device=chosen.device)
                decoder.keep(kept)
                chosen = chosen[kept]
            logits_BV = decoder.step(chosen)
        return [
            rules.finished(requests[number], index, tokens[row], logprobs[row], self.weight_version)
            for row, (number, index) in enumerate(zip(owners, indices, strict=True))
        ]


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
