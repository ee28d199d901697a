"""Next-token logits of an arithmetic mixture of policies: what MiniLLM draws its completions from."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from ridgeline.rollout.decoder import Decoder
from ridgeline.rollout.request import PromptRequest


class ArithmeticMixture:
    """Logits whose softmax at ``temperature`` is sum_i weight_i * softmax(logits_i / temperature).

    The first decoder's vocabulary counts: families pad their heads to different sizes beyond the tokens that
    exist. Raises ValueError for weights that do not sum to 1. Source: Gu et al. 2024 (MiniLLM), section 2.2,
    with the student first and its teachers behind it.
    """

    def __init__(self, decoders: Sequence[Decoder], weights: Sequence[float], temperature: float) -> None:
        if not math.isclose(sum(weights), 1.0) or len(weights) != len(decoders):
            raise ValueError(f"{len(decoders)} decoders need as many weights that sum to 1, got {weights}")
        self.decoders = decoders
        self.weights = weights
        self.temperature = temperature

    def prefill(self, requests: Sequence[PromptRequest], owners: Sequence[int]) -> torch.Tensor:
        return self._mix([decoder.prefill(requests, owners) for decoder in self.decoders])

    def step(self, chosen: torch.Tensor) -> torch.Tensor:
        return self._mix([decoder.step(chosen) for decoder in self.decoders])

    def keep(self, rows: torch.Tensor) -> None:
        for decoder in self.decoders:
            decoder.keep(rows)

    def _mix(self, logits: Sequence[torch.Tensor]) -> torch.Tensor:
        width = logits[0].shape[-1]
        parts = []
        for logits_BV, weight in zip(logits, self.weights, strict=True):
            logp_BV = torch.log_softmax(logits_BV.float() / self.temperature, dim=-1)[:, :width]
            missing = width - logp_BV.shape[-1]
            parts.append(math.log(weight) + torch.nn.functional.pad(logp_BV, (0, missing), value=-math.inf))
        return self.temperature * torch.logsumexp(torch.stack(parts), 0)
