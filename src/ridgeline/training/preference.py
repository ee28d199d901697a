"""Direct alignment on pairs as the trainer sees it.

A unit is a pair: the chosen row, the rejected row and, for losses that need one, a gold row. Rows carry
``ref_logp`` per token where the objective compares with a reference. What the data says about a pair stands
in the ``values`` of its chosen row (``soft_label``, ``margin``, ``matched_reference`` ...), rewards
(``reward``) in those of both.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ridgeline.models.batch import MicroBatch, Unit
from ridgeline.objectives.log_ratios import (
    length_desensitised,
    sequence_logp,
    wpo_pair_weight,
    wpo_weight,
)
from ridgeline.objectives.pair_axes import PairObjective
from ridgeline.objectives.preference import PairInputs, pair_losses, whole_step_inputs
from ridgeline.objectives.unpaired import bco_shift
from ridgeline.training.engine import RowScores
from ridgeline.training.objective import Terms

STEP_INPUTS = ("matched_reference", "matched_chosen", "matched_rejected", "shift")
"""Inputs that depend on all pairs of the optimizer step."""


class PairwisePreference:
    """The mean over pairs of a mixture of preference losses.

    ``exploration`` adds exploration * log pi(y) of the rows that bear ``explore``: XPO's optimism (Xie et al.
    2024, equation 3), which takes probability from what the reference would say anyway.
    """

    def __init__(self, objective: PairObjective, *, exploration: float = 0.0) -> None:
        self.objective = objective
        self.exploration = exploration

    def counts(self, units: Sequence[Unit]) -> dict[str, float]:
        names = [term.loss for term in self.objective.terms] + ["exploration"] * bool(self.exploration)
        return {name: float(len(units)) for name in names}

    def terms(self, outputs: dict[str, torch.Tensor], batch: MicroBatch) -> Terms:
        inputs = pair_inputs(outputs, batch, self.objective)
        sums = {name: losses.sum() for name, losses in pair_losses(inputs, self.objective).items()}
        if self.exploration:
            logp_B = sequence_logp(outputs["logp"], batch.mask_BN)
            explore_B = torch.tensor([row.values.get("explore", 0.0) for row in batch.rows]).to(logp_B)
            sums["exploration"] = self.exploration * (explore_B * logp_B).sum()
        pairs = float(len(inputs.chosen))
        measured = {name: value.detach().float() for name, value in pair_measures(inputs).items()}
        del measured["agreement"]
        return Terms(sums, {name: (value.sum(), pairs) for name, value in measured.items()})


def pair_inputs(outputs: dict[str, torch.Tensor], batch: MicroBatch, objective: PairObjective) -> PairInputs:
    """What the losses read about the pairs of ``batch``; gradient flows through ``outputs["logp"]`` only."""
    size = batch.unit_sizes[0]
    mask_BN, lengths_B = batch.mask_BN, batch.mask_BN.sum(-1)
    public_P = torch.minimum(lengths_B[0::size], lengths_B[1::size])

    def summed(logp_BN: torch.Tensor, side: int) -> torch.Tensor:
        part, mask = logp_BN[side::size], mask_BN[side::size]
        if objective.length_desensitised is None or side == 2:
            return sequence_logp(part, mask)
        return length_desensitised(part, mask, public_P, objective.length_desensitised)

    logp_BN = outputs["logp"]
    tensors = {"chosen": summed(logp_BN, 0), "rejected": summed(logp_BN, 1)}
    if objective.needs_reference:
        ref_BN = batch.field("ref_logp").to(logp_BN)
        tensors |= {"ref_chosen": summed(ref_BN, 0), "ref_rejected": summed(ref_BN, 1)}
    tensors |= {"chosen_lengths": lengths_B[0::size], "rejected_lengths": lengths_B[1::size]}
    if "gold" in objective.needs:
        tensors |= {"gold": summed(logp_BN, 2), "gold_lengths": lengths_B[2::size]}
    tensors |= _columns(batch, size, objective)
    if objective.weighting == "wpo":
        weight_B = wpo_weight(logp_BN, outputs["collision"], mask_BN)
        tensors["weight"] = wpo_pair_weight(weight_B[0::size], weight_B[1::size])
    floats = {name: value.to(logp_BN.dtype) for name, value in tensors.items()}
    return PairInputs(**floats)


def _columns(batch: MicroBatch, size: int, objective: PairObjective) -> dict[str, torch.Tensor]:
    """What the data says, where it says it of every pair."""
    found: dict[str, torch.Tensor] = {}

    def column(name: str, key: str, side: int) -> None:
        values = [row.values.get(key) for row in batch.rows[side::size]]
        if all(value is not None for value in values):
            found[name] = torch.tensor(values, device=batch.device)

    if objective.takes_labels:
        column("label", "soft_label", 0)
    if "margin" in objective.needs:
        column("margin", "margin", 0)
    if "rewards" in objective.needs:
        column("chosen_rewards", "reward", 0)
        column("rejected_rewards", "reward", 1)
    for name in STEP_INPUTS:
        column(name, name, 0)
    return found


def pair_measures(inputs: PairInputs) -> dict[str, torch.Tensor]:
    """What shows whether the pairs are told apart, ``[pairs]`` each.

    ``accuracy``: chosen ahead of rejected by log-ratio to the reference (1, ties 1/2); without a reference by
    log-prob per token. ``margin``: that difference in nats, and ``agreement`` the same in the direction of
    the label. ``logp/*``: nats per completion; both falling together is likelihood displacement, which a
    margin does not show.
    """
    if inputs.ref_chosen is not None and inputs.ref_rejected is not None:
        margin = (inputs.chosen - inputs.ref_chosen) - (inputs.rejected - inputs.ref_rejected)
    else:
        assert inputs.chosen_lengths is not None and inputs.rejected_lengths is not None
        margin = inputs.chosen / inputs.chosen_lengths - inputs.rejected / inputs.rejected_lengths
    # A soft label below 1/2 says that the pair stands the wrong way round, one of 1/2 says nothing.
    agreement = margin if inputs.label is None else margin * (inputs.label - 0.5)
    measures = {
        "accuracy": (agreement > 0).float() + 0.5 * (agreement == 0).float(),
        "margin": margin,
        "agreement": agreement,
        "logp/chosen": inputs.chosen,
        "logp/rejected": inputs.rejected,
    }
    if inputs.ref_chosen is not None and inputs.ref_rejected is not None:
        measures["log_ratio/chosen"] = inputs.chosen - inputs.ref_chosen
        measures["log_ratio/rejected"] = inputs.rejected - inputs.ref_rejected
    return measures


def whole_batch(
    units: Sequence[Unit], scores: Sequence[RowScores]
) -> tuple[dict[str, torch.Tensor], MicroBatch]:
    """All ``units`` as one batch with the outputs that ``Engine.score`` gave for their rows, padded."""
    batch = MicroBatch.of(units)
    outputs = {}
    for name in scores[0]:
        flat = torch.cat([torch.from_numpy(score[name]) for score in scores])
        outputs[name] = flat.new_zeros(batch.mask_BN.shape).masked_scatter(batch.mask_BN, flat)
    return outputs, batch


def settle_step(
    units: Sequence[Unit],
    scores: Sequence[RowScores],
    objective: PairObjective,
    shift: float | None,
    *,
    learns: bool = True,
) -> float | None:
    """Write into the rows what depends on all pairs of the step; returns the running shift of BCO.

    ``scores`` are those of the policy before the step, ``shift`` the one of the step before (None at first).
    Held-out pairs are measured with the shift as it is (``learns = False``).
    """
    outputs, batch = whole_batch(units, scores)
    inputs = whole_step_inputs(pair_inputs(outputs, batch, objective), objective)
    if inputs.shift is not None:
        newest = float(inputs.shift[0])
        if learns or shift is None:
            shift = bco_shift(shift, newest, newest)
    for name in STEP_INPUTS:
        values = getattr(inputs, name)
        if values is not None:
            for unit, value in zip(units, values.tolist(), strict=True):
                unit[0].values[name] = shift if name == "shift" and shift is not None else value
    return shift
