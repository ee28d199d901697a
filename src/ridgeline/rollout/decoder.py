"""Next-token logits, one step at a time: what a sampler draws from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch
from transformers import DynamicCache, PreTrainedModel

from ridgeline.models.forward import head_logits
from ridgeline.rollout.request import PromptRequest


class Decoder(Protocol):
    """The state of one batch of completions; rows leave and never come back."""

    def prefill(self, requests: Sequence[PromptRequest], owners: Sequence[int]) -> torch.Tensor:
        """Read every prompt once; logits ``[B, V]`` of the first token of each completion.

        ``owners`` ``[B]`` names the request of each completion.
        """
        ...

    def step(self, chosen: torch.Tensor) -> torch.Tensor:
        """Read one token of each row ``[B]``; logits of the next ``[B, V]``."""
        ...

    def keep(self, rows: torch.Tensor) -> None:
        """Forget every row but these."""
        ...


class ModelDecoder:
    """transformers' own forward and cache.

    ``mode`` makes a context that every forward pass runs in (the model with its adapter off, say).
    """

    def __init__(
        self, module: PreTrainedModel, mode: Callable[[], AbstractContextManager[object]] = nullcontext
    ) -> None:
        self.module = module
        self.mode = mode
        self.cache = DynamicCache(config=module.config)
        self.visible = self.positions = torch.empty(0)

    def prefill(self, requests: Sequence[PromptRequest], owners: Sequence[int]) -> torch.Tensor:
        """Each prompt once (padded on the left, with explicit positions), then one cache row per sample."""
        width = max(len(request.prompt_ids) for request in requests)
        ids = torch.zeros(len(requests), width, dtype=torch.long)
        visible = torch.zeros(len(requests), width, dtype=torch.long)
        for number, request in enumerate(requests):
            ids[number, width - len(request.prompt_ids) :] = torch.tensor(request.prompt_ids)
            visible[number, width - len(request.prompt_ids) :] = 1
        ids, visible = ids.to(self.module.device), visible.to(self.module.device)
        positions = (visible.cumsum(-1) - 1).clamp_min(0)
        logits_PV = self._logits(ids, visible, positions)
        owner = torch.tensor(owners, device=self.module.device)
        self.cache.batch_select_indices(owner)
        self.visible, self.positions = visible[owner], positions[owner, -1] + 1
        return logits_PV[owner]

    def step(self, chosen: torch.Tensor) -> torch.Tensor:
        self.visible = torch.cat([self.visible, self.visible.new_ones(len(chosen), 1)], dim=1)
        logits_BV = self._logits(chosen[:, None], self.visible, self.positions[:, None])
        self.positions = self.positions + 1
        return logits_BV

    def keep(self, rows: torch.Tensor) -> None:
        self.cache.batch_select_indices(rows)
        self.visible, self.positions = self.visible[rows], self.positions[rows]

    def _logits(self, ids: torch.Tensor, visible: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        with self.mode():
            hidden = self.module.base_model(
                input_ids=ids,
                attention_mask=visible,
                position_ids=positions,
                past_key_values=self.cache,
                use_cache=True,
            ).last_hidden_state[:, -1]
            return head_logits(self.module, hidden)


class MixtureDecoder:
    """The geometric mixture of two policies: logits (1 - share) * log p + share * log q, up to a constant.

    The opponent of Nash-MD (Munos et al. 2024, equation 5), which mixes the policy with its reference.
    """

    def __init__(self, first: Decoder, second: Decoder, share: float) -> None:
        self.first, self.second, self.share = first, second, share

    def prefill(self, requests: Sequence[PromptRequest], owners: Sequence[int]) -> torch.Tensor:
        return self._mix(self.first.prefill(requests, owners), self.second.prefill(requests, owners))

    def step(self, chosen: torch.Tensor) -> torch.Tensor:
        return self._mix(self.first.step(chosen), self.second.step(chosen))

    def keep(self, rows: torch.Tensor) -> None:
        self.first.keep(rows)
        self.second.keep(rows)

    def _mix(self, first_BV: torch.Tensor, second_BV: torch.Tensor) -> torch.Tensor:
        logp_BV, logq_BV = (logits.float().log_softmax(-1) for logits in (first_BV, second_BV))
        return (1 - self.share) * logp_BV + self.share * logq_BV
