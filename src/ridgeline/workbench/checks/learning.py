"""A step with learning rate 0 has to leave every weight as it is, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ridgeline.models.batch import Unit, completion_row
from ridgeline.models.forward import PolicyForward
from ridgeline.models.load import LanguageModel
from ridgeline.schema.records import Sample
from ridgeline.schema.stages.common import Optimiser
from ridgeline.training.local import LocalEngine
from ridgeline.training.next_token import NextToken
from ridgeline.workbench.checks.result import Check


def zero_rate(model: LanguageModel, samples: Sequence[Sample]) -> Check:
    """One supervised step on two samples at rate 0; the gradient must not vanish, or nothing was tested."""
    before = [parameter.detach().clone() for parameter in model.module.parameters()]
    engine = LocalEngine(model.module.device)
    model.module.requires_grad_(True)
    engine.add("policy", model.module, PolicyForward(), optimiser=Optimiser(learning_rate=0.0))
    units: list[Unit] = [[completion_row(each.prompt_ids, each.completion_ids)] for each in samples[:2]]
    engine.forward_backward("policy", units, NextToken())
    norm = engine.step("policy", 0.0)
    changed = sum(
        int((~torch.isclose(old, new.detach(), rtol=0, atol=0, equal_nan=True)).sum())
        for old, new in zip(before, model.module.parameters(), strict=True)
    )
    detail = f"{changed} weights changed in a step with gradient norm {norm:.3g}"
    return Check("learning rate 0 changes nothing", changed == 0 and norm > 0, detail, float(changed))
