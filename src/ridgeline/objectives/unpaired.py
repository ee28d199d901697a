"""Alignment losses of single completions labelled desirable or undesirable.

Everywhere: logp, ref_logp `[N]` are log-probs in nats of whole completions (sums over tokens), desirable
`[N]` is boolean, l = logp - ref_logp and beta l the implicit reward. Results are `[N]`, unreduced. Options
out of range and tensors of different shapes raise ValueError. Defaults are
those of `pair_axes.UNPAIRED_LOSSES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ridgeline.objectives.pair_traits import UNPAIRED_LOSSES, check_options

_DEFAULTS = {name: loss.options for name, loss in UNPAIRED_LOSSES.items()}


def kto(
    logp: Tensor,
    ref_logp: Tensor,
    desirable: Tensor,
    *,
    reference_point: Tensor | float,
    beta: float = _DEFAULTS["kto"]["beta"],
    desirable_weight: float = _DEFAULTS["kto"]["desirable_weight"],
    undesirable_weight: float = _DEFAULTS["kto"]["undesirable_weight"],
) -> Tensor:
    """w_D (1 - sigma(beta (l - z0))) for desirable, w_U (1 - sigma(beta (z0 - l))) for undesirable ones.

    reference_point: z0 in nats, a number or `[N]`, from `kto_reference_point` over the whole optimizer step;
    taken as a constant. Between 0 and the weight; half the weight where policy = reference. Source:
    Ethayarajh et al. 2024, equation 8.
    """
    check_options("kto", beta=beta, desirable_weight=desirable_weight, undesirable_weight=undesirable_weight)
    sign = _sign(logp, desirable)
    # Full tensors: torch.where of two numbers rounds them to float32.
    up, down = torch.full_like(logp, desirable_weight), torch.full_like(logp, undesirable_weight)
    weight = torch.where(desirable, up, down)
    return weight * torch.sigmoid(-sign * beta * (_log_ratio(logp, ref_logp) - _constant(reference_point)))


def kto_reference_point(mismatched_logp: Tensor, mismatched_ref_logp: Tensor) -> Tensor:
    """z0 = max(0, mean of log pi(y'|x) - log ref(y'|x)) with y' the completion of another prompt.

    mismatched_logp, mismatched_ref_logp: `[M]` nats over the whole optimizer step. A mean over the step's own
    completions in another order is not this estimate: they have to be scored again under other prompts.
    Returns a number in nats, detached; 0 for no completions. Source: Ethayarajh et al. 2024, section 4.1.
    """
    ratios = _log_ratio(mismatched_logp, mismatched_ref_logp).detach()
    return (ratios.sum() / max(ratios.numel(), 1)).clamp(min=0.0)


def bco(
    logp: Tensor,
    ref_logp: Tensor,
    desirable: Tensor,
    *,
    shift: Tensor | float,
    beta: float = _DEFAULTS["bco"]["beta"],
    weights: Tensor | None = None,
) -> Tensor:
    """-log sigma(beta l - d) for desirable, -log sigma(-(beta l - d)) for undesirable completions.

    shift: d in units of the implicit reward, a number or `[N]`, from `bco_shift`; taken as a constant.
    weights: `[N]`, `udm_weight` for undesirable and 1 for desirable completions where their prompts differ.
    log 2 where policy = reference and d = 0. Source: Jung et al. 2024 (BCO).
    """
    check_options("bco", beta=beta)
    reward = beta * _log_ratio(logp, ref_logp)
    losses = -logsigmoid(_sign(logp, desirable) * (reward - _constant(shift)))
    return losses if weights is None else weights.detach() * losses


def bco_shift(
    shift: float | None,
    desirable_mean: float | None,
    undesirable_mean: float | None,
    momentum: float = 0.9,
) -> float:
    """momentum * d + (1 - momentum) * (mean reward of desirable + mean reward of undesirable) / 2.

    shift: the value after the step before, None at the first, which then takes the means as they are.
    desirable_mean, undesirable_mean: means of beta l over the whole optimizer step, None where it has no such
    completion; a step without one of the two leaves the shift as it was (0 at the first step). Raises
    ValueError for a momentum outside [0, 1). Source: Jung et al. 2024 (BCO).
    """
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum = {momentum} must lie in [0, 1); at 1 the shift would never move")
    if desirable_mean is None or undesirable_mean is None:
        return 0.0 if shift is None else shift
    middle = (desirable_mean + undesirable_mean) / 2
    return middle if shift is None else momentum * shift + (1 - momentum) * middle


def udm_weight(desirable_probability: Tensor, low: float = 0.5, high: float = 10.0) -> Tensor:
    """clip(p / (1 - p), low, high): how much likelier a prompt is among the desirable data.

    desirable_probability: `[N]` in [0, 1], a classifier's belief that the prompt of an undesirable completion
    comes from the desirable data. Returns `[N]`, detached. Raises ValueError for probabilities outside [0, 1]
    and an empty range. Source: Jung et al. 2024 (BCO), underlying distribution matching.
    """
    if not 0 <= low <= high:
        raise ValueError(f"the range of weights [{low}, {high}] must be one of numbers of at least 0")
    p = desirable_probability.detach()
    if bool(((p < 0) | (p > 1)).any()):
        raise ValueError("desirable_probability must lie between 0 and 1")
    return (p / (1 - p)).clamp(low, high)


def apo_zero_unpaired(
    logp: Tensor,
    ref_logp: Tensor,
    desirable: Tensor,
    *,
    beta: float = _DEFAULTS["apo_zero_unpaired"]["beta"],
) -> Tensor:
    """1 - sigma(beta l) for desirable, sigma(beta l) for undesirable completions: KTO with z0 = 0.

    Between 0 and 1; 1/2 where policy = reference. Source: D'Oosterlinck et al. 2024, equation 7, one half at
    a time.
    """
    check_options("apo_zero_unpaired", beta=beta)
    return torch.sigmoid(-_sign(logp, desirable) * beta * _log_ratio(logp, ref_logp))


UNPAIRED_FUNCTIONS: Mapping[str, Callable[..., Tensor]] = MappingProxyType(
    {"kto": kto, "bco": bco, "apo_zero_unpaired": apo_zero_unpaired}
)


def _log_ratio(logp: Tensor, ref_logp: Tensor) -> Tensor:
    if logp.shape != ref_logp.shape:
        raise ValueError(
            f"logp {list(logp.shape)} and ref_logp {list(ref_logp.shape)} must have the same shape"
        )
    return logp - ref_logp


def _sign(logp: Tensor, desirable: Tensor) -> Tensor:
    """+1 for desirable, -1 for undesirable completions."""
    if desirable.dtype != torch.bool or desirable.shape != logp.shape:
        raise ValueError(
            f"desirable must be boolean of the shape of logp, {list(logp.shape)}, "
            f"not {desirable.dtype} {list(desirable.shape)}"
        )
    return torch.where(desirable, 1.0, -1.0).to(logp.dtype)


def _constant(value: Tensor | float) -> Tensor | float:
    return value.detach() if isinstance(value, Tensor) else value
