"""The forward pass over a micro-batch: hidden states, and log-probs of the scored tokens only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from ridgeline.models.batch import MicroBatch
from ridgeline.models.body import fused_body, read
from ridgeline.models.layout import Layout, lay_out
from ridgeline.models.pooling import completion_states
from ridgeline.models.scored_head import plain_head, scored_logprobs
from ridgeline.models.text_attention import allowed, attending_to
from ridgeline.objectives.logprobs import entropy as entropy_of
from ridgeline.objectives.logprobs import token_logprobs

HEAD_CHUNK = 1024
"""Scored positions whose logits exist at one time: [1024, 49152] float32 is 200 MB."""


def read_rows(backbone: nn.Module, batch: MicroBatch, *, packed: bool) -> tuple[torch.Tensor, Layout]:
    """Last hidden states of every row, flattened to ``[R * L, H]``, and where each token stands in them."""
    layout = lay_out(batch, packed=packed, texts=allowed(backbone))
    if layout.texts is None:
        return hidden_states(backbone, layout), layout
    body = fused_body(backbone)
    if body is not None:
        return read(body, layout.ids_RL[0], layout.positions_RL[0], layout.texts), layout
    assert isinstance(backbone, PreTrainedModel)
    with attending_to(backbone, layout.texts):
        return hidden_states(backbone, layout), layout


def hidden_states(backbone: nn.Module, layout: Layout) -> torch.Tensor:
    """``[R * L, H]`` by the model's own forward pass, positions always explicit."""
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
    flat_hidden, layout = read_rows(module.base_model, batch, packed=packed)
    before = [layout.token_index[i][torch.from_numpy(row.targets) - 1] for i, row in enumerate(batch.rows)]
    hidden_SH = flat_hidden[torch.cat(before)]
    ids_S = batch.target_ids()[batch.mask_BN]
    wanted = PolicyForward(temperature, entropy, differentiable_entropy, collision)
    scores = _all_scores(module, hidden_SH, ids_S, wanted)
    found = {name: _scatter(values_S, batch) for name, values_S in scores.items()}
    if states:
        found["states"] = completion_states(flat_hidden.detach(), layout.token_index, batch)
    return found


def _all_scores(
    module: PreTrainedModel, hidden_SH: torch.Tensor, ids_S: torch.Tensor, wanted: PolicyForward
) -> dict[str, torch.Tensor]:
    """What is wanted of every scored position, ``[S]`` each."""
    head = plain_head(module)
    if head is not None:
        return _fused_scores(head, hidden_SH, ids_S, wanted)
    parts = []
    for start in range(0, max(len(ids_S), 1), HEAD_CHUNK):
        part = hidden_SH[start : start + HEAD_CHUNK], ids_S[start : start + HEAD_CHUNK]
        if torch.is_grad_enabled() and len(ids_S) > HEAD_CHUNK:
            parts.append(checkpoint(_head_scores, module, *part, wanted, use_reentrant=False))
        else:
            parts.append(_head_scores(module, *part, wanted))
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _fused_scores(
    head: nn.Linear, hidden_SH: torch.Tensor, ids_S: torch.Tensor, wanted: PolicyForward
) -> dict[str, torch.Tensor]:
    entropy = wanted.entropy or wanted.differentiable_entropy
    logp_S, entropy_S, collision_S = scored_logprobs(
        hidden_SH, head.weight, ids_S, wanted.temperature, entropy=entropy, collision=wanted.collision
    )
    scores = {"logp": logp_S}
    if entropy_S is not None:
        scores["entropy"] = entropy_S if wanted.differentiable_entropy else entropy_S.detach()
    if collision_S is not None:
        scores["collision"] = collision_S
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


def _scatter(flat_S: torch.Tensor, batch: MicroBatch) -> torch.Tensor:
    return torch.zeros(batch.mask_BN.shape, dtype=flat_S.dtype, device=batch.device).masked_scatter(
        batch.mask_BN, flat_S
    )
