"""KL divergence between policy and reference: sampled estimators, the exact sum, an adaptive coefficient.

With L = logp - ref_logp of tokens **sampled from the policy** (Schulman 2020), where an estimator is placed
decides which gradient it yields (expected, on-policy, checked by enumeration in the tests):

    k1 in the reward (detached, score function)    gradient of KL(policy || reference)
    k1 in the loss                                 zero: no regularisation, only noise
    k2 in the loss                                 gradient of KL(policy || reference)
    k3 in the loss                                 gradient of KL(reference || policy)
    k1 or k3, times the live ratio, in the loss    gradient of KL(policy || reference), off-policy too

The table is per decision: a KL in the reward also credits an early token for the divergence it causes later.
The last line is `kl_corrected`, for unbiased estimators only. Source: DeepSeek-V3.2 2025, section 3.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from ridgeline.objectives.logprobs import log_softmax

K3_LIMIT = 20.0


def k1(logp: Tensor, ref_logp: Tensor) -> Tensor:
    """L = logp - ref_logp: unbiased for KL(policy || reference), negative at times. `[...]` nats."""
    return logp - ref_logp


def k2(logp: Tensor, ref_logp: Tensor) -> Tensor:
    """L^2 / 2: biased in value, unbiased in its gradient as a loss, at least 0. `[...]` nats."""
    return (logp - ref_logp).square() / 2


def k3(logp: Tensor, ref_logp: Tensor) -> Tensor:
    """exp(-L) - 1 + L: unbiased, at least 0, low variance. `[...]` nats.

    Computed with expm1, because the parts cancel near 0. L below -20 counts as -20 (value about 4.9e8, zero
    gradient): a policy does not sample a token that it holds e^20 times less likely than the reference, and
    without the limit float32 overflows at 88 nats.
    """
    log_ratio = (logp - ref_logp).clamp(min=-K3_LIMIT)
    return torch.expm1(-log_ratio) + log_ratio


ESTIMATORS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = MappingProxyType(
    {"k1": k1, "k2": k2, "k3": k3}
)


def exact_kl(logits: Tensor, ref_logits: Tensor) -> Tensor:
    """KL(policy || reference) of each next-token distribution: sum_v p_v (log p_v - log q_v).

    logits, ref_logits: `[..., V]`, -inf where a token is excluded. Tokens of policy probability 0 count as 0,
    with zero gradient; a token that only the reference excludes makes the result inf, as it should.
    Returns `[...]` nats of at least 0 (up to rounding), float32 (float64 for float64 logits).
    """
    logp, ref_logp = log_softmax(logits), log_softmax(ref_logits)
    p = logp.exp()
    return (p * torch.where(p > 0, logp - ref_logp, 0.0)).sum(-1)


class AdaptiveCoefficient:
    """KL coefficient that steers the measured KL to a target (Ziegler et al. 2019, section 2.2).

        e = clip((KL - target) / target, -0.2, 0.2);    value <- value * (1 + gain * e)

    value: the coefficient in force. target: nats, in the same unit as the KL given to `update` (per sequence
    in the paper). gain: 0.1 in the paper. Raises ValueError when value, target or gain are not finite and
    above 0.
    """

    def __init__(self, value: float, target: float, gain: float = 0.1) -> None:
        for name, number in (("value", value), ("target", target), ("gain", gain)):
            if not 0 < number < math.inf:
                raise ValueError(f"{name} = {number} must be a finite number above 0")
        self.value = value
        self.target = target
        self.gain = gain

    def update(self, kl: float) -> float:
        """Take in the KL measured over one step and return the coefficient for the next.

        Raises ValueError for nan and inf, which would otherwise spoil every later step.
        """
        if not math.isfinite(kl):
            raise ValueError(f"the measured KL is {kl}; the coefficient stays at {self.value}")
        error = min(max((kl - self.target) / self.target, -0.2), 0.2)
        self.value *= 1 + self.gain * error
        return self.value

    def state_dict(self) -> dict[str, float]:
        """What a checkpoint has to hold for an exact resume."""
        return {"value": self.value, "target": self.target, "gain": self.gain}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Restore what `state_dict` returned."""
        self.value, self.target, self.gain = state["value"], state["target"], state["gain"]
