"""The kernels in torch: the oracle of the compiled ones, and what runs where those cannot.

Like them, everything is computed in float32 and rounded once, when it is stored.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from ridgeline.models.kernels.pages import LANES, Pages


def rms_norm(
    x: torch.Tensor,
    weight: torch.Tensor,
    eps: float,
    *,
    delta: torch.Tensor | None = None,
    offset: float = 0.0,
) -> torch.Tensor:
    """As `ops.rms_norm`."""
    if delta is not None:
        x.add_(delta)
    wide = x.float()
    scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return (wide * scale * (weight.float() + offset)).to(x.dtype)


def norm_heads(
    qkv: torch.Tensor, start: int, heads: int, weight: torch.Tensor, eps: float, *, offset: float = 0.0
) -> None:
    """As `ops.norm_heads`."""
    width = len(weight)
    part = qkv[:, start : start + heads * width]
    part.copy_(rms_norm(part.unflatten(-1, (heads, width)), weight, eps, offset=offset).flatten(1))


def gate(gate_up: torch.Tensor, activation: str) -> torch.Tensor:
    """As `ops.gate`."""
    left, right = gate_up.float().chunk(2, dim=-1)
    opened = functional.silu(left) if activation == "silu" else functional.gelu(left, approximate="tanh")
    return (opened * right).to(gate_up.dtype)


def rotate_and_store(
    qkv: torch.Tensor,
    cosine: torch.Tensor | None,
    sine: torch.Tensor | None,
    own: Pages,
    slots: torch.Tensor,
    positions: torch.Tensor,
) -> None:
    """As `ops.rotate_and_store`."""
    pieces = qkv.unflatten(-1, (-1, own.size))
    turning = pieces[:, : -own.kv_heads]
    if cosine is not None and sine is not None:
        turned = cosine.shape[-1]
        part = turning[..., :turned].float()
        first, second = part.chunk(2, dim=-1)
        half = torch.cat([-second, first], dim=-1)
        turning[..., :turned] = (part * cosine[:, None] + half * sine[:, None]).to(qkv.dtype)
    own.keys[slots, :, positions // LANES, :, positions % LANES] = turning[:, -own.kv_heads :]
    own.values[slots, :, positions] = pieces[:, -own.kv_heads :]


def attend(
    qkv: torch.Tensor,
    prompt: Pages,
    own: Pages,
    prompts: torch.Tensor,
    prompt_lengths: torch.Tensor,
    slots: torch.Tensor,
    own_lengths: torch.Tensor,
    *,
    scale: float,
    window: int = 0,
    cap: float = 0.0,
) -> torch.Tensor:
    """As `ops.attend`."""
    heads = qkv.shape[1] // own.size - 2 * own.kv_heads
    group = heads // own.kv_heads
    out = qkv.new_empty(len(qkv), heads * own.size)
    rows = zip(
        qkv, prompts.tolist(), prompt_lengths.tolist(), slots.tolist(), own_lengths.tolist(), strict=True
    )
    for number, (line, page, before, slot, length) in enumerate(rows):
        query = line[: heads * own.size].float().view(own.kv_heads, group, own.size) * scale
        pairs = zip(prompt.read(page, before), own.read(slot, length), strict=True)
        keys, values = (torch.cat(pair, dim=1).float() for pair in pairs)
        scores = query @ keys.transpose(1, 2)
        if cap > 0:
            scores = cap * torch.tanh(scores / cap)
        if window > 0:
            scores[..., : max(0, before + length - window)] = -torch.inf
        out[number] = (scores.softmax(-1) @ values).flatten().to(qkv.dtype)
    return out
