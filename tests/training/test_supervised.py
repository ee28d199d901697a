"""Supervised learning as the engine does it: losses by name, weights of rows."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.models.families import make_model, mixed_units
from tests.training.jobs import engine_for

from ridgeline.models.forward import PolicyForward
from ridgeline.schema.stages.sft import SupervisedLoss
from ridgeline.training.next_token import NextToken


def gradient(units: list, loss: SupervisedLoss = "nll", tokens: int = 10_000) -> tuple[float, torch.Tensor]:
    engine = engine_for(make_model("llama", torch.float32), PolicyForward(), tokens=tokens)
    metrics = engine.forward_backward("policy", units, NextToken(loss))
    optimiser = engine.roles["policy"].optimiser
    assert optimiser is not None
    flat = torch.cat([g.flatten() for g in optimiser.gradients().values()])
    return metrics[f"loss/{loss}"][0], flat


def test_a_weight_of_two_is_the_row_twice() -> None:
    """Up to the count of tokens, which weights leave alone."""
    single, double = mixed_units(), mixed_units()
    single[1][0].values["weight"] = 2.0
    double.append(copy.deepcopy(double[1]))
    loss, weighted = gradient(single)
    other, doubled = gradient(double)
    tokens = [sum(len(row.targets) for unit in units for row in unit) for units in (single, double)]
    assert loss == pytest.approx(other, rel=1e-5)
    torch.testing.assert_close(weighted * tokens[0], doubled * tokens[1], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("loss", ["nll", "dft"])
def test_weights_do_not_depend_on_the_split(loss: SupervisedLoss) -> None:
    units = mixed_units()
    for number, unit in enumerate(units):
        for row in unit[: number % 2 + 1]:
            row.values["weight"] = 0.5 * number
    whole, parts = gradient(units, loss), gradient(units, loss, tokens=1)
    assert whole[0] == pytest.approx(parts[0], rel=1e-5)
    torch.testing.assert_close(whole[1], parts[1], atol=1e-5, rtol=1e-3)


def test_dft_is_the_gradient_of_minus_p() -> None:
    """-sg(p) log p and -p have the same gradient: likely tokens teach more, unlikely ones less."""
    units = mixed_units()
    _, ours = gradient(units, "dft")
    model = make_model("llama", torch.float32)
    total = torch.zeros(())
    for unit in units:
        for row in unit:
            logits = model(input_ids=torch.from_numpy(row.ids)[None]).logits[0].log_softmax(-1)
            for target in row.targets:
                total = total - logits[target - 1, row.ids[target]].exp()
    total.backward()
    tokens = sum(len(row.targets) for unit in units for row in unit)
    expected = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    torch.testing.assert_close(ours * tokens, expected, atol=1e-4, rtol=1e-3)
