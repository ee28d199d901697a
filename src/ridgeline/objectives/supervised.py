"""Losses on given tokens, per token and unreduced."""

from __future__ import annotations

from torch import Tensor


def nll(logp: Tensor) -> Tensor:
    """-log pi(y_t | x, y_<t) per token; `[...]` nats of at least 0."""
    return -logp


def dft(logp: Tensor) -> Tensor:
    """-sg(p_t) log p_t per token, p_t = exp(logp_t) held constant; `[...]` in [0, 1/e].

    The weight p cancels the 1/p that plain NLL gives to unlikely tokens when it is read as a policy gradient.
    Source: dynamic fine-tuning, Wu et al. 2025.
    """
    return -logp.detach().exp() * logp


def weighted_nll(logp: Tensor, weights: Tensor) -> Tensor:
    """-w_t log pi(y_t | x, y_<t) per token, the weights held constant; `[...]` nats.

    weights: same shape as `logp`, or one that broadcasts to it, such as `[B, 1]` for a weight per sequence.
    Weights below 0 push tokens away.
    """
    return -weights.detach() * logp
