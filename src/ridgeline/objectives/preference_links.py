"""What the preference losses share: log-ratios of pairs, links of a margin, soft labels, shape checks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def per_token(logp: Tensor, lengths: Tensor) -> Tensor:
    """The average over tokens of a sum; ValueError for another shape. A completion without tokens stays 0."""
    return logp / fitted(lengths, logp).clamp(min=1)


def bernoulli_kl(logit: Tensor, other: Tensor) -> Tensor:
    """KL( sigma(logit) || sigma(other) ) in nats, at least 0 up to rounding, without a probability of 0."""
    won = logsigmoid(logit) - logsigmoid(other)
    lost = logsigmoid(-logit) - logsigmoid(-other)
    return torch.sigmoid(logit) * won + torch.sigmoid(-logit) * lost


def log_loss(x: Tensor) -> Tensor:
    """-log sigma(x): at least 0, log 2 at 0."""
    return -logsigmoid(x)


def fitted(values: Tensor, like: Tensor) -> Tensor:
    """The values in the type of `like`; a shape that would broadcast to a matrix is refused."""
    if values.shape != like.shape:
        raise ValueError(f"expected one number per pair, {list(like.shape)}, but found {list(values.shape)}")
    return values.to(like.dtype)


def log_ratios(
    chosen: Tensor, rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor
) -> tuple[Tensor, Tensor]:
    """(l_c, l_r), log pi - log ref of both completions; ValueError when the four shapes differ."""
    shapes = {tuple(t.shape) for t in (chosen, rejected, ref_chosen, ref_rejected)}
    if len(shapes) > 1:
        raise ValueError(f"log-probs of a batch of pairs must have one shape, not {sorted(shapes)}")
    return chosen - ref_chosen, rejected - ref_rejected


def margin_of(chosen: Tensor, rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor) -> Tensor:
    """h = l_c - l_r in nats."""
    l_c, l_r = log_ratios(chosen, rejected, ref_chosen, ref_rejected)
    return l_c - l_r


def checked_label(label: Tensor, like: Tensor) -> Tensor:
    """Soft labels in the type of `like`; ValueError outside [0, 1]."""
    if bool(((label < 0) | (label > 1)).any()):
        raise ValueError("soft labels must lie between 0 and 1 (the probability that chosen is better)")
    return fitted(label, like)


def either_way(link: Callable[[Tensor], Tensor], margin: Tensor, label: Tensor | None) -> Tensor:
    """The link of the margin, or its expectation when chosen and rejected change places with 1 - label."""
    if label is None:
        return link(margin)
    p = checked_label(label, margin)
    return p * link(margin) + (1 - p) * link(-margin)
