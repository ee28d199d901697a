"""A linear layer with an adapter, read as one matrix, against peft's own forward pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from ridgeline.models.adapted import amounts_to_a_linear, state_of, weight_of


def adapted(**options: Any) -> Any:
    """A layer of 7 to 5 numbers with a LoRA layer around it, whose factors are not zero."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 3))
    get_peft_model(model, LoraConfig(r=3, lora_alpha=6, target_modules=["0"], **options))
    layer: Any = model[0]
    with torch.no_grad():
        for parameter in layer.lora_B.parameters():
            parameter.normal_()
    return layer.eval()


def agrees(layer: Any) -> None:
    x = torch.randn(4, 7, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        theirs = layer(x)
    ours = nn.functional.linear(x, weight_of(layer), layer.bias)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "options", [{}, {"use_dora": True}, {"use_rslora": True}, {"init_lora_weights": "gaussian"}], ids=str
)
def test_on_off_and_merged(options: dict[str, Any]) -> None:
    layer = adapted(**options)
    assert amounts_to_a_linear(layer)
    agrees(layer)
    assert not torch.equal(weight_of(layer), layer.base_layer.weight)
    layer.enable_adapters(False)
    agrees(layer)
    assert torch.equal(weight_of(layer), layer.base_layer.weight)
    layer.enable_adapters(True)
    before = weight_of(layer)
    layer.merge()
    agrees(layer)
    torch.testing.assert_close(weight_of(layer), before)


def test_the_state_tells_every_change() -> None:
    layer = adapted(use_dora=True)
    states = [state_of(layer)]

    def changed() -> bool:
        states.append(state_of(layer))
        return states[-1] not in states[:-1]

    assert not changed()
    with torch.no_grad():
        for parameter in layer.parameters():  # W, its bias, A, B, and the lengths
            parameter.add_(0.1)
            assert changed()
    assert len(list(layer.parameters())) == 5
    layer.enable_adapters(False)
    assert changed()
    layer.enable_adapters(True)
    assert not changed()
    layer.set_scale("default", 3.0)
    assert changed()
    layer.merge()
    assert changed()


@pytest.mark.filterwarnings("ignore")
def test_what_is_no_single_matrix() -> None:
    assert amounts_to_a_linear(nn.Linear(2, 2))
    assert not amounts_to_a_linear(nn.Identity())
    assert not amounts_to_a_linear(nn.Sequential(nn.Linear(2, 2)))
    assert not amounts_to_a_linear(adapted(lora_bias=True))
