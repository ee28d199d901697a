"""The distribution a token is drawn from, and the draw itself.

Sampling and recording share this one place, so the recorded log-prob is that of the tempered and truncated
distribution that was really used.
"""

from __future__ import annotations

import torch

from ridgeline.schema.stages.common import Sampling

_BLOCK = 256


def log_distribution(logits_BV: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Log-probs ``[B, V]`` (float32, -inf outside the support) after temperature, top-k and top-p.

    top-p keeps the smallest set of most likely tokens whose mass reaches p (the token that crosses it stays).
    Temperature 0 puts all mass on the most likely token (the first one, on a tie).
    """
    logits_BV = logits_BV.float()
    if sampling.temperature == 0:
        best_B1 = logits_BV.argmax(-1, keepdim=True)
        return torch.full_like(logits_BV, -torch.inf).scatter(-1, best_B1, 0.0)
    logp_BV = torch.log_softmax(logits_BV / sampling.temperature, dim=-1)
    if sampling.top_k and sampling.top_k < logp_BV.shape[-1]:
        kept = torch.full_like(logp_BV, -torch.inf)
        best = logp_BV.topk(sampling.top_k, dim=-1)
        logp_BV = torch.log_softmax(kept.scatter(-1, best.indices, best.values), dim=-1)
    if sampling.top_p < 1:
        ordered, order = logp_BV.sort(dim=-1, descending=True, stable=True)
        mass = ordered.exp()
        outside = mass.cumsum(-1) - mass >= sampling.top_p
        kept = torch.full_like(logp_BV, -torch.inf)
        logp_BV = torch.log_softmax(kept.scatter(-1, order, ordered.masked_fill(outside, -torch.inf)), dim=-1)
    return logp_BV


def draw(logp_BV: torch.Tensor, uniform_B: torch.Tensor) -> torch.Tensor:
    """Token ids ``[B]`` by inverting the cumulative distribution at one uniform number per row.

    Two levels (blocks, then inside the block), with block sums in float64, so that the cost is one pass over
    the probabilities and no token of zero probability can be drawn.
    """
    probability = logp_BV.exp().double()
    rest = -probability.shape[-1] % _BLOCK
    blocks = torch.nn.functional.pad(probability, (0, rest)).unflatten(-1, (-1, _BLOCK))
    ends = blocks.sum(-1).cumsum(-1)
    threshold = uniform_B.to(ends).unsqueeze(-1) * ends[:, -1:]
    block = torch.searchsorted(ends, threshold, right=True).clamp_max(ends.shape[-1] - 1)
    before = torch.where(block > 0, ends.gather(-1, (block - 1).clamp_min(0)), torch.zeros_like(threshold))
    inside = blocks.gather(-2, block.unsqueeze(-1).expand(-1, -1, _BLOCK)).squeeze(-2).cumsum(-1)
    offset = torch.searchsorted(inside, threshold - before, right=True)
    # Rounding may point one past the last token that has mass; step back to it.
    last = torch.searchsorted(inside, inside[:, -1:].contiguous())
    return (block * _BLOCK + torch.minimum(offset, last)).squeeze(-1)
