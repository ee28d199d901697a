"""Losses of direct alignment on pairs: every function by its name, and weighted mixtures of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from torch import Tensor

from ridgeline.objectives.log_ratios import divergence_ratio
from ridgeline.objectives.pair_axes import (
    PAIR_LOSSES,
    PAIR_PRESETS,
    Divergence,
    PairLoss,
    PairObjective,
    PairTerm,
)
from ridgeline.objectives.preference_absolute import apo_down, apo_zero, bco_pair, cal_dpo, nca, sppo
from ridgeline.objectives.preference_free import (
    alphapo,
    cpo,
    orpo,
    sft_chosen,
    sft_chosen_sum,
    simpo,
    slic,
    tpo,
    tpo_l,
)
from ridgeline.objectives.preference_links import fitted
from ridgeline.objectives.preference_margin import (
    cdpo,
    discopop,
    dpo,
    dpo_margin,
    dpo_norm,
    exo,
    hinge,
    ipo,
    odpo,
    rebel,
    robust_dpo,
    rpo,
)
from ridgeline.objectives.preference_matched import aot, aot_unpaired, rank_match

PAIR_FUNCTIONS: Mapping[str, Callable[..., Tensor]] = MappingProxyType(
    {
        function.__name__: function
        for function in (
            *(dpo, dpo_margin, cdpo, robust_dpo, dpo_norm, ipo, hinge, odpo, exo, discopop, rpo, rebel),
            *(nca, bco_pair, sppo, cal_dpo, apo_zero, apo_down, aot, aot_unpaired),
            *(simpo, alphapo, cpo, orpo, slic, tpo, tpo_l, sft_chosen, sft_chosen_sum),
        )
    }
)

__all__ = [
    "PAIR_FUNCTIONS",
    "PAIR_LOSSES",
    "PAIR_PRESETS",
    "Divergence",
    "PairInputs",
    "PairLoss",
    "PairObjective",
    "PairTerm",
    "pair_losses",
    "rank_match",
    "whole_step_inputs",
    "dpo",
    "dpo_margin",
    "cdpo",
    "robust_dpo",
    "dpo_norm",
    "ipo",
    "hinge",
    "odpo",
    "exo",
    "discopop",
    "rpo",
    "rebel",
    "nca",
    "bco_pair",
    "sppo",
    "cal_dpo",
    "apo_zero",
    "apo_down",
    "aot",
    "aot_unpaired",
    "simpo",
    "alphapo",
    "cpo",
    "orpo",
    "slic",
    "tpo",
    "tpo_l",
    "sft_chosen",
    "sft_chosen_sum",
]


@dataclass(frozen=True, kw_only=True)
class PairInputs:
    """All that losses may read about some pairs; each field is `[pairs]`, and None where it is not known.

    chosen, rejected, ref_chosen, ref_rejected, gold: log-probs in nats, summed over the completion (or as
    `length_desensitised` has it). *_lengths: tokens.
    label: probability that chosen is better, 0.5 for a tie. margin: asked-for gap of implicit rewards.
    chosen_rewards, rejected_rewards: scores of a reward model or rating.
    matched_reference, matched_chosen, matched_rejected, shift: from `whole_step_inputs`.
    weight: multiplies every term (`wpo_pair_weight`, or a weight of the data).
    """

    chosen: Tensor
    rejected: Tensor
    ref_chosen: Tensor | None = None
    ref_rejected: Tensor | None = None
    chosen_lengths: Tensor | None = None
    rejected_lengths: Tensor | None = None
    label: Tensor | None = None
    margin: Tensor | None = None
    chosen_rewards: Tensor | None = None
    rejected_rewards: Tensor | None = None
    gold: Tensor | None = None
    gold_lengths: Tensor | None = None
    matched_reference: Tensor | None = None
    matched_chosen: Tensor | None = None
    matched_rejected: Tensor | None = None
    shift: Tensor | None = None
    weight: Tensor | None = None


def pair_losses(inputs: PairInputs, objective: PairObjective) -> dict[str, Tensor]:
    """weight_term * weight_pair * loss(pair), by the name of the loss; the objective is their sum.

    Returns `[pairs]` tensors, unreduced, one per term. Raises ValueError for an input that a term needs and
    that is None, and for soft labels where a term does not understand them.
    """
    if objective.weighting == "wpo" and inputs.weight is None:
        raise ValueError("weighting 'wpo' needs the input 'weight', the result of wpo_pair_weight")
    losses = {}
    for term in objective.terms:
        loss = _term_loss(_in_divergence(inputs, term, objective), term)
        losses[term.loss] = term.weight * loss
        if inputs.weight is not None:
            losses[term.loss] = fitted(inputs.weight.detach(), loss) * losses[term.loss]
    return losses


@torch.no_grad()
def whole_step_inputs(inputs: PairInputs, objective: PairObjective) -> PairInputs:
    """The inputs with what depends on all pairs of an optimizer step; call it before micro-batches are split.

    inputs: all pairs of the step, from a pass without gradient. Fills matched_reference (aot), matched_chosen
    and matched_rejected (aot_unpaired), and shift (bco_pair): the mean of beta l over both completions of all
    pairs, the same number for each pair. For a running mean replace it by `unpaired.bco_shift`.
    """
    filled: dict[str, Tensor] = {}
    for term in objective.terms:
        if not term.traits.whole_step:
            continue
        chosen, rejected, ref_chosen, ref_rejected = (
            _required(inputs, term.loss, name)
            for name in ("chosen", "rejected", "ref_chosen", "ref_rejected")
        )
        l_c, l_r = chosen - ref_chosen, rejected - ref_rejected
        if term.loss == "aot":
            filled["matched_reference"] = rank_match(chosen - rejected, ref_chosen - ref_rejected)
        elif term.loss == "aot_unpaired":
            filled["matched_chosen"] = rank_match(l_r, l_c)
            filled["matched_rejected"] = rank_match(l_c, l_r)
        else:
            mean = (l_c.mean() + l_r.mean()) / 2
            filled["shift"] = (term.resolved["beta"] * mean).expand_as(l_c)
    return replace(inputs, **filled)


def _term_loss(inputs: PairInputs, term: PairTerm) -> Tensor:
    logps = [name for name in term.traits.inputs if name in _LOGPS]
    keywords = [name for name in term.traits.inputs if name not in _LOGPS]
    tensors: dict[str, Tensor] = {name: _required(inputs, term.loss, name) for name in keywords}
    if inputs.label is not None:
        if not term.traits.label:
            raise ValueError(
                f"loss '{term.loss}' takes no soft label; drop ties and order the pairs, or choose one of: "
                + ", ".join(name for name, loss in PAIR_LOSSES.items() if loss.label)
            )
        tensors["label"] = inputs.label
    positional = [_required(inputs, term.loss, name) for name in logps]
    return PAIR_FUNCTIONS[term.loss](*positional, **tensors, **term.resolved)


_LOGPS = ("chosen", "rejected", "ref_chosen", "ref_rejected")


def _in_divergence(inputs: PairInputs, term: PairTerm, objective: PairObjective) -> PairInputs:
    """The inputs with f'(pi / ref) for the log-ratios of margin-based losses, and a reference of 0."""
    if objective.divergence == "reverse_kl" or not term.traits.margin_based:
        return inputs
    ref_chosen = _required(inputs, term.loss, "ref_chosen")
    ref_rejected = _required(inputs, term.loss, "ref_rejected")
    kind, alpha = objective.divergence, objective.divergence_alpha
    return replace(
        inputs,
        chosen=divergence_ratio(inputs.chosen - ref_chosen, kind, alpha),
        rejected=divergence_ratio(inputs.rejected - ref_rejected, kind, alpha),
        ref_chosen=torch.zeros_like(ref_chosen),
        ref_rejected=torch.zeros_like(ref_rejected),
    )


def _required(inputs: PairInputs, loss: str, name: str) -> Tensor:
    value: Tensor | None = getattr(inputs, name)
    if value is None:
        raise ValueError(f"loss '{loss}' needs the input '{name}', which is None")
    return value
