"""Log-probs and gradients of one row at a time, through the model's own forward pass, without a mask."""

from __future__ import annotations

import numpy as np
import torch
from transformers import PreTrainedModel

from ridgeline.models.batch import MicroBatch, Unit

Gradients = dict[str, torch.Tensor]


def weights_of(batch: MicroBatch) -> torch.Tensor:
    """A weight per scored token that depends on the row's content only, not on where the row stands."""
    weights_BN = torch.zeros(batch.mask_BN.shape, dtype=torch.float64)
    for number, row in enumerate(batch.rows):
        seed = int(row.ids.sum()) * 1000 + len(row)
        weights_BN[number, : len(row.targets)] = torch.from_numpy(
            np.random.default_rng(seed).normal(size=len(row.targets))
        )
    return weights_BN


def gradients(module: PreTrainedModel) -> Gradients:
    """What autograd has left, by name; forgotten there."""
    found = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
    module.zero_grad(set_to_none=True)
    return found


def one_by_one(module: PreTrainedModel, units: list[Unit]) -> tuple[torch.Tensor, Gradients]:
    """Log-probs ``[B, N]`` and gradients of their weighted sum, from the full logits of every row alone."""
    batch = MicroBatch.of(units)
    weights_BN = weights_of(batch)
    logp_BN = torch.zeros(batch.mask_BN.shape, dtype=torch.promote_types(module.dtype, torch.float32))
    for number, row in enumerate(batch.rows):
        row_ids = torch.from_numpy(row.ids)
        logits_TV = module(input_ids=row_ids[None], use_cache=False).logits[0].to(logp_BN.dtype)
        targets = torch.from_numpy(row.targets)
        logp = torch.log_softmax(logits_TV[targets - 1], -1).gather(-1, row_ids[targets, None])[:, 0]
        (logp * weights_BN[number, : len(targets)].to(logp)).sum().backward()
        logp_BN[number, : len(targets)] = logp.detach()
    return logp_BN, gradients(module)


def states_one_by_one(module: PreTrainedModel, units: list[Unit]) -> list[torch.Tensor]:
    """Last hidden states ``[T, H]`` of every row."""
    with torch.no_grad():
        return [
            module.base_model(input_ids=torch.from_numpy(row.ids)[None], use_cache=False).last_hidden_state[0]
            for unit in units
            for row in unit
        ]


def largest_difference(ours: Gradients, oracle: Gradients) -> float:
    """Of any number of any gradient, as a share of the largest gradient."""
    assert ours.keys() == oracle.keys()
    scale = max(float(value.abs().max()) for value in oracle.values())
    return max(float((ours[name].to(value) - value).abs().max()) for name, value in oracle.items()) / scale


def distance(ours: Gradients, oracle: Gradients) -> float:
    """Between the two gradients of the whole model, as a share of the length of ``oracle``."""
    assert ours.keys() == oracle.keys()
    apart = sum(float((ours[name].to(value) - value).square().sum()) for name, value in oracle.items())
    return (apart / sum(float(value.square().sum()) for value in oracle.values())) ** 0.5
