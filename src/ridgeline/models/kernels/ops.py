"""The kernels as functions of tensors: compiled where there is a library and it fits, else `plain`."""

from __future__ import annotations

import torch

from ridgeline.models.kernels import plain
from ridgeline.models.kernels.call import kernel, pointers
from ridgeline.models.kernels.pages import Pages

MAX_GROUP, MAX_SIZE = 32, 256
"""Query heads per key head, and numbers per head, that the compiled attention has room for (kernels.c)."""


def rms_norm(
    x: torch.Tensor,
    weight: torch.Tensor,
    eps: float,
    *,
    delta: torch.Tensor | None = None,
    offset: float = 0.0,
) -> torch.Tensor:
    """x / sqrt(mean(x^2) + eps) * (weight + offset) over the last dimension, ``[B, H]`` in and out.

    With ``delta`` ``[B, H]`` the residual stream takes it in first, in place: x += delta. ``offset`` is 1 in
    Gemma. Source: Zhang and Sennrich 2019, equation 4.
    """
    run = kernel("rms_norm", x)
    if run is None:
        return plain.rms_norm(x, weight, eps, delta=delta, offset=offset)
    out = torch.empty_like(x)
    rows, width = x.shape
    run(*pointers(x, delta, weight, out), rows, width, rows, 0, eps, offset)
    return out


def norm_heads(
    qkv: torch.Tensor, start: int, heads: int, weight: torch.Tensor, eps: float, *, offset: float = 0.0
) -> None:
    """Normalise ``heads`` pieces of ``len(weight)`` numbers of ``[B, W]`` in place, from ``start`` on."""
    run = kernel("rms_norm", qkv)
    if run is None:
        plain.norm_heads(qkv, start, heads, weight, eps, offset=offset)
        return
    rows, stride = qkv.shape
    part = qkv[:, start:]
    run(
        *pointers(part, None, weight, part),
        rows * heads,
        len(weight),
        heads,
        stride,
        eps,
        offset,
    )


def gate(gate_up: torch.Tensor, activation: str) -> torch.Tensor:
    """act(gate) * up, ``[B, 2 I] -> [B, I]``; act: silu, or gelu in its tanh form. Source: Shazeer 2020."""
    run = kernel("gate", gate_up)
    if run is None:
        return plain.gate(gate_up, activation)
    rows, width = gate_up.shape[0], gate_up.shape[1] // 2
    out = gate_up.new_empty(rows, width)
    run(*pointers(gate_up, out), rows, width, int(activation == "gelu"))
    return out


def rotate_and_store(
    qkv: torch.Tensor,
    cosine: torch.Tensor | None,
    sine: torch.Tensor | None,
    own: Pages,
    slots: torch.Tensor,
    positions: torch.Tensor,
) -> None:
    """Turn queries and keys of ``qkv`` ``[B, W]`` in place; keep keys and values in ``own``.

    cosine, sine: ``[B, turned]`` float32, the same in both halves, of each row's position in its text; None:
    positions are not encoded in this layer. positions: ``[B]`` within the page. Source: Su et al. 2021.
    """
    run = kernel("rotate_and_store", qkv)
    if run is None:
        plain.rotate_and_store(qkv, cosine, sine, own, slots, positions)
        return
    turned = 0 if cosine is None else cosine.shape[-1]
    heads = qkv.shape[1] // own.size - 2 * own.kv_heads
    run(
        *pointers(qkv, cosine, sine, own.keys, own.values, slots, positions),
        len(qkv),
        heads,
        own.kv_heads,
        own.size,
        turned,
        own.capacity,
    )


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
    """Softmax attention of one query position per row, ``[B, W] -> [B, heads * D]``.

    A row sees the first ``prompt_lengths`` positions of its prompt's page, which all completions of the
    prompt share, and the first ``own_lengths`` of its own. ``window`` above 0: only that many last positions.
    ``cap`` above 0: scores s become cap * tanh(s / cap). Source: Vaswani et al. 2017, with grouped keys
    (Ainslie et al. 2023) and a running softmax (Milakov and Gimelshein 2018).
    """
    heads = qkv.shape[1] // own.size - 2 * own.kv_heads
    run = kernel("attend", qkv)
    if run is None or own.size > MAX_SIZE or heads // own.kv_heads > MAX_GROUP:
        return plain.attend(
            qkv, prompt, own, prompts, prompt_lengths, slots, own_lengths, scale=scale, window=window, cap=cap
        )
    out = qkv.new_empty(len(qkv), heads * own.size)
    run(
        *pointers(qkv, out, prompt.keys, prompt.values, own.keys, own.values),
        *pointers(prompts, prompt_lengths, slots, own_lengths),
        len(qkv),
        heads,
        own.kv_heads,
        own.size,
        prompt.capacity,
        own.capacity,
        window,
        scale,
        cap,
    )
    return out


def draw(
    logits: torch.Tensor,
    uniform: torch.Tensor,
    temperature: float,
    *,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Tokens ``[B]`` at given uniform numbers, and their log-probs; None where there is no compiled kernel.

    By inverting, in order of ids, the cumulative distribution of `rollout.distribution.log_distribution`,
    which is the definition and what a machine without this kernel draws from. logits ``[B, V]``; uniform
    ``[B]`` float64 in [0, 1); log-probs ``[B]`` float64, nats.
    """
    run = kernel("draw", logits)
    if run is None:
        return None
    logits = logits.contiguous()
    rows, vocabulary = logits.shape
    tokens = torch.empty(rows, dtype=torch.long)
    logp = torch.empty(rows, dtype=torch.float64)
    run(
        *pointers(logits, uniform, tokens, logp),
        rows,
        vocabulary,
        top_k,
        temperature,
        top_p,
        min_p,
    )
    return tokens, logp
