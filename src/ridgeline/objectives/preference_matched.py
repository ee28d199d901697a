"""Alignment by optimal transport: completions matched by rank within the whole optimizer step (AOT).

The matched values come from a no-grad pass over the step, so that splitting it into micro-batches changes
neither value nor gradient; without them the given pairs are the whole step.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ridgeline.objectives.pair_traits import PAIR_LOSSES, check_options
from ridgeline.objectives.preference_links import fitted, log_loss, log_ratios


def rank_match(values: Tensor, targets: Tensor) -> Tensor:
    """For each value the target of the same rank: the one-dimensional optimal transport between the two.

    values, targets: `[pairs]`. Equal values keep their order in the batch. Returns `[pairs]`, detached.
    Raises ValueError when the numbers of values and targets differ.
    """
    if values.ndim != 1 or values.shape != targets.shape:
        raise ValueError(
            f"rank_match needs as many targets as values, not {list(values.shape)} and {list(targets.shape)}"
        )
    order = torch.argsort(values.detach(), stable=True)
    matched = torch.empty_like(targets)
    matched[order] = torch.sort(targets.detach()).values
    return matched


def aot(
    chosen: Tensor,
    rejected: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    *,
    matched_reference: Tensor | None = None,
    beta: float = PAIR_LOSSES["aot"].options["beta"],
) -> Tensor:
    """-log sigma(beta [m_(k) - m_ref_(k)]), m = log pi(y_c) - log pi(y_r), both sorted over the step.

    The margins of the policy are to exceed those of the reference as distributions (first-order stochastic
    dominance), not pair by pair. Arguments as in `preference_links`; matched_reference: `[pairs]`, the
    reference margin of the same rank as the policy's margin of this pair, `rank_match(m, m_ref)`. Ranks carry
    no gradient, so a pair's gradient depends on the others only through the matched value. Returns `[pairs]`
    in the order given; log 2 where policy = reference. Source: Melnyk et al. 2024, paired form.
    """
    check_options("aot", beta=beta)
    margin = chosen - rejected
    if matched_reference is None:
        matched_reference = rank_match(margin, ref_chosen - ref_rejected)
    return log_loss(beta * (margin - fitted(matched_reference.detach(), margin)))


def aot_unpaired(
    chosen: Tensor,
    rejected: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    *,
    matched_chosen: Tensor | None = None,
    matched_rejected: Tensor | None = None,
    beta: float = PAIR_LOSSES["aot_unpaired"].options["beta"],
) -> Tensor:
    """-log sigma(beta [l_c_(k) - l_r_(k)]), log-ratios of chosen and of rejected each sorted over the step.

    matched_rejected: `[pairs]`, the rejected log-ratio of the same rank as this chosen one,
    `rank_match(l_c, l_r)`; matched_chosen the reverse, `rank_match(l_r, l_c)`; both or neither.
    The two completions of a pair have different partners, perhaps in other micro-batches. So a pair returns
    half the loss of each of its two matches, but the whole gradient of each with respect to its own
    completion: values and gradients both sum to those of the sorted step. log 2 where policy = reference.
    Raises ValueError for one matched tensor without the other. Source: Melnyk et al. 2024, unpaired form.
    """
    check_options("aot_unpaired", beta=beta)
    l_c, l_r = log_ratios(chosen, rejected, ref_chosen, ref_rejected)
    if matched_chosen is None and matched_rejected is None:
        matched_chosen, matched_rejected = rank_match(l_r, l_c), rank_match(l_c, l_r)
    if matched_chosen is None or matched_rejected is None:
        raise ValueError("aot_unpaired needs matched_chosen and matched_rejected, or neither of the two")
    of_chosen = log_loss(beta * (l_c - fitted(matched_rejected.detach(), l_c)))
    of_rejected = log_loss(beta * (fitted(matched_chosen.detach(), l_r) - l_r))
    both = of_chosen + of_rejected
    return both - both.detach() / 2
