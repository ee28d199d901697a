"""Log-probabilities of given tokens and the entropy of next-token distributions."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def log_softmax(logits: Tensor) -> Tensor:
    """Log-probabilities over the last dimension, in float64 for float64 logits and in float32 otherwise.

    bfloat16 has a spacing of 1 nat at 128, so sums over a completion must never be formed in it.
    """
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return torch.log_softmax(wide, dim=-1)


def token_logprobs(logits: Tensor, ids: Tensor, temperature: float = 1.0) -> Tensor:
    """Log-probability of each given token: log softmax(logits / temperature)[id].

    logits: `[..., V]`, already shifted so that position t predicts ids[t]; -inf marks excluded tokens.
    ids: `[...]` int64, every one in [0, V); padding must hold a valid id and is masked later.
    temperature: above 0; the one under which the tokens were sampled.
    Returns `[...]` nats in (-inf, 0], float32 (float64 for float64 logits).
    Raises ValueError for a temperature that is not a finite number above 0, and for shapes that do not fit.
    """
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature = {temperature} must be a finite number above 0")
    if logits.shape[:-1] != ids.shape:
        raise ValueError(
            f"logits {list(logits.shape)} need ids of shape {list(logits.shape[:-1])}, got {list(ids.shape)}"
        )
    if temperature != 1.0:
        logits = (logits if logits.dtype == torch.float64 else logits.float()) / temperature
    return log_softmax(logits).gather(-1, ids.unsqueeze(-1)).squeeze(-1)


def entropy(logits: Tensor) -> Tensor:
    """Entropy of softmax(logits) over the last dimension: -sum_v p_v log p_v.

    logits: `[..., V]`, any entry but not all may be -inf (p log p counts as 0 there, with zero gradient).
    Returns `[...]` nats in [0, log V], float32 (float64 for float64 logits).
    """
    logp = log_softmax(logits)
    p = logp.exp()
    return -(p * torch.where(p > 0, logp, 0.0)).sum(-1)
