"""The distribution a token is drawn from, and the draw itself.

Sampling and recording share this one place, so the recorded log-prob is that of the distribution that was
really used.
"""

from __future__ import annotations

import math

import torch

from ridgeline.models import kernels
from ridgeline.rollout.shaping import Written, shaped
from ridgeline.schema.stages.common import Sampling

_BLOCK = 256


def log_distribution(
    logits_BV: torch.Tensor, sampling: Sampling, written: Written | None = None
) -> torch.Tensor:
    """Log-probs ``[B, V]`` (float32, -inf outside the support) of the next token.

    The options apply in this order, which is that of transformers:

    1. ``logit_bias`` and the penalties move single logits (`shaping.shaped`); these need ``written``.
    2. ``temperature`` divides the logits. 0 puts all mass on the most likely token, and the rest is moot.
    3. ``top_k`` keeps so many of the most likely tokens.
    4. ``top_p`` keeps the smallest set of the most likely of these whose share of their mass reaches p (the
       token that crosses it stays).
    5. ``min_p`` keeps tokens whose probability is at least min_p times that of the most likely one.

    Of equally likely tokens the lower id comes first, throughout.
    """
    return _truncated(shaped(logits_BV, sampling, written), sampling)


def _truncated(logits_BV: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Temperature, top-k, top-p and min-p."""
    logits_BV = logits_BV.float()
    if sampling.temperature == 0:
        first_B1 = logits_BV.argmax(-1, keepdim=True)
        return torch.full_like(logits_BV, -torch.inf).scatter(-1, first_B1, 0.0)
    kept_BV = _most_likely(logits_BV, sampling)
    best_B1 = logits_BV.max(-1, keepdim=True).values
    if sampling.min_p > 0:
        kept_BV &= logits_BV >= best_B1 + sampling.temperature * math.log(sampling.min_p)
    # From the best one down, as a quotient of a large logit would be rounded coarsely.
    tempered_BV = ((logits_BV - best_B1) / sampling.temperature).masked_fill(~kept_BV, -torch.inf)
    return torch.log_softmax(tempered_BV, dim=-1)


def _most_likely(logits_BV: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Which tokens ``[B, V]`` top-k, then top-p, keep; a slow sort of everything."""
    if not sampling.top_k and sampling.top_p == 1:
        return torch.ones_like(logits_BV, dtype=torch.bool)
    ordered, order = logits_BV.sort(dim=-1, descending=True, stable=True)
    if sampling.top_k:
        ordered[:, sampling.top_k :] = -torch.inf
    kept = ordered > -torch.inf
    if sampling.top_p < 1:
        mass = (ordered.double() / sampling.temperature).softmax(-1)
        kept &= mass.cumsum(-1) - mass < sampling.top_p
    return torch.zeros_like(kept).scatter(-1, order, kept)


def draw_tokens(
    logits_BV: torch.Tensor, sampling: Sampling, uniform_B: torch.Tensor, written: Written | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens ``[B]`` and their log-probs (nats), as `draw` takes them from `log_distribution`.

    Compiled where that is possible: then nothing is sorted, and log-probs are float64.
    """
    logits_BV = shaped(logits_BV, sampling, written)
    drawn = kernels.draw(
        logits_BV,
        uniform_B,
        sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        min_p=sampling.min_p,
    )
    if drawn is not None:
        return drawn
    logp_BV = _truncated(logits_BV, sampling)
    tokens = draw(logp_BV, uniform_B)
    return tokens, logp_BV.gather(-1, tokens[:, None])[:, 0]


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
