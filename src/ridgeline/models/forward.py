"""The forward pass over a micro-batch: hidden states, and log-probs of the scored tokens only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from ridgeline.models.batch import MicroBatch
from ridgeline.models.layout import Layout, lay_out
from ridgeline.models.pooling import completion_states
from ridgeline.objectives.logprobs import entropy as entropy_of
from ridgeline.objectives.logprobs import token_logprobs

HEAD_CHUNK = 1024
"""Scored positions whose logits exist at one time: [1024, 49152] float32 is 200 MB."""


def hidden_states(backbone: nn.Module, layout: Layout) -> torch.Tensor:
    """Last hidden states, flattened to ``[R * L, H]``, positions always explicit."""
    arguments: dict[str, Any] = {"position_ids": layout.positions_RL}
    if layout.allowed_RLL is not None:
        dtype = next(backbone.parameters()).dtype
        closed = torch.finfo(dtype).min
        mask = torch.zeros(layout.allowed_RLL.shape, dtype=dtype, device=layout.ids_RL.device)
        arguments["attention_mask"] = mask.masked_fill(~layout.allowed_RLL, closed)[:, None]
    output = backbone(input_ids=layout.ids_RL, use_cache=False, **arguments)
    hidden_RLH: torch.Tensor = output.last_hidden_state
    return hidden_RLH.flatten(0, 1)


def token_scores(
    module: PreTrainedModel,
    batch: MicroBatch,
    *,
    packed: bool,
    temperature: float = 1.0,
    entropy: bool = False,
    differentiable_entropy: bool = False,
    collision: bool = False,
    states: bool = False,
) -> dict[str, torch.Tensor]:
    """Log-prob of every scored token.

    Returns ``logp`` ``[B, N]`` (nats, 0 where nothing is scored) and, when asked for, ``entropy`` ``[B, N]``
    (nats; with gradient only when ``differentiable_entropy``), ``collision`` ``[B, N]`` (log sum_v p_v^2,
    nats, without gradient) and ``states`` ``[B, 4, H]`` (running means over the scored tokens of the states
    that enter the head, float32, without gradient). Logits are made for scored positions only, in chunks that
    are recomputed in the backward pass.
    """
    layout = lay_out(batch, packed=packed)
    flat_hidden = hidden_states(module.base_model, layout)
    before = [layout.token_index[i][torch.from_numpy(row.targets) - 1] for i, row in enumerate(batch.rows)]
    hidden_SH = flat_hidden[torch.cat(before)]
    ids_S = batch.target_ids()[batch.mask_BN]
    wanted = PolicyForward(temperature, entropy, differentiable_entropy, collision)
    parts = []
    for start in range(0, max(len(ids_S), 1), HEAD_CHUNK):
        part = hidden_SH[start : start + HEAD_CHUNK], ids_S[start : start + HEAD_CHUNK]
        if torch.is_grad_enabled() and len(ids_S) > HEAD_CHUNK:
            parts.append(checkpoint(_head_scores, module, *part, wanted, use_reentrant=False))
        else:
            parts.append(_head_scores(module, *part, wanted))
    scores = {name: _scatter([part[name] for part in parts], batch) for name in parts[0]}
    if states:
        scores["states"] = completion_states(flat_hidden.detach(), layout.token_index, batch)
    return scores


@dataclass(frozen=True)
class PolicyForward:
    """``token_scores`` as an engine role runs it."""

    temperature: float = 1.0
    entropy: bool = False
    differentiable_entropy: bool = False
    collision: bool = False
    states: bool = False

    def __call__(self, module: nn.Module, batch: MicroBatch, packed: bool) -> dict[str, torch.Tensor]:
        assert isinstance(module, PreTrainedModel)
        return token_scores(module, batch, packed=packed, **vars(self))


def _head_scores(
    module: PreTrainedModel, hidden_SH: torch.Tensor, ids_S: torch.Tensor, wanted: PolicyForward
) -> dict[str, torch.Tensor]:
    logits_SV = head_logits(module, hidden_SH)
    if logits_SV.dtype != torch.float64:
        logits_SV = logits_SV.float()
    scores = {"logp": token_logprobs(logits_SV, ids_S, wanted.temperature)}
    if wanted.differentiable_entropy:
        scores["entropy"] = entropy_of(logits_SV / wanted.temperature)
    with torch.no_grad():
        if wanted.entropy and not wanted.differentiable_entropy:
            scores["entropy"] = entropy_of(logits_SV.detach() / wanted.temperature)
        if wanted.collision:
            logp_SV = torch.log_softmax(logits_SV.detach() / wanted.temperature, dim=-1)
            scores["collision"] = torch.logsumexp(2 * logp_SV, dim=-1)
    return scores


def head_logits(module: PreTrainedModel, hidden_SH: torch.Tensor) -> torch.Tensor:
    """``[S, H] -> [S, V]`` with the transformations that some families apply after the head."""
    logits_SV: torch.Tensor = module.get_output_embeddings()(hidden_SH)
    config = module.config
    if (cap := getattr(config, "final_logit_softcapping", None)) is not None:  # Gemma 2 and later
        logits_SV = cap * torch.tanh(logits_SV / cap)
    if (scale := getattr(config, "logit_scale", None)) is not None:  # Cohere
        logits_SV = logits_SV * scale
    if (divisor := getattr(config, "logits_scaling", None)) is not None:  # Granite
        logits_SV = logits_SV / divisor
    return logits_SV


def _scatter(parts: list[torch.Tensor], batch: MicroBatch) -> torch.Tensor:
    flat_S = torch.cat(parts) if parts else torch.zeros(0, device=batch.device)
    return torch.zeros(batch.mask_BN.shape, dtype=flat_S.dtype, device=batch.device).masked_scatter(
        batch.mask_BN, flat_S
    )
